"""The official Python client, unmodified, against our Storage API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from storage3 import AsyncStorageClient, SyncStorageClient
from storage3.exceptions import StorageApiError

from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"

pytestmark = pytest.mark.conformance


ClientOf = Callable[[str], SyncStorageClient]


@pytest.fixture
def client_of(storage: StandaloneStorage) -> Iterator[ClientOf]:
    with ExitStack() as clients:

        def make(token: str) -> SyncStorageClient:
            headers = {"Authorization": f"Bearer {token}"}
            client = SyncStorageClient(f"{storage.url}/", headers)
            clients.callback(client.session.close)
            return client

        yield make


def test_bucket_life(storage: StandaloneStorage, client_of: ClientOf) -> None:
    admin = client_of(storage.service_key)
    admin.create_bucket(
        "videos",
        options={
            "public": False,
            "file_size_limit": "10MB",
            "allowed_mime_types": ["video/mp4", "image/*"],
        },
    )
    bucket = admin.get_bucket("videos")
    assert bucket.name == "videos"
    assert bucket.file_size_limit == 10_000_000
    assert bucket.allowed_mime_types == ["video/mp4", "image/*"]
    admin.update_bucket("videos", {"public": True})
    assert [(b.id, b.public) for b in admin.list_buckets()] == [("videos", True)]
    admin.from_("videos").upload("a.png", b"png", {"content-type": "image/png"})
    with pytest.raises(StorageApiError, match="not empty"):
        admin.delete_bucket("videos")
    admin.empty_bucket("videos")
    admin.delete_bucket("videos")
    with pytest.raises(StorageApiError, match="Bucket not found"):
        admin.get_bucket("videos")


def test_object_life_as_a_user(storage: StandaloneStorage, client_of: ClientOf) -> None:
    client_of(storage.service_key).create_bucket("docs")
    alice = client_of(storage.token(ALICE)).from_("docs")
    name = f"{ALICE}/notes/a b.txt"
    uploaded = alice.upload(
        name, b"hello", {"content-type": "text/plain", "cache-control": "3600"}
    )
    assert uploaded.full_path == f"docs/{name}"
    assert alice.download(name) == b"hello"
    assert alice.exists(name)
    info = alice.info(name)
    assert info["size"] == 5
    assert info["content_type"] == "text/plain"
    assert info["cache_control"] == "max-age=3600"
    with pytest.raises(StorageApiError, match="already exists"):
        alice.upload(name, b"again")
    alice.update(name, b"hello again")
    assert alice.download(name) == b"hello again"
    alice.copy(name, f"{ALICE}/copy.txt")
    alice.move(name, f"{ALICE}/moved.txt")
    assert [entry["name"] for entry in alice.list(ALICE)] == ["copy.txt", "moved.txt"]
    assert alice.download(f"{ALICE}/moved.txt") == b"hello again"
    gone = alice.remove([f"{ALICE}/copy.txt", f"{ALICE}/missing.txt"])
    assert [row["name"] for row in gone] == [f"{ALICE}/copy.txt"]
    assert not alice.exists(f"{ALICE}/copy.txt")


def test_another_user_sees_and_writes_nothing(
    storage: StandaloneStorage, client_of: ClientOf
) -> None:
    client_of(storage.service_key).create_bucket("docs")
    alice = client_of(storage.token(ALICE)).from_("docs")
    bob = client_of(storage.token(BOB)).from_("docs")
    alice.upload(f"{ALICE}/secret.txt", b"secret")
    with pytest.raises(StorageApiError, match="Object not found"):
        bob.download(f"{ALICE}/secret.txt")
    with pytest.raises(StorageApiError, match="row-level security"):
        bob.upload(f"{ALICE}/planted.txt", b"x")
    with pytest.raises(StorageApiError, match="Object not found"):
        bob.create_signed_url(f"{ALICE}/secret.txt", 60)
    with pytest.raises(StorageApiError, match="Object not found"):
        bob.copy(f"{ALICE}/secret.txt", f"{BOB}/stolen.txt")
    with pytest.raises(StorageApiError, match="Object not found"):
        bob.move(f"{ALICE}/secret.txt", f"{BOB}/stolen.txt")
    assert bob.list(ALICE) == []
    assert bob.remove([f"{ALICE}/secret.txt"]) == []
    assert alice.download(f"{ALICE}/secret.txt") == b"secret"


def test_public_and_signed_urls(
    storage: StandaloneStorage, client_of: ClientOf
) -> None:
    admin = client_of(storage.service_key)
    admin.create_bucket("avatars", options={"public": True})
    admin.create_bucket("private")
    admin.from_("avatars").upload("a.txt", b"public")
    admin.from_("private").upload("b.txt", b"private")
    public = admin.from_("avatars").get_public_url("a.txt")
    assert httpx.get(public).content == b"public"
    signed = admin.from_("private").create_signed_url("b.txt", 60)["signedURL"]
    answer = httpx.get(signed)
    assert answer.content == b"private"
    assert "expires" in answer.headers
    many = admin.from_("private").create_signed_urls(["b.txt", "no.txt"], 60)
    assert [bool(entry["error"]) for entry in many] == [False, True]
    assert httpx.get(many[0]["signedURL"]).content == b"private"
    upload = admin.from_("private").create_signed_upload_url("c.txt")
    admin.from_("private").upload_to_signed_url("c.txt", upload["token"], b"signed")
    assert admin.from_("private").download("c.txt") == b"signed"


def test_async_client(storage: StandaloneStorage) -> None:
    async def flow() -> bytes:
        headers = {"Authorization": f"Bearer {storage.service_key}"}
        client = AsyncStorageClient(f"{storage.url}/", headers)
        await client.create_bucket("async")
        files = client.from_("async")
        await files.upload("big.bin", b"\x00\x01" * 500_000)
        await files.move("big.bin", "moved/big.bin")
        listed = await files.list("moved")
        assert [entry["name"] for entry in listed] == ["big.bin"]
        data: bytes = await files.download("moved/big.bin")
        await client.session.aclose()
        return data

    assert asyncio.run(flow()) == b"\x00\x01" * 500_000
