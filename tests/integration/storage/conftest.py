"""A Storage API of its own, and a client that shows what is on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"


@dataclass(frozen=True, slots=True)
class Api:
    """Requests as one caller; paths begin after ``/storage/v1``."""

    client: httpx.Client
    base: str
    token: str

    def __call__(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        **kw: Any,
    ) -> httpx.Response:
        """Send a request."""
        told = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.client.request(
            method, self.base + path, headers={**told, **(headers or {})}, **kw
        )

    def upload(
        self, path: str, body: bytes = b"bytes", **headers: str
    ) -> httpx.Response:
        """Upload ``body``; header names with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self("POST", f"/object/{path}", content=body, headers=named)


@pytest.fixture
def own_folder_policies(database: DatabaseAddress) -> None:
    """Let every user do everything in the folder named after them, nothing else."""
    own = "(storage.foldername(name))[1] = auth.uid()::text"
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(
            "create policy own_folder on storage.objects for all to authenticated "
            f"using ({own}) with check ({own})"
        )


@pytest.fixture
def storage(
    database: DatabaseAddress, own_folder_policies: None, tmp_path: Path
) -> Iterator[StandaloneStorage]:
    """Serve a fresh project on the file backend."""
    with StandaloneStorage(database, tmp_path / "objects") as running:
        yield running


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """Share connections between the callers of a test."""
    with httpx.Client(timeout=30) as client:
        yield client


@pytest.fixture
def admin(storage: StandaloneStorage, http: httpx.Client) -> Api:
    """Speak as service_role; there are a private and a public bucket."""
    api = Api(http, storage.url, storage.service_key)
    api("POST", "/bucket", json={"name": "docs"}).raise_for_status()
    api("POST", "/bucket", json={"name": "open", "public": True}).raise_for_status()
    return api


@pytest.fixture
def alice(storage: StandaloneStorage, http: httpx.Client, admin: Api) -> Api:
    """Speak as a user."""
    return Api(http, storage.url, storage.token(ALICE))


@pytest.fixture
def bob(storage: StandaloneStorage, http: httpx.Client, admin: Api) -> Api:
    """Speak as another user."""
    return Api(http, storage.url, storage.token(BOB))


@pytest.fixture
def nobody(storage: StandaloneStorage, http: httpx.Client, admin: Api) -> Api:
    """Speak without a token."""
    return Api(http, storage.url, "")


@pytest.fixture
def sql(database: DatabaseAddress) -> Iterator[psycopg.Connection]:
    """Look into the database as its superuser."""
    with psycopg.connect(database.dsn("supabase_admin"), autocommit=True) as connection:
        yield connection
