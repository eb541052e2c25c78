"""How decisions that differ are compared, grouped and accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.db.catalog import Catalog, Check, Column, Name, Privileges, Relation
from harness.errors import ConfigError
from harness.policies.diff_allow import AllowedChange, read_allowed, write_allowed
from harness.policies.diff_changes import (
    Change,
    Direction,
    bundled,
    direction_of,
    group_changes,
)
from harness.policies.diff_union import common_catalog, union_catalog
from harness.policies.probing import Answer

DONE = Answer(counts=(1,))
DENIED = Answer(sqlstate="42501")
CONSTRAINT = Answer(sqlstate="23505")
RECURSION = Answer(sqlstate="42P17", message="infinite recursion")
RAISED = Answer(sqlstate="P0001", context="PL/pgSQL function f() line 3 at RAISE")


@pytest.mark.parametrize(
    ("base", "head", "expected"),
    [
        pytest.param(DONE, DONE, None, id="same"),
        pytest.param(DENIED, RAISED, None, id="refused in two ways"),
        pytest.param(DONE, CONSTRAINT, None, id="constraint after the policies"),
        pytest.param(DENIED, DONE, "widened", id="allowed now"),
        pytest.param(DONE, DENIED, "narrowed", id="refused now"),
        pytest.param(DONE, RAISED, "narrowed", id="refused by the function now"),
        pytest.param(DONE, RECURSION, "error", id="fails now"),
        pytest.param(DENIED, RECURSION, "error", id="fails where it was refused"),
        pytest.param(RECURSION, RECURSION, None, id="failed before"),
        pytest.param(RECURSION, DONE, "widened", id="repaired"),
    ],
)
def test_direction_of_two_answers(
    base: Answer, head: Answer, expected: Direction | None
) -> None:
    assert direction_of(base, head) == expected


def change(
    who: str = "anon", scope: str = "other", direction: Direction = "widened"
) -> Change:
    """Return a change of who reads notes."""
    return Change(
        object="public.notes",
        command="SELECT",
        direction=direction,
        who=who,
        scope=scope,
        subject=f"{who} {scope}",
    )


def test_changes_are_grouped_by_caller_and_scope_widened_first() -> None:
    changes = [change(direction="narrowed"), change(), change(), change("admin")]
    groups = group_changes(changes)
    assert [(g.direction, g.who, len(g.changes)) for g in groups] == [
        ("widened", "admin", 1),
        ("widened", "anon", 2),
        ("narrowed", "anon", 1),
    ]


def test_groups_of_one_object_and_command_are_told_in_one_sentence() -> None:
    (bundle,) = bundled(group_changes([change(), change("admin", "own")]))
    assert bundle.message == (
        "admin and anon may now SELECT own rows and rows of others from public.notes"
    )


def test_written_changes_are_read_back_once_they_have_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "accepted.toml"
    groups = group_changes([change(), change(direction="narrowed")])
    assert write_allowed(path, groups) == 1
    with pytest.raises(ConfigError, match="reason must be given"):
        read_allowed(path)
    path.write_text(path.read_text().replace('reason = ""', 'reason = "meant"'))
    (accepted,) = read_allowed(path)
    assert [accepted.covers(group) for group in groups] == [True, False]


def test_writing_keeps_what_was_accepted_before(tmp_path: Path) -> None:
    path = tmp_path / "accepted.toml"
    kept = AllowedChange(
        object="public.notes",
        command="SELECT",
        change="widened",
        who="anon",
        scope="other",
        reason='a "public" page',
    )
    assert write_allowed(path, group_changes([change()]), [kept]) == 0
    assert read_allowed(path) == (kept,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[allow]]\nobjekt = 'x'", "unknown key 'objekt'"),
        ("[[allow]]\nobject = 3", "object must be given as text"),
        ("[[permit]]\n", "only \\[\\[allow\\]\\] is known"),
        ("[[allow", "end of an array"),
    ],
)
def test_wrong_file_of_accepted_changes_is_named(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "accepted.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_allowed(path)


def notes(*columns: Column, checks: tuple[str, ...] = ()) -> Catalog:
    """Return a catalog of one table."""
    name = Name("public", "notes")
    relation = Relation(
        name=name,
        kind="table",
        owner="postgres",
        columns=columns,
        checks=tuple(Check(text, text, ("a",)) for text in checks),
        privileges={"anon": Privileges(frozenset({c.name for c in columns}))},
    )
    return Catalog({name: relation})


def test_union_has_the_stricter_columns_and_all_checks() -> None:
    base = notes(Column(name="a", type="text", base_type="text"), checks=("a <> ''",))
    head = notes(
        Column(name="a", type="text", base_type="text", not_null=True, default="'x'"),
        Column(name="b", type="text", base_type="text"),
        checks=("a <> 'y'",),
    )
    union = union_catalog(base, head).relation("public.notes")
    assert union.column("a").required
    assert [column.name for column in union.columns] == ["a", "b"]
    assert {check.expression for check in union.checks} == {"a <> ''", "a <> 'y'"}
    assert union.privileges["anon"].table == {"a", "b"}
    common = common_catalog(base, head).relation("public.notes")
    assert [column.name for column in common.columns] == ["a"]
