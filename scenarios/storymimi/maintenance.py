"""What whoever runs the application looks at: usage, versions, settings, backup.

    python -m scenarios.storymimi.maintenance report
    python -m scenarios.storymimi.maintenance backup FOLDER

needs ``SUPABASE_URL`` and ``SUPABASE_SERVICE_ROLE_KEY``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console

from scenarios.storymimi.clients import ClientSettingsError, storage_client
from scenarios.storymimi.image_urls import BUCKET

if TYPE_CHECKING:
    from supabase import Client

__all__ = ["Report", "backup", "main", "report"]

PACKAGES = ("supabase", "storage3", "postgrest", "httpx")
PAGE = 100


@dataclass(frozen=True, slots=True)
class Report:
    """The state of the application's storage."""

    images: int
    image_bytes: int
    stories_by_status: dict[str, int]
    bucket_public: bool
    bucket_limit_bytes: int | None
    bucket_types: tuple[str, ...]
    versions: dict[str, str]


def report(service: Client) -> Report:
    """Look at everything once."""
    bucket = service.storage.get_bucket(BUCKET)
    sizes = [int(entry["metadata"]["size"]) for _, entry in _images(service)]
    stories = [str(row["status"]) for row in _rows(service, "stories")]
    return Report(
        images=len(sizes),
        image_bytes=sum(sizes),
        stories_by_status={s: stories.count(s) for s in sorted(set(stories))},
        bucket_public=bucket.public,
        bucket_limit_bytes=bucket.file_size_limit,
        bucket_types=tuple(bucket.allowed_mime_types or ()),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def backup(service: Client, folder: Path) -> int:
    """Write both tables and every image below ``folder``; return how many images."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in ("stories", "scenes"):
        rows = json.dumps(_rows(service, table), indent=1)
        (folder / f"{table}.json").write_text(rows, encoding="utf-8")
    count = 0
    for path, _ in _images(service):
        place = folder / "images" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(service.storage.from_(BUCKET).download(path))
        count += 1
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="maintenance")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("report", help="usage, settings, versions")
    commands.add_parser("backup", help="tables and images").add_argument(
        "folder", type=Path
    )
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        service = storage_client(
            os.environ.get("SUPABASE_URL", ""),
            os.environ.get("SUPABASE_SERVICE_ROLE_KEY", ""),
        )
    except ClientSettingsError as exc:
        console.print(f"maintenance: {exc}")
        return 2
    if arguments.command == "backup":
        console.print(f"{backup(service, arguments.folder)} images saved")
    else:
        console.print(report(service))
    return 0


def _rows(service: Client, table: str) -> list[dict[str, Any]]:
    """Return a whole table, page by page, in a stable order."""
    rows: list[dict[str, Any]] = []
    while True:
        page = (
            service.table(table)
            .select("*")
            .order("id")
            .range(len(rows), len(rows) + PAGE - 1)
            .execute()
            .data
        )
        rows += cast("list[dict[str, Any]]", page)
        if len(page) < PAGE:
            return rows


def _images(service: Client) -> list[tuple[str, dict[str, Any]]]:
    """Return path and entry of every image."""
    bucket = service.storage.from_(BUCKET)
    found, folders = [], [""]
    while folders:
        folder = folders.pop()
        offset = 0
        while page := bucket.list(folder, {"limit": PAGE, "offset": offset}):
            offset += len(page)
            for entry in page:
                path = f"{folder}/{entry['name']}".lstrip("/")
                if entry["id"] is None:
                    folders.append(path)
                else:
                    found.append((path, entry))
    return found


if __name__ == "__main__":
    sys.exit(main())
