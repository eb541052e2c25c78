"""Nobody signs a row with another's name.

Who wrote, sent or reported something is told by a column's name, whether or not a
policy still compares it with the caller.  The value counts that is stored in the end: a
trigger may stamp the caller's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from harness.db.catalog import Relation
from harness.policies.candidates import Candidate, own_candidates
from harness.policies.cases import Case, Expectation, Violation
from harness.policies.inserting import inserting, needed_rows
from harness.policies.ownership import Part
from harness.policies.personas import Persona
from harness.policies.probing import Attempt
from harness.policies.properties_rows import rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = ["rows_name_who_wrote_them"]

AUTHOR_NAME = re.compile(
    r"^(author|creator|writer|sender|poster|uploader|issuer|reporter|inviter|commenter|"
    r"reviewer|rater|voter|actor|from_user|(\w+_)?(created|posted|uploaded|submitted|issued|"
    r"written|recorded|logged|entered|sent|reported|opened|invited|added|requested|"
    r"excused|raised|started|signed)_by)(_user)?(_id|_uid|_uuid)?$"
)
# The caller by default: whoever left the column out would sign with their own name.
CALLER_DEFAULT = re.compile(r"auth\.uid\(\)|current_user_id\(\)|request\.jwt")
USER_NAME = re.compile(r"^(user|member|profile|auth_user)(_id|_uid|_uuid)?$|^uid$")
# Whom a row is about may be another; who wrote what nobody corrects is the caller.
WRITTEN_TABLE = re.compile(r"(^|_)(comments?|messages?|posts?|repl(y|ies)|notes?)$")
MAX_ROWS = 2


async def rows_name_who_wrote_them(trial: Trial) -> Judgement:
    """Nobody stores a row that names somebody else as its author."""
    judgement = Judgement()
    for relation in trial.tables():
        for column in _author_columns(trial, relation):
            for persona in trial.outsiders:
                if persona.kind != "plain" or not persona.sub:
                    continue
                if (str(relation.name), "INSERT", persona.name) in trial.told:
                    break
                violation = await _forged(trial, persona, relation, column)
                violation = violation or await _resigned(
                    trial, persona, relation, column
                )
                if violation is not None:
                    judgement.violations.append(violation)
                    break
    return judgement


def _author_columns(trial: Trial, relation: Relation) -> Iterator[str]:
    """Yield the columns that say who wrote a row."""
    if relation.name == OBJECTS:
        return
    owned = trial.ownership.of(relation.name)
    for user in owned.users:
        column = relation.column(user.column)
        sole = len(owned.users) == 1 and user.part is Part.OWNER
        caller = USER_NAME.match(user.column)
        stamped = caller and CALLER_DEFAULT.search(column.default or "")
        written = WRITTEN_TABLE.search(relation.name.name)
        keyed = (user.column,) in {key.columns for key in relation.unique_keys}
        if keyed or user.part is Part.MEMBER:
            continue
        if AUTHOR_NAME.match(user.column) or (sole and (stamped or written)):
            yield user.column


async def _forged(
    trial: Trial, persona: Persona, relation: Relation, column: str
) -> Violation | None:
    if not inserting(relation, persona):
        return None
    own = [c for c in own_candidates(trial, persona, relation) if column in c.values]
    signed = [c for c in own if c.values[column] == persona.sub]
    for candidate in signed[:MAX_ROWS]:
        for victim in _victims(trial, persona):
            values = {**candidate.values, column: victim}
            forged = Candidate(
                kind="forged",
                values=values,
                about=candidate.about,
                aside=candidate.aside,
            )
            if await _is_stored(trial, persona, relation, forged, column):
                return _violation(trial, persona, relation, forged, column)
    return None


async def _resigned(
    trial: Trial, persona: Persona, relation: Relation, column: str
) -> Violation | None:
    """Return what shows that somebody signs what another wrote.

    Only where UPDATE is granted column by column, and of this one.
    """
    held = relation.privileges.get(persona.role)
    whole = held is None or "UPDATE" in held.table
    if whole or not relation.may(persona.role, "UPDATE", column):
        return None
    for row in trial.population.owned_by(relation.name, persona.clan or "?"):
        if row.text(column) in (None, persona.sub):
            continue
        step = trial.update_step(relation, {column: persona.sub}, row)
        attempt = Attempt(persona=persona, commands=(step.sql,))
        answer = await trial.prober.attempt(attempt)
        if answer.ok and answer.counts[-1]:
            return Violation(
                check="rows_name_who_wrote_them",
                where=str(relation.name),
                fault=f"UPDATE {column}",
                message=(
                    f"{describe(persona)} can sign rows of {relation.name} that"
                    f" another wrote ({column})"
                ),
                case=Case(
                    persona=persona,
                    steps=(step,),
                    expectation=Expectation(kind="affects", says="must affect 0 rows"),
                    rows=(row,),
                ),
                severity="high",
                hint=f"grant UPDATE of {column} to nobody",
                rank=rank(persona),
            )
    return None


def _victims(trial: Trial, persona: Persona) -> Iterator[str]:
    """Yield a user of the persona's own clan, and one of another."""
    users = [u for u in trial.population.world.cast.users if u.rows and not u.power]
    for near in (True, False):
        for user in users:
            if user.id != persona.sub and (user.clan == persona.clan) is near:
                yield user.id
                break


async def _is_stored(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    candidate: Candidate,
    column: str,
) -> bool:
    """Say whether the row goes in, and with the name that it came with."""
    insert = trial.insert_step(relation, candidate.values).sql
    count = (
        f"select to_jsonb(count(*)) from {relation.name.sql}"
        f" where {relation.column(column).sql}::text"
        f" = {literal(candidate.values[column])}"
    )
    attempt = Attempt(
        persona=persona, commands=(insert,), setup=candidate.aside, observe=count
    )
    after = await trial.prober.attempt(attempt)
    if not after.ok:
        return False
    before = await trial.prober.attempt(replace(attempt, commands=()))
    return bool(before.ok and after.seen > before.seen)


def _violation(
    trial: Trial, persona: Persona, relation: Relation, forged: Candidate, column: str
) -> Violation:
    return Violation(
        check="rows_name_who_wrote_them",
        where=str(relation.name),
        fault=f"INSERT {column}",
        message=(
            f"{describe(persona)} can store rows of {relation.name} in another's name"
            f" ({column})"
        ),
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, forged.values),),
            expectation=Expectation(kind="succeeds", says="must be refused"),
            rows=needed_rows(trial, relation, forged),
        ),
        severity="high",
        hint=f"compare {column} with auth.uid() in the INSERT policy of"
        f" {relation.name}, or stamp it in a trigger",
        rank=rank(persona),
    )
