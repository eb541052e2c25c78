"""SQL expressions as trees: parsing, walking with scopes, and splitting by OR and AND.

A thin layer over ``pglast`` (PostgreSQL's own grammar).  It knows which relation an
unqualified column belongs to, and nothing of what a policy means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pglast
import pglast.ast
from pglast import enums
from pglast.parser import ParseError
from pglast.stream import RawStream

from harness.db.catalog import Catalog, Function, Name

__all__ = [
    "Scope",
    "Tree",
    "ast",
    "body_statements",
    "body_variables",
    "children",
    "deparse",
    "disjuncts",
    "integer",
    "parse_condition",
    "parse_statements",
    "same_column",
    "scope_of",
    "walk",
]

# A node of a syntax tree.  The stubs call every field optional, though the parser sets
# what the grammar requires; naming each of them would drown the code in assertions.
Tree = Any
ast: Any = pglast.ast

MAX_DISJUNCTS = 64
PLPGSQL_STATEMENT = 0
_WORD = r"(?:\"[^\"]++\"|\w++)"
# What pg_get_functiondef() writes before the body.
BODY_MARK = re.compile(r"(\sAS \$\w*\$)", re.IGNORECASE)
ARRAY_WORDS = re.compile(r"\bVARIADIC |(?<!\barray)\[\]", re.IGNORECASE)
QUALIFIER = re.compile(rf"{_WORD}\.(?={_WORD})")
DECLARATIONS = re.compile(r"\bdeclare\b.*?\bbegin\b", re.IGNORECASE | re.DOTALL)
COMMENT = re.compile(r"--[^\n]*")
_NAMED = rf"((?:\bdeclare|;)\s+{_WORD}\s+(?:constant\s+)?)"
# `name constant schema.type`, but not `name table.column%type`.
QUALIFIED_TYPE = re.compile(rf"{_NAMED}{_WORD}\.(?={_WORD}(?!%type\b))", re.IGNORECASE)
SCALAR_TYPE = re.compile(
    rf"{_NAMED}(?!(?:record|refcursor|cursor|alias)\b)(?:(?!%rowtype)[^;:=])+?"
    r"(?=\s*(?:;|:?=|\bdefault\b|\bnot\s+null\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scope:
    """Which relations a column reference may mean, inner queries first."""

    tables: Mapping[str, Name]
    outer: Scope | None = None

    def resolve(self, fields: tuple[str, ...], catalog: Catalog) -> Name | None:
        """Return the relation that a reference of these dotted fields belongs to."""
        if len(fields) == 3:
            return Name(fields[0], fields[1])
        level: Scope | None = self
        while level is not None:
            found = level._here(fields, catalog)
            if found is not None:
                return found
            level = level.outer
        return None

    def _here(self, fields: tuple[str, ...], catalog: Catalog) -> Name | None:
        if len(fields) == 2:
            return self.tables.get(fields[0])
        for name in self.tables.values():
            relation = catalog.relations.get(name)
            if relation is not None and relation.has_column(fields[-1]):
                return name
        return None


@lru_cache(maxsize=4096)
def parse_condition(text: str) -> Tree | None:
    """Return the tree of a boolean expression, or None for one we cannot parse."""
    if not text:
        return None
    try:
        statement: Tree = pglast.parse_sql(f"select ({text})")[0].stmt
        return statement.targetList[0].val
    except ParseError:
        return None


@lru_cache(maxsize=4096)
def parse_statements(text: str) -> tuple[Tree, ...]:
    """Return the statements of ``text``; nothing when it does not parse."""
    try:
        return tuple(raw.stmt for raw in pglast.parse_sql(text))
    except ParseError:
        return ()


def body_statements(function: Function) -> tuple[Tree, ...]:
    """Return the SQL statements and expressions inside a function's body."""
    return _body(function.language, function.source, function.definition)


@lru_cache(maxsize=2048)
def _body(language: str, source: str, definition: str) -> tuple[Tree, ...]:
    if language == "plpgsql":
        return tuple(_plpgsql_statements(definition))
    if language != "sql":
        return ()
    if source.strip():
        return parse_statements(source)
    created = parse_statements(definition)
    return tuple(node for statement in created for node in _sql_body(statement))


def _sql_body(statement: Tree) -> Iterator[Tree]:
    body = getattr(statement, "sql_body", None)
    for item in body if isinstance(body, tuple) else (body,):
        if isinstance(item, tuple):
            yield from (node for node in item if node is not None)
        elif item is not None:
            yield item


def _plpgsql_statements(definition: str) -> Iterator[Tree]:
    for text, mode in _plpgsql_queries(_parse_plpgsql(definition)):
        if mode == PLPGSQL_STATEMENT:
            yield from parse_statements(text)
        else:
            # An assignment keeps its target: `v := expression`.
            expression = text.partition(":=")[2] or text
            node = parse_condition(expression.strip().rstrip(";"))
            if node is not None:
                yield node


@lru_cache(maxsize=2048)
def body_variables(language: str, definition: str) -> tuple[tuple[str, Tree], ...]:
    """Return the variables of a PL/pgSQL body that a lone expression is kept in.

    ``v uuid := auth.uid()`` and ``select auth.jwt() ->> 'role' into v`` are such; what
    is read from tables is not.
    """
    if language != "plpgsql":
        return ()
    return tuple(_variables(_parse_plpgsql(definition)))


def _parse_plpgsql(definition: str) -> Any:
    """Return the tree of a PL/pgSQL function; nothing when it does not parse.

    The parser, which knows no catalog, refuses types of schemas other than ``public``
    and arrays of types that it does not know, and takes what it does not know for a
    row.  What the types are is of no matter here.
    """
    for respell in (lambda text: text, _with_plain_types, _with_scalars):
        try:
            return pglast.parse_plpgsql(respell(definition))
        except ParseError:
            continue
    return []


def _with_plain_types(definition: str) -> str:
    """Take the schemas and brackets off the types of a head and of variables."""
    return _respelled(definition, QUALIFIED_TYPE, r"\1")


def _with_scalars(definition: str) -> str:
    """Take the variables of a function for text, where they are no records."""
    return _respelled(definition, SCALAR_TYPE, r"\1text")


def _respelled(definition: str, declared: re.Pattern[str], spelling: str) -> str:
    def plain(found: re.Match[str]) -> str:
        text = declared.sub(spelling, COMMENT.sub("", found[0]))
        return ARRAY_WORDS.sub("", text)

    head, mark, body = [*BODY_MARK.split(definition, maxsplit=1), "", ""][:3]
    head = ARRAY_WORDS.sub("", QUALIFIER.sub("", head))
    return head + mark + DECLARATIONS.sub(plain, body)


def _variables(tree: Any) -> Iterator[tuple[str, Tree]]:
    if isinstance(tree, list):
        for item in tree:
            yield from _variables(item)
    if not isinstance(tree, dict):
        return
    name, query = tree.get("refname", ""), ""
    if "default_val" in tree:
        query = tree["default_val"]["PLpgSQL_expr"]["query"]
    elif "varno" in tree and "expr" in tree:
        name, _, query = tree["expr"]["PLpgSQL_expr"]["query"].partition(":=")
    if "sqlstmt" in tree and "target" in tree:
        # A variable of a type that the parser does not know stands as a record.
        target = tree["target"]
        fields = target.get("PLpgSQL_row", {}).get("fields", ())
        name = target.get("PLpgSQL_rec", {}).get("refname", "")
        name = fields[0]["name"] if len(fields) == 1 else name
        query = _lone_target(tree["sqlstmt"]["PLpgSQL_expr"]["query"])
    node = parse_condition(query.strip())
    if name and node is not None:
        yield name.strip(), node
    for value in tree.values():
        yield from _variables(value)


def _lone_target(query: str) -> str:
    """Return what a SELECT without FROM selects."""
    for statement in parse_statements(query):
        targets: Tree = getattr(statement, "targetList", None) or ()
        if len(targets) == 1 and not getattr(statement, "fromClause", None):
            return deparse(targets[0].val)
    return ""


def _plpgsql_queries(tree: Any) -> Iterator[tuple[str, int]]:
    if isinstance(tree, dict):
        if isinstance(tree.get("query"), str):
            yield tree["query"], tree.get("parseMode", PLPGSQL_STATEMENT)
        for value in tree.values():
            yield from _plpgsql_queries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _plpgsql_queries(value)


def children(node: Any) -> Iterator[Tree]:
    """Yield the nodes directly below ``node``."""
    if isinstance(node, ast.Node):
        for attribute in node:
            yield from _flatten(getattr(node, attribute))


def _flatten(value: Any) -> Iterator[Tree]:
    if isinstance(value, ast.Node):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _flatten(item)


def walk(node: Tree, scope: Scope, visit: Callable[[Tree, Scope], None]) -> None:
    """Call ``visit`` on every node below ``node``, with the scope it stands in."""
    inner = scope_of(node, scope)
    visit(node, inner)
    for child in children(node):
        walk(child, inner, visit)


def scope_of(node: Tree, outer: Scope) -> Scope:
    """Return the scope inside ``node``: a new one for a query, else ``outer``."""
    tables: dict[str, Name] = {}
    if isinstance(node, ast.SelectStmt):
        for item in node.fromClause or ():
            _collect_tables(item, tables)
    elif isinstance(node, (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)):
        _collect_tables(node.relation, tables)
        for attribute in ("fromClause", "usingClause"):
            for item in getattr(node, attribute, None) or ():
                _collect_tables(item, tables)
    else:
        return outer
    return Scope(tables, outer)


def _collect_tables(item: Any, tables: dict[str, Name]) -> None:
    if isinstance(item, ast.RangeVar):
        alias = item.alias.aliasname if item.alias else item.relname
        tables[alias] = Name(item.schemaname or "public", item.relname)
    elif isinstance(item, ast.JoinExpr):
        _collect_tables(item.larg, tables)
        _collect_tables(item.rarg, tables)


def disjuncts(node: Tree, *, negate: bool = False) -> list[tuple[Tree, ...]]:
    """Return the condition as OR of ANDs of atoms, negations pushed to the atoms.

    A condition too large for that comes back as one atom.
    """
    if isinstance(node, ast.BoolExpr):
        if node.boolop == enums.BoolExprType.NOT_EXPR:
            return disjuncts(node.args[0], negate=not negate)
        parts = [disjuncts(arg, negate=negate) for arg in node.args]
        either = (node.boolop == enums.BoolExprType.OR_EXPR) != negate
        if either:
            return [conjunction for part in parts for conjunction in part]
        return _product(node, parts, negate)
    return [(_negated(node) if negate else node,)]


def _product(
    node: Tree, parts: list[list[tuple[Tree, ...]]], negate: bool
) -> list[tuple[Tree, ...]]:
    combined: list[tuple[Tree, ...]] = [()]
    for part in parts:
        combined = [left + right for left in combined for right in part]
        if len(combined) > MAX_DISJUNCTS:
            return [(_negated(node) if negate else node,)]
    return combined


def _negated(node: Tree) -> Tree:
    return ast.BoolExpr(boolop=enums.BoolExprType.NOT_EXPR, args=(node,))


def deparse(node: Tree) -> str:
    """Return the SQL of a tree."""
    return str(RawStream()(node))


def integer(node: Tree | None) -> int:
    """Return the value of an integer constant, 0 for anything else."""
    if isinstance(node, ast.A_Const) and hasattr(node.val, "ival"):
        return int(node.val.ival)
    return 0


def same_column(node: Tree) -> bool:
    """Say whether a comparison has one and the same column on both sides."""
    sides = [
        tuple(f.sval for f in side.fields if isinstance(f, ast.String))
        for side in (node.lexpr, node.rexpr)
        if isinstance(side, ast.ColumnRef)
    ]
    return len(sides) == 2 and sides[0] == sides[1] and bool(sides[0])
