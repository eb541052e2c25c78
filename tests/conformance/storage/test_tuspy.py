"""The Python tus client, unmodified, against our resumable uploads."""

from __future__ import annotations

import hashlib
import io
import os

import httpx
import pytest
from tusclient import client as tus
from tusclient.exceptions import TusCommunicationError

from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"

pytestmark = pytest.mark.conformance


@pytest.fixture(autouse=True)
def bucket(storage: StandaloneStorage) -> None:
    httpx.post(
        f"{storage.url}/bucket",
        json={"name": "docs"},
        headers={"Authorization": f"Bearer {storage.service_key}"},
    ).raise_for_status()


def client_of(storage: StandaloneStorage, token: str) -> tus.TusClient:
    return tus.TusClient(
        f"{storage.url}/upload/resumable", headers={"Authorization": f"Bearer {token}"}
    )


def metadata_of(name: str) -> dict[str, str]:
    return {
        "bucketName": "docs",
        "objectName": name,
        "contentType": "application/zip",
        "cacheControl": "3600",
    }


def download(storage: StandaloneStorage, token: str, name: str) -> httpx.Response:
    return httpx.get(
        f"{storage.url}/object/authenticated/docs/{name}",
        headers={"Authorization": f"Bearer {token}"},
    )


def test_upload_in_chunks(storage: StandaloneStorage) -> None:
    token = storage.token(ALICE)
    data = os.urandom(3_000_000)
    name = f"{ALICE}/big.zip"
    uploader = client_of(storage, token).uploader(
        file_stream=io.BytesIO(data), chunk_size=1_000_000, metadata=metadata_of(name)
    )
    uploader.upload()
    answer = download(storage, token, name)
    assert answer.content == data
    assert answer.headers["etag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["cache-control"] == "max-age=3600"


def test_resume_after_an_abort(storage: StandaloneStorage) -> None:
    token = storage.token(ALICE)
    data = os.urandom(2_500_000)
    name = f"{ALICE}/resumed.zip"
    client = client_of(storage, token)
    first = client.uploader(
        file_stream=io.BytesIO(data), chunk_size=1_000_000, metadata=metadata_of(name)
    )
    first.upload_chunk()
    assert download(storage, token, name).status_code == 400
    second = client.uploader(
        file_stream=io.BytesIO(data), chunk_size=1_000_000, url=first.url
    )
    assert second.offset == 1_000_000
    second.upload()
    assert download(storage, token, name).content == data


def test_another_user_is_refused(storage: StandaloneStorage) -> None:
    data = os.urandom(1_500_000)
    uploader = client_of(storage, storage.token(ALICE)).uploader(
        file_stream=io.BytesIO(data),
        chunk_size=1_000_000,
        metadata=metadata_of(f"{ALICE}/mine.zip"),
    )
    uploader.upload_chunk()
    thief = client_of(storage, storage.token(BOB)).uploader(
        file_stream=io.BytesIO(data), chunk_size=1_000_000, url=uploader.url
    )
    with pytest.raises(TusCommunicationError) as refused:
        thief.upload()
    assert refused.value.status_code == 403
    uploader.upload()
    assert download(storage, storage.token(ALICE), f"{ALICE}/mine.zip").content == data


def test_creation_outside_the_own_folder_is_refused(
    storage: StandaloneStorage,
) -> None:
    uploader = client_of(storage, storage.token(BOB)).uploader(
        file_stream=io.BytesIO(b"x"), chunk_size=10, metadata=metadata_of(f"{ALICE}/x")
    )
    with pytest.raises(TusCommunicationError) as refused:
        uploader.upload()
    assert refused.value.status_code == 403
    assert refused.value.response_content == (
        b"new row violates row-level security policy"
    )
