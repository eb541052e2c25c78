"""Reading folders of SQL files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.db.schema_files import Schema, digest, read_file, read_schema
from harness.errors import MigrationError, UsageError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_text(f"select '{name}'")
    return folder


def test_versioned_files_are_read_in_order_with_seed_last(tmp_path: Path) -> None:
    names = ("seed.sql", "20250102000000_b.sql", "20250101000000_a.sql", "x.sql")
    read = read_schema(fill(tmp_path, *names))
    assert [file.name for file in read.files] == ["a", "b", "seed"]
    assert [file.version for file in read.files] == [
        "20250101000000", "20250102000000", "",
    ]  # fmt: skip
    assert read.skipped == ("x.sql",)


def test_folder_without_versions_is_read_in_name_order(tmp_path: Path) -> None:
    read = read_schema(fill(tmp_path, "b.sql", "seed.sql", "a.sql", "readme.md"))
    assert [file.name for file in read.files] == ["a", "b", "seed"]


def test_single_file_is_a_schema(tmp_path: Path) -> None:
    read = read_schema(fill(tmp_path, "a.sql") / "a.sql")
    assert [file.name for file in read.files] == ["a"]
    assert read.recorded is False


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_folder_without_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no SQL files"):
        read_schema(tmp_path / name)


def test_label_is_the_path_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sql").mkdir()
    path = fill(tmp_path / "sql", "1_a.sql") / "1_a.sql"
    monkeypatch.chdir(tmp_path)
    assert read_file(path).label == "sql/1_a.sql"
    monkeypatch.chdir("/")
    assert read_file(path).label == str(path).lstrip("/")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"select 1;\nselect '\xff'", 2, "not UTF-8"),
        (b"select 1;\n\nselect '\0'", 3, "NUL byte"),
    ],
)
def test_file_that_is_no_text_is_refused_with_its_line(
    tmp_path: Path, content: bytes, line: int, message: str
) -> None:
    (tmp_path / "a.sql").write_bytes(content)
    with pytest.raises(MigrationError, match=message) as caught:
        read_file(tmp_path / "a.sql")
    assert caught.value.line == line


def test_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xef\xbb\xbfselect 1")
    assert read_file(tmp_path / "a.sql").text == "select 1"


def test_digest_changes_with_anything_that_would_be_applied(tmp_path: Path) -> None:
    schema = read_schema(fill(tmp_path, "1_a.sql", "2_b.sql"))
    (first, second) = schema.files
    variants = [
        [schema],
        [schema, schema],
        [Schema((first,)), Schema((second,))],
        [dataclasses.replace(schema, role="supabase_admin")],
        [dataclasses.replace(schema, recorded=False)],
        [dataclasses.replace(schema, files=(second, first))],
        [
            dataclasses.replace(
                schema, files=(first, dataclasses.replace(second, text="select 3"))
            )
        ],
    ]
    digests = {digest(variant) for variant in variants}
    assert len(digests) == len(variants)
    moved = dataclasses.replace(first, label="elsewhere/1_a.sql")
    assert digest([Schema((moved, second))]) == digest([schema])
