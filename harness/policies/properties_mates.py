"""What people of one team may not do to each other, whatever else they share.

Others' words are not put right by everybody who reads them; who may not add a member
removes none; what a table calls private stays with its owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.db.catalog import Relation
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import Col
from harness.policies.ownership import Part
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import WITH_TRIGGERS, WITHOUT_TRIGGERS, Attempt
from harness.policies.properties_rows import VERBS, rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import TEXT_TYPES, literal
from harness.policies.witness import describe

__all__ = ["mates_keep_to_their_own"]

WORDS_TABLE = re.compile(
    r"(^|_)(comments?|messages?|posts?|repl(y|ies)|reviews?|answers?|feedbacks?)$"
)
WORDS_COLUMN = re.compile(r"body|content|text|message|comment|reply|remark|note|answer")
RECIPIENT_NAME = re.compile(r"recipient|receiver|addressee|to_user")
PRIVATE_TABLE = re.compile(
    r"(^|_)(private|personal|my|journals?|diar(y|ies)|inbox|notifications?|"
    r"preferences|credentials?|passwords?|wallets?)(_|$)"
)
RANK_COLUMN = re.compile(r"role|rank|level|admin|owner|can_|permission")


async def mates_keep_to_their_own(trial: Trial) -> Judgement:
    """Nobody corrects, removes or reads what is a mate's alone."""
    judgement = Judgement()
    for relation in trial.tables():
        if relation.name == OBJECTS:
            continue
        found = (
            await _edited_words(trial, relation),
            await _removed_members(trial, relation),
            _read_secrets(trial, relation),
        )
        judgement.violations += [violation for violation in found if violation]
    return judgement


async def _edited_words(trial: Trial, relation: Relation) -> Violation | None:
    """Return what shows that whoever reads another's words may change them."""
    written = [
        c.name
        for c in relation.columns
        if WORDS_COLUMN.search(c.name) and c.base_type in TEXT_TYPES
    ]
    owners = trial.ownership.of(relation.name).owners
    if not (WORDS_TABLE.search(relation.name.name) and written and owners):
        return None
    for row in trial.population.of(relation.name):
        readers = [
            mate
            for mate in _mates(trial, row)
            if trial.decisions.may(mate, "SELECT", row)
            and relation.may(mate.role, "UPDATE", written[0])
            and all(
                row.text(column) != mate.sub
                for column in owners
                if not RECIPIENT_NAME.search(column)
            )
        ]
        editors = [m for m in readers if trial.decisions.may(m, "UPDATE", row)]
        addressed = [m for m in editors if _is_addressed(trial, relation, row, m)]
        if addressed and await _rewrites(trial, relation, row, addressed[0], written):
            step = trial.update_step(relation, {written[0]: "changed"}, row)
            return _violation(trial, relation, row, addressed[0], step, "UPDATE")
        if len(readers) > 1 and editors == readers:
            step = trial.update_step(relation, {written[0]: "changed"}, row)
            return _violation(trial, relation, row, editors[0], step, "UPDATE")
    return None


def _is_addressed(
    trial: Trial, relation: Relation, row: StoredRow, persona: Persona
) -> bool:
    """Say whether a row is to somebody who was granted single columns of it.

    Where they may write all columns, nobody has said which.
    """
    held = relation.privileges.get(persona.role)
    if held is None or "UPDATE" in held.table:
        return False
    users = trial.ownership.of(relation.name).users
    return any(
        RECIPIENT_NAME.search(user.column) and row.text(user.column) == persona.sub
        for user in users
    )


async def _rewrites(
    trial: Trial,
    relation: Relation,
    row: StoredRow,
    persona: Persona,
    written: list[str],
) -> bool:
    """Say whether somebody changes what another wrote to them."""
    step = trial.update_step(relation, {written[0]: "changed"}, row)
    answer = await trial.prober.attempt(Attempt(persona=persona, commands=(step.sql,)))
    return answer.ok and bool(answer.counts[-1])


def _mates(trial: Trial, row: StoredRow) -> Iterator[Persona]:
    """Yield the ordinary users of the clan that a row belongs to."""
    for persona in trial.personas:
        if persona.kind == "plain" and persona.clan == row.clan and row.clan:
            yield persona


def _read_secrets(trial: Trial, relation: Relation) -> Violation | None:
    """Return what shows that private rows are read by mates of their owner."""
    owned = trial.ownership.of(relation.name)
    if len(owned.owners) != 1 or not PRIVATE_TABLE.search(relation.name.name):
        return None
    for row in trial.population.of(relation.name):
        owner = row.text(owned.owners[0])
        if owner is None:
            continue
        others = [mate for mate in _mates(trial, row) if mate.sub != owner]
        readers = [m for m in others if trial.decisions.may(m, "SELECT", row)]
        if len(readers) > 1 and 2 * len(readers) >= len(others):
            step = trial.row_step("select", relation, row)
            return _violation(trial, relation, row, readers[0], step, "SELECT")
    return None


async def _removed_members(trial: Trial, relation: Relation) -> Violation | None:
    """Return what shows that every member removes every other, whatever their rank."""
    owned = trial.ownership.of(relation.name)
    member = next((u.column for u in owned.users if u.part is Part.MEMBER), None)
    ranks = list(_ranks(trial, relation))
    if not owned.membership or member is None or not ranks:
        return None
    for clan in trial.population.world.cast.clans:
        pairs = [
            (row, mate)
            for row in trial.population.owned_by(relation.name, clan)
            for mate in _mates(trial, row)
            if row.text(member) != mate.sub
        ]
        removing = all(trial.decisions.may(mate, "DELETE", row) for row, mate in pairs)
        if not removing or len({mate.name for _, mate in pairs}) < 2:
            continue
        attempts = [
            _removal(trial, relation, row, mate, f"{rank} where {member} = {who}")
            for mate, row in {mate.name: (mate, row) for row, mate in pairs}.values()
            for who in [literal(mate.sub)]
            for rank in ranks
        ]
        if all(a.ok and a.counts[-1] for a in await trial.prober.attempt_all(attempts)):
            row, mate = pairs[-1]
            step = trial.row_step("delete", relation, row)
            return _violation(trial, relation, row, mate, step, "DELETE")
    return None


def _removal(
    trial: Trial, relation: Relation, row: StoredRow, mate: Persona, rank: str
) -> Attempt:
    """Return the removal of a member by a mate who first is given a rank."""
    given = f"update {relation.name.sql} set {rank}"
    return Attempt(
        persona=mate,
        commands=(trial.row_step("delete", relation, row).sql,),
        setup=(WITHOUT_TRIGGERS, given, WITH_TRIGGERS),
    )


def _ranks(trial: Trial, relation: Relation) -> Iterator[str]:
    """Yield assignments of the ranks that policies tell apart."""
    mined = trial.mined
    for column in relation.columns:
        col = Col(relation.name, column.name)
        asked = col in mined.constants or col in mined.truth_tests
        if not (asked and RANK_COLUMN.search(column.name)):
            continue
        stored = [row.text(column.name) for row in trial.population.of(relation.name)]
        known = [*column.labels, *stored]
        if column.is_array:
            known = ["{}"]
        elif column.base_type == "boolean":
            known = ["false", "true"]
        for value in dict.fromkeys(v for v in known if v is not None):
            yield f"{column.sql} = {literal(value)}"


def _violation(
    trial: Trial,
    relation: Relation,
    row: StoredRow,
    persona: Persona,
    step: Step,
    command: str,
) -> Violation:
    what = {
        "UPDATE": "words of others in",
        "DELETE": "other members of",
        "SELECT": "private rows of others in",
    }[command]
    verb = "remove" if command == "DELETE" else VERBS[command]
    return Violation(
        check="mates_keep_to_their_own",
        where=str(relation.name),
        fault=command,
        message=f"{describe(persona)} can {verb} {what} {relation.name}",
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="affects", says="must affect 0 rows"),
            rows=(row,),
        ),
        severity="high",
        hint=f"restrict the {command} policy of {relation.name} to the row's owner",
        rank=rank(persona),
    )
