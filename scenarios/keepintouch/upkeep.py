"""Keeping storage clean, and knowing how it grows."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scenarios.keepintouch.backup import bucket_files
from scenarios.keepintouch.repositories import all_rows

if TYPE_CHECKING:
    from scenarios.keepintouch.local_storage_service import LocalStorageService
    from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService

__all__ = ["Growth", "Orphans", "find_orphans", "measure", "sweep"]


@dataclass(frozen=True, slots=True)
class Orphans:
    """Files without a document, and documents without a file."""

    files: tuple[str, ...]
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Growth:
    """What a local storage takes with so many users."""

    users: int
    backup_bytes: int
    peak_memory_kib: int


async def find_orphans(storage: SupabaseStorageService) -> Orphans:
    """Compare the bucket's documents with the table's."""
    bucket = storage.client.storage.from_(storage.storage_bucket)
    files = {path async for path, _ in bucket_files(bucket) if "/documents/" in path}
    documents = {
        row["file_path"]: row["id"]
        async for row in all_rows(storage.client, "documents")
        if row["folder"] == "documents"
    }
    return Orphans(
        tuple(sorted(files - set(documents))),
        tuple(sorted(documents[path] for path in set(documents) - files)),
    )


async def sweep(storage: SupabaseStorageService) -> Orphans:
    """Delete files that no document names; return what was found."""
    orphans = await find_orphans(storage)
    for path in orphans.files:
        await storage.delete_file(path.split("/")[0], path)
    return orphans


def measure(storage: LocalStorageService) -> Growth:
    """Return what a local storage takes now."""
    backup = storage.backup_file
    return Growth(
        users=len(storage.users),
        backup_bytes=backup.stat().st_size if backup and backup.exists() else 0,
        peak_memory_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    )
