"""Whose rows are whose: inferred from keys, names and policies, shown, correctable.

A *user column* holds a user's id.  It is an OWNER column (whoever it names owns the
row), a MEMBER column (the row links that user to something that others share, such as
``org_members.user_id``), or a REFERENCE (``recipient_id``, ``assigned_to``).  An
*attribute* is a column of a user's own row that helpers read (``profiles.role``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from harness.db.catalog import Catalog, Column, Name, Relation
from harness.policies.comparisons import UID, Claim, Col, Folder, Term, Topic
from harness.policies.mining import Mined

__all__ = [
    "Attribute",
    "Ownership",
    "Parent",
    "Part",
    "TableOwnership",
    "UserColumn",
    "infer_ownership",
    "pairs_users",
]

USERS = Name("auth", "users")
OBJECTS = Name("storage", "objects")
ID_TYPES = ("uuid", "text", "character varying")

OWNER_NAME = re.compile(
    r"^(p_)?((user|owner|author|creator|created_by|uploader|uploaded_by|sender|account|"
    r"profile|customer|client_user|poster|posted_by|submitted_by|requester|requested_by|"
    r"host|seller|patient|student|from_user|follower|blocker|granted_by|added_by|"
    r"inviter|invited_by|actor|auth_user|buyer|driver|member|participant|reporter)"
    r"(_user)?(_id|_uid|_uuid)?|uid|usr_id)$"
)
REFERENCE_NAME = re.compile(
    r"(recipient|receiver|to_user|assign|invite[de]_|invitee|target|following|followed|"
    r"followee|approve|review(ed|er)|updated_by|modified_by|edited_by|deleted_by|"
    r"shared_with|blocked|mention|friend|addressee|resolved|verified|closed_by|handled|"
    r"last_|reviewee|rated|mentor|manager|supervisor|doctor|teacher|moderator|"
    r"granted_to|other_user|partner|winner|opponent|agent|support)"
)
ATTRIBUTE_NAME = re.compile(
    r"(role|is_admin|admin|is_staff|is_super|is_moderator|user_type|account_type|plan|"
    r"tier|level|status|is_active|active|banned|blocked|verified|approved|"
    r"permissions?|premium|subscription)"
)
TENANT_NAME = re.compile(
    r"^(org|organi[sz]ation|tenant|team|company|workspace|account|group|supplier|"
    r"couple|family|household|school|clinic|store|shop|vendor|business|community|"
    r"department|branch|agency|firm|club)(_id|_uuid)$"
)


class Part(Enum):
    """What a user column says about the user it names."""

    OWNER = "owner"
    MEMBER = "member"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class UserColumn:
    """A column that holds a user's id, and why we think so."""

    column: str
    part: Part
    evidence: str


@dataclass(frozen=True, slots=True)
class Parent:
    """A row that a row hangs from: ``columns`` name ``target_columns`` of ``target``.

    ``declared`` is false for a link inferred from comparisons, without a foreign key.
    """

    columns: tuple[str, ...]
    target: Name
    target_columns: tuple[str, ...]
    declared: bool = True


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a user's row that decides what the user may do elsewhere.

    Where having a row is all it takes (a table of administrators), ``column`` is the
    user column itself and ``values`` is ``("row",)``.
    """

    table: Name
    user_column: str
    column: str
    values: tuple[str, ...]

    @property
    def is_row(self) -> bool:
        """Whether having a row at all is what counts."""
        return self.column == self.user_column


@dataclass(frozen=True, slots=True)
class TableOwnership:
    """What one table says about whose its rows are."""

    table: Name
    users: tuple[UserColumn, ...] = ()
    parents: tuple[Parent, ...] = ()
    tenants: tuple[str, ...] = ()
    membership: bool = False

    @property
    def owners(self) -> tuple[str, ...]:
        """The columns whose user owns the row."""
        return tuple(u.column for u in self.users if u.part is Part.OWNER)

    @property
    def user_names(self) -> tuple[str, ...]:
        """All columns that hold a user's id."""
        return tuple(u.column for u in self.users)

    def part_of(self, column: str) -> Part | None:
        """Return what ``column`` says about a user, or None."""
        for user in self.users:
            if user.column == column:
                return user.part
        return None


@dataclass(frozen=True)
class Ownership:
    """The inferred ownership of all tables."""

    tables: Mapping[Name, TableOwnership]
    attributes: tuple[Attribute, ...] = ()
    corrections: Mapping[str, str] = field(default_factory=dict)

    def of(self, table: Name) -> TableOwnership:
        """Return what is known of ``table`` (nothing, for one never seen)."""
        return self.tables.get(table, TableOwnership(table))

    def describe(self) -> list[str]:
        """Return one line a table, for the reader to check and correct."""
        lines = []
        for table in self.tables.values():
            parts = [f"{u.column} is the {u.part.value}" for u in table.users]
            parts += [f"{c} is the tenant" for c in table.tenants]
            parts += [f"belongs to {p.target}" for p in table.parents]
            lines.append(f"{table.table}: {', '.join(parts) or 'nobody owns a row'}")
        return lines


def infer_ownership(
    catalog: Catalog, mined: Mined, corrections: Mapping[str, str] | None = None
) -> Ownership:
    """Infer ownership; ``corrections`` maps ``schema.table.column`` to a part.

    A part is ``owner``, ``member``, ``reference`` or ``none``.
    """
    corrections = corrections or {}
    holders = _user_id_columns(catalog, mined)
    tables = {
        relation.name: _table(relation, catalog, mined, holders, corrections)
        for relation in catalog.tables
    }
    return Ownership(tables, _attributes(catalog, mined, tables), corrections)


def pairs_users(owned: TableOwnership, mined: Mined) -> bool:
    """Say whether rows tie two users for policies to look up."""
    parts = {user.part for user in owned.users}
    return (
        len(owned.users) > 1
        and Part.REFERENCE in parts
        and not owned.parents
        and owned.table in mined.helper_tables
    )


def _user_id_columns(catalog: Catalog, mined: Mined) -> dict[Col, str]:
    """Return every column that holds a user's id, with the evidence."""
    found: dict[Col, str] = {}
    for relation in catalog.tables:
        for column in relation.columns:
            evidence = _own_evidence(relation, column, mined)
            if evidence:
                found[Col(relation.name, column.name)] = evidence
    _follow_keys(catalog, found)
    return found


def _own_evidence(relation: Relation, column: Column, mined: Mined) -> str:
    col = Col(relation.name, column.name)
    for key in relation.foreign_keys:
        if key.columns == (column.name,) and key.target == USERS:
            return "references auth.users"
    if column.base_type not in ID_TYPES or relation.name.schema == "realtime":
        return ""
    if mined.caller_columns.get(col):
        return "compared with auth.uid()"
    if column.default in ("auth.uid()", "(auth.uid())") and column.base_type == "uuid":
        return "auth.uid() by default"
    if relation.name == OBJECTS:
        return "the Storage API's owner" if column.name == "owner_id" else ""
    keyed = any(column.name in key.columns for key in relation.foreign_keys)
    if column.base_type == "uuid" and not keyed and OWNER_NAME.match(column.name):
        return "named like a user"
    return ""


def _follow_keys(catalog: Catalog, found: dict[Col, str]) -> None:
    """Add columns that reference a user's row by its id (``profiles.id``)."""
    changed = True
    while changed:
        changed = False
        for relation in catalog.tables:
            for key in relation.foreign_keys:
                if len(key.columns) != 1 or key.target == relation.name:
                    continue
                target = Col(key.target, key.target_columns[0])
                source = Col(relation.name, key.columns[0])
                if target in found and source not in found:
                    found[source] = f"references {key.target}"
                    changed = True


def _table(
    relation: Relation,
    catalog: Catalog,
    mined: Mined,
    holders: Mapping[Col, str],
    corrections: Mapping[str, str],
) -> TableOwnership:
    names = {
        column.name: holders[Col(relation.name, column.name)]
        for column in relation.columns
        if Col(relation.name, column.name) in holders
    }
    parents = _parents(relation, catalog, mined, names)
    tenants = _tenants(relation, mined, names, parents)
    shared = {column for parent in parents for column in parent.columns} | {*tenants}
    membership = any(
        table == relation.name and user in names and column in shared
        for table, user, column in mined.memberships
    )
    users = tuple(
        UserColumn(name, part, evidence)
        for name, evidence in names.items()
        if (part := _part(relation, name, names, membership, mined, corrections))
    )
    return TableOwnership(relation.name, users, parents, tenants, membership)


def _part(
    relation: Relation,
    column: str,
    names: Mapping[str, str],
    membership: bool,
    mined: Mined,
    corrections: Mapping[str, str],
) -> Part | None:
    stated = corrections.get(f"{relation.name}.{column}")
    if stated is not None:
        return None if stated == "none" else Part(stated)
    if relation.name == OBJECTS:
        # Folders say whose a file is, unless policies ask for the owner column.
        asked = mined.caller_columns.get(Col(OBJECTS, column))
        return Part.OWNER if asked else Part.REFERENCE
    if REFERENCE_NAME.search(column) and len(names) > 1:
        return Part.REFERENCE
    if membership and len(names) == 1:
        return Part.MEMBER
    if membership and not REFERENCE_NAME.search(column):
        created = column in ("created_by", "invited_by", "added_by", "granted_by")
        return Part.REFERENCE if created else Part.MEMBER
    if OWNER_NAME.match(column) or len(names) == 1:
        return Part.OWNER
    if mined.caller_columns.get(Col(relation.name, column)):
        return Part.OWNER
    return Part.REFERENCE


def _parents(
    relation: Relation, catalog: Catalog, mined: Mined, users: Mapping[str, str]
) -> tuple[Parent, ...]:
    parents = [
        Parent(key.columns, key.target, key.target_columns)
        for key in relation.foreign_keys
        if key.target in catalog.relations
        and not (len(key.columns) == 1 and key.columns[0] in users)
    ]
    taken = {column for parent in parents for column in parent.columns} | set(users)
    for left, right in sorted(mined.equal_columns, key=str):
        if left.table != relation.name or left.column in taken or left.path:
            continue
        parent = _compared_parent(relation, left, right, catalog)
        if parent is not None:
            parents.append(parent)
            taken.add(left.column)
    return tuple(parents)


def _compared_parent(
    relation: Relation, left: Col, right: Col, catalog: Catalog
) -> Parent | None:
    """Take ``left = right`` for a link when right is the key of another table."""
    target = catalog.relations.get(right.table)
    if target is None or right.path or right.table == relation.name:
        return None
    if target.primary_key != (right.column,) or relation.primary_key == (left.column,):
        return None
    if not relation.has_column(left.column):
        return None
    return Parent((left.column,), right.table, (right.column,), declared=False)


def _tenants(
    relation: Relation,
    mined: Mined,
    users: Mapping[str, str],
    parents: tuple[Parent, ...],
) -> tuple[str, ...]:
    """Return columns that name a tenant without any table to hold it."""
    linked = {column for parent in parents for column in parent.columns} | set(users)
    claimed = {
        col.column
        for path, cols in mined.claim_columns.items()
        for col in cols
        if col.table == relation.name and not col.path and _tenant_claim(path)
    }
    return tuple(
        column.name
        for column in relation.columns
        if column.name not in linked
        and (
            (column.name in claimed and column.name not in relation.primary_key)
            or (TENANT_NAME.match(column.name) and column.base_type in ID_TYPES)
        )
    )


def _tenant_claim(path: tuple[str, ...]) -> bool:
    return path not in (("role",), ("email",), ("phone",), ("aal",))


def _attributes(
    catalog: Catalog, mined: Mined, tables: Mapping[Name, TableOwnership]
) -> tuple[Attribute, ...]:
    """Return what helpers read of a user's own row to decide about other rows."""
    found = []
    for relation in catalog.tables:
        owned = tables[relation.name]
        if relation.name not in mined.helper_tables or not owned.users:
            continue
        user = owned.users[0].column
        described = [
            Attribute(relation.name, user, column.name, values)
            for column in relation.columns
            if (values := _attribute_values(relation, column, mined))
            and _describes_user(relation, user, column.name)
        ]
        if not described and _grants_by_row(relation, user, catalog, mined):
            described.append(Attribute(relation.name, user, user, ("row",)))
        found += described
    return tuple(found)


def _grants_by_row(
    relation: Relation, user: str, catalog: Catalog, mined: Mined
) -> bool:
    """Say whether policies only ever ask if the caller has a row here."""
    referenced = any(
        key.target == relation.name
        for other in catalog.tables
        for key in other.foreign_keys
        if other.name != relation.name
    )
    if referenced or not any(
        key.columns == (user,) for key in relation.unique_keys if not key.expression
    ):
        return False
    asked = Col(relation.name, user)
    for (table, _), reading in mined.policy_readings.items():
        if table == relation.name or relation.name not in reading.reads:
            continue
        pairs = [p for comparison in reading.comparisons for p in comparison.pairs()]
        if (asked, UID) not in pairs:
            return False
        if any(
            isinstance(left, Col)
            and left.table == relation.name
            and (isinstance(right, Topic) or _is_elsewhere(right, relation.name))
            for left, right in pairs
        ):
            return False
    return any(
        relation.name in reading.reads and table != relation.name
        for (table, _), reading in mined.policy_readings.items()
    )


def _is_elsewhere(term: Term, table: Name) -> bool:
    return isinstance(term, (Col, Folder)) and term.table != table


def _describes_user(relation: Relation, user: str, column: str) -> bool:
    """Say whether a user has one row here, or one for each value of ``column``."""
    return column != user and any(
        user in key.columns and set(key.columns) <= {user, column}
        for key in relation.unique_keys
        if not key.expression
    )


def _attribute_values(
    relation: Relation, column: Column, mined: Mined
) -> tuple[str, ...]:
    col = Col(relation.name, column.name)
    read = mined.constants.get(col, [])
    if column.base_type == "boolean":
        tested = col in mined.truth_tests or bool(read)
        return ("true", "false") if tested else ()
    if column.labels or ATTRIBUTE_NAME.search(column.name):
        return tuple(dict.fromkeys([*read, *column.labels]))
    return ()


def claimed_columns(mined: Mined, table: Name) -> Mapping[str, tuple[str, ...]]:
    """Return which claim each column of ``table`` is compared with."""
    return {
        col.column: Claim(path).path
        for path, cols in mined.claim_columns.items()
        for col in cols
        if col.table == table and not col.path
    }
