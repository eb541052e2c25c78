"""Choosing the media type of an answer, and the SQL that makes a body of it."""

from __future__ import annotations

from harness.protocols.postgrest_errors import media_type_unavailable
from harness.protocols.postgrest_media import (
    ANY,
    ARRAY,
    CSV,
    GEO_JSON,
    JSON,
    PLAN,
    SINGULAR,
    MediaType,
)
from harness.servers.rest.call_sql import SCALAR
from harness.servers.rest.request import RestRequest
from harness.servers.rest.schema import Routine

__all__ = ["body_sql", "negotiate", "plan_prefix"]

PRODUCED = (JSON, CSV, GEO_JSON, SINGULAR, ARRAY)
NOTHING = "''"


def negotiate(
    request: RestRequest, *, plan_enabled: bool, custom: str | None = None
) -> MediaType:
    """Return the type to answer in: the first acceptable one that is produced.

    ``custom`` is the type that a function declares by its return type.
    """
    for media in request.accept:
        if custom is not None and media.name in (ANY, custom):
            return MediaType(custom)
        if media.name == ANY:
            return MediaType(JSON)
        if media.name in PRODUCED:
            return media
        if media.name == PLAN and plan_enabled and media.plan_of in PRODUCED:
            return media
    raise media_type_unavailable(request.accept_header.split(","))


def body_sql(media: MediaType, routine: Routine | None = None) -> str:
    """Return the aggregate over rows ``r`` that is the body of the answer."""
    name = media.plan_of if media.name == PLAN else media.name
    scalar = routine is not None and not routine.composite
    row = f"r.{SCALAR}" if scalar else "r.*"
    if name == CSV:
        return _csv()
    if name == GEO_JSON:
        return (
            "json_build_object('type', 'FeatureCollection', 'features', "
            f"coalesce(json_agg(ST_AsGeoJSON({row})::json), '[]'))"
        )
    if name not in PRODUCED:
        return f"(array_agg({row}))[1]"  # a function's own media type
    one = routine is not None and not routine.returns_set
    rows = f"json_agg({row})"
    body = f"{rows}->0" if one or name == SINGULAR else rows
    if media.strip_nulls:
        body = f"json_strip_nulls({body})"
    empty = "null" if one or name == SINGULAR else "[]"
    return f"coalesce({body}, '{empty}')"


def _csv() -> str:
    # A row's text form is a CSV line in parentheses.
    line = "(r.*)::text"
    first = "to_json((array_agg(r.*))[1])"
    names = f"SELECT string_agg(k, ',') FROM json_object_keys({first}) AS k"
    return (
        f"coalesce(({names}), '') || E'\\n' || "
        f"coalesce(string_agg(substr({line}, 2, length({line}) - 2), E'\\n'), '')"
    )


def plan_prefix(media: MediaType) -> str:
    """Return what turns the statement into a request for its plan."""
    if media.name != PLAN:
        return ""
    options = [f"FORMAT {media.plan_format.upper()}"]
    options += [option.upper() for option in media.plan_options]
    return f"EXPLAIN ({', '.join(options)}) "
