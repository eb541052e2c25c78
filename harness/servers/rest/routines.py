"""Which function an RPC call means: by name, by the names of its arguments.

Overloads are told apart by argument names alone, as PostgREST does, because a request
does not carry types.  A function with one unnamed parameter takes the whole body.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_media import JSON, OCTETS, TEXT, XML
from harness.servers.rest.hints import closest
from harness.servers.rest.schema import QualifiedName, Routine, SchemaCache

__all__ = ["find_routine"]

# The types of an unnamed parameter that a body of each media type can go into.
UNNAMED_BY_MEDIA = {
    JSON: ("json", "jsonb"),
    TEXT: ("text",),
    XML: ("xml",),
    OCTETS: ("bytea",),
}
WHOLE_BODY_ONLY = {TEXT: "text", XML: "xml", OCTETS: "bytea"}


def find_routine(
    cache: SchemaCache,
    name: QualifiedName,
    arguments: Sequence[str],
    *,
    body_type: str | None,
) -> Routine:
    """Return the one function that takes these arguments, or raise ``RestError``.

    ``body_type`` is the media type of the body, ``None`` without one (GET).
    """
    overloads = cache.routines.get(name, ())
    given = set(arguments)
    matching = [r for r in overloads if _takes(r, given, body_type)]
    if not matching:
        unnamed = UNNAMED_BY_MEDIA.get(body_type or "", ())
        matching = [
            r
            for r in overloads
            if len(r.parameters) == 1 and r.parameters[0].type in unnamed
        ]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise _ambiguous(matching)
    raise _not_found(cache, name, sorted(given), overloads, body_type)


def _takes(routine: Routine, given: set[str], body_type: str | None) -> bool:
    if not routine.parameters:
        return not given and body_type not in WHOLE_BODY_ONLY
    required = {p.name for p in routine.parameters if p.required}
    optional = {p.name for p in routine.parameters if not p.required}
    return given - optional == required


def _ambiguous(candidates: Sequence[Routine]) -> RestError:
    listed = ", ".join(routine.signature for routine in candidates)
    return RestError(
        300,
        "PGRST203",
        f"Could not choose the best candidate function between: {listed}",
        hint="Try renaming the parameters or the function itself in the database so "
        "function overloading can be resolved",
    )


def _not_found(
    cache: SchemaCache,
    name: QualifiedName,
    arguments: Sequence[str],
    overloads: Sequence[Routine],
    body_type: str | None,
) -> RestError:
    function = f"{name.schema}.{name.name}"
    listed = ", ".join(arguments)
    whole_body = WHOLE_BODY_ONLY.get(body_type or "")
    if whole_body is not None:
        shown, searched = "", f" with a single unnamed {whole_body} parameter"
    elif not arguments:
        shown = searched = " without parameters"
    else:
        plural = "s" if len(arguments) > 1 else ""
        shown, searched = f"({listed})", f" with parameter{plural} {listed}"
    if body_type == JSON:
        searched += " or with a single unnamed json/jsonb parameter"
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function {function}{shown} in the schema cache",
        details=f"Searched for the function {function}{searched}, but no matches were "
        "found in the schema cache.",
        hint=None if whole_body else _suggestion(cache, name, listed, overloads),
    )


def _suggestion(
    cache: SchemaCache, name: QualifiedName, listed: str, overloads: Sequence[Routine]
) -> str | None:
    if overloads:
        signatures = (
            f"({', '.join(sorted(p.name for p in r.parameters))})" for r in overloads
        )
        best = closest(f"({listed})", signatures)
        meant = None if best is None else f"{name.name}{best}"
    else:
        names = (n.name for n in cache.routines if n.schema == name.schema)
        meant = closest(name.name, names)
    if meant is None:
        return None
    return f"Perhaps you meant to call the function {name.schema}.{meant}"
