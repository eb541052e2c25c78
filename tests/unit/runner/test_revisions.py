"""Schema versions by name: folders, git refs, and what is said of bad names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.cli.revisions import version_under_test
from harness.errors import UsageError

FILE = "20260101000000_schema.sql"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a git repository with a schema in ``sql``, and work in it."""
    schema = tmp_path / "sql"
    schema.mkdir()
    (schema / FILE).write_text("select 1;")
    for arguments in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_ref_with_path_is_read_without_touching_the_work_tree(
    repository: Path,
) -> None:
    (repository / "sql" / FILE).write_text("select 2;")
    with version_under_test("HEAD:sql") as version:
        (source,) = await version.sources()
        assert isinstance(source, Path)
        assert (source / FILE).read_text() == "select 1;"
        assert version.name == "HEAD:sql"
    assert not source.exists()
    assert (repository / "sql" / FILE).read_text() == "select 2;"


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [
        ("nowhere", "neither a folder nor a database URL", "REF:PATH"),
        ("no-such-ref:sql", "no ref 'no-such-ref'", "git branch --all"),
        ("HEAD:missing", "no folder 'missing' in HEAD", "git ls-tree HEAD"),
        (".git/info", "no SQL files", "folder of migrations"),
    ],
)
def test_bad_name_is_told_with_what_would_help(
    repository: Path, name: str, told: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught, version_under_test(name):
        pass
    assert told in str(caught.value)
    assert hint in str(caught.value.hint)


def test_outside_of_a_repository_git_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError) as caught, version_under_test("main:sql"):
        pass
    assert "not a git repository" in str(caught.value.hint)
