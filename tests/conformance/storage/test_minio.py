"""The MinIO client, unmodified, against our S3 protocol."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import urllib3
from minio import Minio
from minio.commonconfig import ComposeSource, CopySource
from minio.datatypes import PostPolicy
from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

MIB = 1024 * 1024

pytestmark = pytest.mark.conformance


@pytest.fixture
def minio(database: DatabaseAddress, tmp_path: Path) -> Iterator[Minio]:
    """Serve S3 at the root: this client takes a host, not a URL with a path."""
    pool = urllib3.PoolManager()
    with StandaloneStorage(database, tmp_path / "objects", s3_at_root=True) as storage:
        client = Minio(
            f"127.0.0.1:{storage.port}",
            access_key=storage.keys.s3.access_key_id,
            secret_key=storage.keys.s3.secret_access_key,
            region=storage.keys.s3.region,
            secure=False,
            http_client=pool,
        )
        client.make_bucket("files")
        yield client
        pool.clear()


def test_object_life(minio: Minio) -> None:
    assert minio.bucket_exists("files")
    assert not minio.bucket_exists("missing")
    minio.put_object(
        "files",
        "dir/a?.txt",
        io.BytesIO(b"hello"),
        5,
        content_type="text/plain",
        metadata={"color": "blue"},
    )
    answer = minio.get_object("files", "dir/a?.txt", offset=1, length=3)
    try:
        assert answer.data == b"ell"
    finally:
        answer.close()
        answer.release_conn()
    stat = minio.stat_object("files", "dir/a?.txt")
    assert stat.size == 5
    assert stat.metadata is not None
    assert stat.metadata["x-amz-meta-color"] == "blue"
    minio.copy_object("files", "copy", CopySource("files", "dir/a?.txt"))
    listed = [o.object_name for o in minio.list_objects("files", recursive=True)]
    assert listed == ["copy", "dir/a?.txt"]
    folded = [o.object_name for o in minio.list_objects("files")]
    assert sorted(str(name) for name in folded) == ["copy", "dir/"]
    errors = minio.remove_objects(
        "files", [DeleteObject("copy"), DeleteObject("dir/a?.txt")]
    )
    assert list(errors) == []
    with pytest.raises(S3Error, match="NoSuchKey"):
        minio.stat_object("files", "copy")
    minio.remove_bucket("files")
    assert not minio.bucket_exists("files")


def test_multipart_of_unknown_length(minio: Minio) -> None:
    data = os.urandom(11 * MIB)
    minio.put_object("files", "big", io.BytesIO(data), -1, part_size=5 * MIB)
    answer = minio.get_object("files", "big")
    try:
        assert answer.data == data
    finally:
        answer.close()
        answer.release_conn()


def test_compose_copies_ranges(minio: Minio) -> None:
    data = os.urandom(6 * MIB)
    minio.put_object("files", "a", io.BytesIO(data), len(data))
    minio.put_object("files", "b", io.BytesIO(b"tail"), 4)
    sources = [ComposeSource("files", "a"), ComposeSource("files", "b")]
    minio.compose_object("files", "composed", sources)
    answer = minio.get_object("files", "composed")
    try:
        assert answer.data == data + b"tail"
    finally:
        answer.close()
        answer.release_conn()


def test_presigned_and_post_policy(minio: Minio) -> None:
    put = minio.presigned_put_object("files", "p", expires=timedelta(minutes=1))
    assert httpx.put(put, content=b"signed").status_code == 200
    get = minio.presigned_get_object("files", "p", expires=timedelta(minutes=1))
    assert httpx.get(get).content == b"signed"
    policy = PostPolicy("files", datetime.now(UTC) + timedelta(minutes=1))
    policy.add_starts_with_condition("key", "form/")
    policy.add_content_length_range_condition(1, 100)
    fields = {**minio.presigned_post_policy(policy), "key": "form/x"}
    url = f"{get.partition('/files/')[0]}/files"
    posted = httpx.post(url, data=fields, files={"file": ("x", b"posted")})
    assert posted.status_code == 200
    assert minio.stat_object("files", "form/x").size == 6
