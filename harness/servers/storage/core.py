"""What every handler of the Storage API shares, and how rows become JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from harness.servers.project import ServedProject
from harness.servers.storage.backend import Backend
from harness.servers.storage.connections import Connections
from harness.servers.storage.faultpoints import FaultPoints
from harness.servers.storage.intents import Intents
from harness.servers.storage.metrics import Metrics
from harness.servers.storage.multipart import MultipartUploads
from harness.servers.storage.resumable import ResumableUploads
from harness.servers.storage.settings import StorageSettings
from harness.servers.storage.staging import Stager
from harness.servers.storage.tokens import SignedUrls

__all__ = ["Core", "iso", "object_json", "parse_json"]


@dataclass(frozen=True, slots=True)
class Core:
    """The parts of one project's Storage API."""

    project: ServedProject
    settings: StorageSettings
    connections: Connections
    backend: Backend
    stager: Stager
    intents: Intents
    signed_urls: SignedUrls
    faults: FaultPoints
    metrics: Metrics
    resumable: ResumableUploads
    multipart: MultipartUploads
    rendering: asyncio.Semaphore


def iso(at: datetime | None) -> str | None:
    """Return a time as JavaScript writes it: UTC, milliseconds, ``Z``."""
    if at is None:
        return None
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def parse_json(text: str | None) -> dict[str, Any]:
    """Return a jsonb object ('' and NULL are empty ones)."""
    value = orjson.loads(text) if text else None
    return value if isinstance(value, dict) else {}


def raw_json(text: str | None) -> orjson.Fragment | None:
    """Return jsonb text for :func:`orjson.dumps` to take over unread."""
    return None if text is None else orjson.Fragment(text)


def object_json(row: asyncpg.Record | Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of storage.objects as the API shows it; a NULL owner is ''."""
    return {
        "name": row["name"],
        "bucket_id": row["bucket_id"],
        "owner": str(row["owner"] or ""),
        "owner_id": row["owner_id"] or "",
        "version": row["version"] or "",
        "id": str(row["id"]),
        "updated_at": iso(row["updated_at"]),
        "created_at": iso(row["created_at"]),
        "last_accessed_at": iso(row["last_accessed_at"]),
        "metadata": raw_json(row["metadata"]),
        "user_metadata": raw_json(row["user_metadata"]),
    }
