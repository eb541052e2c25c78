"""aws-chunked bodies: chunks with a size, perhaps a signature, perhaps trailers.

Source: "Signature calculations for the Authorization header: transferring payload in
multiple chunks", with and without trailing headers.  Bytes come in as they arrive, data
comes out once its chunk's signature is good.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.errors import RemoteProtocolError

__all__ = [
    "DIGEST_HEADERS",
    "MODES",
    "Checksum",
    "ChecksumError",
    "ChunkDecoder",
    "ChunkSignatureError",
    "ChunkSigner",
]

MAX_CHUNK_BYTES: Final = 8 * 1024 * 1024
MAX_LINE_BYTES: Final = 4096
SIZE_LINE: Final = re.compile(
    rb"([0-9a-fA-F]{1,8})(?:;chunk-signature=([0-9a-f]{64}))?", re.ASCII
)
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
# What may come as a header already, before the data.
DIGEST_HEADERS: Final = (
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
    "content-md5",
)
CRC_BYTES: Final = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}
MODES: Final = frozenset({SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER})


@dataclass(slots=True)
class ChunkSigner:
    """The chain of chunk signatures: each covers the one before."""

    key: bytes
    timestamp: str
    scope: str
    previous: str

    def chunk(self, data: bytes) -> str:
        """Return the signature of the next chunk."""
        digest = hashlib.sha256(data).hexdigest()
        return self._next("PAYLOAD", f"{EMPTY_SHA256}\n{digest}")

    def trailer(self, lines: bytes) -> str:
        """Return the signature of the trailing headers."""
        return self._next("TRAILER", hashlib.sha256(lines).hexdigest())

    def _next(self, kind: str, hashes: str) -> str:
        text = "\n".join(
            [
                f"AWS4-HMAC-SHA256-{kind}",
                self.timestamp,
                self.scope,
                self.previous,
                hashes,
            ]
        )
        self.previous = hmac.digest(self.key, text.encode(), "sha256").hex()
        return self.previous


class Checksum:
    """Verifies an ``x-amz-checksum-*`` or ``Content-MD5`` value over the data.

    Those of S3 are computed; of one that S3 does not have only the form is checked.
    """

    def __init__(self) -> None:
        self._crc = 0
        self._crc_bytes = 0
        self._add: Callable[[bytes, int], int] | None = None
        self._digest: hashlib._Hash | None = None

    def expect(self, name: str) -> None:
        """Compute only what the header or trailer ``name`` will need."""
        name = name.lower().removeprefix("x-amz-checksum-")
        if name in ("sha1", "sha256"):
            self._digest = hashlib.new(name, usedforsecurity=False)
        elif name == "content-md5":
            self._digest = hashlib.md5(usedforsecurity=False)
        elif name in CRC_BYTES:
            self._crc_bytes = CRC_BYTES[name]
            self._add = _crc_function(name)

    def update(self, data: bytes) -> None:
        """Take data in."""
        if self._add is not None:
            self._crc = self._add(data, self._crc)
        elif self._digest is not None:
            self._digest.update(data)

    def matches(self, value: str) -> bool:
        """Whether ``value`` (base64) is the checksum of all data."""
        if self._add is not None:
            own = self._crc.to_bytes(self._crc_bytes, "big")
        elif self._digest is not None:
            own = self._digest.digest()
        else:
            return bool(value)
        return base64.b64encode(own).decode() == value


def _crc_function(name: str) -> Callable[[bytes, int], int]:
    if name == "crc32":
        return zlib.crc32
    # Loaded for the few clients that ask for these checksums.
    from anycrc import Model

    model = Model({"crc32c": "CRC32-ISCSI", "crc64nvme": "CRC64-NVME"}[name])

    def add(data: bytes, crc: int) -> int:
        value: int = model.calc(data, crc)
        return value

    return add


class ChunkDecoder:
    """Decodes one body; ``signer`` None means the chunks are not signed."""

    def __init__(
        self, mode: str, signer: ChunkSigner | None, trailer_names: str = ""
    ) -> None:
        self._signer = None if mode == UNSIGNED_TRAILER else signer
        self._wants_trailer = mode != SIGNED
        self._checksum = Checksum()
        self._trailer_name = trailer_names.strip().lower()
        if self._trailer_name:
            self._checksum.expect(self._trailer_name)
        self._buffer = bytearray()
        self._size: int | None = None
        self._signature = ""
        self._in_trailer = False
        self._trailer: list[bytes] = []
        self.is_complete = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes of the body; return the data that they complete."""
        self._buffer += data
        out: list[bytes] = []
        while not self.is_complete and self._step(out):
            pass
        if self.is_complete and self._buffer:
            raise RemoteProtocolError("bytes after the last chunk")
        return out

    def end(self) -> None:
        """Say that no more bytes come."""
        if not self.is_complete:
            raise RemoteProtocolError("the chunked body ended too early")

    def _step(self, out: list[bytes]) -> bool:
        """Take one line or one chunk off the buffer; False if it is not all there."""
        if self._in_trailer:
            return self._take_trailer_line()
        if self._size is None:
            return self._take_size_line()
        if len(self._buffer) < self._size + 2:
            return False
        data = bytes(self._buffer[: self._size])
        if self._buffer[self._size : self._size + 2] != b"\r\n":
            raise RemoteProtocolError("a chunk does not end with its length")
        del self._buffer[: self._size + 2]
        self._verify(data)
        self._size = None
        out.append(data)
        return True

    def _take_size_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = SIZE_LINE.fullmatch(line)
        if match is None or (self._signer is not None and match[2] is None):
            raise RemoteProtocolError("not a chunk header")
        size = int(match[1], 16)
        if size > MAX_CHUNK_BYTES:
            raise RemoteProtocolError("a chunk is longer than 8 MiB")
        self._signature = (match[2] or b"").decode()
        if size:
            self._size = size
        else:
            self._verify(b"")
            self._in_trailer = True
        return True

    def _take_trailer_line(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            self._trailer.append(line)
            return True
        self._check_trailer()
        self.is_complete = True
        return True

    def _check_trailer(self) -> None:
        if not self._wants_trailer:
            return
        values: dict[str, str] = {}
        signed = b""
        for line in self._trailer:
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() != "x-amz-trailer-signature":
                signed += f"{name.strip().lower()}:{value.strip()}\n".encode()
            values[name.strip().lower()] = value.strip()
        if self._trailer_name and self._trailer_name not in values:
            raise RemoteProtocolError("the announced trailer is missing")
        if self._signer is not None:
            expected = self._signer.trailer(signed)
            given = values.get("x-amz-trailer-signature", "")
            if not hmac.compare_digest(given, expected):
                raise ChunkSignatureError("the trailer's signature does not match")
        if self._trailer_name and not self._checksum.matches(
            values[self._trailer_name]
        ):
            raise ChecksumError("the checksum of the data does not match")

    def _verify(self, data: bytes) -> None:
        self._checksum.update(data)
        if self._signer is None:
            return
        if not hmac.compare_digest(self._signer.chunk(data), self._signature):
            raise ChunkSignatureError("a chunk's signature does not match")

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE_BYTES:
                raise RemoteProtocolError("a chunk header is too long")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


class ChunkSignatureError(RemoteProtocolError):
    """A chunk or the trailer is not signed by the request's key."""


class ChecksumError(RemoteProtocolError):
    """The data is not what its checksum says."""
