"""Servers for the property tests: one a backend, shared by all examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

OWN_FOLDER = """
    create policy own_folder on storage.objects for all to authenticated
      using ((storage.foldername(name))[1] = auth.uid()::text)
      with check ((storage.foldername(name))[1] = auth.uid()::text);
"""


@dataclass(frozen=True, slots=True)
class Backed:
    """A served project and a look at the bytes it keeps."""

    storage: StandaloneStorage
    kept_versions: Callable[[], set[str]]


@pytest.fixture(params=["file", "s3"])
def backed(
    request: pytest.FixtureRequest,
    database: DatabaseAddress,
    clone_of: Callable[[], DatabaseAddress],
    tmp_path: Path,
) -> Iterator[Backed]:
    """Serve a project in which users own their folder, on either backend."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(OWN_FOLDER)
    with ExitStack() as running:
        settings: dict[str, Any] = {}
        kept = partial(_files, tmp_path / "objects")
        if request.param == "s3":
            remote = clone_of()
            endpoint = StandaloneStorage(remote, tmp_path / "endpoint")
            running.enter_context(endpoint)
            settings = _kept_at(endpoint)
            kept = partial(_remote_objects, remote)
        storage = StandaloneStorage(database, tmp_path / "objects", settings)
        yield Backed(running.enter_context(storage), kept)


def _files(folder: Path) -> set[str]:
    return {str(UUID(hex=path.name)) for path in folder.glob("objects/*/*")}


def _remote_objects(database: DatabaseAddress) -> set[str]:
    """Return the last segments of the endpoint's keys: the versions."""
    with psycopg.connect(database.dsn("supabase_admin")) as connection:
        rows = connection.execute("select name from storage.objects").fetchall()
    return {name.rpartition("/")[2] for (name,) in rows}


def _kept_at(endpoint: StandaloneStorage) -> dict[str, Any]:
    httpx.post(
        f"{endpoint.url}/bucket",
        json={"name": "bytes"},
        headers={"Authorization": f"Bearer {endpoint.service_key}"},
    ).raise_for_status()
    keys = endpoint.keys.s3
    return {
        "backend": "s3",
        "s3_endpoint": f"{endpoint.url}/s3",
        "s3_bucket": "bytes",
        "s3_region": keys.region,
        "s3_access_key_id": keys.access_key_id,
        "s3_secret_access_key": keys.secret_access_key,
    }
