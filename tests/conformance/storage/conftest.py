"""A Storage API of its own for the official clients: real PostgreSQL, real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

# Everybody keeps to the folder named after them; admins of nothing.
OWN_FOLDER = """
    create policy own_folder_select on storage.objects for select to authenticated
      using ((storage.foldername(name))[1] = auth.uid()::text);
    create policy own_folder_insert on storage.objects for insert to authenticated
      with check ((storage.foldername(name))[1] = auth.uid()::text);
    create policy own_folder_update on storage.objects for update to authenticated
      using ((storage.foldername(name))[1] = auth.uid()::text)
      with check ((storage.foldername(name))[1] = auth.uid()::text);
    create policy own_folder_delete on storage.objects for delete to authenticated
      using ((storage.foldername(name))[1] = auth.uid()::text);
"""


@pytest.fixture(params=["file", "s3"])
def storage(
    request: pytest.FixtureRequest,
    database: DatabaseAddress,
    clone_of: Callable[[], DatabaseAddress],
    tmp_path: Path,
) -> Iterator[StandaloneStorage]:
    """Serve a fresh project in which users own their folder, on either backend.

    The S3 endpoint is another project's storage, spoken to in its S3 protocol.
    """
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(OWN_FOLDER)
    with ExitStack() as running:
        settings: dict[str, Any] = {}
        if request.param == "s3":
            endpoint = StandaloneStorage(clone_of(), tmp_path / "endpoint")
            running.enter_context(endpoint)
            settings = s3_settings(endpoint)
        own = StandaloneStorage(database, tmp_path / "objects", settings)
        yield running.enter_context(own)


def s3_settings(endpoint: StandaloneStorage) -> dict[str, Any]:
    """Return settings that keep bytes at ``endpoint``, in a new bucket there."""
    keys = endpoint.keys.s3
    httpx.post(
        f"{endpoint.url}/bucket",
        json={"name": "bytes"},
        headers={"Authorization": f"Bearer {endpoint.service_key}"},
    ).raise_for_status()
    return {
        "backend": "s3",
        "s3_endpoint": f"{endpoint.url}/s3",
        "s3_bucket": "bytes",
        "s3_region": keys.region,
        "s3_access_key_id": keys.access_key_id,
        "s3_secret_access_key": keys.secret_access_key,
    }
