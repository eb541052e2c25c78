"""Small valid databases, planned in memory: which rows, whose, with which values.

A world holds, for every clan, rows in every table that can belong to somebody, in all
combinations of the values that policies look at; tables that belong to nobody hold a
few shared rows.  Rows of a clan refer only to rows of the same clan or to shared ones.
Nothing here touches a database; :mod:`harness.policies.population` stores a world.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.clan_claims import cast_with_claims
from harness.policies.comparisons import Col
from harness.policies.kept_apart import agree
from harness.policies.mining import Mined
from harness.policies.ownership import (
    Ownership,
    Parent,
    Part,
    TableOwnership,
    pairs_users,
)
from harness.policies.parent_choice import ParentChoice, stride
from harness.policies.personas import Cast, User
from harness.policies.row_values import RowFiller, is_granted_by_row
from harness.policies.storage_paths import (
    OBJECTS,
    PathMaker,
    linked_object_rows,
    object_rows,
)
from harness.policies.table_order import SKIPPED, insertion_order, rooted_tables
from harness.policies.user_pairs import named_members, parted, tied
from harness.policies.values import Values
from harness.policies.variants import Variants

__all__ = [
    "USERS",
    "Row",
    "World",
    "insertion_order",
    "plan_world",
    "rooted_tables",
    "user_row",
]

USERS = Name("auth", "users")
MAX_ENTITY_ROWS = 3
MAX_PARENT_ROWS = 3
MATE_VARIANTS = 2
SHARED_COPIES = 2

RowValues = Mapping[str, str | None]


@dataclass(frozen=True)
class Row:
    """A planned row: ``clan`` is '' for shared ones, ``author`` who inserts it."""

    number: int
    table: Name
    values: RowValues
    clan: str
    author: str = ""


@dataclass(frozen=True)
class World:
    """A cast and its rows in insertion order; ``unplanned`` says what is missing."""

    cast: Cast
    rows: tuple[Row, ...]
    unplanned: Mapping[Name, str] = field(default_factory=dict)
    expected: frozenset[Name] = frozenset()

    def of(self, table: Name) -> Iterator[Row]:
        """Yield the rows of ``table``."""
        return (row for row in self.rows if row.table == table)


def plan_world(
    catalog: Catalog,
    mined: Mined,
    ownership: Ownership,
    cast: Cast,
    variants: Variants,
    values: Values,
    existing: Mapping[Name, Sequence[RowValues]],
) -> World:
    """Plan the world in which every branch of the schema is reached."""
    planner = _Planner(catalog, mined, ownership, cast, variants, values)
    for table, rows in existing.items():
        planner.by_table[table] = [
            Row(-1 - index, table, row, "") for index, row in enumerate(rows)
        ]
    return planner.plan()


@dataclass
class _Planner:
    catalog: Catalog
    mined: Mined
    ownership: Ownership
    cast: Cast
    variants: Variants
    values: Values
    rows: list[Row] = field(default_factory=list)
    by_table: dict[Name, list[Row]] = field(default_factory=lambda: defaultdict(list))
    unplanned: dict[Name, str] = field(default_factory=dict)
    keys_used: dict[tuple[Name, str], set[tuple[str | None, ...]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    rooted: frozenset[Name] = frozenset()
    whose: dict[int, frozenset[str]] = field(default_factory=dict)
    filled: set[Name] = field(default_factory=set)
    reserved: dict[tuple[Name, str], dict[str, str | None]] = field(
        default_factory=dict
    )
    looked_up: dict[str, set[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = PathMaker(self.mined, self._lookup)
        self.choice = ParentChoice(self.mined)
        self.filler = RowFiller(
            self.mined,
            self.ownership,
            self.cast,
            self.variants,
            self.values,
            self.paths,
            self.by_table,
        )

    def plan(self) -> World:
        self.rooted = rooted_tables(self.catalog, self.mined, self.ownership)
        for user in self.cast.users:
            if not user.ghost:
                self._add(USERS, user_row(user), user.clan, user.id)
        for relation in insertion_order(self.catalog):
            if relation.name == OBJECTS:
                self._objects(relation)
            elif relation.name not in SKIPPED:
                self._fill(relation)
        cast = cast_with_claims(self.cast, self.mined, self.by_table)
        return World(cast, tuple(self.rows), self.unplanned, self._expected())

    def _expected(self) -> frozenset[Name]:
        """Return the tables in which every clan should have rows."""
        granting = {
            attribute.table
            for attribute in self.ownership.attributes
            if is_granted_by_row(self.catalog.relations[attribute.table], attribute)
        }
        return self.rooted - granting - {USERS, OBJECTS}

    def _add(self, table: Name, values: RowValues, clan: str, author: str = "") -> None:
        row = Row(len(self.rows), table, values, clan, author)
        self.rows.append(row)
        self.by_table[table].append(row)
        if clan:
            self.whose[row.number] = self._whose(row)

    def _whose(self, row: Row) -> frozenset[str]:
        """Return the users that the row names, or that what it hangs on names."""
        owned = self.ownership.of(row.table)
        named = frozenset(v for c in owned.user_names if (v := row.values.get(c)))
        if named or row.table == USERS:
            return named
        for parent in owned.parents:
            wanted = [row.values.get(c) for c in parent.columns]
            for above in self.by_table[parent.target]:
                if wanted == [above.values.get(c) for c in parent.target_columns]:
                    named |= self.whose.get(above.number, frozenset())
        return named

    # -- tables --------------------------------------------------------------------

    def _fill(self, relation: Relation) -> None:
        self.filled.add(relation.name)
        if relation.name not in self.rooted:
            self._shared(relation)
            return
        owned = self.ownership.of(relation.name)
        for clan in self.cast.clans:
            users = [user for user in self.cast.clan(clan) if user.rows]
            if owned.membership:
                self._members(relation, owned, clan, users)
            elif owned.users:
                if pairs_users(owned, self.mined):
                    self._paired(relation, owned, clan, users)
                else:
                    self._owned(relation, owned, clan, users)
            else:
                self._hanging(relation, owned, clan, users[0])
        if not any(True for _ in self._planned(relation.name)):
            self.unplanned.setdefault(relation.name, "no row could be planned")

    def _planned(self, table: Name) -> Iterable[Row]:
        return (row for row in self.by_table[table] if row.number >= 0)

    def _shared(self, relation: Relation) -> None:
        if self.by_table[relation.name] and relation.name in self.mined.helper_tables:
            # What policies look up and the schema fills itself is configuration.
            return
        for variant in self.variants.of(relation) * SHARED_COPIES:
            self._place(relation, "", None, variant, {})

    def _owned(
        self, relation: Relation, owned: TableOwnership, clan: str, users: list[User]
    ) -> None:
        variants = self.variants.of(relation)
        for seat, user in enumerate(users):
            turned = variants[seat % len(variants) :] + variants[: seat % len(variants)]
            wanted = turned if user.lead else turned[:MATE_VARIANTS]
            if user.power:
                wanted = turned[:1]
            for turn, variant in enumerate(wanted):
                # Under one's own parent, and under that of somebody near.
                for mine in (True, False):
                    self._try_parents(relation, owned, clan, user, variant, turn, mine)
                    if not self._has_owned_parents(owned):
                        break
            for named in parted(relation, owned, user.id, [user.id for user in users]):
                parents = self._parents(owned, clan, user, seat)
                self._place(relation, clan, user, turned[0], {**parents, **named})

    def _try_parents(
        self,
        relation: Relation,
        owned: TableOwnership,
        clan: str,
        user: User,
        variant: RowValues,
        turn: int,
        mine: bool,
    ) -> None:
        """Plan a row under the first parents that leave its keys free."""
        for attempt in range(MAX_PARENT_ROWS):
            parents = self._parents(owned, clan, user, turn + attempt, mine=mine)
            if self._place(relation, clan, user, variant, parents):
                return

    def _paired(
        self, relation: Relation, owned: TableOwnership, clan: str, users: list[User]
    ) -> None:
        """Tie users to each other, two of them in each state that policies look at."""
        others = [u.column for u in owned.users if u.part is Part.REFERENCE]
        by_id = {user.id: user for user in users}
        variants = self.variants.of(relation)
        for variant, pair in zip(variants, tied(owned, list(by_id)), strict=False):
            named: dict[str, str | None] = dict.fromkeys(others, pair[1])
            self._place(relation, clan, by_id[pair[0]], variant, named)

    def _has_owned_parents(self, owned: TableOwnership) -> bool:
        return any(
            self.whose.get(row.number)
            for parent in owned.parents
            if parent.target != owned.table
            for row in self.by_table[parent.target]
        )

    def _members(
        self, relation: Relation, owned: TableOwnership, clan: str, users: list[User]
    ) -> None:
        variants = self.variants.of(relation)
        users = named_members(relation.name, users)
        for user in users:
            for turn in range(self._entities(owned, clan)):
                parents = self._parents(owned, clan, user, turn)
                variant = variants[user.membership % len(variants)]
                self._place(relation, clan, user, variant, parents)

    def _entities(self, owned: TableOwnership, clan: str) -> int:
        counts = [len(self._choices(p, clan)) for p in owned.parents]
        return max(1, min(MAX_ENTITY_ROWS, max(counts, default=1)))

    def _hanging(
        self, relation: Relation, owned: TableOwnership, clan: str, user: User
    ) -> None:
        roots = [p for p in owned.parents if p.target in self.rooted]
        seats = max([len(self._choices(p, clan)) for p in roots], default=1)
        variants = self.variants.of(relation)
        for seat in range(max(1, min(seats, MAX_PARENT_ROWS))):
            turned = variants if seat == 0 else variants[seat % len(variants) :][:1]
            for turn, variant in enumerate(turned):
                parents = self._parents(owned, clan, user, seat + turn * seats)
                self._place(relation, clan, user, variant, parents)

    def _objects(self, relation: Relation) -> None:
        linked = {
            other
            for name, other in self.mined.equal_columns
            if name == Col(OBJECTS, "name") and other.table in self.catalog.relations
        }
        for clan in self.cast.clans:
            users = [user for user in self.cast.clan(clan) if user.rows]
            buckets = self.catalog.buckets
            for user, values in object_rows(users, buckets, self.paths, self.values):
                self._add(relation.name, values, clan, user.id)
            for col in sorted(linked, key=str):
                names = [
                    name
                    for row in self.by_table[col.table]
                    if row.clan == clan and (name := row.values.get(col.column))
                ]
                private = [b for b in buckets if not b.public] or list(buckets)
                for values in linked_object_rows(users[0], names, private, self.values):
                    if self._unique(relation, values):
                        self._add(relation.name, values, clan, users[0].id)

    def _lookup(self, col: Col, user: User) -> str | None:
        """Return a value of ``col`` from a row of the user's, else of the clan's.

        Rows looked up one after another hang together (project, chapter, section).
        """
        rows = [
            row
            for row in self.by_table[col.table]
            if row.clan == user.clan and row.clan and row.values.get(col.column)
        ]
        mine = [row for row in rows if user.id in self.whose.get(row.number, ())]
        rows = mine or rows
        if not rows:
            return None
        above = {v for v in self.looked_up.get(user.id, ()) if v is not None}
        rows.sort(key=lambda row: -len(above & set(row.values.values())))
        self.looked_up.setdefault(user.id, set()).update(rows[0].values.values())
        return rows[0].values[col.column]

    # -- parents -------------------------------------------------------------------

    def _choices(self, parent: Parent, clan: str) -> list[Row]:
        rows = self.by_table[parent.target]
        if parent.target in self.rooted:
            return [row for row in rows if row.clan == clan and row.number >= 0]
        return [row for row in rows if row.clan == ""]

    def _parents(
        self,
        owned: TableOwnership,
        clan: str,
        user: User | None,
        turn: int,
        *,
        mine: bool = True,
    ) -> dict[str, str | None]:
        """Return values for all foreign key columns, agreeing with each other."""
        chosen: dict[str, str | None] = {}
        for parent in owned.parents:
            rows = self._choices(parent, clan)
            agreeing = [r for r in rows if _agrees(r, parent, chosen)] or rows
            agreeing = self._apart(owned.table, parent, agreeing, chosen)
            if not agreeing:
                chosen |= self._reserved_key(owned.table, parent, clan, chosen)
                continue
            row = self._choose(agreeing, owned, user, turn, mine)
            for column, target in zip(
                parent.columns, parent.target_columns, strict=True
            ):
                chosen.setdefault(column, row.values.get(target))
            for column, value in row.values.items():
                # A tenant column repeated on parent and child must agree.
                if column in owned.tenants or column in _keys(owned):
                    chosen.setdefault(column, value)
        return chosen

    def _apart(
        self,
        table: Name,
        parent: Parent,
        rows: list[Row],
        chosen: Mapping[str, str | None],
    ) -> list[Row]:
        """Leave out rows that a check of ``table`` keeps apart from those chosen."""
        relation = self.catalog.relations[table]
        pairs = list(zip(parent.columns, parent.target_columns, strict=True))
        fitting = [
            row
            for row in rows
            if agree(relation, {**chosen, **{c: row.values.get(t) for c, t in pairs}})
        ]
        return fitting or rows

    def _reserved_key(
        self,
        table: Name,
        parent: Parent,
        clan: str,
        chosen: Mapping[str, str | None],
    ) -> dict[str, str | None]:
        """Return the key of a row that a table later in a cycle will have.

        Tables that are filled already have no such row, nor do rows that may do
        without one: a key of which one part is missing refers to nothing.
        """
        target = self.catalog.relations[parent.target]
        child = self.catalog.relations[table]
        optional = [c for c in parent.columns if not child.column(c).not_null]
        missing = [c for c in optional if c not in chosen] or optional or parent.columns
        none: dict[str, str | None] = dict.fromkeys(missing)
        whole = target.primary_key == parent.target_columns
        comes = parent.target in self.rooted and parent.target not in self.filled
        if optional or not (whole and comes):
            return none
        key = self.reserved.setdefault((parent.target, clan), {})
        for name in target.primary_key:
            key.setdefault(name, self.values.fresh(target, target.column(name)))
        pairs = zip(parent.columns, parent.target_columns, strict=True)
        return {column: key[name] for column, name in pairs}

    def _choose(
        self,
        rows: list[Row],
        owned: TableOwnership,
        user: User | None,
        turn: int,
        mine: bool,
    ) -> Row:
        """Take one of ``rows``: the user's own, or with ``mine`` false another's."""
        if user is not None and owned.users and not owned.membership:
            chosen = [
                r for r in rows if (user.id in self.whose.get(r.number, ())) == mine
            ]
            rows = self.choice.sorted(owned.table, chosen or rows, user.id)
            if rows[0].clan:
                # From all over the list: neighbours hang on the same row above.
                place = (turn + user.membership) * stride(len(rows))
                return rows[place % len(rows)]
        return rows[turn % len(rows)]

    # -- rows ----------------------------------------------------------------------

    def _place(
        self,
        relation: Relation,
        clan: str,
        user: User | None,
        variant: RowValues,
        parents: Mapping[str, str | None],
    ) -> bool:
        """Plan a row; say whether its keys were free."""
        values = self.filler.row(relation, clan, user, variant, parents)
        values |= self.reserved.pop((relation.name, clan), {})
        missing = [
            c.name
            for c in relation.columns
            if c.required and values.get(c.name) is None
        ]
        if missing:
            reason = f"no value for {', '.join(missing)}"
            self.unplanned.setdefault(relation.name, reason)
            return True
        if not self._unique(relation, values):
            return False
        self.unplanned.pop(relation.name, None)
        self._add(relation.name, values, clan, user.id if user else "")
        return True

    def _unique(self, relation: Relation, values: RowValues) -> bool:
        """Say whether no planned row has one of the row's keys, and note them."""
        keys = [
            (key.name, tuple(values.get(column) for column in key.columns))
            for key in relation.unique_keys
            if not key.expression
            and not key.partial
            and all(values.get(column) is not None for column in key.columns)
        ]
        if any(key in self.keys_used[relation.name, name] for name, key in keys):
            return False
        for name, key in keys:
            self.keys_used[relation.name, name].add(key)
        return True


def _agrees(row: Row, parent: Parent, chosen: Mapping[str, str | None]) -> bool:
    for column, target in zip(parent.columns, parent.target_columns, strict=True):
        if column in chosen and chosen[column] != row.values.get(target):
            return False
    shared = set(row.values) & set(chosen)
    return all(row.values[name] == chosen[name] for name in shared if name != "id")


def _keys(owned: TableOwnership) -> set[str]:
    return {column for parent in owned.parents for column in parent.columns}


def user_row(user: User) -> RowValues:
    """Return the row of ``auth.users`` for ``user``."""
    return {
        "id": user.id,
        "email": user.email or None,
        "aud": "authenticated",
        "role": "authenticated",
        "is_anonymous": "true" if user.anonymous else "false",
    }
