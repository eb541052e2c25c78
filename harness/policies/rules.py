"""Declared intent: who may do what to which rows; anything not allowed is denied.

Read from TOML beside the schema::

    [who]                                   # classes of callers, as SQL about `me`
    signed_in = "me is not null"
    premium = "exists (select from public.user_roles r
               where r.user_id = me and r.role = 'premium_user')"

    [[allow]]
    who = "signed_in"
    may = ["select", "update"]
    on = "public.notes"
    rows = "user_id = me"                   # SQL about the row and `me`
    columns = ["title", "body"]             # for insert and update; all when left out

    [ownership]                             # corrections of what is inferred
    "public.messages.recipient_id" = "reference"

Inside ``who`` and ``rows``, ``me`` is the caller's id (NULL for anonymous visitors),
``claims`` the token's claims.  ``anyone`` and ``signed_in`` are always defined;
``service_role``, whom no policy binds, is not judged.  Rules cover the tables they
name; the other tables are judged by properties alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from harness.db.catalog import Name, Relation
from harness.errors import ConfigError
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.properties_rows import change_case, owner_words, rank
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = ["Allow", "RuleSet", "declared_rules_hold", "read_rules"]

COMMANDS = ("select", "insert", "update", "delete")
KNOWN_KEYS = {"who", "allow", "ownership"}
ALLOW_KEYS = {"who", "may", "on", "rows", "columns", "because"}
ALWAYS: Mapping[str, str] = {"anyone": "true", "signed_in": "me is not null"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allow:
    """One permission; ``because`` is the reason, for the reader."""

    who: str
    may: tuple[str, ...]
    on: Name
    rows: str = "true"
    columns: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True, kw_only=True)
class RuleSet:
    """The declared rules of one schema."""

    who: Mapping[str, str] = field(default_factory=dict)
    allows: tuple[Allow, ...] = ()
    ownership: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def tables(self) -> frozenset[Name]:
        """The tables that the rules cover."""
        return frozenset(allow.on for allow in self.allows)


def read_rules(path: Path) -> RuleSet:
    """Read a rules file; raises :class:`~harness.errors.ConfigError` with the key."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    unknown = set(content) - KNOWN_KEYS
    if unknown:
        raise ConfigError(
            f"{path}: unknown key {min(unknown)!r}",
            hint=f"known keys: {', '.join(sorted(KNOWN_KEYS))}",
        )
    who = {**ALWAYS, **content.get("who", {})}
    return RuleSet(
        who=who,
        allows=tuple(_allow(path, item, who) for item in content.get("allow", ())),
        ownership=content.get("ownership", {}),
        source=str(path),
    )


def _allow(path: Path, item: Mapping[str, Any], who: Mapping[str, str]) -> Allow:
    unknown = set(item) - ALLOW_KEYS
    if unknown:
        raise ConfigError(f"{path}: unknown key {min(unknown)!r} in [[allow]]")
    missing = {"who", "may", "on"} - set(item)
    if missing:
        raise ConfigError(f"{path}: [[allow]] needs {min(missing)!r}")
    if item["who"] not in who:
        raise ConfigError(
            f"{path}: [[allow]] names {item['who']!r}, which [who] does not define",
            hint=f"defined: {', '.join(sorted(who))}",
        )
    commands = tuple(command.lower() for command in item["may"])
    for command in commands:
        if command not in COMMANDS:
            raise ConfigError(
                f"{path}: {command!r} is not one of {', '.join(COMMANDS)}"
            )
    schema, _, table = item["on"].rpartition(".")
    return Allow(
        who=item["who"],
        may=commands,
        on=Name(schema or "public", table),
        rows=item.get("rows", "true"),
        columns=tuple(item.get("columns", ())),
        because=item.get("because", ""),
    )


async def declared_rules_hold(trial: Trial, rules: RuleSet) -> Judgement:
    """Everybody may do exactly what the rules allow, row by row."""
    judgement = Judgement()
    for name in sorted(rules.tables):
        relation = trial.catalog.relations.get(name)
        if relation is None:
            judgement.undecided[str(name)] = f"{rules.source} names no such table"
            continue
        for persona in trial.personas:
            if persona.kind == "service":
                continue
            for command in ("select", "update", "delete"):
                try:
                    expected = await _allowed_rows(trial, rules, persona, name, command)
                except asyncpg.PostgresError as exc:
                    judgement.undecided[str(name)] = f"{rules.source}: {exc}"
                    break
                judgement.violations += _differences(
                    trial, persona, relation, command, expected
                )
    return judgement


async def _allowed_rows(
    trial: Trial, rules: RuleSet, persona: Persona, table: Name, command: str
) -> set[str]:
    """Return the rows (by ctid) that the rules let ``persona`` do ``command`` to."""
    conditions = [
        f"(({_bound(rules.who[allow.who], persona)}) and"
        f" ({_bound(allow.rows, persona)}))"
        for allow in rules.allows
        if allow.on == table and command in allow.may
    ]
    if not conditions:
        return set()
    query = (
        f"select tableoid::oid || ctid::text as at from {table.sql}"
        f" where {' or '.join(conditions)}"
    )
    return {row["at"] for row in await trial.prober.connection.fetch(query)}


def _bound(condition: str, persona: Persona) -> str:
    """Return a condition with ``me`` and ``claims`` replaced by the persona's."""
    me = f"{literal(persona.sub)}::uuid" if persona.sub else "null::uuid"
    text = re.sub(r"(?<![\w.\"'])me(?![\w\"'(])", f"({me})", condition)
    claims = f"({literal(persona.claims_json)}::jsonb)"
    return re.sub(r"(?<![\w.\"'])claims(?![\w\"'(])", claims, text)


def _differences(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    command: str,
    expected: set[str],
) -> list[Violation]:
    stored = trial.population.of(relation.name)
    actual = {
        row.at for row in stored if trial.decisions.may(persona, command.upper(), row)
    }
    found = []
    wider = [row for row in stored if row.at in actual - expected]
    narrower = [row for row in stored if row.at in expected - actual]
    if wider:
        found.append(_wider(trial, persona, relation, command, wider[0]))
    if narrower:
        found.append(_narrower(trial, persona, relation, command, narrower[0]))
    return found


def _case(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Case:
    if command == "select":
        return Case(
            persona=persona,
            steps=(trial.row_step("select", relation, row),),
            expectation=Expectation(kind="affects", says="must return no row"),
            rows=(row,),
        )
    return change_case(trial, persona, relation, command.upper(), row)


def _wider(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Violation:
    return Violation(
        check="declared_rules_hold",
        where=str(relation.name),
        fault=f"{command} wider",
        message=(
            f"{describe(persona)} can {command} rows of {relation.name} that belong to"
            f" {owner_words(trial, row)}; no rule allows it"
        ),
        case=_case(trial, persona, relation, command, row),
        severity="high",
        rank=rank(persona),
    )


def _narrower(
    trial: Trial, persona: Persona, relation: Relation, command: str, row: StoredRow
) -> Violation:
    case = _case(trial, persona, relation, command, row)
    return Violation(
        check="declared_rules_hold",
        where=str(relation.name),
        fault=f"{command} narrower",
        message=(
            f"{describe(persona)} cannot {command} a row of {relation.name} that the"
            " rules allow"
        ),
        case=Case(
            persona=persona,
            steps=case.steps,
            expectation=Expectation(kind="spares", says="must affect a row"),
            rows=case.rows,
            settings=case.settings,
        ),
        severity="medium",
        rank=rank(persona),
    )
