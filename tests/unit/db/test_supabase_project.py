"""Reading the folder of a CLI project."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.db.supabase_project import bucket_objects, find_project, read_project
from harness.errors import MigrationError, UsageError

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes files of a project in ``tmp_path``."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write_file("supabase/config.toml", "")
    return write_file


def test_migrations_are_ordered_and_others_skipped_aloud(
    tmp_path: Path, write: Write
) -> None:
    write("supabase/migrations/20250102000000_b.sql", "select 2")
    write("supabase/migrations/20250101000000_a.sql", "select 1")
    write("supabase/migrations/7_short.sql", "select 7")
    write("supabase/migrations/notes.sql", "nonsense")
    write("supabase/migrations/20250103000000_c.sql.bak", "nonsense")
    write("supabase/migrations/20250104000000_d.sql/x.sql", "nonsense")
    project = read_project(tmp_path, {})
    assert [f.version for f in project.migrations] == [
        "20250101000000", "20250102000000", "7",
    ]  # fmt: skip
    assert [f.name for f in project.migrations] == ["a", "b", "short"]
    assert [w.split()[2] for w in project.warnings] == [
        "20250103000000_c.sql.bak:", "notes.sql:",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "skipped"),
    [("20211208000000_init.sql", True), ("20211209000000_init.sql", False)],
)
def test_old_first_init_is_skipped(
    tmp_path: Path, write: Write, name: str, skipped: bool
) -> None:
    write(f"supabase/migrations/{name}", "select 1")
    write("supabase/migrations/20250101000000_init.sql", "select 2")
    project = read_project(tmp_path, {})
    assert len(project.migrations) == (1 if skipped else 2)
    assert len(project.warnings) == (1 if skipped else 0)


def test_two_files_of_one_version_are_refused(tmp_path: Path, write: Write) -> None:
    write("supabase/migrations/1_a.sql", "")
    write("supabase/migrations/1_b.sql", "")
    with pytest.raises(MigrationError, match="already that of") as caught:
        read_project(tmp_path, {})
    assert caught.value.file.endswith("1_b.sql")


def test_seeds_follow_patterns_once_each_with_their_hash(
    tmp_path: Path, write: Write
) -> None:
    write(
        "supabase/config.toml",
        '[db.seed]\nsql_paths = ["./seeds/*.sql", "seeds/b.sql", "../x.sql", "no*"]',
    )
    write("supabase/seeds/b.sql", "select 2")
    write("supabase/seeds/a.sql", "select 1")
    write("x.sql", "select 3")
    project = read_project(tmp_path, {})
    assert [s.path for s in project.seeds] == [
        "supabase/seeds/a.sql", "supabase/seeds/b.sql", "x.sql",
    ]  # fmt: skip
    assert project.seeds[0].hash == hashlib.sha256(b"select 1").hexdigest()
    assert project.warnings == ("no files matched the seed pattern no*",)


def test_default_seed_may_be_missing_or_off(tmp_path: Path, write: Write) -> None:
    project = read_project(tmp_path, {})
    assert (project.seeds, project.warnings) == ((), ())
    write("supabase/seed.sql", "select 1")
    assert len(read_project(tmp_path, {}).seeds) == 1
    write("supabase/config.toml", "[db.seed]\nenabled = false")
    assert read_project(tmp_path, {}).seeds == ()


def test_migrations_can_be_off(tmp_path: Path, write: Write) -> None:
    write("supabase/config.toml", "[db.migrations]\nenabled = false")
    write("supabase/migrations/1_a.sql", "select 1")
    assert read_project(tmp_path, {}).migrations == ()


def test_variables_come_from_the_projects_env_files(
    tmp_path: Path, write: Write
) -> None:
    write("supabase/config.toml", '[auth]\nsite_url = "env(SITE)"')
    write("supabase/.env", "SITE=https://example.com")
    assert read_project(tmp_path, {}).config.auth.site_url == "https://example.com"
    (tmp_path / "supabase/.env").unlink()
    assert read_project(tmp_path, {}).warnings == (
        "environment variable is unset: SITE",
    )


def test_project_is_found_from_either_folder(tmp_path: Path, write: Write) -> None:
    assert find_project(tmp_path) == tmp_path / "supabase"
    assert find_project(tmp_path / "supabase") == tmp_path / "supabase"


def test_project_without_config_is_found_by_its_migrations(tmp_path: Path) -> None:
    (tmp_path / "supabase" / "migrations").mkdir(parents=True)
    assert find_project(tmp_path) == tmp_path / "supabase"
    assert find_project(tmp_path / "supabase") == tmp_path / "supabase"
    assert find_project(tmp_path / "supabase" / "migrations") is None


def test_other_folder_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a project") as caught:
        read_project(tmp_path, {})
    assert "supabase init" in (caught.value.hint or "")


def test_schemas_hold_everything_in_order(tmp_path: Path, write: Write) -> None:
    write(
        "supabase/config.toml",
        '[api]\nauto_expose_new_tables = false\n[db.vault]\nk = "it\'s\\\\"\n'
        "[storage.buckets.b]\npublic = true\nallowed_mime_types = ['a/b', 'c/*']",
    )
    write("supabase/roles.sql", "create role r")
    write("supabase/migrations/1_a.sql", "select 1")
    write("supabase/seed.sql", "select 2")
    project = read_project(tmp_path, {})
    names = [[f.name for f in schema.files] for schema in project.schemas()]
    assert names == [
        ["auto_expose_new_tables"], ["vault"], ["roles"], ["a"],
        ["seed", "seed_files"], ["buckets"],
    ]  # fmt: skip
    assert [s.recorded for s in project.schemas()] == [
        False, False, False, True, False, False,
    ]  # fmt: skip
    assert [len(s.files) for s in project.schemas(seed=False)] == [1, 1, 1, 1]


def test_objects_of_a_bucket_are_the_files_below_its_folder(
    tmp_path: Path, write: Write
) -> None:
    write("supabase/config.toml", "[storage.buckets.b]\nobjects_path = './files'")
    write("supabase/files/a.txt", "a")
    write("supabase/files/deep/b.txt", "b")
    write("supabase/files/.hidden", "x")
    (bucket,) = read_project(tmp_path, {}).config.storage.buckets
    assert [key for key, _ in bucket_objects(bucket)] == ["a.txt", "deep/b.txt"]
