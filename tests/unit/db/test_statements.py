"""Splitting schema files into statements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.db.statements import (
    as_alter_role,
    limit_to_database,
    retarget_database,
    split_statements,
)
from harness.errors import MigrationError


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql, file="x.sql")]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        ("-- only a comment\n/* and /* another */ ; */", []),
        (";;\n;", []),
        ("select 1", ["select 1"]),
        ("select 1;;select 2;", ["select 1", "select 2"]),
        (
            "select ';', \";\" from x; select 2",
            ["select ';', \";\" from x", "select 2"],
        ),
        ("select $a$;$$;$a$; select 2", ["select $a$;$$;$a$", "select 2"]),
        ("select E'\\';'; select 2", ["select E'\\';'", "select 2"]),
        (
            "create function f() returns int begin atomic select 1; select 2; end;"
            "select 3",
            [
                "create function f() returns int begin atomic select 1; select 2; end",
                "select 3",
            ],
        ),
        (
            "create rule r as on insert to t do also (delete from a; delete from b);",
            ["create rule r as on insert to t do also (delete from a; delete from b)"],
        ),
        ("select 'é✓';\nselect 2", ["select 'é✓'", "select 2"]),
    ],
)
def test_split_gives_the_statements(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_lines_count_from_one_and_skip_comments() -> None:
    sql = "select 1; select\n2;\n\n-- why\n/* é\n */ select 3;\r\nselect 4"
    lines = [statement.line for statement in split_statements(sql, file="x.sql")]
    assert lines == [1, 1, 6, 7]


@given(
    st.lists(
        st.sampled_from(
            [
                "select 1",
                "select ';'",
                "select $x$ ; \n $x$",
                "select /* ; */ 2",
                "select 'é\n;'",
                'select 1 as ";"',
            ]
        ),
        max_size=8,
    ),
    st.sampled_from([";", ";\n", " ; -- x ;\n", ";\n/* ; */\n"]),
)
def test_split_of_joined_statements_gives_them_back(
    statements: list[str], separator: str
) -> None:
    sql = separator.join(statements)
    split = split_statements(sql, file="x.sql")
    assert [statement.text for statement in split] == statements
    position = 0
    for statement in split:
        position = sql.index(statement.text, position)
        assert statement.line == sql.count("\n", 0, position) + 1
        position += len(statement.text)


@pytest.mark.parametrize(
    ("sql", "line", "message"),
    [
        ("select 1;\nselec 2", 2, 'syntax error at or near "selec"'),
        ("select 1 from", 1, "syntax error at end of input"),
        ("\n\nselect 'open", 3, "unterminated quoted string"),
        ("select 'é';\n\n  bad", 3, 'at or near "bad"'),
        ("\\i other.sql", 1, "\\i is a command of psql"),
        ("select 1;\n\\set x 1\nselect :x", 2, "\\set is a command of psql"),
        ("select 1;\ncopy t from stdin;\n", 2, "needs psql"),
        ("copy t from stdin;\n1\t2\n\\.\n", 2, "at or near"),
    ],
)
def test_bad_syntax_names_file_and_line(sql: str, line: int, message: str) -> None:
    with pytest.raises(MigrationError) as caught:
        split_statements(sql, file="a/b.sql")
    assert message in caught.value.message
    assert (caught.value.file, caught.value.line) == ("a/b.sql", line)
    assert caught.value.sqlstate == "42601"


@pytest.mark.parametrize(
    ("sql", "kind", "subject"),
    [
        ('create extension "uuid-ossp"', "create_extension", "uuid-ossp"),
        ("drop extension if exists citext", "about_extension", "citext"),
        ("comment on extension citext is 'x'", "about_extension", "citext"),
        ("alter extension citext update", "about_extension", "citext"),
        ("alter extension citext set schema x", "about_extension", "citext"),
        ("alter database postgres set x.y = 1", "alter_database", "postgres"),
        ("create role r login", "create_role", "r"),
        ("alter role r set x.y = 1", "alter_role_set", "r"),
        ("alter role r in database d set x.y = 1", "plain", ""),
        ("start transaction", "transaction", "start"),
        ("rollback to s", "transaction", "rollback_to"),
        ("create index concurrently i on t (a)", "outside_transaction", ""),
        ("drop index concurrently i", "outside_transaction", ""),
        ("reindex table concurrently t", "outside_transaction", ""),
        ("reindex table t", "plain", ""),
        ("reindex database d", "outside_transaction", ""),
        ("vacuum analyze t", "outside_transaction", ""),
        ("analyze t", "plain", ""),
        ("alter system set x = 1", "outside_transaction", ""),
        ("create database d", "outside_transaction", ""),
        ("alter table t detach partition p concurrently", "outside_transaction", ""),
        ("alter table t detach partition p", "plain", ""),
        ("alter table t add column x int", "plain", ""),
        ("cluster", "outside_transaction", ""),
        ("create index i on t (a)", "plain", ""),
        ("drop table t", "plain", ""),
    ],
)
def test_kind_tells_what_needs_care(sql: str, kind: str, subject: str) -> None:
    (statement,) = split_statements(sql, file="x.sql")
    assert (statement.kind, statement.subject) == (kind, subject)


def test_statements_about_the_server_are_limited_to_one_database() -> None:
    database, role, created = split_statements(
        "alter database postgres set a.b = 'c';"
        "alter role authenticator set pgrst.db_schemas = 'public, api';"
        "create role \"My Role\" login password 'p' in role anon",
        file="x.sql",
    )
    assert retarget_database(database, 'x"y') == (
        'ALTER DATABASE "x""y" SET a.b TO \'c\''
    )
    assert limit_to_database(role, "d") == (
        "ALTER ROLE authenticator IN DATABASE d SET pgrst.db_schemas TO 'public, api'"
    )
    altered = " ".join(as_alter_role(created).split())
    assert altered == "ALTER ROLE \"My Role\" LOGIN PASSWORD 'p'"
    assert database.tree.dbname == "postgres", "the tree is as it was"
