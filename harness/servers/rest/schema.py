"""The schema cache: what exists in the exposed schemas, as the planner asks for it.

Tables, columns, relationships, functions, type names and role settings, read from
``pg_catalog`` by :mod:`harness.servers.rest.introspection`.  Every identifier that ends
up in SQL comes from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = [
    "Column",
    "Junction",
    "Parameter",
    "QualifiedName",
    "Relationship",
    "Routine",
    "SchemaCache",
    "Table",
    "quote_identifier",
]

Cardinality = Literal[
    "many-to-one", "one-to-many", "one-to-one", "many-to-many", "computed"
]
ColumnPairs = tuple[tuple[str, str], ...]


def quote_identifier(name: str) -> str:
    """Return ``name`` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class QualifiedName(NamedTuple):
    """The name of a table or function within its schema."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        """Return the quoted, qualified name."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` is its SQL name, ``base_type`` the same without domain.

    ``default`` is the SQL expression of its default, if it has one.
    """

    name: str
    type: str
    base_type: str
    nullable: bool = True
    default: str | None = None
    max_length: int | None = None
    enum: tuple[str, ...] = ()
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view; ``computed`` names functions that act as columns of it."""

    name: QualifiedName
    columns: Mapping[str, Column]
    primary_key: tuple[str, ...] = ()
    computed: Mapping[str, str] = field(default_factory=dict)
    is_view: bool = False
    insertable: bool = True
    updatable: bool = True
    deletable: bool = True
    description: str | None = None


class Junction(NamedTuple):
    """The table between the two sides of a many-to-many relationship.

    Pairs are (column of the side, column of the junction).
    """

    table: QualifiedName
    source_constraint: str
    target_constraint: str
    source_columns: ColumnPairs
    target_columns: ColumnPairs


@dataclass(frozen=True, slots=True)
class Relationship:
    """How rows of ``table`` find rows of ``target``.

    ``columns`` pairs a column of ``table`` with one of ``target``.  A computed
    relationship is a ``function`` of the row, ``single`` if it gives at most one.
    """

    table: QualifiedName
    target: QualifiedName
    cardinality: Cardinality
    constraint: str = ""
    columns: ColumnPairs = ()
    junction: Junction | None = None
    function: QualifiedName | None = None
    single: bool = False

    @property
    def is_self(self) -> bool:
        """Whether both sides are the same table."""
        return self.table == self.target

    @property
    def to_one(self) -> bool:
        """Whether a row has at most one related row."""
        if self.cardinality == "computed":
            return self.single
        return self.cardinality in ("many-to-one", "one-to-one")


class Parameter(NamedTuple):
    """A parameter of a function; ``type`` is ready to stand after ``::``."""

    name: str
    type: str
    required: bool
    variadic: bool


@dataclass(frozen=True, slots=True)
class Routine:
    """A function; ``returns`` names the table or composite type of its rows.

    ``columns`` maps the columns of a composite result to their types.
    """

    name: QualifiedName
    parameters: tuple[Parameter, ...]
    return_type: QualifiedName
    returns_set: bool
    composite: bool
    volatility: Literal["immutable", "stable", "volatile"]
    columns: Mapping[str, Column] = field(default_factory=dict)
    returns: QualifiedName | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None

    @property
    def returns_void(self) -> bool:
        """Whether it returns nothing."""
        return self.return_type == ("pg_catalog", "void") and not self.returns_set

    @property
    def returns_scalar(self) -> bool:
        """Whether it returns one value that is no row."""
        return not self.composite and not self.returns_set

    @property
    def signature(self) -> str:
        """Return the name with its parameters, as error messages show it."""
        listed = ", ".join(f"{p.name} => {p.type}" for p in self.parameters)
        return f"{self.name.schema}.{self.name.name}({listed})"


@dataclass(frozen=True, slots=True)
class SchemaCache:
    """Everything known of the exposed schemas at one moment.

    ``types`` maps a lower-case type name to its SQL form; ``role_settings`` holds the
    settings a role starts with; ``config`` the server's settings kept in the database
    (``pgrst.*`` of the authenticator role, without the prefix).
    """

    tables: Mapping[QualifiedName, Table]
    relationships: Mapping[QualifiedName, Sequence[Relationship]]
    routines: Mapping[QualifiedName, Sequence[Routine]]
    types: Mapping[str, str]
    role_settings: Mapping[str, Mapping[str, str]]
    config: Mapping[str, str]
    schema_descriptions: Mapping[str, str]
    media_types: Mapping[QualifiedName, str]
    fingerprint: str
    server_version: int
