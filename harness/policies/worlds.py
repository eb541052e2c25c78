"""Small valid databases, planned in memory: which rows, whose, with which values.

A world holds, for every clan, rows in every table that can belong to somebody, in all
combinations of the values that policies look at; tables that belong to nobody hold a
few shared rows.  Rows of a clan refer only to rows of the same clan or to shared ones.
Nothing here touches a database; :mod:`harness.policies.population` stores a world.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.db.catalog import Catalog, Name, Relation
from harness.policies.comparisons import Col
from harness.policies.mining import Mined
from harness.policies.ownership import (
    Attribute,
    Ownership,
    Parent,
    Part,
    TableOwnership,
)
from harness.policies.personas import Cast, User, persona_of
from harness.policies.storage_paths import (
    OBJECTS,
    PathMaker,
    linked_object_rows,
    object_rows,
)
from harness.policies.values import Values
from harness.policies.variants import Variants

__all__ = ["Row", "World", "plan_world"]

USERS = Name("auth", "users")
SKIPPED = (Name("storage", "buckets"), Name("realtime", "messages"))
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
    tenant_values: dict[tuple[str, str], str | None] = field(default_factory=dict)
    rooted: frozenset[Name] = frozenset()
    pooled: dict[tuple[Name, str], int] = field(default_factory=dict)
    whose: dict[int, frozenset[str]] = field(default_factory=dict)
    looked_up: dict[str, set[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = PathMaker(self.mined, self._lookup)

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
        cast = self._with_claims()
        return World(cast, tuple(self.rows), self.unplanned, self._expected())

    def _expected(self) -> frozenset[Name]:
        """Return the tables in which every clan should have rows."""
        granting = {
            attribute.table
            for attribute in self.ownership.attributes
            if _is_granted_by_row(self.catalog.relations[attribute.table], attribute)
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
        if relation.name not in self.rooted:
            self._shared(relation)
            return
        owned = self.ownership.of(relation.name)
        for clan in self.cast.clans:
            users = [user for user in self.cast.clan(clan) if user.rows]
            if owned.membership:
                self._members(relation, owned, clan, users)
            elif owned.users:
                pairing = self._pairs_users(owned)
                self._owned(relation, owned, clan, users[:1] if pairing else users)
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

    def _pairs_users(self, owned: TableOwnership) -> bool:
        """Say whether rows tie two users for policies to look up (a block, a follow).

        Not everybody may be tied to everybody, or "is not blocked" were never true.
        """
        parts = {user.part for user in owned.users}
        return (
            len(owned.users) > 1
            and Part.REFERENCE in parts
            and not owned.parents
            and owned.table in self.mined.helper_tables
        )

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
            if not agreeing:
                chosen |= dict.fromkeys(parent.columns)
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
            rows = chosen or rows
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
        values = self._row(relation, clan, user, variant, parents)
        self._differ(relation, values)
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

    def _row(
        self,
        relation: Relation,
        clan: str,
        user: User | None,
        variant: RowValues,
        parents: Mapping[str, str | None],
    ) -> dict[str, str | None]:
        owned = self.ownership.of(relation.name)
        values: dict[str, str | None] = {}
        for column in relation.columns:
            name = column.name
            if column.generated:
                continue
            if name in variant and (variant[name] is None or not _is_key(owned, name)):
                values[name] = variant[name]
            elif owned.part_of(name) is not None:
                values[name] = self._user_value(owned, name, clan, user)
            elif name in parents:
                values[name] = parents[name]
            elif name in owned.tenants or self._is_tenant_key(relation, clan, name):
                values[name] = self._tenant(clan, relation, name)
            elif (
                column.name in relation.primary_key
                or column.identity
                or not column.default
            ):
                values[name] = self.values.fresh(relation, column)
        self._attributes(relation, user, values)
        return values

    def _differ(self, relation: Relation, values: dict[str, str | None]) -> None:
        """Give columns that must differ from row to row a value not used yet."""
        for (table, name), pool in self.variants.pools.items():
            if table == relation.name and values.get(name) is not None:
                used = self.pooled.setdefault((table, name), 0)
                if used < len(pool):
                    values[name] = pool[used]
                    self.pooled[table, name] = used + 1

    def _user_value(
        self, owned: TableOwnership, column: str, clan: str, user: User | None
    ) -> str | None:
        if user is None:
            return None
        if owned.part_of(column) is not Part.REFERENCE:
            return user.id
        peers = [peer for peer in self.cast.clan(clan) if peer.rows]
        others = [peer for peer in peers if peer.id != user.id] or peers
        references = [u.column for u in owned.users if u.part is Part.REFERENCE]
        return others[references.index(column) % len(others)].id

    def _attributes(
        self, relation: Relation, user: User | None, values: dict[str, str | None]
    ) -> None:
        for attribute in self.ownership.attributes:
            if attribute.table != relation.name or user is None:
                continue
            key = (attribute.table, attribute.column)
            if key in user.attributes:
                if not attribute.is_row:
                    values[attribute.column] = user.attributes[key]
            elif _is_granted_by_row(relation, attribute):
                values[attribute.column] = None
                values[attribute.user_column] = None

    def _tenant(self, clan: str, relation: Relation, column: str) -> str | None:
        """Return the clan's value for a tenant column, one for all that mean the same.

        Columns mean the same when they are compared with the same claim, else when
        they have the same name.
        """
        col = Col(relation.name, column)
        paths = [p for p, cols in self.mined.claim_columns.items() if col in cols]
        key = (clan, "/".join(paths[0]) if paths else column)
        if key not in self.tenant_values:
            fresh = self.values.fresh(relation, relation.column(column))
            self.tenant_values[key] = fresh
        return self.tenant_values[key]

    def _is_tenant_key(self, relation: Relation, clan: str, column: str) -> bool:
        """Say whether this is the first row of a tenant that a claim names."""
        if not clan or relation.primary_key != (column,):
            return False
        col = Col(relation.name, column)
        named = any(
            col in cols
            for path, cols in self.mined.claim_columns.items()
            if path != ("role",)
        )
        return named and not any(r.clan == clan for r in self.by_table[relation.name])

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

    # -- claims --------------------------------------------------------------------

    def _with_claims(self) -> Cast:
        """Give every clan's users the claims that policies compare with columns."""
        users = []
        for user in self.cast.users:
            for path, cols in sorted(self.mined.claim_columns.items()):
                value = self._claim_value(user.clan, sorted(cols, key=str))
                if path and value is not None and len(path) > 1:
                    user = _with_claim(user, path, value)
                elif path and value is not None and path[0] not in ("sub", "role"):
                    user = replace(user, claims={**user.claims, path[0]: value})
            users.append(user)
        users += self._forgers(users)
        personas = [p for p in self.cast.personas if p.user is None]
        return Cast(
            tuple(users), (*personas[:1], *map(persona_of, users), *personas[1:])
        )

    def _claim_value(self, clan: str, cols: Sequence[Any]) -> str | None:
        for col in cols:
            if col.column in ("email", "role"):
                continue
            for row in self.by_table[col.table]:
                if row.clan == clan and clan and row.values.get(col.column):
                    return row.values[col.column]
        return None

    def _forgers(self, users: Sequence[User]) -> list[User]:
        """Return strangers who wrote another clan's claim into their user_metadata."""
        lead = next(user for user in users if user.lead)
        if not lead.user_metadata:
            return []
        return [
            User(
                name="mallory",
                id="3a110000-0000-4000-8000-000000000000",
                clan="mallory",
                rows=False,
                ghost=True,
                user_metadata=lead.user_metadata,
            )
        ]


def _is_granted_by_row(relation: Relation, attribute: Attribute) -> bool:
    """Say whether having a row at all is what grants the attribute's value."""
    return attribute.is_row or any(
        {attribute.user_column, attribute.column} == set(key.columns)
        for key in relation.unique_keys
    )


def _with_claim(user: User, path: tuple[str, ...], value: str) -> User:
    head, *steps = path
    nested: Any = value
    for step in reversed(steps[1:]):
        nested = {step: nested}
    added = {steps[0]: nested}
    if head == "app_metadata":
        return replace(user, app_metadata={**user.app_metadata, **added})
    if head == "user_metadata":
        return replace(user, user_metadata={**user.user_metadata, **added})
    return replace(user, claims={**user.claims, head: added})


def _agrees(row: Row, parent: Parent, chosen: Mapping[str, str | None]) -> bool:
    for column, target in zip(parent.columns, parent.target_columns, strict=True):
        if column in chosen and chosen[column] != row.values.get(target):
            return False
    shared = set(row.values) & set(chosen)
    return all(row.values[name] == chosen[name] for name in shared if name != "id")


def _keys(owned: TableOwnership) -> set[str]:
    return {column for parent in owned.parents for column in parent.columns}


def _is_key(owned: TableOwnership, name: str) -> bool:
    return owned.part_of(name) is not None or name in _keys(owned)


def user_row(user: User) -> RowValues:
    """Return the row of ``auth.users`` for ``user``."""
    return {
        "id": user.id,
        "email": user.email or None,
        "aud": "authenticated",
        "role": "authenticated",
        "is_anonymous": "true" if user.anonymous else "false",
    }


def rooted_tables(
    catalog: Catalog, mined: Mined, ownership: Ownership
) -> frozenset[Name]:
    """Return the tables whose rows belong to somebody, directly or through a parent."""
    rooted = {t.table for t in ownership.tables.values() if t.users or t.tenants}
    for table in ownership.tables.values():
        if table.membership:
            rooted |= {parent.target for parent in table.parents}
    rooted |= {
        col.table
        for path, cols in mined.claim_columns.items()
        for col in cols
        if path not in (("role",), ("email",))
    }
    rooted -= set(SKIPPED)
    grown = True
    while grown:
        children = {
            table.table
            for table in ownership.tables.values()
            if any(
                parent.target in rooted and parent.target != table.table
                for parent in table.parents
            )
        }
        grown = not children <= rooted
        rooted |= children
    return frozenset(rooted)


def insertion_order(catalog: Catalog) -> list[Relation]:
    """Return tables so that what rows refer to comes first, as far as cycles allow."""
    pending = {relation.name: relation for relation in catalog.tables}
    ordered: list[Relation] = []
    while pending:
        ready = [
            relation
            for relation in pending.values()
            if not any(
                _blocks(key.target, relation, pending, key.columns)
                for key in relation.foreign_keys
            )
        ] or [min(pending.values(), key=lambda r: _weight(r, pending))]
        ordered += [pending.pop(relation.name) for relation in ready]
    return [r for r in ordered if r.name != OBJECTS] + [
        r for r in ordered if r.name == OBJECTS
    ]


def _blocks(
    target: Name,
    relation: Relation,
    pending: Mapping[Name, Relation],
    columns: tuple[str, ...],
) -> bool:
    return target in pending and target != relation.name and bool(columns)


def _weight(relation: Relation, pending: Mapping[Name, Relation]) -> tuple[int, str]:
    """Prefer breaking a cycle at the table with the fewest NOT NULL references."""
    needed = sum(
        key.target in pending
        and all(relation.column(name).not_null for name in key.columns)
        for key in relation.foreign_keys
    )
    return needed, str(relation.name)


def combinations(
    dimensions: Mapping[str, Sequence[str | None]], limit: int
) -> list[dict[str, str | None]]:
    """Return up to ``limit`` rows that together show every value at least once."""
    names = list(dimensions)
    total = 1
    for name in names:
        total *= max(1, len(dimensions[name]))
    if total <= limit:
        return [
            dict(zip(names, chosen, strict=True))
            for chosen in itertools.product(*dimensions.values())
        ]
    longest = max(len(values) for values in dimensions.values())
    return [
        {
            name: values[(turn * (1 + place)) % len(values)]
            for place, (name, values) in enumerate(dimensions.items())
        }
        for turn in range(min(limit, max(longest, limit)))
    ]
