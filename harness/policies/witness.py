"""Prints a shrunk case as a psql script, as curl and as supabase-py.

The script runs on any database that holds the schema: it makes its own rows, becomes
the persona, shows the fault and rolls everything back.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from urllib.parse import quote

from harness.db.catalog import Catalog, Name
from harness.db.sessions import claim_settings
from harness.events import Witness
from harness.policies.cases import Case, Step, commands_of
from harness.policies.personas import Persona
from harness.policies.replaying import probe_of
from harness.policies.shrinking import ShrunkCase, setup_statements
from harness.policies.storage_paths import OBJECTS
from harness.policies.values import literal
from harness.protocols.jwt import DEMO_KEY_EXPIRY, LOCAL_JWT_SECRET, mint

__all__ = ["describe", "http_request", "write_witness"]

ONLY_SQL = "needs a direct database connection; the REST API cannot say it"


def write_witness(shrunk: ShrunkCase, catalog: Catalog) -> Witness:
    """Return the three notations of a shrunk case and its size."""
    return Witness(
        sql=_sql(shrunk, catalog),
        curl="\n".join(_curl(shrunk.case)),
        python="\n".join(_python(shrunk.case)),
        rows=len(shrunk.rows),
        identities=shrunk.identities,
        statements=len(shrunk.case.steps),
        probe=probe_of(shrunk, catalog),
    )


def _sql(shrunk: ShrunkCase, catalog: Catalog) -> str:
    case = shrunk.case
    lines = ["begin;"]
    lines += [f"{line};" for line in setup_statements(case, shrunk, catalog)]
    lines += [f"-- as {describe(case.persona)}"]
    for name, value in persona_lines(case):
        lines.append(f"select set_config({literal(name)}, {literal(value)}, true);")
    lines += [f"{command};" for command in commands_of(case.steps, case.persona)]
    if case.expectation.says:
        lines[-1] += f"  -- {case.expectation.says}"
    if case.expectation.kind == "observed":
        lines += ["reset role;", f"select {case.expectation.query} as shown;"]
    lines.append("rollback;")
    return "\n".join(lines)


def persona_lines(case: Case) -> list[tuple[str, str]]:
    """Return the settings a script makes, the role last."""
    settings = claim_settings(case.persona.role, case.persona.claims)
    told = {
        "request.jwt.claims": settings["request.jwt.claims"],
        **case.settings,
        "role": settings["role"],
    }
    return list(told.items())


def describe(persona: Persona) -> str:
    """Return who a persona is, in a few words."""
    if persona.user is None:
        return {"anon": "an anonymous visitor", "nameless": "a token without sub"}.get(
            persona.kind, persona.role
        )
    return f"{persona.name} ({persona.user.id})"


def token(persona: Persona) -> str:
    """Return the persona's token, signed with the local demo secret."""
    claims = {**persona.claims, "exp": DEMO_KEY_EXPIRY}
    return mint(claims, LOCAL_JWT_SECRET)


def _curl(case: Case) -> list[str]:
    lines = [
        "# rows: run the first part of the SQL script, with commit instead of rollback",
        f"TOKEN={token(case.persona)}",
    ]
    acting = case.persona
    for step in case.steps:
        if (step.by or case.persona) != acting:
            acting = step.by or case.persona
            lines.append(f"TOKEN={token(acting)}  # {describe(acting)}")
        request = http_request(step)
        if request is None:
            lines.append(f"# {step.sql}: {ONLY_SQL}")
            continue
        method, path, body = request
        parts = ["curl", "-X", method, f'"$SUPABASE_URL{path}"']
        parts += [
            '-H "apikey: $SUPABASE_ANON_KEY"',
            '-H "Authorization: Bearer $TOKEN"',
        ]
        if body is not None:
            parts += ["-H 'Content-Type: application/json'", "-d", shlex.quote(body)]
        lines.append(" ".join(parts))
    return lines


def http_request(step: Step) -> tuple[str, str, str | None] | None:
    """Return method, path and JSON body of the request that does the same, or None."""
    if step.target is None:
        return None
    if step.target == OBJECTS:
        return _storage_request(step)
    if step.action == "call":
        return "POST", f"/rest/v1/rpc/{step.target.name}", _json(step.values)
    path = f"/rest/v1/{quote(step.target.name)}"
    filters = "&".join(
        f"{quote(name)}=" + ("is.null" if value is None else f"eq.{quote(value)}")
        for name, value in step.filters.items()
    )
    if step.action == "select":
        return "GET", f"{path}?select=*{'&' if filters else ''}{filters}", None
    if step.action == "insert":
        return "POST", path, _json(step.values)
    if step.action == "update":
        return "PATCH", f"{path}?{filters}" if filters else path, _json(step.values)
    if step.action == "delete":
        return "DELETE", f"{path}?{filters}" if filters else path, None
    return None


def _storage_request(step: Step) -> tuple[str, str, str | None] | None:
    values, filters = step.values, step.filters
    bucket = filters.get("bucket_id") or values.get("bucket_id") or ""
    name = quote(filters.get("name") or values.get("name") or "")
    if step.action == "insert":
        return "POST", f"/storage/v1/object/{bucket}/{name}", "{}"
    if step.action == "select":
        return "GET", f"/storage/v1/object/authenticated/{bucket}/{name}", None
    if step.action == "delete":
        return "DELETE", f"/storage/v1/object/{bucket}/{name}", None
    if step.action == "update" and filters and {"bucket_id", "name"} & set(values):
        move = {
            "bucketId": filters.get("bucket_id"),
            "sourceKey": filters.get("name"),
            "destinationBucket": values.get("bucket_id") or filters.get("bucket_id"),
            "destinationKey": values.get("name") or filters.get("name"),
        }
        return "POST", "/storage/v1/object/move", json.dumps(move)
    return None


def _json(values: Mapping[str, str | None]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _python(case: Case) -> list[str]:
    lines = [
        "import os",
        "from supabase import ClientOptions, create_client",
        'url, key = os.environ["SUPABASE_URL"], os.environ["SUPABASE_ANON_KEY"]',
        *_client_lines(case.persona),
    ]
    acting = case.persona
    for step in case.steps:
        if (step.by or case.persona) != acting:
            acting = step.by or case.persona
            lines += _client_lines(acting)
        lines.append(_python_step(step) or f"# {step.sql}: {ONLY_SQL}")
    return lines


def _client_lines(persona: Persona) -> list[str]:
    return [
        f'headers = {{"Authorization": "Bearer {token(persona)}"}}',
        "client = create_client(url, key, options=ClientOptions(headers=headers))",
    ]


def _python_step(step: Step) -> str:
    if step.target is None:
        return ""
    if step.target == OBJECTS:
        return _python_storage(step)
    if step.action == "call":
        return f"client.rpc({step.target.name!r}, {dict(step.values)!r}).execute()"
    table = f"client{_schema(step.target)}.table({step.target.name!r})"
    filters = "".join(
        f".is_({name!r}, 'null')" if value is None else f".eq({name!r}, {value!r})"
        for name, value in step.filters.items()
    )
    verbs = {
        "select": '.select("*")',
        "insert": f".insert({dict(step.values)!r}, returning='minimal')",
        "update": f".update({dict(step.values)!r}, returning='minimal')",
        "delete": ".delete()",
    }
    verb = verbs.get(step.action)
    return f"{table}{verb}{filters}.execute()" if verb else ""


def _schema(name: Name) -> str:
    return "" if name.schema == "public" else f".schema({name.schema!r})"


def _python_storage(step: Step) -> str:
    values, filters = step.values, step.filters
    bucket = filters.get("bucket_id") or values.get("bucket_id") or ""
    name = filters.get("name") or values.get("name") or ""
    storage = f"client.storage.from_({bucket!r})"
    if step.action == "insert":
        return f"{storage}.upload({name!r}, b'probe')"
    if step.action == "select":
        return f"{storage}.download({name!r})"
    if step.action == "delete":
        return f"{storage}.remove([{name!r}])"
    if step.action == "update" and "name" in values and filters:
        return f"{storage}.move({name!r}, {values['name']!r})"
    return ""
