"""Signed URLs: for reading one or many objects, and for uploading one.

Source: storage-api 3.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID, uuid4

from aiohttp import web

from harness.servers.storage import errors, names
from harness.servers.storage.backend import ObjectRef
from harness.servers.storage.calls import Call, json_response, read_json
from harness.servers.storage.connections import calling
from harness.servers.storage.core import Core
from harness.servers.storage.images import TRANSFORM
from harness.servers.storage.schema import Field, validate
from harness.servers.storage.tokens import SERVICE
from harness.servers.storage.uploads import (
    Incoming,
    Owner,
    permit,
    read_incoming,
    receive_and_store,
)

__all__ = ["sign_object", "sign_objects", "sign_upload", "upload_signed_object"]

SIGN: Final = {
    "expiresIn": Field("integer", required=True, minimum=1),
    "transform": Field("object", fields=TRANSFORM),
}
SIGN_MANY: Final = {
    "expiresIn": Field("integer", required=True, minimum=1),
    "paths": Field(
        "array",
        required=True,
        min_items=1,
        max_items=1000,
        items=Field("string"),
    ),
}
NOT_VISIBLE: Final = "Either the object does not exist or you do not have access to it"
IS_VISIBLE: Final = f"select {calling('is_visible', 2)}"
VISIBLE: Final = f"select * from {calling('visible_names', 2)}"
URI_RESERVED: Final = ";/?:@&=+$,#"


async def sign_object(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """POST /object/sign/:bucket/*."""
    asked = validate(await read_json(call), SIGN)
    names.check_key(key)
    visible = await core.connections.text(
        IS_VISIBLE, *call.database_settings(), bucket, key
    )
    if visible != b"t":
        raise errors.no_such_key(key)
    path = f"{bucket}/{key}"
    if core.settings.compat:
        # The real service signs the request's path as decodeURI leaves it.
        path = _decode_uri(call.path.removeprefix("/object/sign/"))
    claims: dict[str, Any] = {"url": path, "scope": "download"}
    kind = "object"
    transform = asked.get("transform")
    if transform and core.settings.image_transformation_enabled:
        claims = {**_transformations(transform), **claims}
        kind = "render/image"
    token = core.signed_urls.mint(claims, now=call.now, lifetime_s=asked["expiresIn"])
    shown = path if core.settings.compat else _shown(path)
    return json_response({"signedURL": f"/{kind}/sign/{shown}?token={token}"})


async def sign_objects(core: Core, call: Call, bucket: str) -> web.Response:
    """POST /object/sign/:bucket: many at once, each with its own outcome."""
    asked = validate(await read_json(call), SIGN_MANY)
    paths: list[str] = asked["paths"]
    rows = await core.connections.rows(
        VISIBLE, *call.database_settings(), bucket, paths
    )
    visible = {row[0] for row in rows}
    results = []
    for path in paths:
        if path not in visible:
            results.append({"error": NOT_VISIBLE, "path": path, "signedURL": None})
            continue
        url = f"{bucket}/{path}"
        token = core.signed_urls.mint(
            {"url": url, "scope": "download"},
            now=call.now,
            lifetime_s=asked["expiresIn"],
        )
        signed = f"/object/sign/{_shown(url)}?token={token}"
        results.append({"error": None, "path": path, "signedURL": signed})
    return json_response(results)


async def sign_upload(core: Core, call: Call, bucket: str, key: str) -> web.Response:
    """POST /object/upload/sign/:bucket/*: the permission is tested now."""
    names.check_key(key)
    upsert = call.header("x-upsert") == "true"
    incoming: Incoming = await read_incoming(call)
    owner = Owner.of(call)
    await permit(
        core,
        call,
        ObjectRef(bucket, key, ""),
        incoming,
        owner,
        upsert=upsert,
        noted=False,
        bucket_looked_up=False,
    )
    claims: dict[str, Any] = {"owner": owner.owner_id} if owner.owner_id else {}
    claims |= {"url": f"{bucket}/{key}", "upsert": upsert, "scope": "upload"}
    lifetime_s = core.settings.upload_signed_url_expiration_time
    token = core.signed_urls.mint(claims, now=call.now, lifetime_s=lifetime_s)
    url = f"/object/upload/sign/{_shown(f'{bucket}/{key}')}?token={token}"
    return json_response({"url": url, "token": token})


async def upload_signed_object(
    core: Core, call: Call, bucket: str, key: str
) -> web.Response:
    """PUT /object/upload/sign/:bucket/*?token=: as service_role, for the signer."""
    token = call.query.get("token")
    if token is None:
        raise errors.invalid_request(
            "querystring must have required property 'token'", error="Error"
        )
    url = f"{bucket}/{key}"
    claims = core.signed_urls.check(token, url, "upload", now=call.now)
    call.caller = SERVICE
    owner_id = str(claims["owner"]) if claims.get("owner") else None
    owner = Owner(
        UUID(owner_id) if owner_id and names.is_uuid(owner_id) else None, owner_id
    )
    await receive_and_store(
        core,
        call,
        ObjectRef(bucket, key, str(uuid4())),
        await read_incoming(call),
        owner,
        bool(claims.get("upsert")),
    )
    return json_response({"Key": url})


def _transformations(transform: Mapping[str, Any]) -> dict[str, Any]:
    """Return the claims of a transform: one text, and the format once more."""
    text = ",".join(f"{name}:{value}" for name, value in transform.items())
    claims: dict[str, Any] = {"transformations": text}
    if "format" in transform:
        claims["format"] = transform["format"]
    return claims


def _decode_uri(path: str) -> str:
    """Decode as JavaScript's decodeURI: escapes of reserved characters stay."""
    kept = {f"%{ord(char):02X}": f"%25{ord(char):02X}" for char in URI_RESERVED}
    for escape, doubled in kept.items():
        path = path.replace(escape, doubled).replace(escape.lower(), doubled)
    return unquote(path)


def _shown(path: str) -> str:
    """Return a path for a signed URL.

    Clients encode it once more, so nothing is escaped but what would end the path.
    """
    return path.replace("?", "%3F")
