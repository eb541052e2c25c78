"""The OpenAPI description of the REST routes, for readers and for fuzzers.

Source: the JSON schemas of :mod:`buckets`, :mod:`listing`, :mod:`signing`,
:mod:`copies` and :mod:`deletes`: what validates a request also describes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from harness.servers.storage import (
    buckets,
    copies,
    deletes,
    errors,
    images,
    listing,
    signing,
)
from harness.servers.storage.calls import Call, json_response
from harness.servers.storage.core import Core
from harness.servers.storage.schema import Field

__all__ = ["documentation"]

Fields = Mapping[str, Field]
ERROR: Final = {
    "type": "object",
    "required": ["statusCode", "error", "message", "code"],
    "properties": {
        name: {"type": "string"} for name in ("statusCode", "error", "message", "code")
    },
}
# (method, path, JSON body, query, whether a binary body is taken)
Operation = tuple[str, str, Fields | None, Fields, bool]
OPERATIONS: Final[tuple[Operation, ...]] = (
    ("post", "/bucket", buckets.CREATE, {}, False),
    ("get", "/bucket", None, buckets.LIST, False),
    ("get", "/bucket/{bucket}", None, {}, False),
    ("put", "/bucket/{bucket}", buckets.LIMITS, {}, False),
    ("delete", "/bucket/{bucket}", None, {}, False),
    ("post", "/bucket/{bucket}/empty", None, {}, False),
    ("post", "/object/{bucket}/{key}", None, {}, True),
    ("put", "/object/{bucket}/{key}", None, {}, True),
    ("get", "/object/{bucket}/{key}", None, {"download": Field("string")}, False),
    ("delete", "/object/{bucket}/{key}", None, {}, False),
    ("delete", "/object/{bucket}", deletes.MANY, {}, False),
    ("get", "/object/authenticated/{bucket}/{key}", None, {}, False),
    ("get", "/object/public/{bucket}/{key}", None, {}, False),
    ("get", "/object/info/{bucket}/{key}", None, {}, False),
    ("get", "/object/info/public/{bucket}/{key}", None, {}, False),
    ("post", "/object/list/{bucket}", listing.V1, {}, False),
    ("post", "/object/list-v2/{bucket}", listing.V2, {}, False),
    ("post", "/object/sign/{bucket}/{key}", signing.SIGN, {}, False),
    ("post", "/object/sign/{bucket}", signing.SIGN_MANY, {}, False),
    ("get", "/object/sign/{bucket}/{key}", None, {"token": Field("string")}, False),
    ("post", "/object/upload/sign/{bucket}/{key}", None, {}, False),
    (
        "put",
        "/object/upload/sign/{bucket}/{key}",
        None,
        {"token": Field("string")},
        True,
    ),
    ("post", "/object/copy", copies.COPY, {}, False),
    ("post", "/object/move", copies.MOVE, {}, False),
    ("get", "/render/image/public/{bucket}/{key}", None, images.TRANSFORM, False),
    (
        "get",
        "/render/image/authenticated/{bucket}/{key}",
        None,
        images.TRANSFORM,
        False,
    ),
    ("delete", "/cdn/{bucket}/{key}", None, {}, False),
    ("get", "/health", None, {}, False),
    ("get", "/status", None, {}, False),
    ("get", "/version", None, {}, False),
)


async def documentation(core: Core, call: Call) -> web.Response:
    """GET /documentation/json, where it is switched on."""
    if not core.settings.expose_docs:
        raise errors.route_not_found(call.method, call.target)
    paths: dict[str, dict[str, Any]] = {}
    for method, path, body, query, binary in OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(path, body, query, binary)
    return json_response(
        {
            "openapi": "3.0.3",
            "info": {"title": "Storage API", "version": core.settings.version},
            "paths": paths,
            "components": {
                "schemas": {"Error": ERROR},
                "securitySchemes": {
                    "bearer": {
                        "type": "http",
                        "scheme": "bearer",
                        "bearerFormat": "JWT",
                    }
                },
            },
            "security": [{"bearer": []}],
        }
    )


def _operation(
    path: str, body: Fields | None, query: Fields, binary: bool
) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("bucket", "key")
        if f"{{{name}}}" in path
    ]
    parameters += [
        {
            "name": name,
            "in": "query",
            "required": rule.required,
            "schema": _schema(rule),
        }
        for name, rule in query.items()
    ]
    refusal = {"schema": {"$ref": "#/components/schemas/Error"}}
    described: dict[str, Any] = {
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done"},
            "4XX": {
                "description": "Refused",
                "content": {"application/json": refusal},
            },
        },
    }
    if body is not None:
        content = {"application/json": {"schema": _object(body)}}
        described["requestBody"] = {"required": True, "content": content}
    elif binary:
        raw = {"schema": {"type": "string", "format": "binary"}}
        content = {"application/octet-stream": raw}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _object(fields: Fields) -> dict[str, Any]:
    required = [name for name, rule in fields.items() if rule.required]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: _schema(rule) for name, rule in fields.items()},
    }
    if required:
        schema["required"] = required
    return schema


def _schema(rule: Field) -> dict[str, Any]:
    """Return a field's rule as JSON schema."""
    if rule.kind == "object":
        return _object(rule.fields)
    if rule.kind == "array":
        schema: dict[str, Any] = {"type": "array", "items": {}}
        if rule.items is not None:
            schema["items"] = _schema(rule.items)
        if rule.min_items:
            schema["minItems"] = rule.min_items
        if rule.max_items is not None:
            schema["maxItems"] = rule.max_items
    else:
        schema = {"type": rule.kind}
    if rule.choices:
        schema["enum"] = list(rule.choices)
    if rule.minimum is not None:
        schema["minimum"] = rule.minimum
    if rule.maximum is not None:
        schema["maximum"] = rule.maximum
    if rule.nullable:
        schema["nullable"] = True
    return schema
