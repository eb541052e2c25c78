"""Heads of plain requests: read as aiohttp's own parser reads them, or left to it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from harness.servers.heads import HEAD_LIMIT_BYTES, Heads, begins_a_head

GOOD = (
    b"POST /rest/v1/t?select=a,b&c=eq.%20x HTTP/1.1\r\n"
    b"Host: localhost:1\r\nContent-Length: 12\r\nX-Name:  two words \r\n"
)


def aiohttp_reads(data: bytes) -> RawRequestMessage | None:
    """Return what aiohttp's parser makes of a whole head, None if it refuses."""
    loop = asyncio.new_event_loop()
    try:
        parser: Any = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(data)
    except HttpProcessingError:
        return None
    finally:
        loop.close()
    return cast(RawRequestMessage, messages[0][0]) if messages else None


def test_a_plain_request_is_its_method_target_and_headers() -> None:
    head = Heads().parse(GOOD)
    assert head is not None
    assert (head.method, head.target) == ("POST", "/rest/v1/t?select=a,b&c=eq.%20x")
    assert (head.fields.length, head.fields.closes) == (12, False)
    assert head.fields.headers["x-name"] == "two words"


def test_headers_that_were_seen_are_not_read_again() -> None:
    heads = Heads()
    first = heads.parse(GOOD)
    second = heads.parse(GOOD.replace(b"/rest/v1/t", b"/auth/v1/user"))
    assert first is not None
    assert second is not None
    assert second.fields is first.fields
    assert second.target != first.target


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"POST", b"CONNECT"),
        (b"POST", b"post"),
        (b"/rest", b"http://x/rest"),
        (b"/rest", b"/r#st"),
        (b"/rest", b"/r\xc3\xa9st"),
        (b"/rest", b"/r st"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"HTTP/1.1", b"HTTP/1.1 "),
        (b"Content-Length: 12", b"Content-Length: +12"),
        (b"Content-Length: 12", b"Content-Length: 1 2"),
        (b"Content-Length: 12", b"Content-Length:"),
        (b"Content-Length: 12", b"Content-Length: 12\r\ncontent-length: 13"),
        (b"Content-Length: 12", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 12", b"Transfer-Encoding : chunked"),
        (b"X-Name:", b"Upgrade:"),
        (b"X-Name:", b"Expect:"),
        (b"X-Name:", b"Connection:"),
        (b"X-Name:", b"Host:"),
        (b"X-Name:", b"X Name:"),
        (b"X-Name:", b" X-Name:"),
        (b"two words", b"two\nwords"),
        (b"two words", b"two\rwords"),
        (b"two words", b"two\0words"),
        (b"two words", b"two\r\n words"),
        (b"X-Name:  two words", b"no colon"),
    ],
)
def test_anything_unusual_is_left_to_aiohttp(old: bytes, new: bytes) -> None:
    assert old in GOOD
    assert Heads().parse(GOOD.replace(old, new, 1)) is None


framing = ("Host", "Content-Length", "content-length", "Connection", "Host")
others = ("X-A", "x-b", "Transfer-Encoding", "Ho st", "Authorization", "\xe9")
names = st.sampled_from(framing) | st.sampled_from(others)
values = st.one_of(
    st.sampled_from(["close", "keep-alive", "7", "0", "chunked", "007", "-1", "1, 1"]),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
targets = st.one_of(
    st.just("/rest/v1/t"),
    st.text(st.characters(max_codepoint=255), max_size=12).map("/".__add__),
)


@given(
    st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "TRACE"]),
    targets,
    st.lists(st.tuples(names, values), max_size=5),
    st.sampled_from(["\r\n", "\r\n", "\n", "\r\n\t"]),
)
def test_what_is_understood_is_understood_as_aiohttp_does(
    method: str, target: str, headers: list[tuple[str, str]], end: str
) -> None:
    lines = [f"{method} {target} HTTP/1.1\r\n", *(f"{k}: {v}{end}" for k, v in headers)]
    data = "".join(lines).encode("latin-1")
    if b"\r\n\r\n" in data:
        return  # the head would end there
    ours = Heads().parse(data)
    if ours is None:
        return
    theirs = aiohttp_reads(data + b"\r\n")
    assert theirs is not None
    assert (ours.method, ours.target) == (theirs.method, theirs.path)
    assert list(ours.fields.headers.items()) == list(theirs.headers.items())
    assert ours.fields.length == int(theirs.headers.get("Content-Length", "0"))
    assert ours.fields.closes == theirs.should_close
    assert not theirs.chunked
    assert not theirs.upgrade


@pytest.mark.parametrize("size", range(len(GOOD) - 1))
def test_every_beginning_of_a_head_is_waited_for(size: int) -> None:
    assert begins_a_head(GOOD[:size])


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01",
        b"get / HTTP/1.1",
        b"NONSENSE\r\n",
        b"\r\n",
        b"GET / HTTP/1.0\r\n",
        b"GET /" + b"a" * HEAD_LIMIT_BYTES,
    ],
)
def test_what_can_become_no_plain_head_is_not_waited_for(data: bytes) -> None:
    assert not begins_a_head(data)


@given(st.binary())
def test_no_bytes_break_the_reading(data: bytes) -> None:
    Heads().parse(data)
    Heads().parse(GOOD + data)
    begins_a_head(data)
