"""OPTIONS: which methods a table, a function or the root takes."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict

from harness.servers.rest.actions import Action
from harness.servers.rest.plan import find_table
from harness.servers.rest.routines import find_routine
from harness.servers.rest.schema import QualifiedName, Table

__all__ = ["options"]


def options(action: Action) -> web.Response:
    """Answer with the ``Allow`` header of what the path names."""
    request = action.request
    name = QualifiedName(request.schema, request.resource)
    if request.kind == "root":
        allowed = "OPTIONS,GET,HEAD"
    elif request.kind == "table":
        allowed = ",".join(_methods(find_table(action.cache, name)))
    else:
        overloads = action.cache.routines.get(name)
        if not overloads:
            find_routine(action.cache, name, [], body_type=None)
        volatile = all(r.volatility == "volatile" for r in overloads or ())
        allowed = "OPTIONS,POST" if volatile else "OPTIONS,GET,HEAD,POST"
    headers = CIMultiDict({"Allow": allowed, "Access-Control-Allow-Origin": "*"})
    return action.respond(200, headers, b"")


def _methods(table: Table) -> list[str]:
    methods = ["OPTIONS", "GET", "HEAD"]
    if table.insertable:
        methods.append("POST")
    if table.insertable and table.updatable and table.primary_key:
        methods.append("PUT")
    if table.updatable:
        methods.append("PATCH")
    if table.deletable:
        methods.append("DELETE")
    return methods
