"""Judges what only HEAD has: tables, views and functions that BASE cannot be asked.

There is nothing to compare them with, so the properties of a check judge them, on the
world as HEAD holds it.  What a property holds against an old object is none of this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.db.catalog import Catalog, Name, Relation, View
from harness.policies import properties_functions as functions
from harness.policies import properties_rows as rows
from harness.policies import properties_updates as updates
from harness.policies.cases import Violation
from harness.policies.decisions import Decisions, decide
from harness.policies.diff_changes import NEW, SETTINGS_SCOPE, Change, persona_class
from harness.policies.diff_world import Pair
from harness.policies.properties_grants import tables_are_not_truncated
from harness.policies.properties_inserts import rows_are_not_planted
from harness.policies.properties_powers import own_powers_are_not_raised
from harness.policies.properties_shared import views_reveal_nothing_hidden
from harness.policies.shadowing import functions_resist_shadowing
from harness.policies.trial import Judgement, Trial

__all__ = ["judge_new_objects"]

Property = Callable[[Trial], Awaitable[Judgement]]

OF_TABLES: Sequence[Property] = (
    rows.tables_without_rls_are_closed,
    rows.published_rows_reach_only_readers,
    rows.others_rows_are_not_changed,
    rows.others_rows_are_not_read,
    rows.anonymous_may_no_more_than_signed_in,
    tables_are_not_truncated,
    own_powers_are_not_raised,
    rows_are_not_planted,
    updates.rows_are_not_handed_over,
)
OF_FUNCTIONS: Sequence[Property] = (
    functions.functions_change_nothing_of_others,
    functions.functions_reveal_nothing_hidden,
    functions_resist_shadowing,
)
OF_VIEWS: Sequence[Property] = (views_reveal_nothing_hidden,)


@dataclass
class _NewTrial(Trial):
    """HEAD's world, in which only what is new counts as a table."""

    new: frozenset[Name] = field(default_factory=frozenset)

    def tables(self, *, guarded: bool = True) -> Iterator[Relation]:
        """Yield the new tables."""
        return (r for r in super().tables(guarded=guarded) if r.name in self.new)


async def judge_new_objects(pair: Pair, decisions: Decisions) -> list[Change]:
    """Return what properties hold against objects that only HEAD has."""
    base, head = pair.base.catalog, pair.head.catalog
    old = {function.signature for function in base.functions}
    called = [f for f in head.functions if f.signature not in old and f.executable_by]
    views = {name: view for name, view in head.views.items() if name not in base.views}
    tables = frozenset(
        r.name for r in head.tables if r.name not in base.relations
    ) - frozenset(views)
    judged: list[Property] = []
    judged += OF_TABLES if tables else ()
    judged += OF_FUNCTIONS if called else ()
    judged += OF_VIEWS if views else ()
    if not judged:
        return []
    trial = await _trial(pair, _only_new(head, old, views), tables)
    signatures = {function.signature for function in called}
    names = {str(name) for name in {*tables, *views}} | signatures
    changes = []
    for property_ in judged:
        judgement = await property_(trial)
        changes += [_change(v) for v in judgement.violations if v.where in names]
    return changes


def _only_new(head: Catalog, old: set[str], views: Mapping[Name, View]) -> Catalog:
    """Return ``head`` with old functions that nobody calls and without old views.

    Functions stay, since what they do says what their callers' arguments mean.
    """
    return replace(
        head,
        functions=tuple(
            replace(f, executable_by=frozenset()) if f.signature in old else f
            for f in head.functions
        ),
        views={name: view for name, view in head.views.items() if name in views},
    )


async def _trial(pair: Pair, catalog: Catalog, tables: frozenset[Name]) -> _NewTrial:
    side = pair.head
    decided = await decide(
        side.prober, side.catalog, pair.ownership, side.population, pair.personas
    )
    return _NewTrial(
        catalog,
        pair.mined,
        pair.ownership,
        side.population,
        decided,
        side.prober,
        pair.values,
        new=tables,
    )


def _change(violation: Violation) -> Change:
    case = violation.case
    return Change(
        object=violation.where,
        command=NEW,
        direction="widened",
        who=persona_class(case.persona),
        scope=SETTINGS_SCOPE,
        subject=f"{case.persona.name} {violation.check}",
        case=case,
        told=violation.message,
        hint=violation.hint,
    )
