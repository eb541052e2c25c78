"""What SQL compares with what: the vocabulary that worlds are built from.

Every policy, check and function body is reduced to comparisons between terms: a column,
a constant, the caller's id, a claim of the token, a folder of an object's name, a
parameter, the clock.  Helper functions are followed with their arguments bound, so that
``is_member(org_id)`` shows that ``org_id`` meets ``members.org_id`` and the caller
meets ``members.user_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pglast import enums

from harness.db.catalog import Catalog, Function, Name
from harness.policies.syntax import (
    Scope,
    Tree,
    ast,
    body_statements,
    body_variables,
    integer,
    parse_condition,
    same_column,
    scope_of,
    walk,
)
from harness.policies.terms import (
    CLOCK,
    OPAQUE,
    PASSING,
    UID,
    Claim,
    Clock,
    Col,
    Const,
    Depth,
    Folder,
    Joined,
    Opaque,
    Param,
    Term,
    Topic,
    Uid,
    auth_term,
    each,
    either,
    setting_term,
    stepped,
)

__all__ = [
    "CLOCK",
    "UID",
    "Call",
    "Claim",
    "Clock",
    "Col",
    "Comparison",
    "Const",
    "Depth",
    "Folder",
    "Joined",
    "Opaque",
    "Param",
    "Reading",
    "Term",
    "Topic",
    "Uid",
    "read_body",
    "read_condition",
]

MAX_HELPER_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """``left operator right``; unary tests have an :class:`Opaque` right side."""

    operator: str
    left: Term
    right: Term

    def pairs(self) -> Iterator[tuple[Term, Term]]:
        """Yield both orders."""
        yield self.left, self.right
        yield self.right, self.left


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a function of the project, with the terms of its arguments."""

    function: Name
    arguments: tuple[Term, ...]


@dataclass
class Reading:
    """Everything that one expression or body compares, calls and reads."""

    comparisons: list[Comparison] = field(default_factory=list)
    assignments: list[tuple[Col, Term]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    columns: set[Col] = field(default_factory=set)
    writes: set[Name] = field(default_factory=set)
    reads: set[Name] = field(default_factory=set)
    unqualified: set[str] = field(default_factory=set)
    caller: bool = False
    tautology: bool = False


def read_condition(text: str, table: Name, catalog: Catalog) -> Reading:
    """Read a policy or check expression of ``table``, helpers included."""
    reading = Reading()
    node = parse_condition(text)
    if node is not None:
        reader = _Reader(catalog, reading, {}, 0)
        reader.read(node, Scope({table.name: table}))
    return reading


def read_body(function: Function, catalog: Catalog) -> Reading:
    """Read a function's body, its parameters left as :class:`Param`."""
    reading = Reading()
    bindings: dict[str, Term] = {
        parameter.name or f"${position}": Param(parameter.name or f"${position}")
        for position, parameter in enumerate(function.parameters, 1)
    }
    bindings |= {
        f"${position}": Param(parameter.name or f"${position}")
        for position, parameter in enumerate(function.parameters, 1)
    }
    _read_function(function, catalog, reading, bindings, 0)
    return reading


def _read_function(
    function: Function,
    catalog: Catalog,
    reading: Reading,
    bindings: Mapping[str, Term],
    depth: int,
) -> None:
    reader = _Reader(catalog, reading, dict(bindings), depth, function.name.name)
    for name, value in body_variables(function.language, function.definition):
        term = reader.term(value, Scope({}))
        if isinstance(term, (Uid, Claim)):
            reader.bindings[name] = term
    for statement in body_statements(function):
        reader.read(statement, Scope({}))


@dataclass
class _Reader:
    catalog: Catalog
    reading: Reading
    bindings: dict[str, Term]
    depth: int
    function_name: str = ""

    def read(self, node: Tree, scope: Scope) -> None:
        walk(node, scope, self._visit)

    def _visit(self, node: Tree, scope: Scope) -> None:
        if isinstance(node, ast.A_Expr):
            self._compare(node, scope)
        elif isinstance(node, ast.SubLink) and node.testexpr is not None:
            right = self._subquery_term(node.subselect, scope)
            self._add("=", self.term(node.testexpr, scope), right)
        elif isinstance(node, ast.NullTest):
            self._unary("is null", node.arg, scope)
        elif isinstance(node, ast.BooleanTest):
            self._unary("is true", node.arg, scope)
        elif isinstance(node, ast.FuncCall):
            self._call(node, scope)
        elif isinstance(node, ast.ColumnRef):
            self._column(node, scope)
        elif isinstance(node, ast.SQLValueFunction):
            self.reading.caller |= "user" in str(node.op.name).lower()
        elif isinstance(node, (ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)):
            self._write(node, scope)
        elif isinstance(node, ast.RangeVar):
            self.reading.reads.add(_table_name(node))
            if node.schemaname is None and self.depth == 0:
                self.reading.unqualified.add(node.relname)

    def _write(self, node: Tree, scope: Scope) -> None:
        table = _table_name(node.relation)
        self.reading.writes.add(table)
        if isinstance(node, ast.UpdateStmt):
            for target in node.targetList or ():
                self._assign(table, target.name, target.val, scope)
        elif isinstance(node, ast.InsertStmt) and node.cols and node.selectStmt:
            source = node.selectStmt
            listed = source.valuesLists[0] if source.valuesLists else ()
            values = listed or [target.val for target in source.targetList or ()]
            for target, value in zip(node.cols, values, strict=False):
                self._assign(table, target.name, value, scope)

    def _assign(self, table: Name, column: str, value: Tree, scope: Scope) -> None:
        term = self.term(value, scope)
        self.reading.assignments.append((Col(table, column), term))

    def _add(self, operator: str, left: Term, right: Term) -> None:
        self.reading.comparisons += [
            Comparison(operator, one, other)
            for one in each(left)
            for other in each(right)
        ]

    def _unary(self, operator: str, node: Tree, scope: Scope) -> None:
        self._add(operator, self.term(node, scope), OPAQUE)

    def _column(self, node: Tree, scope: Scope) -> None:
        term = self.term(node, scope)
        if isinstance(term, Col):
            self.reading.columns.add(term)
            relation = self.catalog.relations.get(term.table)
            if (
                relation is not None
                and relation.has_column(term.column)
                and relation.column(term.column).base_type == "boolean"
            ):
                self._add("is true", term, OPAQUE)

    def _compare(self, node: Tree, scope: Scope) -> None:
        if node.lexpr is None or node.rexpr is None:
            return
        operator = node.name[-1].sval
        nullif = node.kind == enums.A_Expr_Kind.AEXPR_NULLIF
        if nullif or operator in ("->", "->>", "||", "+", "-", "#>>", "#>"):
            return
        if isinstance(node.lexpr, ast.RowExpr) and isinstance(node.rexpr, ast.RowExpr):
            for left, right in zip(node.lexpr.args, node.rexpr.args, strict=False):
                self._add(operator, self.term(left, scope), self.term(right, scope))
            return
        self.reading.tautology |= operator == "=" and same_column(node)
        left = self.term(node.lexpr, scope)
        self._add(operator, left, self._right_term(node.rexpr, scope))

    def _right_term(self, node: object, scope: Scope) -> Term:
        """Take the right side, a list of constants included (IN, ANY, BETWEEN)."""
        items = node if isinstance(node, tuple) else None
        if items is None and isinstance(node, ast.Node):
            return self.term(node, scope)
        terms = [self.term(item, scope) for item in items or ()]
        joined = next((t for t in terms if isinstance(t, Joined)), None)
        if joined is not None:
            return joined
        values = [t.values for t in terms if isinstance(t, Const)]
        if values:
            return Const(tuple(v for group in values for v in group))
        return next((t for t in terms if not isinstance(t, Opaque)), OPAQUE)

    def _subquery_term(self, node: Tree, scope: Scope) -> Term:
        targets = getattr(node, "targetList", None)
        if not targets or len(targets) != 1:
            return OPAQUE
        return self.term(targets[0].val, scope_of(node, scope))

    def _call(self, node: Tree, scope: Scope) -> None:
        schema, name = _function_name(node)
        self.reading.caller |= _asks_for_caller(schema, name, node)
        arguments = tuple(self.term(arg, scope) for arg in node.args or ())
        for function in self.catalog.functions_named(name, schema):
            if len(function.parameters) < len(arguments):
                continue
            self.reading.calls.append(Call(function.name, arguments))
            if self.depth < MAX_HELPER_DEPTH and name != self.function_name:
                bindings = _bind(function, arguments)
                _read_function(
                    function, self.catalog, self.reading, bindings, self.depth + 1
                )

    # -- terms ---------------------------------------------------------------------

    def term(self, node: Tree, scope: Scope) -> Term:
        """Return what ``node`` stands for."""
        if isinstance(node, ast.ColumnRef):
            return self._column_term(node, scope)
        if isinstance(node, ast.A_Const):
            return _constant(node)
        if isinstance(node, ast.ParamRef):
            return self.bindings.get(f"${node.number}", OPAQUE)
        if isinstance(node, (ast.TypeCast, ast.CollateClause)):
            return self.term(node.arg, scope)
        if isinstance(node, ast.SubLink) and node.testexpr is None:
            return self._subquery_term(node.subselect, scope)
        if isinstance(node, ast.A_ArrayExpr):
            return self._right_term(node.elements or (), scope)
        if isinstance(node, ast.CoalesceExpr):
            return either([self.term(arg, scope) for arg in node.args])
        if isinstance(node, ast.A_Indirection):
            return self._indexed(node, scope)
        if isinstance(node, ast.A_Expr):
            return self._operator_term(node, scope)
        if isinstance(node, ast.FuncCall):
            return self._function_term(node, scope)
        if isinstance(node, ast.SQLValueFunction):
            return OPAQUE if "USER" in node.op.name or "ROLE" in node.op.name else CLOCK
        return OPAQUE

    def _column_term(self, node: Tree, scope: Scope) -> Term:
        fields = tuple(f.sval for f in node.fields if isinstance(f, ast.String))
        if not fields:
            return OPAQUE
        table = scope.resolve(fields, self.catalog)
        if table is not None:
            return Col(table, fields[-1])
        if fields[0] in ("new", "old") and len(fields) == 2:
            return Param(".".join(fields))
        if len(fields) == 2 and fields[0] != self.function_name:
            return OPAQUE
        return self.bindings.get(fields[-1], OPAQUE)

    def _indexed(self, node: Tree, scope: Scope) -> Term:
        base = self.term(node.arg, scope)
        last = node.indirection[-1]
        if not isinstance(last, ast.A_Indices):
            return OPAQUE
        index = integer(last.uidx)
        if isinstance(base, Folder):
            return Folder(base.table, base.column, index)
        if isinstance(base, Topic):
            return Topic(index, base.separator)
        if isinstance(base, Col) and base.column == "path_tokens":
            return Folder(base.table, "name", index)
        return OPAQUE

    def _operator_term(self, node: Tree, scope: Scope) -> Term:
        operator = node.name[-1].sval
        if operator in ("->", "->>"):
            key = self.term(node.rexpr, scope)
            base = self.term(node.lexpr, scope)
            if isinstance(key, Const):
                return stepped(base, key.values)
        if operator in ("#>", "#>>"):
            key = self.term(node.rexpr, scope)
            base = self.term(node.lexpr, scope)
            if isinstance(key, Const):
                return stepped(base, tuple(key.values[0].strip("{}").split(",")))
        if operator == "||":
            return self._joined(node, scope)
        if operator in ("+", "-") and node.lexpr is not None:
            base = self.term(node.lexpr, scope)
            return base if isinstance(base, (Clock, Col)) else OPAQUE
        if node.kind == enums.A_Expr_Kind.AEXPR_NULLIF:
            return self.term(node.lexpr, scope)
        return OPAQUE

    def _joined(self, node: Tree, scope: Scope) -> Term:
        parts: list[Term] = []
        for side in (node.lexpr, node.rexpr):
            term = self.term(side, scope)
            parts += term.parts if isinstance(term, Joined) else [term]
        known = not any(isinstance(part, Opaque) for part in parts)
        return Joined(tuple(parts)) if known else OPAQUE

    def _function_term(self, node: Tree, scope: Scope) -> Term:
        schema, name = _function_name(node)
        args = node.args or ()
        if schema == "auth":
            return auth_term(name)
        if name == "current_setting" and args:
            return setting_term(self.term(args[0], scope))
        if name in ("now", "clock_timestamp", "transaction_timestamp"):
            return CLOCK
        if schema == "realtime" and name == "topic":
            return Topic()
        if name in ("foldername", "split_part", "string_to_array") and args:
            return self._path_term(name, args, scope)
        if name in ("cardinality", "array_length") and args:
            return self._depth_term(self.term(args[0], scope))
        if name in PASSING and args:
            return self.term(args[0], scope)
        return self._inlined(schema, name, args, scope)

    def _path_term(self, name: str, args: tuple[Tree, ...], scope: Scope) -> Term:
        base = self.term(args[0], scope)
        index = integer(args[2]) if name == "split_part" and len(args) > 2 else 0
        separator = self.term(args[1], scope) if len(args) > 1 else OPAQUE
        mark = separator.values[0] if isinstance(separator, Const) else "/"
        if isinstance(base, Topic):
            return Topic(index, mark)
        if isinstance(base, Col):
            return Folder(base.table, base.column, index)
        return OPAQUE

    def _depth_term(self, base: Term) -> Term:
        if isinstance(base, Folder):
            return Depth(base.table, base.column, 0)
        if isinstance(base, Col) and base.column == "path_tokens":
            return Depth(base.table, "name", 1)
        return OPAQUE

    def _inlined(
        self, schema: str, name: str, args: tuple[Tree, ...], scope: Scope
    ) -> Term:
        """Take a helper that is one expression (``current_org()``) for its meaning."""
        if self.depth >= MAX_HELPER_DEPTH or name == self.function_name:
            return OPAQUE
        for function in self.catalog.functions_named(name, schema):
            statements = body_statements(function)
            if function.returns == "boolean":
                continue
            terms = tuple(self.term(arg, scope) for arg in args)
            if len(statements) != 1:
                return _converted(function, statements, terms)
            bound = _bind(function, terms)
            inner = _Reader(
                self.catalog, Reading(), bound, self.depth + 1, function.name.name
            )
            return inner._statement_term(statements[0])
        return OPAQUE

    def _statement_term(self, statement: Tree) -> Term:
        if isinstance(statement, ast.SelectStmt):
            return self._subquery_term(statement, Scope({}))
        return self.term(statement, Scope({}))


def _converted(
    function: Function, statements: tuple[Tree, ...], terms: tuple[Term, ...]
) -> Term:
    """Take a function of one thing (``try_uuid(text)``) for a conversion of it.

    One that looks things up is none.
    """
    if any(isinstance(statement, ast.SelectStmt) for statement in statements):
        return OPAQUE
    things = [t for t in terms if not isinstance(t, (Const, Opaque))]
    converts = function.returns in ("uuid", "text", "bigint", "integer", "numeric")
    return things[0] if converts and len(things) == 1 else OPAQUE


def _table_name(node: Tree) -> Name:
    return Name(node.schemaname or "public", node.relname)


def _bind(function: Function, arguments: tuple[Term, ...]) -> dict[str, Term]:
    bound: dict[str, Term] = {}
    for position, (parameter, term) in enumerate(
        zip(function.parameters, arguments, strict=False), 1
    ):
        bound[f"${position}"] = term
        if parameter.name:
            bound[parameter.name] = term
    return bound


def _function_name(node: Tree) -> tuple[str, str]:
    parts = [part.sval for part in node.funcname]
    return (parts[0] if len(parts) > 1 else "", parts[-1])


def _asks_for_caller(schema: str, name: str, node: Tree) -> bool:
    if schema == "auth" and name in ("uid", "jwt", "role", "email"):
        return True
    return name == "current_setting" and "request." in str(node.args)


def _constant(node: Tree) -> Term:
    value = node.val
    if value is None:
        return OPAQUE
    for attribute in ("sval", "ival", "fval", "boolval"):
        if hasattr(value, attribute):
            found = getattr(value, attribute)
            text = str(found).lower() if attribute == "boolval" else str(found)
            return Const((text,))
    return OPAQUE
