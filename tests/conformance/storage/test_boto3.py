"""boto3, unmodified, against our S3 protocol."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import ClientError

from harness.servers.storage.standalone import StandaloneStorage

ALICE = "11111111-1111-4111-8111-111111111111"
MIB = 1024 * 1024

pytestmark = pytest.mark.conformance

S3Of = Callable[..., Any]


@pytest.fixture
def s3_of(storage: StandaloneStorage) -> Iterator[S3Of]:
    clients: list[Any] = []

    def make(session_token: str | None = None, **config: Any) -> Any:
        keys = storage.keys
        client = boto3.client(
            "s3",
            endpoint_url=f"{storage.url}/s3",
            region_name=keys.s3.region,
            aws_access_key_id="default" if session_token else keys.s3.access_key_id,
            aws_secret_access_key=(
                keys.anon_key if session_token else keys.s3.secret_access_key
            ),
            aws_session_token=session_token,
            config=Config(
                s3={"addressing_style": "path"}, retries={"max_attempts": 1}, **config
            ),
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def s3(s3_of: S3Of) -> Any:
    client = s3_of()
    client.create_bucket(Bucket="files")
    return client


def test_bucket_life(s3: Any) -> None:
    s3.create_bucket(Bucket="more", ACL="public-read")
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["files", "more"]
    head = s3.head_bucket(Bucket="more")
    assert head["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "local"
    assert s3.get_bucket_location(Bucket="more")["LocationConstraint"] == "local"
    assert s3.get_bucket_versioning(Bucket="more")["Status"] == "Suspended"
    with pytest.raises(ClientError, match="BucketAlreadyExists"):
        s3.create_bucket(Bucket="more")
    s3.put_object(Bucket="more", Key="a", Body=b"x")
    with pytest.raises(ClientError, match="ResourceNotEmpty"):
        s3.delete_bucket(Bucket="more")
    s3.delete_object(Bucket="more", Key="a")
    s3.delete_bucket(Bucket="more")
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket="more")


def test_object_life(s3: Any) -> None:
    put = s3.put_object(
        Bucket="files",
        Key="dir/a b+c.txt",
        Body=b"hello",
        ContentType="text/plain",
        CacheControl="max-age=60",
        Metadata={"color": "blue"},
    )
    got = s3.get_object(Bucket="files", Key="dir/a b+c.txt")
    assert got["Body"].read() == b"hello"
    assert got["ETag"] == put["ETag"]
    assert got["ContentType"] == "text/plain"
    assert got["Metadata"] == {"color": "blue"}
    head = s3.head_object(Bucket="files", Key="dir/a b+c.txt")
    assert head["ContentLength"] == 5
    assert head["CacheControl"] == "max-age=60"
    part = s3.get_object(Bucket="files", Key="dir/a b+c.txt", Range="bytes=1-3")
    assert part["Body"].read() == b"ell"
    s3.copy_object(
        Bucket="files",
        Key="copy.txt",
        CopySource={"Bucket": "files", "Key": "dir/a b+c.txt"},
    )
    assert s3.get_object(Bucket="files", Key="copy.txt")["Body"].read() == b"hello"
    s3.copy_object(
        Bucket="files",
        Key="copy.txt",
        CopySource={"Bucket": "files", "Key": "copy.txt"},
        MetadataDirective="REPLACE",
        Metadata={"color": "red"},
        ContentType="text/css",
    )
    replaced = s3.head_object(Bucket="files", Key="copy.txt")
    assert (replaced["Metadata"], replaced["ContentType"]) == (
        {"color": "red"},
        "text/css",
    )
    deleted = s3.delete_objects(
        Bucket="files", Delete={"Objects": [{"Key": "copy.txt"}, {"Key": "missing"}]}
    )
    assert {d["Key"] for d in deleted["Deleted"]} == {"copy.txt", "missing"}
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="files", Key="copy.txt")
    s3.delete_object(Bucket="files", Key="copy.txt")


def test_empty_folder_becomes_a_placeholder(s3: Any) -> None:
    s3.put_object(Bucket="files", Key="empty/", Body=b"")
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket="files")["Contents"]]
    assert keys == ["empty/.emptyFolderPlaceholder"]


def test_listing_with_delimiter_and_pages(s3: Any) -> None:
    for key in ("a", "a/1", "a/2", "a-b", "b/c/d", "b/e", "z"):
        s3.put_object(Bucket="files", Key=key, Body=b"x")
    seen: list[str] = []
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket="files", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    for page in pages:
        seen += [o["Key"] for o in page.get("Contents", [])]
        seen += [p["Prefix"] for p in page.get("CommonPrefixes", [])]
    assert seen == ["a", "a-b", "a/", "b/", "z"]
    under = s3.list_objects_v2(Bucket="files", Prefix="b/", Delimiter="/")
    assert [o["Key"] for o in under["Contents"]] == ["b/e"]
    assert [p["Prefix"] for p in under["CommonPrefixes"]] == ["b/c/"]
    flat = s3.get_paginator("list_objects").paginate(
        Bucket="files", PaginationConfig={"PageSize": 2}
    )
    assert [o["Key"] for page in flat for o in page["Contents"]] == [
        "a",
        "a-b",
        "a/1",
        "a/2",
        "b/c/d",
        "b/e",
        "z",
    ]


def test_multipart_upload(s3: Any) -> None:
    data = os.urandom(12 * MIB)
    config = TransferConfig(
        multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=3
    )
    s3.upload_fileobj(io.BytesIO(data), "files", "big.bin", Config=config)
    target = io.BytesIO()
    s3.download_fileobj("files", "big.bin", target)
    assert target.getvalue() == data
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="files")


def test_multipart_by_hand(s3: Any) -> None:
    s3.put_object(Bucket="files", Key="source", Body=b"0123456789")
    upload = s3.create_multipart_upload(
        Bucket="files", Key="joined", ContentType="text/plain", Metadata={"k": "v"}
    )["UploadId"]
    where = {"Bucket": "files", "Key": "joined", "UploadId": upload}
    first = s3.upload_part(PartNumber=1, Body=b"first-", **where)
    second = s3.upload_part_copy(
        PartNumber=2,
        CopySource={"Bucket": "files", "Key": "source"},
        CopySourceRange="bytes=2-4",
        **where,
    )
    parts = s3.list_parts(**where)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in parts] == [(1, 6), (2, 3)]
    listed = s3.list_multipart_uploads(Bucket="files")["Uploads"]
    assert [(u["Key"], u["UploadId"]) for u in listed] == [("joined", upload)]
    with pytest.raises(ClientError, match="InvalidChecksum"):
        s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "bad"}]}, **where
        )
    with pytest.raises(ClientError, match="MissingPart"):
        s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 9, "ETag": first["ETag"]}]},
            **where,
        )
    s3.complete_multipart_upload(
        MultipartUpload={
            "Parts": [
                {"PartNumber": 1, "ETag": first["ETag"]},
                {"PartNumber": 2, "ETag": second["CopyPartResult"]["ETag"]},
            ]
        },
        **where,
    )
    got = s3.get_object(Bucket="files", Key="joined")
    assert got["Body"].read() == b"first-234"
    assert (got["ContentType"], got["Metadata"]) == ("text/plain", {"k": "v"})
    with pytest.raises(ClientError, match="NoSuchUpload"):
        s3.list_parts(**where)


def test_abort_removes_the_parts(s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket="files", Key="k")["UploadId"]
    s3.upload_part(
        Bucket="files", Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 100
    )
    aborted = s3.abort_multipart_upload(Bucket="files", Key="k", UploadId=upload)
    assert aborted["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="files")


def test_presigned_urls(s3: Any) -> None:
    where = {"Bucket": "files", "Key": "dir/pre signed.txt"}
    put = s3.generate_presigned_url("put_object", Params=where, ExpiresIn=60)
    assert httpx.put(put, content=b"by url").status_code == 200
    get = s3.generate_presigned_url(
        "get_object",
        Params={**where, "ResponseContentType": "text/css"},
        ExpiresIn=60,
    )
    answer = httpx.get(get)
    assert (answer.content, answer.headers["content-type"]) == (b"by url", "text/css")
    assert httpx.get(get.replace("text%2Fcss", "text%2Fxml")).status_code == 403
    expired = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=-1)
    assert httpx.get(expired).status_code == 400


def test_post_policy(s3: Any) -> None:
    form = s3.generate_presigned_post(
        "files",
        "forms/${filename}",
        Fields={"Content-Type": "text/plain"},
        Conditions=[
            {"Content-Type": "text/plain"},
            ["content-length-range", 1, 10],
        ],
        ExpiresIn=60,
    )
    fine = httpx.post(
        form["url"], data=form["fields"], files={"file": ("f.txt", b"form")}
    )
    assert fine.status_code == 200
    got = s3.get_object(Bucket="files", Key="forms/f.txt")
    assert got["Body"].read() == b"form"
    long = httpx.post(
        form["url"], data=form["fields"], files={"file": ("g.txt", b"x" * 11)}
    )
    assert long.status_code == 413
    extra = httpx.post(
        form["url"],
        data={**form["fields"], "x-amz-meta-a": "b"},
        files={"file": ("f.txt", b"form")},
    )
    assert extra.status_code == 403


def test_session_token_obeys_the_policies(
    storage: StandaloneStorage, s3: Any, s3_of: S3Of
) -> None:
    alice = s3_of(session_token=storage.token(ALICE))
    alice.put_object(Bucket="files", Key=f"{ALICE}/a.txt", Body=b"mine")
    got = alice.get_object(Bucket="files", Key=f"{ALICE}/a.txt")
    assert got["Body"].read() == b"mine"
    # No policy lets her see the bucket itself, as in most projects.
    listed = alice.list_objects_v2(Bucket="files")["Contents"]
    assert [each["Key"] for each in listed] == [f"{ALICE}/a.txt"]
    with pytest.raises(ClientError, match="AccessDenied"):
        alice.put_object(Bucket="files", Key="other/a.txt", Body=b"x")
    s3.put_object(Bucket="files", Key="other/a.txt", Body=b"hidden")
    with pytest.raises(ClientError, match="NoSuchKey"):
        alice.get_object(Bucket="files", Key="other/a.txt")
    outcome = alice.delete_objects(
        Bucket="files",
        Delete={"Objects": [{"Key": "other/a.txt"}, {"Key": f"{ALICE}/a.txt"}]},
    )
    assert [e["Code"] for e in outcome["Errors"]] == ["AccessDenied"]
    assert [d["Key"] for d in outcome["Deleted"]] == [f"{ALICE}/a.txt"]


def test_session_token_learns_nothing_of_others_uploads(
    storage: StandaloneStorage, s3: Any, s3_of: S3Of
) -> None:
    alice = s3_of(session_token=storage.token(ALICE))
    where = {"Bucket": "files", "Key": "other/big"}
    upload_id = s3.create_multipart_upload(**where)["UploadId"]
    assert "Uploads" not in alice.list_multipart_uploads(Bucket="files")
    with pytest.raises(ClientError, match="AccessDenied"):
        alice.list_parts(UploadId=upload_id, **where)
    own = {"Bucket": "files", "Key": f"{ALICE}/big"}
    own["UploadId"] = alice.create_multipart_upload(**own)["UploadId"]
    assert alice.list_parts(**own)["UploadId"] == own["UploadId"]
    assert len(s3.list_multipart_uploads(Bucket="files")["Uploads"]) == 2


def test_wrong_keys_are_refused(storage: StandaloneStorage, s3: Any) -> None:
    def client(key: str, secret: str, region: str = "local") -> Any:
        return boto3.client(
            "s3",
            endpoint_url=f"{storage.url}/s3",
            region_name=region,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    own = storage.keys.s3
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(own.access_key_id, "wrong").list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        client("wrong", own.secret_access_key).list_buckets()
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client(own.access_key_id, own.secret_access_key, "eu-west-1").list_buckets()
