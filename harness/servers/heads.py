"""Reading the head of an HTTP/1.1 request, strictly and without waiting.

:meth:`Heads.parse` understands the plain requests that clients send all day: a known
method, a path, no body or one of a told length.  Whatever else a head may hold (broken
lines, chunked bodies, other versions, repeated headers) is ``None``: aiohttp's parser
has the say then.  A client repeats its headers word for word, so a block of them that
was seen before is not read again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from multidict import CIMultiDict, CIMultiDictProxy

__all__ = ["HEAD_LIMIT_BYTES", "Fields", "Head", "Heads", "begins_a_head"]

HEAD_LIMIT_BYTES: Final = 64 * 1024
HEADER_LIMIT: Final = 100
KEPT_BLOCKS: Final = 512  # blocks of headers that are not read again
KEPT_BLOCK_BYTES: Final = 8 * 1024
BEGINNING_BYTES: Final = 256  # of an unfinished request line that are looked at

REQUEST_LINE = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[!\"$-~]*) HTTP/1\.1"
)
BEGINNING = re.compile(rb"[A-Z]{1,7}(?: [!-~]*(?: [HTP/1.]*)?)?\r?")
BLOCK = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
# Where these decide how a message is framed or answered, aiohttp decides.
UNUSUAL = ("Transfer-Encoding", "Upgrade", "Expect", "Trailer", "TE")


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """What the headers of a request say; ``length`` is that of the body.

    Requests with the same block of headers share one, so that what follows from the
    headers alone can be kept by it.
    """

    headers: CIMultiDictProxy[str]
    raw: tuple[tuple[bytes, bytes], ...]
    length: int
    closes: bool


class Head(NamedTuple):
    """A request without its body."""

    method: str
    target: str
    fields: Fields


class Heads:
    """Parses heads and remembers blocks of headers."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, Fields | None] = {}

    def parse(self, head: bytes) -> Head | None:
        """Return the request of ``head``, which ends with the last header's CRLF."""
        line, _, block = head.partition(b"\r\n")
        request = REQUEST_LINE.fullmatch(line)
        if request is None:
            return None
        if block in self._blocks:
            fields = self._blocks[block]
        else:
            fields = _fields(block)
            if len(block) <= KEPT_BLOCK_BYTES:
                if len(self._blocks) >= KEPT_BLOCKS:
                    self._blocks.clear()
                self._blocks[block] = fields
        if fields is None:
            return None
        return Head(request[1].decode(), request[2].decode(), fields)


def begins_a_head(data: bytes) -> bool:
    """Tell whether ``data``, a head without its end, may become a plain request's."""
    if len(data) > HEAD_LIMIT_BYTES:
        return False
    line, ended, _ = data.partition(b"\r\n")
    if ended:
        return REQUEST_LINE.fullmatch(line) is not None
    return not line or BEGINNING.fullmatch(line[:BEGINNING_BYTES]) is not None


def _fields(block: bytes) -> Fields | None:
    if BLOCK.fullmatch(block) is None:
        return None
    pairs = [
        (name, value.strip(b" \t"))
        for name, _, value in (line.partition(b":") for line in block.split(b"\r\n"))
        if name
    ]
    headers = CIMultiDict(
        (name.decode(), value.decode("utf-8", "surrogateescape"))
        for name, value in pairs
    )
    repeated = len({name.lower() for name, _ in pairs}) != len(pairs)
    if (
        repeated
        or len(pairs) > HEADER_LIMIT
        or any(name in headers for name in UNUSUAL)
    ):
        return None
    if "Host" not in headers:
        return None
    connection = headers.get("Connection", "keep-alive").lower()
    length = headers.get("Content-Length", "0")
    if connection not in ("keep-alive", "close") or LENGTH.fullmatch(length) is None:
        return None
    proxy = CIMultiDictProxy(headers)
    return Fields(proxy, tuple(pairs), int(length), connection == "close")
