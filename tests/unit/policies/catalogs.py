"""Small catalogues made by hand, for tests that need no database."""

from __future__ import annotations

from harness.db.catalog import (
    Catalog,
    Column,
    ForeignKey,
    Function,
    Name,
    Parameter,
    Policy,
    PolicyCommand,
    Relation,
    UniqueKey,
)

USERS = Name("auth", "users")


def column(name: str, kind: str = "text", **details: object) -> Column:
    """Return a column whose type is ``kind``."""
    return Column(name=name, type=kind, base_type=kind, **details)  # type: ignore[arg-type]


def table(
    name: str,
    *columns: Column,
    keys: tuple[ForeignKey, ...] = (),
    unique: tuple[UniqueKey, ...] = (),
    policies: tuple[Policy, ...] = (),
) -> Relation:
    """Return a table of schema public; its first column is the primary key."""
    primary = UniqueKey(f"{name}_pkey", (columns[0].name,), primary=True)
    return Relation(
        name=Name("public", name),
        kind="table",
        owner="postgres",
        rls=bool(policies),
        columns=columns,
        foreign_keys=keys,
        unique_keys=(primary, *unique),
        policies=policies,
    )


def references(name: str, target: str, column: str = "id") -> ForeignKey:
    """Return a foreign key of one column; ``target`` is qualified."""
    schema, _, local = target.partition(".")
    return ForeignKey(f"{name}_fkey", (name,), Name(schema, local), (column,))


def policy(
    table_name: str, using: str, *, command: PolicyCommand = "ALL", name: str = "p"
) -> Policy:
    """Return a permissive policy of a table of schema public."""
    return Policy(Name("public", table_name), name, command, True, (), using, "")


def sql_function(name: str, body: str, *parameters: str) -> Function:
    """Return a boolean SQL function of schema public whose parameters are uuids."""
    return Function(
        name=Name("public", name),
        signature=f"public.{name}",
        parameters=tuple(Parameter(p, "uuid", has_default=False) for p in parameters),
        returns="boolean",
        returns_set=False,
        language="sql",
        volatility="s",
        security_definer=True,
        owner="postgres",
        source=body,
        definition="",
    )


def catalog(*relations: Relation, functions: tuple[Function, ...] = ()) -> Catalog:
    """Return a catalogue of these relations."""
    return Catalog(
        relations={relation.name: relation for relation in relations},
        functions=functions,
    )
