"""Storage: CPU of small operations, throughput of large bodies, listing under policies.

Every request is a signed-in user's under a first-folder policy, over 32 kept-alive
connections with a client as thin as a socket.  The references were measured on the real
service without a gateway in front; the baseline here is a request that the gateway
hands to Storage and that is answered at once, so the difference is Storage's own.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import orjson

from harness.bench.registry.measure import Action, measure
from harness.bench.registry.result import BenchResult
from harness.errors import HarnessError, UsageError
from harness.load.target import Target
from harness.protocols.jwt import S3Keys
from harness.protocols.s3_signature import Request, sign

__all__ = ["run"]

CONNECTIONS: Final = 32
SMALL: Final = b"4 KiB of a file.." * 241  # 4,097 bytes
MIB: Final = 1024 * 1024
LARGE: Final = bytes(range(256)) * (MIB // 256)
LISTED: Final = 10_000
RESUMED_BYTES: Final = 50 * MIB
PART_BYTES: Final = 5 * MIB
CHUNK_BYTES: Final = 6 * MIB
CHUNK: Final = LARGE * 6
CONTENT_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LOCATION: Final = re.compile(rb"location: \S*/resumable/(\S+)", re.IGNORECASE)
BUCKET: Final = "bench"
USER: Final = "11111111-1111-4111-8111-111111111111"
POLICY: Final = """
    drop policy if exists bench_own_folder on storage.objects;
    create policy bench_own_folder on storage.objects for all to authenticated
      using (bucket_id = 'bench' and (storage.foldername(name))[1] = auth.uid()::text)
      with check (
        bucket_id = 'bench' and (storage.foldername(name))[1] = auth.uid()::text);
"""
# The listed folder comes last, behind 9,900 objects that the user may not see.
FILL: Final = """
    insert into storage.objects (bucket_id, name, owner_id, version, metadata)
    select 'bench', case when n > $2::int - 100 then $1 else '00000000' end
        || '/listed/' || lpad(n::text, 6, '0') || '.txt', $1,
      gen_random_uuid()::text,
      jsonb_build_object('size', 1, 'mimetype', 'text/plain', 'eTag', '"x"')
    from generate_series(1, $2::int) as n on conflict do nothing
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """A goal: CPU milliseconds of server and PostgreSQL, or a rate a second."""

    reference: str
    cpu_ms: float = 0.0
    ops_per_s: float = 0.0
    mb_per_s: float = 0.0

    def text(self) -> str:
        """Return the goal in words."""
        if self.cpu_ms:
            return f"at most {self.cpu_ms:.2f} ms of CPU (server + PostgreSQL)"
        if self.mb_per_s:
            return f"at least {self.mb_per_s:.0f} MB/s"
        return f"at least {self.ops_per_s:.0f} a second"


# What the real service took on the same kind of machine, and the goal from that.
UPLOAD_SMALL: Final = Figure("2.74 + 2.67 ms, 301/s", cpu_ms=5.41 / 3)
DOWNLOAD_SMALL: Final = Figure("1.99 + 0.81 ms, 544/s", cpu_ms=2.80 / 3)
SIGN: Final = Figure("0.63 + 0.41 ms", cpu_ms=1.04 / 3)
FETCH_SIGNED: Final = Figure("1.59 + 0.44 ms", cpu_ms=2.03 / 3)
LIST: Final = Figure("37-48/s", ops_per_s=1000)
UPLOAD_LARGE: Final = Figure("106 MB/s", mb_per_s=212)
DOWNLOAD_LARGE: Final = Figure("158 MB/s", mb_per_s=316)
RESUMABLE: Final = Figure("74-119 MB/s", mb_per_s=238)
MULTIPART: Final = Figure("41-65 MB/s", mb_per_s=130)


async def run(target: Target) -> list[BenchResult]:
    """Measure the Storage API of ``target``."""
    if target.database is None:
        raise UsageError("this suite fills a table: it needs the project's database")
    token = target.user_token(USER)
    await _prepare(target)
    async with Connections(target, token) as connections:
        await connections.put(f"{USER}/small", SMALL)
        await connections.put(f"{USER}/large", LARGE)
        return [
            await _measure_one(target, connections, "upload 4 KiB", UPLOAD_SMALL),
            await _measure_one(target, connections, "download 4 KiB", DOWNLOAD_SMALL),
            await _measure_one(target, connections, "create signed URL", SIGN),
            await _measure_one(target, connections, "fetch signed URL", FETCH_SIGNED),
            await _measure_one(target, connections, "list 100 of 10,000", LIST),
            await _measure_one(target, connections, "upload 1 MiB", UPLOAD_LARGE),
            await _measure_one(target, connections, "download 1 MiB", DOWNLOAD_LARGE),
            await _measure_one(target, connections, "resumable 50 MiB", RESUMABLE),
            await _measure_one(target, connections, "S3 multipart 50 MiB", MULTIPART),
        ]


async def _measure_one(
    target: Target, connections: Connections, operation: str, figure: Figure
) -> BenchResult:
    times, size, action = await connections.action(operation)
    idle = connections.repeated(times, _same(connections.request("GET", "/status")))
    return await measure(
        target,
        name="storage",
        operation=operation,
        action=action,
        baseline=("/status", idle) if figure.cpu_ms else None,
        rounds=3,
        reference=f"real service: {figure.reference}",
        goal=figure.text(),
        met=lambda result: _is_met(result, figure, size),
        note=f"{size / 1e6:.2f} MB an operation" if size else "",
    )


async def _prepare(target: Target) -> None:
    """Make the bucket, its policy and the listed objects."""
    assert target.database is not None
    connection = await asyncpg.connect(**target.database.connect_args("postgres"))
    try:
        await connection.execute(
            "insert into storage.buckets (id, name) values ('bench', 'bench') "
            "on conflict do nothing"
        )
        await connection.execute(POLICY)
        await connection.execute(FILL, USER, LISTED)
        await connection.execute("analyze storage.objects")
    finally:
        await connection.close()


def _is_met(result: BenchResult, figure: Figure, size: int) -> bool:
    cpu_us = result.server_cpu_us_per_op + result.postgres_cpu_us_per_op
    if figure.cpu_ms:
        return cpu_us <= 1000 * figure.cpu_ms
    if figure.mb_per_s:
        return result.ops_per_s * size / 1e6 >= figure.mb_per_s
    return result.ops_per_s >= figure.ops_per_s


class Connections:
    """Kept-alive connections that send prepared requests, one at a time each."""

    def __init__(self, target: Target, token: str) -> None:
        parts = urlsplit(target.url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._prefix = f"{parts.path.rstrip('/')}/storage/v1"
        self._headers = {
            "Host": parts.netloc,
            "apikey": target.anon_key,
            "Authorization": f"Bearer {token}",
            "User-Agent": "harness-bench",
        }
        self._names = itertools.count()
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __aenter__(self) -> Connections:
        """Connect."""
        for _ in range(CONNECTIONS):
            stream = await asyncio.open_connection(*self._address, limit=2 * MIB)
            self._streams.append(stream)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the connections."""
        for _, writer in self._streams:
            writer.close()
            await writer.wait_closed()

    async def action(self, operation: str) -> tuple[int, int, Action]:
        """Return (requests a round, bytes of each, the round) for an operation."""
        read = f"/object/authenticated/{BUCKET}/{USER}"
        if operation == "fetch signed URL":
            signed = orjson.loads(await self.exchange(0, self._sign_request()))
            return 3200, 0, self._repeat_get(3200, signed["signedURL"])
        if operation == "resumable 50 MiB":
            return 4, RESUMED_BYTES, self._in_parallel(self._resume_one)
        if operation == "S3 multipart 50 MiB":
            return 4, RESUMED_BYTES, self._in_parallel(self._multipart_one)
        rounds: dict[str, tuple[int, int, Action]] = {
            "upload 4 KiB": (1600, 0, self.repeated(1600, self._uploads(SMALL))),
            "download 4 KiB": (3200, 0, self._repeat_get(3200, f"{read}/small")),
            "create signed URL": (
                3200,
                0,
                self.repeated(3200, _same(self._sign_request())),
            ),
            "list 100 of 10,000": (
                640,
                0,
                self.repeated(640, _same(self._list_request())),
            ),
            "upload 1 MiB": (128, MIB, self.repeated(128, self._uploads(LARGE))),
            "download 1 MiB": (320, MIB, self._repeat_get(320, f"{read}/large")),
        }
        return rounds[operation]

    def repeated(self, times: int, requests: Iterator[bytes]) -> Action:
        """Return an action that sends requests, shared among the connections."""
        share = times // CONNECTIONS

        async def send_share(index: int) -> int:
            for _ in range(share):
                await self.exchange(index, next(requests))
            return share

        async def action() -> int:
            shares = (send_share(index) for index in range(CONNECTIONS))
            return sum(await asyncio.gather(*shares))

        return action

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return a whole request, ready to send."""
        sent = {**self._headers, "Content-Length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        return f"{method} {self._prefix}{path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    async def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        await self.exchange(0, self.request("PUT", f"/object/{BUCKET}/{key}", body))

    async def exchange(self, index: int, request: bytes) -> bytes:
        """Send a request over connection ``index``; return the answer's body."""
        head, body = await self._exchange(index, request)
        if not head.startswith(b"HTTP/1.1 2"):
            raise HarnessError(f"storage answered {head[:12]!r}: {body[:200]!r}")
        return body

    async def _exchange(self, index: int, request: bytes) -> tuple[bytes, bytes]:
        reader, writer = self._streams[index]
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = CONTENT_LENGTH.search(head)
        return head, await reader.readexactly(int(length[1]) if length else 0)

    def _uploads(self, body: bytes) -> Iterator[bytes]:
        while True:
            key = f"{USER}/new/{next(self._names)}"
            yield self.request("POST", f"/object/{BUCKET}/{key}", body)

    def _repeat_get(self, times: int, path: str) -> Action:
        return self.repeated(times, _same(self.request("GET", path)))

    def _sign_request(self) -> bytes:
        return self._post_json(
            f"/object/sign/{BUCKET}/{USER}/small", {"expiresIn": 600}
        )

    def _list_request(self) -> bytes:
        body = {"prefix": f"{USER}/listed", "limit": 100, "offset": 0}
        return self._post_json(f"/object/list/{BUCKET}", body)

    def _post_json(self, path: str, body: Mapping[str, object]) -> bytes:
        told = {"Content-Type": "application/json"}
        return self.request("POST", path, orjson.dumps(body), told)

    def _in_parallel(self, upload_one: Callable[[int], Awaitable[None]]) -> Action:
        """Return an action of four uploads at once."""

        async def action() -> int:
            await asyncio.gather(*(upload_one(index) for index in range(4)))
            return 4

        return action

    async def _resume_one(self, index: int) -> None:
        """Upload in chunks of 6 MiB, as the clients do."""
        pairs = {"bucketName": BUCKET, "objectName": f"{USER}/tus/{next(self._names)}"}
        metadata = ",".join(
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in pairs.items()
        )
        version = {"Tus-Resumable": "1.0.0"}
        length = {"Upload-Length": str(RESUMED_BYTES), "Upload-Metadata": metadata}
        created = self.request("POST", "/upload/resumable", headers=version | length)
        head, body = await self._exchange(index, created)
        location = LOCATION.search(head)
        if location is None:
            raise HarnessError(f"storage answered {head[:40]!r}: {body[:200]!r}")
        path = f"/upload/resumable/{location[1].decode()}"
        for start in range(0, RESUMED_BYTES, CHUNK_BYTES):
            body = CHUNK[: min(CHUNK_BYTES, RESUMED_BYTES - start)]
            headers = version | {
                "Upload-Offset": str(start),
                "Content-Type": "application/offset+octet-stream",
            }
            await self.exchange(index, self.request("PATCH", path, body, headers))

    async def _multipart_one(self, index: int) -> None:
        """Upload in parts of 5 MiB."""
        path = f"/s3/{BUCKET}/{USER}/s3/{next(self._names)}"
        created = await self.exchange(index, self._signed("POST", path, "uploads="))
        upload_id = created.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
        query = f"uploadId={upload_id}"
        for number, start in enumerate(range(0, RESUMED_BYTES, PART_BYTES), start=1):
            body = CHUNK[: min(PART_BYTES, RESUMED_BYTES - start)]
            part = self._signed("PUT", path, f"partNumber={number}&{query}", body)
            await self.exchange(index, part)
        await self.exchange(index, self._signed("POST", path, query))

    def _signed(self, method: str, path: str, query: str, body: bytes = b"") -> bytes:
        keys = S3Keys()
        full = f"{self._prefix}{path}"
        host = self._headers["Host"]
        request = Request(method, full, query, {}, host)
        signed = sign(
            request,
            keys.access_key_id,
            keys.secret_access_key,
            keys.region,
            datetime.now(UTC),
        )
        return self.request(method, f"{path}?{query}", body, signed)


def _same(request: bytes) -> Iterator[bytes]:
    return itertools.repeat(request)
