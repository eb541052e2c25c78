"""Properties of writing that need no declaration.

Rows are not planted on others, nor handed over, nor taken; an UPDATE reaches no state
that an INSERT of the same row is refused for; what is meant to be possible succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from harness.db.catalog import Relation, quote_identifier
from harness.policies.candidates import (
    Candidate,
    foreign_candidates,
    own_candidates,
    row_owners,
)
from harness.policies.cases import Case, Expectation, Severity, Step, Violation
from harness.policies.decisions import row_filter
from harness.policies.ownership import Parent
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, insert_statement
from harness.policies.probing import Answer, Attempt
from harness.policies.properties_rows import rank
from harness.policies.shrinking import WITH_TRIGGERS, WITHOUT_TRIGGERS
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "legitimate_actions_succeed",
    "moves_stay_within_insert_rights",
    "rows_are_not_handed_over",
    "rows_are_not_planted",
]

MAX_OWN_ROWS = 3


@dataclass(frozen=True, slots=True)
class Move:
    """A change of ``row`` that ``action`` describes; ``blind`` without a WHERE."""

    row: StoredRow
    changes: Mapping[str, str | None]
    action: str
    blind: bool = False

    def step(self, trial: Trial, relation: Relation) -> Step:
        """Return the UPDATE."""
        return trial.update_step(
            relation, self.changes, None if self.blind else self.row
        )


def is_programming_error(answer: Answer) -> bool:
    """Say whether SQL itself is wrong, as opposed to a refusal on purpose."""
    state = answer.sqlstate
    if answer.raised_on_purpose or state == "42501":
        return False
    return state[:2] in ("42", "22", "0A", "54", "XX", "2F")


def inserting(relation: Relation, persona: Persona) -> bool:
    """Say whether the persona's role may INSERT into the table at all."""
    return relation.may(persona.role, "INSERT")


async def rows_are_not_planted(trial: Trial) -> Judgement:
    """Nobody stores a row that is another's, or that hangs on another's hidden row."""
    judgement = Judgement()
    for relation in trial.tables():
        for persona in trial.outsiders:
            if not inserting(relation, persona):
                continue
            candidates = list(foreign_candidates(trial, persona, relation))
            answers = await _insert_all(trial, persona, relation, candidates)
            for candidate, answer in zip(candidates, answers, strict=True):
                if answer.ok and await _is_planted(trial, persona, relation, candidate):
                    judgement.violations.append(
                        _planting(trial, persona, relation, candidate)
                    )
                    break
    return judgement


async def _insert_all(
    trial: Trial, persona: Persona, relation: Relation, candidates: list[Candidate]
) -> list[Answer]:
    return await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(trial.insert_step(relation, c.values).sql,),
                setup=c.aside,
            )
            for c in candidates
        ]
    )


async def _is_planted(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> bool:
    owned = trial.ownership.of(relation.name)
    if relation.name == OBJECTS or candidate.kind == "forged":
        return True
    asked = any(trial.mined.asks_for_owner(relation.name, c) for c in owned.owners)
    if candidate.kind == "planted" and asked:
        return True
    if candidate.kind == "planted" and owned.membership:
        return True
    parents = [candidate.parent] if candidate.parent else list(owned.parents)
    hidden = [p for p in parents if _is_hidden(trial, persona, p, candidate.values)]
    return bool(hidden or owned.tenants) and await _concerns_others(
        trial, persona, relation, candidate.values, hidden
    )


def _is_hidden(
    trial: Trial,
    persona: Persona,
    parent: Parent,
    values: Mapping[str, str | None],
) -> bool:
    """Say whether the row's parent exists, is another's, and cannot be seen."""
    wanted = [values.get(column) for column in parent.columns]
    for row in trial.population.of(parent.target):
        if wanted == [row.text(column) for column in parent.target_columns]:
            foreign = bool(row.clan) and row.clan != persona.clan
            return foreign and not trial.decisions.may(persona, "SELECT", row)
    return False


async def _concerns_others(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
    hidden: list[Parent],
    replaced: StoredRow | None = None,
) -> bool:
    """Say whether a row under another's parent shows there, or opens the parent.

    Compares who sees what with the same row under a parent of the persona's own.
    """
    put_aside: tuple[str, ...] = ()
    if replaced is not None:
        gone = f"delete from {relation.name.sql} where {row_filter(relation, replaced)}"
        put_aside = (gone,)
    before = await _sights(
        trial, persona, relation, values, hidden, put_aside, own=True
    )
    after = await _sights(trial, persona, relation, values, hidden, put_aside)
    return any(now > then for now, then in zip(after, before, strict=True))


async def _sights(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    values: Mapping[str, str | None],
    hidden: list[Parent],
    put_aside: tuple[str, ...],
    *,
    own: bool = False,
) -> list[int]:
    """Count what others see of the row, and the persona of its parents."""
    stored = dict(values)
    if own:
        for parent in hidden:
            stored |= _own_parent(trial, persona, parent)
        place = _own_place(trial, persona, relation)
        stored |= {c: place.get(c) for c in trial.ownership.of(relation.name).tenants}
    identity = any(column.identity for column in relation.columns)
    row = " and ".join(
        f"{relation.column(name).sql}::text = {literal(value)}"
        for name, value in stored.items()
        if value is not None and relation.column(name).base_type == "uuid"
    )
    insert = insert_statement(relation.name, stored, identity=identity)
    setup = (WITHOUT_TRIGGERS, *put_aside, insert, WITH_TRIGGERS)
    looks = [
        (other, f"{relation.name.sql} where {row or 'true'}")
        for other in trial.personas
        if other.kind == "plain" and other.clan != persona.clan
    ]
    for parent in hidden:
        pairs = zip(parent.columns, parent.target_columns, strict=True)
        wanted = " and ".join(
            f"{quote_identifier(target)} = {literal(values.get(column))}"
            for column, target in pairs
        )
        looks.append((persona, f"{parent.target.sql} where {wanted}"))
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=looking,
                fetch=f"select to_jsonb(count(*)) from {what}",
                setup=setup,
            )
            for looking, what in looks
        ]
    )
    return [int(answer.fetched or 0) if answer.ok else 0 for answer in answers]


def _own_parent(
    trial: Trial, persona: Persona, parent: Parent
) -> dict[str, str | None]:
    """Return the key of a parent of the persona's own, or of none."""
    for row in trial.population.owned_by(parent.target, persona.clan or "?"):
        pairs = zip(parent.columns, parent.target_columns, strict=True)
        return {column: row.text(target) for column, target in pairs}
    return dict.fromkeys(parent.columns)


def _planting(
    trial: Trial, persona: Persona, relation: Relation, candidate: Candidate
) -> Violation:
    whose = (
        "a row in another's name"
        if candidate.kind in ("planted", "forged")
        else "a row under a parent that is not theirs and that they cannot see"
    )
    severity: Severity = "high"
    subject = str(relation.name)
    fault = f"INSERT {candidate.kind} {persona.kind == 'anon'}"
    if relation.name == OBJECTS:
        bucket = candidate.values.get("bucket_id")
        whose = f"a file in another user's folder of bucket {bucket}"
        fault = f"INSERT {bucket}"
    return Violation(
        check="rows_are_not_planted",
        where=subject,
        fault=fault,
        message=f"{describe(persona)} can store {whose} ({subject})",
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, candidate.values),),
            expectation=Expectation(kind="succeeds", says="must be refused"),
            rows=_needed(trial, relation, candidate),
        ),
        severity=severity,
        hint=f"compare the owner with auth.uid() in the INSERT policy of {subject}",
        rank=rank(persona),
    )


def _needed(
    trial: Trial, relation: Relation, candidate: Candidate
) -> tuple[StoredRow, ...]:
    """Return the stored rows that a candidate's foreign keys refer to."""
    return tuple(
        row
        for key in relation.foreign_keys
        for row in trial.population.of(key.target)
        if [candidate.values.get(column) for column in key.columns]
        == [row.text(column) for column in key.target_columns]
    )


# -- UPDATE ------------------------------------------------------------------------


async def rows_are_not_handed_over(trial: Trial) -> Judgement:
    """Nobody gives a row away, takes another's, or moves one to a hidden parent."""
    judgement = Judgement()
    for relation in trial.tables():
        for persona in trial.outsiders:
            if persona.user is None or not relation.may(persona.role, "UPDATE"):
                continue
            moves = [
                *_takings(trial, persona, relation),
                *_gifts(trial, persona, relation),
            ]
            for move in await _successful(trial, persona, relation, moves):
                if not await _is_harmless(trial, persona, relation, move):
                    judgement.violations.append(
                        _handed_over(trial, persona, relation, move)
                    )
                    break
    return judgement


async def _is_harmless(
    trial: Trial, persona: Persona, relation: Relation, move: Move
) -> bool:
    row, changes = move.row, move.changes
    owned = trial.ownership.of(relation.name)
    if any(column in owned.owners for column in changes):
        return row.clan == persona.clan and _manages(trial, relation, row, changes)
    hidden = [p for p in owned.parents if set(p.columns) <= set(changes)]
    if row.clan != persona.clan or not (hidden or set(changes) & {*owned.tenants}):
        return False
    moved = {c.name: row.text(c.name) for c in relation.columns if not c.generated}
    values = {name: value for name, value in moved.items() if value is not None}
    return not await _concerns_others(
        trial, persona, relation, {**values, **changes}, hidden, replaced=row
    )


def _manages(
    trial: Trial, relation: Relation, row: StoredRow, changes: Mapping[str, str | None]
) -> bool:
    """Say whether the giver may do so as a manager, since not every owner may.

    True if somebody else owns a row like this one and may not even change it.
    """
    for other in trial.population.of(relation.name):
        if not _alike(trial, relation, row, other):
            continue
        for persona in trial.personas:
            owns = any(other.text(column) == persona.sub for column in changes)
            plain = persona.kind == "plain" and persona.sub
            if plain and owns and not trial.decisions.may(persona, "UPDATE", other):
                return True
    return False


def _alike(trial: Trial, relation: Relation, row: StoredRow, other: StoredRow) -> bool:
    """Say whether two rows agree in what policies look at, owners and keys aside."""
    owned = trial.ownership.of(relation.name)
    keys = {c for parent in owned.parents for c in parent.columns}
    keys |= {*owned.user_names, *owned.tenants, *relation.primary_key}
    return all(
        row.values.get(col.column) == other.values.get(col.column)
        for col in trial.mined.policy_columns
        if col.table == relation.name and col.column not in keys
    )


def _own_rows(trial: Trial, persona: Persona, relation: Relation) -> list[StoredRow]:
    rows = [
        row
        for row in trial.population.of(relation.name)
        if row.clan
        and row.clan == persona.clan
        and trial.decisions.may(persona, "UPDATE", row)
    ]
    mine = [row for row in rows if persona.user and persona.user.id in row.users]
    return (mine or rows)[:MAX_OWN_ROWS]


def _gifts(trial: Trial, persona: Persona, relation: Relation) -> Iterator[Move]:
    """Yield changes of own rows that give them to somebody else."""
    owned = trial.ownership.of(relation.name)
    foreign = trial.foreign_rows(persona, relation.name)
    for row in _own_rows(trial, persona, relation):
        for column in owned.owners:
            victims = [next((v for r in foreign if (v := r.text(column))), None)]
            # Somebody without any row, for columns that are unique.
            victims.append(trial.population.world.cast.persona("carol").sub)
            mine = row.text(column) == persona.sub
            if not mine or not _changeable(relation, persona, column):
                continue
            for victim in victims:
                action = f"hand rows of {relation.name} to another"
                yield Move(row, {column: victim}, action)
        for other in foreign[:1]:
            changes = {c: other.text(c) for c in owned.tenants}
            if changes and all(_changeable(relation, persona, c) for c in changes):
                action = f"move rows of {relation.name} to another tenant"
                yield Move(row, changes, action)
        for parent in owned.parents:
            for other in foreign:
                changes = {c: other.text(c) for c in parent.columns}
                movable = all(_changeable(relation, persona, c) for c in changes)
                if movable and _is_hidden(trial, persona, parent, changes):
                    action = f"move rows of {relation.name} under a hidden parent"
                    yield Move(row, changes, action)
                    break
        if relation.name == OBJECTS:
            yield from _moved_objects(trial, persona, row, foreign)


def _moved_objects(
    trial: Trial, persona: Persona, row: StoredRow, foreign: list[StoredRow]
) -> Iterator[Move]:
    """Yield renames of an own object into the folder of another user."""
    for other in foreign:
        folder, _, _ = (other.text("name") or "").rpartition("/")
        same = other.text("bucket_id") == row.text("bucket_id")
        if same and folder:
            extension = (row.text("name") or "").rpartition(".")[2]
            name = f"{folder}/moved.{extension}"
            yield Move(row, {"name": name}, "move files into another user's folder")
            return


def _takings(trial: Trial, persona: Persona, relation: Relation) -> Iterator[Move]:
    owned = trial.ownership.of(relation.name)
    for row in trial.foreign_rows(persona, relation.name)[:MAX_OWN_ROWS]:
        for column in owned.owners:
            if _changeable(relation, persona, column):
                yield Move(row, {column: persona.sub}, f"take rows of {relation.name}")
        changes = _own_place(trial, persona, relation)
        movable = all(_changeable(relation, persona, c) for c in changes)
        if changes and movable:
            yield Move(row, changes, f"take rows of {relation.name}")


def _own_place(
    trial: Trial, persona: Persona, relation: Relation
) -> dict[str, str | None]:
    """Return the tenant columns and the rooted parents of a row of the persona's."""
    owned = trial.ownership.of(relation.name)
    names = {*owned.tenants}
    for parent in owned.parents:
        if any(row.clan for row in trial.population.of(parent.target)):
            names |= set(parent.columns)
    for row in trial.population.owned_by(relation.name, persona.clan or "?"):
        return {name: row.text(name) for name in sorted(names)}
    return {}


def _changeable(relation: Relation, persona: Persona, column: str) -> bool:
    return (
        relation.may(persona.role, "UPDATE", column)
        and column not in relation.primary_key
        and not relation.column(column).generated
    )


async def _successful(
    trial: Trial, persona: Persona, relation: Relation, moves: list[Move]
) -> list[Move]:
    """Return the moves that work, by key or (seen by no SELECT policy) blindly."""
    both = [replace(move, blind=blind) for move in moves for blind in (False, True)]
    answers = await trial.prober.attempt_all(
        [
            Attempt(
                persona=persona,
                commands=(move.step(trial, relation).sql,),
                observe=f"select to_jsonb({_reached(relation, move)})",
            )
            for move in both
        ]
    )
    worked: dict[int, Move] = {}
    for index, (move, answer) in enumerate(zip(both, answers, strict=True)):
        if answer.ok and answer.counts[-1] > 0 and answer.seen is True:
            worked.setdefault(index // 2, move)
    return list(worked.values())


def _reached(relation: Relation, move: Move) -> str:
    """Return a condition: the row is there with its changes."""
    key = {name: move.row.text(name) for name in relation.primary_key}
    wanted = {**key, **move.changes}
    where = " and ".join(
        f"{relation.column(name).sql} = {literal(value)}"
        for name, value in wanted.items()
    )
    return f"exists (select from {relation.name.sql} where {where})"


def _handed_over(
    trial: Trial, persona: Persona, relation: Relation, move: Move
) -> Violation:
    return Violation(
        check="rows_are_not_handed_over",
        where=str(relation.name),
        fault=f"{move.action} {','.join(move.changes)}",
        message=f"{describe(persona)} can {move.action} ({', '.join(move.changes)})",
        case=Case(
            persona=persona,
            steps=(move.step(trial, relation),),
            expectation=Expectation(kind="affects", says="must affect 0 rows"),
            rows=(move.row, *_targets(trial, relation, move.changes)),
        ),
        severity="high",
        hint=f"add WITH CHECK to the UPDATE policy of {relation.name}",
        rank=rank(persona),
    )


def _targets(
    trial: Trial, relation: Relation, changes: Mapping[str, str | None]
) -> Iterator[StoredRow]:
    """Yield the rows that the changed foreign keys refer to."""
    for key in relation.foreign_keys:
        for row in trial.population.of(key.target):
            if all(
                changes.get(column) == row.text(target) and column in changes
                for column, target in zip(key.columns, key.target_columns, strict=True)
            ):
                yield row


async def moves_stay_within_insert_rights(trial: Trial) -> Judgement:
    """Nobody moves an object to a bucket into which they may not upload it."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(OBJECTS)
    if relation is None:
        return judgement
    for persona in trial.outsiders:
        for row in _own_rows(trial, persona, relation):
            violation = await _bucket_move(trial, persona, relation, row)
            if violation is not None:
                judgement.violations.append(violation)
    return judgement


async def _bucket_move(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow
) -> Violation | None:
    for bucket in trial.catalog.buckets:
        if bucket.id == row.text("bucket_id"):
            continue
        changes = {"bucket_id": bucket.id}
        if not await _successful(trial, persona, relation, [Move(row, changes, "")]):
            continue
        direct = {
            "bucket_id": bucket.id,
            "name": row.text("name"),
            **row_owners(persona),
        }
        answer = await trial.prober.attempt(
            Attempt(
                persona=persona,
                commands=(trial.insert_step(relation, direct).sql,),
            )
        )
        if answer.denied:
            return _moved(trial, persona, relation, row, bucket.id)
    return None


def _moved(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow, bucket: str
) -> Violation:
    source = row.text("bucket_id")
    step = trial.update_step(relation, {"bucket_id": bucket}, row)
    return Violation(
        check="moves_stay_within_insert_rights",
        where="storage.objects",
        fault=f"move to {bucket}",
        message=(
            f"{describe(persona)} may not upload to bucket {bucket}, but can upload to"
            f" {source} and move the file there"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(
                kind="affects",
                says=f"must affect 0 rows: the direct INSERT into {bucket} is refused",
            ),
            rows=(row,),
        ),
        severity="critical",
        note=(
            "policies of one command are OR-ed across buckets: the old row satisfies"
            " one, the new row another"
        ),
        hint="forbid changes of bucket_id for API roles, or repeat the INSERT"
        " condition in WITH CHECK",
        rank=rank(persona),
    )


# -- what must be possible ---------------------------------------------------------


async def legitimate_actions_succeed(trial: Trial) -> Judgement:
    """Broken SQL on the way does not make impossible what a policy admits."""
    judgement = Judgement()
    for relation in trial.tables(guarded=False):
        failures: dict[str, tuple[Persona, Candidate, Answer]] = {}
        succeeded: set[str] = set()
        for persona in trial.personas:
            if not inserting(relation, persona):
                continue
            candidates = list(own_candidates(trial, persona, relation))
            answers = await _insert_all(trial, persona, relation, candidates)
            for candidate, answer in zip(candidates, answers, strict=True):
                place = candidate.values.get("bucket_id") or ""
                if answer.admitted:
                    succeeded.add(place)
                elif is_programming_error(answer):
                    failures.setdefault(place, (persona, candidate, answer))
        for place, (persona, candidate, answer) in failures.items():
            if place not in succeeded:
                judgement.violations.append(
                    _impossible(trial, relation, place, persona, candidate, answer)
                )
    return judgement


def _impossible(
    trial: Trial,
    relation: Relation,
    place: str,
    persona: Persona,
    candidate: Candidate,
    answer: Answer,
) -> Violation:
    what = (
        f"no upload to bucket {place}" if place else f"no INSERT into {relation.name}"
    )
    line = answer.context.partition("\n")[2] or answer.context
    return Violation(
        check="legitimate_actions_succeed",
        where=str(relation.name),
        fault=f"INSERT {place} {answer.sqlstate}",
        message=f"{what} can ever succeed: {answer.message} [{answer.sqlstate}]",
        case=Case(
            persona=persona,
            steps=(trial.insert_step(relation, candidate.values),),
            expectation=Expectation(
                kind="raises", text=answer.sqlstate, says=f"raises: {answer.message}"
            ),
            rows=_needed(trial, relation, candidate),
        ),
        severity="critical",
        note=_trigger_line(line),
        rank=rank(persona),
    )


def _trigger_line(context: str) -> str:
    lines = [line for line in context.splitlines() if "harness_probe" not in line]
    return lines[0] if lines else ""
