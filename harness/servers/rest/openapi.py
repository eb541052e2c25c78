"""The root's answer: the schema described in OpenAPI 2.0, as PostgREST describes it.

It lists what the caller's role may use (``openapi_mode`` ``follow-privileges``), all of
it (``ignore-privileges``), or is off (``disabled``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from harness.db.pipeline import Statement
from harness.protocols.postgrest_errors import (
    RestError,
    media_type_unavailable,
    method_unsupported,
)
from harness.protocols.postgrest_media import (
    ANY,
    ARRAY,
    CSV,
    JSON,
    OPENAPI,
    SINGULAR,
    MediaType,
)
from harness.servers.rest.actions import Action
from harness.servers.rest.schema import (
    Column,
    Relationship,
    Routine,
    SchemaCache,
    Table,
)

__all__ = ["describe"]

VERSION = "14.0"  # of PostgREST, whose behaviour this is
Json = dict[str, Any]

# What the caller's role may do with the tables and functions of a schema.
ALLOWED = """
SELECT json_build_object(
  'tables', (
    SELECT coalesce(json_agg(c.relname), '[]')
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'v', 'm', 'f', 'p') AND (
      pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')
      OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE')
    )
  ),
  'functions', (
    SELECT coalesce(json_agg(DISTINCT p.proname), '[]')
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = $1 AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
  )
)
"""

TYPES = {
    "bigint": "integer",
    "boolean": "boolean",
    "character": "string",
    "character varying": "string",
    "double precision": "number",
    "integer": "integer",
    "numeric": "number",
    "real": "number",
    "smallint": "integer",
    "text": "string",
}
COMMON_PARAMETERS: Mapping[str, tuple[str, str, str, Sequence[str]]] = {
    # name: (title, place, description, choices)
    "preferReturn": (
        "Prefer",
        "header",
        "What to return",
        ("return=representation", "return=minimal", "return=none"),
    ),
    "preferCount": ("Prefer", "header", "How to count", ("count=none",)),
    "preferPost": (
        "Prefer",
        "header",
        "What to return, and what to do with duplicates",
        (
            "return=representation",
            "return=minimal",
            "return=none",
            "resolution=ignore-duplicates",
            "resolution=merge-duplicates",
        ),
    ),
    "select": ("select", "query", "Columns and embedded resources", ()),
    "on_conflict": ("on_conflict", "query", "Columns of the key to upsert on", ()),
    "order": ("order", "query", "Sort keys", ()),
    "range": ("Range", "header", "First and last row", ()),
    "rangeUnit": ("Range-Unit", "header", "Unit of the range", ()),
    "offset": ("offset", "query", "Rows to skip", ()),
    "limit": ("limit", "query", "Rows to return at most", ()),
}


async def describe(action: Action) -> web.Response:
    """Answer with the OpenAPI description of the request's schema."""
    request, settings = action.request, action.settings
    if not request.reading:
        raise method_unsupported(request.method)
    if settings.openapi_mode == "disabled":
        raise RestError(404, "PGRST126", "Root endpoint metadata is disabled")
    if not any(media.name in (ANY, JSON, OPENAPI) for media in request.accept):
        raise media_type_unavailable(request.accept_header.split(","))
    tables, routines = await _visible(action)
    schema = request.schema
    document = {
        "swagger": "2.0",
        "info": {
            "title": "PostgREST API",
            "description": action.cache.schema_descriptions.get(schema, ""),
            "version": VERSION,
        },
        "host": action.http.host,
        "basePath": "/",
        "schemes": ["http"],
        "consumes": [JSON, f"{SINGULAR}", f"{ARRAY}", CSV],
        "produces": [JSON, f"{SINGULAR}", f"{ARRAY}", CSV],
        "paths": _paths(tables, routines),
        "definitions": {
            table.name.name: _definition(action.cache, table) for table in tables
        },
        "parameters": _parameters(tables),
    }
    headers = action.headers(MediaType(OPENAPI), ())
    return action.respond(200, headers, orjson.dumps(document))


async def _visible(action: Action) -> tuple[list[Table], list[Routine]]:
    schema, cache = action.request.schema, action.cache
    tables = [table for name, table in cache.tables.items() if name.schema == schema]
    routines = [
        overloads[0]
        for name, overloads in cache.routines.items()
        if name.schema == schema
    ]
    if action.settings.openapi_mode == "ignore-privileges":
        return tables, routines
    statement = Statement(ALLOWED, [schema.encode()])
    (result,) = await action.run([statement], read_only=True)
    allowed = orjson.loads(result.get_value(0, 0) or b"{}")
    return (
        [table for table in tables if table.name.name in allowed["tables"]],
        [r for r in routines if r.name.name in allowed["functions"]],
    )


def _paths(tables: Iterable[Table], routines: Iterable[Routine]) -> Json:
    root = {"tags": ["Introspection"], "produces": [OPENAPI, JSON], "responses": OK}
    paths: Json = {"/": {"get": {"summary": "This description", **root}}}
    for table in tables:
        paths[f"/{table.name.name}"] = _table_path(table)
    for routine in routines:
        paths[f"/rpc/{routine.name.name}"] = _routine_path(routine)
    return paths


OK = {"200": {"description": "OK"}}


def _table_path(table: Table) -> Json:
    name = table.name.name
    filters = [f"rowFilter.{name}.{column}" for column in table.columns]
    body = f"body.{name}"
    changes = [*filters, body, "preferReturn"]
    rows = {"type": "array", "items": {"$ref": f"#/definitions/{name}"}}
    read = {
        "200": {"description": "OK", "schema": rows},
        "206": {"description": "Partial Content"},
    }
    paging = ("select", "order", "range", "rangeUnit", "offset", "limit", "preferCount")
    path: Json = {"get": _operation(table, (*filters, *paging), read)}
    created = {"201": {"description": "Created"}}
    done = {"204": {"description": "No Content"}}
    if table.insertable:
        path["post"] = _operation(table, (body, "select", "preferPost"), created)
    if table.deletable:
        path["delete"] = _operation(table, (*filters, "preferReturn"), done)
    if table.updatable:
        path["patch"] = _operation(table, changes, done)
    return path


def _operation(table: Table, parameters: Iterable[str], responses: Json) -> Json:
    operation: Json = {
        "tags": [table.name.name],
        "parameters": [{"$ref": f"#/parameters/{name}"} for name in parameters],
        "responses": responses,
    }
    if table.description:
        summary, _, rest = table.description.partition("\n")
        operation["summary"] = summary
        if rest.strip():
            operation["description"] = rest.strip()
    return operation


def _routine_path(routine: Routine) -> Json:
    named = [p for p in routine.parameters if p.name]
    properties = {p.name: _typed(p.type) for p in named}
    body: Json = {"type": "object", "properties": properties}
    required = [p.name for p in named if p.required]
    if required:
        body["required"] = required
    common: Json = {"tags": [f"(rpc) {routine.name.name}"], "responses": OK}
    if routine.description:
        common["summary"] = routine.description
    posted = {
        **common,
        "parameters": [
            {"in": "body", "name": "args", "required": True, "schema": body}
        ],
    }
    if routine.volatility == "volatile":
        return {"post": posted}
    arguments = [
        {"in": "query", "name": p.name, "required": p.required, **_typed(p.type)}
        for p in named
    ]
    return {"get": {**common, "parameters": arguments}, "post": posted}


def _definition(cache: SchemaCache, table: Table) -> Json:
    definition: Json = {
        "type": "object",
        "properties": {
            column.name: _property(cache, table, column)
            for column in table.columns.values()
        },
    }
    required = [column.name for column in table.columns.values() if not column.nullable]
    if required:
        definition["required"] = required
    if table.description:
        definition["description"] = table.description
    return definition


def _property(cache: SchemaCache, table: Table, column: Column) -> Json:
    described = _typed(column.type, column.base_type)
    if column.max_length is not None:
        described["maxLength"] = column.max_length
    if column.enum:
        described["enum"] = list(column.enum)
    if column.default is not None:
        described["default"] = column.default
    notes = [column.description] if column.description else []
    # Generators of clients look for these two marks.
    if column.name in table.primary_key:
        notes.append("Note:\nThis is a Primary Key.<pk/>")
    key = _foreign_key(cache.relationships.get(table.name, ()), column.name)
    if key is not None:
        target, name = key
        notes.append(
            f"Note:\nThis is a Foreign Key to `{target}.{name}`."
            f"<fk table='{target}' column='{name}'/>"
        )
    if notes:
        described["description"] = "\n\n".join(notes)
    return described


def _foreign_key(rels: Iterable[Relationship], column: str) -> tuple[str, str] | None:
    for rel in rels:
        if rel.cardinality == "many-to-one" and [c for c, _ in rel.columns] == [column]:
            return rel.target.name, rel.columns[0][1]
    return None


def _typed(name: str, base: str | None = None) -> Json:
    plain = (base or name).partition("(")[0]
    if plain.endswith("[]"):
        items = _typed(plain.removesuffix("[]")).get("type")
        described: Json = {"type": "array", "items": {"type": items} if items else {}}
    elif plain in ("json", "jsonb"):
        described = {}
    else:
        described = {"type": TYPES.get(plain, "string")}
    return {"format": name, **described}


def _parameters(tables: Iterable[Table]) -> Json:
    parameters: Json = {}
    for key, (name, place, description, choices) in COMMON_PARAMETERS.items():
        parameters[key] = {
            "name": name,
            "in": place,
            "description": description,
            "required": False,
            "type": "string",
        }
        if choices:
            parameters[key]["enum"] = list(choices)
    for table in tables:
        name = table.name.name
        parameters[f"body.{name}"] = {
            "name": name,
            "in": "body",
            "required": False,
            "schema": {"$ref": f"#/definitions/{name}"},
        }
        for column in table.columns:
            parameters[f"rowFilter.{name}.{column}"] = {
                "name": column,
                "in": "query",
                "required": False,
                "type": "string",
            }
    return parameters
