"""A Storage API of its own for the official clients: real PostgreSQL, real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def storage(database: DatabaseAddress, tmp_path: Path) -> Iterator[StandaloneStorage]:
    """Serve a fresh project in which users own their folder."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(OWN_FOLDER)
    with StandaloneStorage(database, tmp_path / "objects") as running:
        yield running
