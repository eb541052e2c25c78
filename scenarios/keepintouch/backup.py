"""Backing up and restoring everything: accounts, nine tables, all files.

A backup is a folder: ``backup.json`` with every row and a checksum for every file, and
the files below ``files/``.  It is written beside its place and renamed, so there is a
whole one or none.  Restoring into an empty project gives back exactly what was there.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scenarios.keepintouch.file_names import StoredFile
from scenarios.keepintouch.repositories import TABLES, all_rows

if TYPE_CHECKING:
    from scenarios.keepintouch.storage_service import Row
    from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService

__all__ = ["BackupError", "Contents", "back_up", "restore"]

FORMAT = 1
LIST_PAGE = 100
BATCH = 500
# The database makes these columns itself.
GENERATED = {"documents": ("file_path",)}


class BackupError(Exception):
    """The backup is not whole, or the project is not empty."""


@dataclass(frozen=True, slots=True)
class Contents:
    """How much a backup holds."""

    rows: dict[str, int]
    files: int


async def back_up(storage: SupabaseStorageService, folder: Path) -> Contents:
    """Write a backup to ``folder``, replacing an older one only when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        rows = {
            table: [row async for row in all_rows(storage.client, table)]
            for table in TABLES
        }
        files = [entry async for entry in _save_files(storage, part / "files")]
        state = {"format": FORMAT, "tables": rows, "files": files}
        text = json.dumps(state, indent=1)
        await asyncio.to_thread((part / "backup.json").write_text, text, "utf-8")
        await asyncio.to_thread(_swap, part, folder)
    finally:
        await asyncio.to_thread(shutil.rmtree, part, ignore_errors=True)
    return Contents({table: len(found) for table, found in rows.items()}, len(files))


async def restore(storage: SupabaseStorageService, folder: Path) -> Contents:
    """Put a backup back into an empty project; raises :class:`BackupError`."""
    state = await asyncio.to_thread(_read, folder)
    await _require_empty(storage)
    for user in state["tables"]["users"]:
        account = {"id": user["id"], "email": user["email"], "email_confirm": True}
        await storage.client.auth.admin.create_user(account)  # type: ignore[arg-type]  # a TypedDict of many optional keys
    for table in TABLES:
        await _insert(storage, table, state["tables"][table])
    for entry in state["files"]:
        place = folder / "files" / entry["path"]
        content = await asyncio.to_thread(place.read_bytes)
        owner = entry["path"].split("/")[0]
        stored = StoredFile.parse(entry["path"], user_id=owner)
        await storage.put_file(stored, content, entry["content_type"])
    counts = {table: len(state["tables"][table]) for table in TABLES}
    return Contents(counts, len(state["files"]))


async def _save_files(
    storage: SupabaseStorageService, folder: Path
) -> AsyncIterator[Row]:
    bucket = storage.client.storage.from_(storage.storage_bucket)
    async for path, entry in bucket_files(bucket):
        content = await bucket.download(path)
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(place.write_bytes, content)
        yield {
            "path": path,
            "content_type": entry["metadata"]["mimetype"],
            "sha256": hashlib.sha256(content).hexdigest(),
        }


async def bucket_files(bucket: Any) -> AsyncIterator[tuple[str, Row]]:
    """Yield path and entry of every file of a bucket, however many pages that takes."""
    folders = [""]
    while folders:
        folder = folders.pop()
        offset = 0
        while page := await bucket.list(folder, {"limit": LIST_PAGE, "offset": offset}):
            offset += len(page)
            for entry in page:
                path = f"{folder}/{entry['name']}".lstrip("/")
                if entry["id"] is None:
                    folders.append(path)
                else:
                    yield path, entry


def _read(folder: Path) -> dict[str, Any]:
    """Read a backup and compare every file with its checksum."""
    try:
        state: dict[str, Any] = json.loads((folder / "backup.json").read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise BackupError(f"no readable backup in {folder}: {exc}") from exc
    if state.get("format") != FORMAT:
        raise BackupError(f"unknown backup format {state.get('format')!r}")
    for entry in state["files"]:
        try:
            content = (folder / "files" / entry["path"]).read_bytes()
        except OSError as exc:
            raise BackupError(f"the backup lacks {entry['path']}") from exc
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise BackupError(f"the backup's copy of {entry['path']} is damaged")
    return state


async def _require_empty(storage: SupabaseStorageService) -> None:
    answer = await storage.client.table("users").select("id").limit(1).execute()
    if answer.data:
        raise BackupError("the project has users already")


async def _insert(storage: SupabaseStorageService, table: str, rows: list[Row]) -> None:
    generated = GENERATED.get(table, ())
    kept = [{k: v for k, v in row.items() if k not in generated} for row in rows]
    for start in range(0, len(kept), BATCH):
        await storage.client.table(table).insert(kept[start : start + BATCH]).execute()


def _swap(part: Path, folder: Path) -> None:
    """Put a finished folder in its place; an older one goes afterwards."""
    older = part.with_name(part.name + "-older")
    if folder.exists():
        os.rename(folder, older)
    os.rename(part, folder)
    shutil.rmtree(older, ignore_errors=True)
