"""Reading the head of a request that asks for Realtime's socket.

Clients of one kind repeat their head word for word but for its ``Sec-WebSocket-Key``,
so what the rest says is read once and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from harness.servers.gateway import ABSOLUTE_FORM

__all__ = ["SOCKET_PATH", "Upgrade", "Upgrades", "is_socket_line"]

SOCKET_PATH: Final = "/realtime/v1/websocket"
KEY_NAME: Final = "sec-websocket-key"
KEY_LABELS: Final = (b"\r\nSec-WebSocket-Key: ", b"\r\nsec-websocket-key: ")
KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==(?=\r\n)")
KEPT_HEADS: Final = 512
KEPT_HEAD_BYTES: Final = 4 * 1024
REQUEST_LINE = re.compile(r"GET (\S+) HTTP/1\.1")
# Control characters are none of a header's: aiohttp refuses such a head in its words.
HEADER_LINE = re.compile(
    r"([!#$%&'*+.^_`|~\w-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", re.ASCII
)


class Upgrade(NamedTuple):
    """A request for the socket.

    ``key`` is its ``Sec-WebSocket-Key``, '' without one; ``headers`` are the others,
    names in lower case.
    """

    key: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Upgrades:
    """Parses heads and remembers what they say beside their key."""

    def __init__(self) -> None:
        self._known: dict[bytes, Upgrade] = {}

    def parse(self, head: bytes) -> Upgrade | None:
        """Return the request of ``head``, which ends with its blank line.

        ``None`` is for what asks for no socket, and for broken heads, which aiohttp
        refuses in its own words.
        """
        key, rest = _without_key(head)
        known = self._known.get(rest) if key else None
        if known is not None:
            return Upgrade(key, known.path, known.query, known.headers)
        upgrade = _parse(head)
        if upgrade is not None and upgrade.key == key:
            self._remember(rest, upgrade)
        return upgrade

    def _remember(self, rest: bytes, upgrade: Upgrade) -> None:
        if len(rest) <= KEPT_HEAD_BYTES:
            if len(self._known) >= KEPT_HEADS:
                self._known.clear()
            self._known[rest] = upgrade


def is_socket_line(line: bytes) -> bool:
    """Tell whether a request line asks for the socket's path."""
    return bool(_socket_target(line.decode("latin-1")))


def _without_key(head: bytes) -> tuple[str, bytes]:
    """Return the key of a usual head, and all but the key; '' where there is none."""
    for label in KEY_LABELS:
        start = head.find(label) + len(label)
        if start >= len(label) and KEY.match(head, start):
            return head[start : start + 24].decode(), head[:start] + head[start + 24 :]
    return "", head


def _parse(head: bytes) -> Upgrade | None:
    line, *lines = head.removesuffix(b"\r\n\r\n").decode("latin-1").split("\r\n")
    target = _socket_target(line)
    if not target:
        return None
    headers: dict[str, str] = {}
    for text in lines:
        header = HEADER_LINE.fullmatch(text)
        if header is None:
            return None
        headers[header[1].lower()] = header[2]
    if headers.get("upgrade", "").lower() != "websocket":
        return None
    path, _, query = target.partition("?")
    arguments = dict(parse_qsl(query, keep_blank_values=True))
    return Upgrade(headers.pop(KEY_NAME, ""), path, arguments, headers)


def _socket_target(line: str) -> str:
    """Return the target if the request line asks for the socket, else ''."""
    request = REQUEST_LINE.fullmatch(line)
    if request is None:
        return ""
    target = ABSOLUTE_FORM.sub("", request[1], count=1)
    return target if target.partition("?")[0].endswith(SOCKET_PATH) else ""
