"""What policies cost: whether a statement asks once, or once for every row.

PostgreSQL's own plan answers.  With sequential scans out of favour, what is left in the
filter of one is a condition that no index serves; a function or a setting that stands
there is evaluated for every row.  These are notes: a slow policy is not a wrong one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg

from harness.db.catalog import Catalog, Relation
from harness.events import Finding
from harness.policies.personas import Persona
from harness.policies.probing import persona_settings
from harness.policies.trial import Trial

__all__ = ["cost_notes"]

CHECK = "policies_cost_once_a_statement"
CALL = re.compile(r"([a-z_][\w$]*(?:\.[a-z_][\w$]*)?)\(")
SETTING = "current_setting("
# A column against a value that is known before the scan: what an index would serve.
SOUGHT = re.compile(
    r"\(\(?(\w+)\)?(?:::\w+)? = "
    r"(?:\$\d+|\(InitPlan \d+\)\.col\d+|auth\.\w+\(\)"
    r"|\(?COALESCE\(NULLIF\(current_setting)"
)


async def cost_notes(trial: Trial) -> list[Finding]:
    """Return a note for each table whose SELECT policies cost by the row."""
    persona = next((p for p in trial.personas if p.kind == "plain" and p.sub), None)
    if persona is None:
        return []
    notes: list[Finding] = []
    for relation in trial.tables():
        if relation.policies and relation.may(persona.role, "SELECT"):
            filters = await _filters(trial, persona, relation)
            notes += _notes(trial.catalog, relation, filters)
    return notes


async def _filters(trial: Trial, persona: Persona, relation: Relation) -> list[str]:
    """Return the filters that a full read of the table evaluates row by row."""
    connection = trial.prober.connection
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("set local enable_seqscan = off")
        for name, value in persona_settings(persona).items():
            await connection.execute("select set_config($1, $2, true)", name, value)
        query = f"explain (format json) select from {relation.name.sql}"
        plan = json.loads(await connection.fetchval(query))[0]["Plan"]
    except asyncpg.PostgresError:
        return []  # a policy that raises is the business of a check of its own
    finally:
        await transaction.rollback()
    return list(_scan_filters(plan, relation.name.name))


def _scan_filters(node: Mapping[str, Any], table: str) -> Iterator[str]:
    if node.get("Relation Name") == table and "Filter" in node:
        yield node["Filter"]
    for below in node.get("Plans", ()):
        # What a condition itself reads is looked at with the table it belongs to.
        if below.get("Parent Relationship") not in ("InitPlan", "SubPlan"):
            yield from _scan_filters(below, table)


def _notes(
    catalog: Catalog, relation: Relation, filters: list[str]
) -> Iterator[Finding]:
    text = " ".join(filters)
    own = {function.name.name for function in catalog.functions}
    called = sorted(
        {name for name in CALL.findall(text) if name.rpartition(".")[2] in own}
    )
    asked = [f"{name}()" for name in called]
    if SETTING in text and not asked:
        asked = ["a setting of the request, as auth.uid() does,"]
    if asked:
        yield Finding(
            phase="policies",
            check=CHECK,
            message=f"reading {relation.name} evaluates {', '.join(asked)} for every"
            " row that it passes",
            where=str(relation.name),
            severity="note",
            hint="write (select f()) where the arguments do not come from the row, and"
            " column in (select ...) where they do",
        )
    sought = {c for c in SOUGHT.findall(text) if relation.has_column(c)}
    # Beside an OR an index alone would not do.
    for column in sorted(sought) if " OR " not in text else ():
        yield Finding(
            phase="policies",
            check=CHECK,
            message=f"policies choose rows of {relation.name} by {column}, for which"
            " there is no index",
            where=str(relation.name),
            severity="note",
            hint=f"create index on {relation.name.sql} ({column})",
        )
