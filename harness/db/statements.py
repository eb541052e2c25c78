r"""Split a schema file into statements, exactly, and say what kind each one is.

The work is done by PostgreSQL's own parser (libpg_query through pglast), so quoting,
dollar quotes, nested comments and ``BEGIN ATOMIC`` bodies cannot mislead it.  What
only psql understands (``\i``, ``COPY ... FROM stdin`` data) is refused by name.

The parser is imported where it is first used: loading it takes a third of the time of
a warm start, which finds its schemas applied and parses nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import MigrationError

__all__ = [
    "Statement",
    "as_alter_role",
    "limit_to_database",
    "retarget_database",
    "split_statements",
]

Kind = Literal[
    "plain",
    "create_extension",
    "about_extension",
    "alter_database",
    "create_role",
    "alter_role_set",
    "outside_transaction",
    "transaction",
]
EXTENSION = "OBJECT_EXTENSION"
WHOLE_DATABASE_REINDEX = {
    "REINDEX_OBJECT_SCHEMA",
    "REINDEX_OBJECT_SYSTEM",
    "REINDEX_OBJECT_DATABASE",
}
OUTSIDE_TRANSACTION = {
    "AlterSystemStmt",
    "CreatedbStmt",
    "DropdbStmt",
    "CreateTableSpaceStmt",
    "DropTableSpaceStmt",
}
ROLE_ATTRIBUTES = {
    "superuser", "createdb", "createrole", "inherit", "canlogin", "isreplication",
    "bypassrls", "connectionlimit", "password", "validUntil",
}  # fmt: skip
SYNTAX_ERROR = "42601"
PSQL_COMMAND = re.compile(r"^[ \t]*\\\S*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its text, the 1-based line it starts on, its kind and tree.

    ``source`` is the text with the comments before it.  ``subject`` is the extension,
    database or role that the kind is about, else ''.
    """

    text: str
    source: str
    line: int
    kind: Kind
    subject: str
    tree: Any


def split_statements(sql: str, *, file: str) -> tuple[Statement, ...]:
    """Return the statements of ``sql``.

    Raises :class:`MigrationError` on bad syntax.
    """
    from pglast import parser

    try:
        slices = parser.split(sql, only_slices=True)
        trees = parser.parse_sql(sql)
    except parser.ParseError as exc:
        raise _syntax_error(exc, sql, file) from exc
    pairs = zip(slices, trees, strict=True)
    return tuple(_statements(sql, pairs, file))


def retarget_database(statement: Statement, dbname: str) -> str:
    """Return an ``ALTER DATABASE`` statement's text with another database's name."""
    return _deparsed(statement.tree, dbname=dbname)


def limit_to_database(statement: Statement, dbname: str) -> str:
    """Return ``ALTER ROLE ... SET`` as a setting that holds in one database only."""
    return _deparsed(statement.tree, database=dbname)


def as_alter_role(statement: Statement) -> str:
    """Return ``CREATE ROLE`` as an ``ALTER ROLE`` to the same attributes."""
    from pglast import ast, enums

    created = statement.tree
    options = tuple(o for o in created.options or () if o.defname in ROLE_ATTRIBUTES)
    who = ast.RoleSpec(enums.RoleSpecType.ROLESPEC_CSTRING, rolename=created.role)
    return _deparsed(ast.AlterRoleStmt(role=who, options=options, action=1))


def _deparsed(tree: Any, **changes: str) -> str:
    from pglast.stream import RawStream

    before = {name: getattr(tree, name) for name in changes}
    for name, value in changes.items():
        setattr(tree, name, value)
    try:
        return str(RawStream()(tree))
    finally:
        for name, value in before.items():
            setattr(tree, name, value)


def line_of(text: str, offset: int) -> int:
    """Return the 1-based line on which the character at ``offset`` stands."""
    return text.count("\n", 0, offset) + 1


def _statements(sql: str, pairs: Any, file: str) -> Iterator[Statement]:
    line, end = 1, 0
    for piece, raw in pairs:
        before = sql[end : piece.start]
        line += before.count("\n")
        text = sql[piece]
        if _reads_stdin(raw.stmt):
            raise MigrationError(
                "COPY ... FROM stdin needs psql, which reads the data that follows",
                file=file,
                line=line,
                statement=text,
                sqlstate=SYNTAX_ERROR,
                hint="write INSERT statements (pg_dump --inserts)",
            )
        source = before.lstrip("; \t\r\n") + text
        kind, subject = _classify(raw.stmt)
        yield Statement(text, source, line, kind, subject, raw.stmt)
        line += text.count("\n")
        end = piece.stop


def _reads_stdin(tree: Any) -> bool:
    return type(tree).__name__ == "CopyStmt" and tree.is_from and not tree.filename


def _classify(tree: Any) -> tuple[Kind, str]:
    match type(tree).__name__:
        case "CreateExtensionStmt":
            return "create_extension", tree.extname
        case "AlterExtensionStmt" | "AlterExtensionContentsStmt":
            return "about_extension", tree.extname
        case "AlterObjectSchemaStmt" if tree.objectType.name == EXTENSION:
            return "about_extension", tree.object.sval
        case "CommentStmt" if tree.objtype.name == EXTENSION:
            return "about_extension", tree.object.sval
        case "DropStmt" if tree.removeType.name == EXTENSION and len(tree.objects) == 1:
            return "about_extension", tree.objects[0].sval
        case "AlterDatabaseSetStmt" | "AlterDatabaseStmt":
            return "alter_database", tree.dbname
        case "CreateRoleStmt":
            return "create_role", tree.role
        case "AlterRoleSetStmt" if tree.role is not None and not tree.database:
            return "alter_role_set", tree.role.rolename or ""
        case "TransactionStmt":
            return "transaction", tree.kind.name.removeprefix("TRANS_STMT_").lower()
        case _ if _runs_outside_transaction(tree):
            return "outside_transaction", ""
        case _:
            return "plain", ""


def _runs_outside_transaction(tree: Any) -> bool:
    """Tell whether PostgreSQL refuses the statement inside a transaction block."""
    match type(tree).__name__:
        case "IndexStmt" | "DropStmt":
            return bool(tree.concurrent)
        case "ReindexStmt":
            named = {option.defname for option in tree.params or ()}
            return "concurrently" in named or tree.kind.name in WHOLE_DATABASE_REINDEX
        case "VacuumStmt":
            return bool(tree.is_vacuumcmd)
        case "ClusterStmt":
            return tree.relation is None
        case "AlterTableStmt":
            return any(_detaches_concurrently(command) for command in tree.cmds)
        case name:
            return name in OUTSIDE_TRANSACTION


def _detaches_concurrently(command: Any) -> bool:
    return bool(getattr(command.def_, "concurrent", False))


def _syntax_error(exc: Exception, sql: str, file: str) -> MigrationError:
    message, offset = exc.args[0], exc.args[1]
    position = len(sql) if offset is None else int(offset)
    line = line_of(sql, position)
    text = sql.splitlines()[line - 1] if sql.splitlines() else ""
    if command := PSQL_COMMAND.match(text):
        return MigrationError(
            f"{command.group().strip()} is a command of psql, not of the server",
            file=file,
            line=line,
            statement=text.strip(),
            sqlstate=SYNTAX_ERROR,
            hint="only SQL can be applied; remove the line or write what it did as SQL",
        )
    return MigrationError(
        str(message),
        file=file,
        line=line,
        statement=text.strip(),
        sqlstate=SYNTAX_ERROR,
    )
