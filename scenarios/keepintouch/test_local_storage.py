"""Local storage: folders, backup, restart, clean-up, concurrency."""

from __future__ import annotations

import asyncio
import gc
import io
import json
from pathlib import Path

import allure
import pytest

from harness.clock import seeded
from scenarios.keepintouch.local_storage_service import (
    LocalStorageService,
    debug_local_storage,
)
from scenarios.keepintouch.upkeep import measure

pytestmark = allure.feature("keepintouch: local storage")


@pytest.mark.requirement("KT-06")
async def test_two_local_storages_have_nothing_in_common() -> None:
    one, two = LocalStorageService(), LocalStorageService()
    assert one.temp_dir != two.temp_dir
    assert one.temp_dir.name.startswith("keepintouch_")
    await one.create_user({"id": "kim", "email": "kim@example.test"})
    assert (len(one.users), len(two.users)) == (1, 0)
    assert (two.sessions, two.documents) == ({}, {})
    await one.close()
    await two.close()


@pytest.mark.requirement("KT-09")
async def test_folders_are_laid_out_by_user(local: LocalStorageService) -> None:
    await local.create_user({"id": "kim", "email": "kim@example.test"})
    await local.save_file("kim", b"cv", "cv.pdf")
    await local.save_file("kim", b"me", "me.jpg", folder="profile")
    folders = {
        str(p.relative_to(local.temp_dir))
        for p in local.temp_dir.rglob("*")
        if p.is_dir()
    }
    assert folders == {
        "users",
        "users/kim",
        "users/kim/documents",
        "users/kim/profile",
        "sessions",
        "sessions/temp_uploads",
    }


@pytest.mark.requirement("KT-08")
async def test_temporary_files_go_when_the_service_closes() -> None:
    storage = LocalStorageService()
    await storage.create_user({"id": "kim", "email": "kim@example.test"})
    await storage.save_file("kim", b"cv", "cv.pdf")
    await storage.close()
    assert not storage.temp_dir.exists()


@pytest.mark.requirement("KT-08")
def test_temporary_files_go_with_a_service_that_is_forgotten() -> None:
    folder = LocalStorageService().temp_dir
    gc.collect()
    assert not folder.exists()


@pytest.mark.requirement("KT-07", "KT-08")
async def test_a_restart_finds_everything_files_included(tmp_path: Path) -> None:
    backup = tmp_path / "dev" / "backup.json"
    before = LocalStorageService(backup_file=backup)
    await before.create_user({"id": "kim", "email": "kim@example.test"})
    document = await before.add_document("kim", b"letter", "a.txt", "text/plain")
    session = await before.create_onboarding_session()
    await before.update_onboarding_session(session, {"step": 3})
    await before.close()
    after = LocalStorageService(backup_file=backup)
    assert (after.users, after.documents) == (before.users, before.documents)
    assert await after.read_file("kim", document["file_path"]) == b"letter"
    kept = await after.get_onboarding_session(session)
    assert kept is not None
    assert kept["data"] == {"step": 3}


@pytest.mark.requirement("KT-07")
@pytest.mark.parametrize("seed", range(3))
async def test_a_restart_at_any_moment_of_a_random_history_loses_nothing(
    seed: int, tmp_path: Path
) -> None:
    random = seeded(seed)
    backup = tmp_path / "backup.json"
    storage = LocalStorageService(backup_file=backup)
    files: dict[str, tuple[str, bytes]] = {}
    for step in range(30):
        action = random.choice(["user", "file", "file", "delete", "restart"])
        users = sorted(storage.users)
        if action == "user" or not users:
            await storage.create_user({"id": f"u{step}", "email": f"{step}@x.test"})
        elif action == "file":
            user, content = random.choice(users), f"{seed}-{step}".encode()
            files[await storage.save_file(user, content, "f.txt")] = (user, content)
        elif action == "delete" and files:
            path = random.choice(sorted(files))
            assert await storage.delete_file(files.pop(path)[0], path)
        elif action == "restart":
            before = (storage.users, storage.sessions, storage.documents)
            await storage.close()
            storage = LocalStorageService(backup_file=backup)
            assert (storage.users, storage.sessions, storage.documents) == before
    for path, (user, content) in files.items():
        assert await storage.read_file(user, path) == content


@pytest.mark.requirement("KT-10")
async def test_a_chosen_folder_is_used_and_kept(tmp_path: Path) -> None:
    storage = LocalStorageService(tmp_path / "b.json", tmp_path / "files")
    await storage.create_user({"id": "kim", "email": "kim@example.test"})
    await storage.save_file("kim", b"cv", "cv.pdf")
    await storage.close()
    assert storage.temp_dir == (tmp_path / "files").resolve()
    assert (
        len(list((tmp_path / "files" / "users" / "kim" / "documents").iterdir())) == 1
    )


@pytest.mark.requirement("KT-24")
async def test_concurrent_changes_keep_the_backup_whole(tmp_path: Path) -> None:
    backup = tmp_path / "backup.json"
    storage = LocalStorageService(backup_file=backup)
    await asyncio.gather(
        *(
            storage.create_user({"id": f"u{n}", "email": f"{n}@x.test"})
            for n in range(40)
        )
    )
    state = json.loads(backup.read_text(encoding="utf-8"))
    assert len(state["users"]) == 40
    assert _unfinished(tmp_path) == []


@pytest.mark.requirement("KT-27")
async def test_local_storage_describes_itself_in_four_lines(
    local: LocalStorageService,
) -> None:
    await local.create_user({"id": "kim", "email": "kim@example.test"})
    out = io.StringIO()
    debug_local_storage(local, out)
    assert out.getvalue().splitlines() == [
        "Users: 1",
        "Sessions: 0",
        "Documents: 0",
        f"Temp dir: {local.temp_dir}",
    ]


@pytest.mark.requirement("KT-25")
async def test_growth_is_measured_and_linear(tmp_path: Path) -> None:
    storage = LocalStorageService(backup_file=tmp_path / "backup.json")
    sizes = []
    for count in (50, 100, 150):
        for number in range(len(storage.users), count):
            await storage.create_user({"id": f"{number:05}", "email": f"{number:05}"})
        sizes.append(measure(storage))
    assert [growth.users for growth in sizes] == [50, 100, 150]
    first, second = (
        sizes[k + 1].backup_bytes - sizes[k].backup_bytes for k in range(2)
    )
    assert first == second > 0
    assert all(growth.peak_memory_kib > 0 for growth in sizes)


def _unfinished(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".part*")]
