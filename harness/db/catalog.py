"""What a database declares about who may do what: the catalogue as frozen values.

:func:`read_catalog` reads ``pg_catalog`` once and returns tables, columns, keys,
checks, grants, policies, functions, views, triggers, publications and buckets of the
schemas that belong to the project, plus the two platform tables whose policies
projects write (``storage.objects`` and ``realtime.messages``).  It judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Literal

__all__ = [
    "API_ROLES",
    "Bucket",
    "Catalog",
    "Check",
    "Column",
    "ForeignKey",
    "Function",
    "Name",
    "Parameter",
    "Policy",
    "PolicyCommand",
    "Privileges",
    "Publication",
    "Relation",
    "Trigger",
    "UniqueKey",
    "View",
    "quote_identifier",
]

API_ROLES = ("anon", "authenticated", "service_role")

PolicyCommand = Literal["SELECT", "INSERT", "UPDATE", "DELETE", "ALL"]
RelationKind = Literal["table", "partitioned", "view", "matview", "foreign"]


@lru_cache(maxsize=4096)
def quote_identifier(name: str) -> str:
    """Return ``name`` as SQL, quoted only where it must be."""
    plain = name and name[0] in "abcdefghijklmnopqrstuvwxyz_" and name not in RESERVED
    if plain and all(c in "abcdefghijklmnopqrstuvwxyz_0123456789$" for c in name):
        return name
    return '"' + name.replace('"', '""') + '"'


RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "placing",
        "primary",
        "references",
        "returning",
        "right",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A schema-qualified name."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: ``type`` as SQL spells it, ``base_type`` without domain or modifier.

    ``generated`` is true for stored generated columns, which no statement may set;
    ``identity`` for ``GENERATED ALWAYS AS IDENTITY``, which needs OVERRIDING.
    """

    name: str
    type: str
    base_type: str
    not_null: bool = False
    default: str = ""
    generated: bool = False
    identity: bool = False
    labels: tuple[str, ...] = ()
    domain_checks: tuple[str, ...] = ()
    max_length: int | None = None

    @property
    def sql(self) -> str:
        """The name as SQL."""
        return quote_identifier(self.name)

    @property
    def is_array(self) -> bool:
        """Whether values are arrays."""
        return self.base_type.endswith("[]")

    @property
    def required(self) -> bool:
        """Whether an INSERT must give a value."""
        return self.not_null and not (self.default or self.generated or self.identity)


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint; ``columns`` are those it reads."""

    name: str
    expression: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key; ``deferrable`` ones are checked when the transaction ends."""

    name: str
    columns: tuple[str, ...]
    target: Name
    target_columns: tuple[str, ...]
    on_delete: str = "a"
    deferrable: bool = False


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index or exclusion constraint.

    ``expression`` ones, and exclusions, have no plain column list to rely on.
    """

    name: str
    columns: tuple[str, ...]
    primary: bool = False
    partial: bool = False
    expression: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A row level security policy; ``roles`` is empty for PUBLIC."""

    table: Name
    name: str
    command: PolicyCommand
    permissive: bool
    roles: tuple[str, ...]
    using: str
    check: str

    @property
    def told(self) -> str:
        """The policy as reports name it: its table and its name."""
        return f'{self.table} policy "{self.name}"'

    def applies_to(self, command: str, role: str) -> bool:
        """Say whether PostgreSQL consults this policy for ``command`` as ``role``."""
        return self.command in (command, "ALL") and (
            not self.roles or role in self.roles
        )

    def old_row_condition(self, command: str) -> str:
        """Return what an existing row must satisfy ('' when the policy has none)."""
        return "" if command == "INSERT" else self.using

    def new_row_condition(self, command: str) -> str:
        """Return what a new row must satisfy; UPDATE and ALL fall back to USING."""
        if command in ("SELECT", "DELETE"):
            return ""
        return self.check or self.using


@dataclass(frozen=True, slots=True)
class Trigger:
    """A user trigger; ``function`` is the name of what it runs."""

    name: str
    function: Name
    timing: Literal["before", "after", "instead"]
    events: tuple[str, ...]
    for_each_row: bool


@dataclass(frozen=True, slots=True)
class Privileges:
    """What one role may do to one relation, columns included.

    ``table`` holds the commands granted on the whole table; ``columns`` those granted
    for a column only.
    """

    table: frozenset[str] = frozenset()
    columns: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def may(self, command: str, column: str | None = None) -> bool:
        """Say whether ``command`` is granted, for ``column`` or for any column."""
        if command in self.table:
            return True
        if column is not None:
            return command in self.columns.get(column, frozenset())
        return any(command in granted for granted in self.columns.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A table, partitioned table, view, materialised view or foreign table.

    ``partition_bound`` is what every row of a partition satisfies.
    """

    name: Name
    kind: RelationKind
    owner: str
    rls: bool = False
    force_rls: bool = False
    columns: tuple[Column, ...] = ()
    checks: tuple[Check, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    unique_keys: tuple[UniqueKey, ...] = ()
    policies: tuple[Policy, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    privileges: Mapping[str, Privileges] = field(default_factory=dict)
    default_grants: frozenset[str] = frozenset()
    partition_of: Name | None = None
    partition_bound: str = ""
    replica_identity: str = "d"
    comment: str = ""

    def column(self, name: str) -> Column:
        """Return the column called ``name``; raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name}.{name}")

    def has_column(self, name: str) -> bool:
        """Say whether there is a column called ``name``."""
        return any(column.name == name for column in self.columns)

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of the primary key, or of nothing."""
        for key in self.unique_keys:
            if key.primary:
                return key.columns
        return ()

    @property
    def is_table(self) -> bool:
        """Whether rows are stored here."""
        return self.kind in ("table", "partitioned")

    def may(self, role: str, command: str, column: str | None = None) -> bool:
        """Say whether ``role`` holds ``command`` by grant (policies aside)."""
        held = self.privileges.get(role)
        return held is not None and held.may(command, column)

    def foreign_key_of(self, column: str) -> ForeignKey | None:
        """Return the foreign key that ``column`` is part of, one-column keys first."""
        keys = [key for key in self.foreign_keys if column in key.columns]
        return min(keys, key=lambda key: len(key.columns), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a view adds to its relation."""

    name: Name
    definition: str
    security_invoker: bool = False
    security_barrier: bool = False
    reads: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """An input parameter of a function."""

    name: str
    type: str
    has_default: bool
    variadic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function; ``signature`` is what DROP FUNCTION takes."""

    name: Name
    signature: str
    parameters: tuple[Parameter, ...]
    returns: str
    returns_set: bool
    language: str
    volatility: Literal["i", "s", "v"]
    security_definer: bool
    owner: str
    source: str
    definition: str
    settings: Mapping[str, str] = field(default_factory=dict)
    executable_by: frozenset[str] = frozenset()
    kind: Literal["f", "p", "a", "w"] = "f"
    strict: bool = False

    @property
    def is_trigger(self) -> bool:
        """Whether it can only run as a trigger."""
        return self.returns in ("trigger", "event_trigger")


@dataclass(frozen=True, slots=True)
class Publication:
    """A publication and the tables it publishes."""

    name: str
    tables: tuple[Name, ...]
    inserts: bool
    updates: bool
    deletes: bool


@dataclass(frozen=True, slots=True)
class Bucket:
    """A storage bucket."""

    id: str
    public: bool
    file_size_limit: int | None
    allowed_mime_types: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """Everything :func:`harness.db.catalog_reading.read_catalog` found."""

    relations: Mapping[Name, Relation]
    views: Mapping[Name, View] = field(default_factory=dict)
    functions: tuple[Function, ...] = ()
    publications: tuple[Publication, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    reachable_schemas: Mapping[str, frozenset[str]] = field(default_factory=dict)
    temporary_tables: frozenset[str] = frozenset()

    def relation(self, name: str) -> Relation:
        """Return ``schema.name``; raises KeyError."""
        schema, _, local = name.partition(".")
        return self.relations[Name(schema, local)]

    @cached_property
    def tables(self) -> tuple[Relation, ...]:
        """Tables that hold rows, partitions left to their parent."""
        return tuple(
            relation
            for relation in self.relations.values()
            if relation.is_table and relation.partition_of is None
        )

    @cached_property
    def policies(self) -> tuple[Policy, ...]:
        """All policies, in table order."""
        return tuple(p for r in self.relations.values() for p in r.policies)

    def functions_named(self, name: str, schema: str = "") -> Iterator[Function]:
        """Yield the functions called ``name``, in ``schema`` when one is given."""
        for function in self.functions:
            if function.name.name == name and schema in ("", function.name.schema):
                yield function

    def published(self, name: Name) -> bool:
        """Say whether Realtime's publication carries the table."""
        return any(
            name in publication.tables
            for publication in self.publications
            if publication.name == "supabase_realtime"
        )

    def reaches(self, role: str, schemas: Iterable[str]) -> bool:
        """Say whether ``role`` has USAGE on all ``schemas``."""
        return all(role in self.reachable_schemas.get(s, ()) for s in schemas)
