"""Reading the head of a request far enough to tell whose connection it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.servers.access_log import AccessLog
from harness.servers.upgrades import Upgrade, Upgrades

GOOD = (
    b"GET /p/x/realtime/v1/websocket?a=1 HTTP/1.1\r\n"
    b"Host: y\r\nUpgrade: WebSocket\r\nX-Name:  two words \r\n\r\n"
)


def test_a_websocket_request_is_its_target_and_headers() -> None:
    assert Upgrades().parse(GOOD) == Upgrade(
        "",
        "/p/x/realtime/v1/websocket",
        {"a": "1"},
        {"host": "y", "upgrade": "WebSocket", "x-name": "two words"},
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET ", b"POST "),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"/websocket?", b"/websockets?"),
        (b"Upgrade: WebSocket", b"Upgrade: h2c"),
        (b"Upgrade: WebSocket", b"Connection: keep-alive"),
        (b"Host: y", b"no header"),
        (b"Host: y", b"Host : y"),
        (b"Host: y", b" Host: y"),
        (b"Host: y", b"Host: y\0z"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_anything_else_is_left_to_the_http_server(old: bytes, new: bytes) -> None:
    assert old in GOOD
    assert Upgrades().parse(GOOD.replace(old, new)) is None


def test_the_absolute_form_is_understood() -> None:
    head = GOOD.replace(b"GET /p", b"GET http://host:80/p")
    parsed = Upgrades().parse(head)
    assert parsed is not None
    assert parsed[1:3] == ("/p/x/realtime/v1/websocket", {"a": "1"})


@given(st.binary())
def test_no_bytes_break_the_reading(data: bytes) -> None:
    Upgrades().parse(data)
    Upgrades().parse(GOOD[:-2] + data)


def test_a_head_that_was_seen_differs_by_its_key_alone() -> None:
    upgrades = Upgrades()
    for name in ("Sec-WebSocket-Key", "sec-websocket-key"):
        for letter in "ABA":
            head = GOOD[:-2] + f"{name}: {letter * 22}==\r\n\r\n".encode()
            found, fresh = upgrades.parse(head), Upgrades().parse(head)
            assert found == fresh
            assert found is not None
            assert found.key == letter * 22 + "=="
    twice = GOOD[:-2] + b"Sec-WebSocket-Key: %b==\r\n" * 2 + b"\r\n"
    for pair in ((b"A", b"B"), (b"C", b"D")):
        head = twice % (pair[0] * 22, pair[1] * 22)
        assert upgrades.parse(head) == Upgrades().parse(head)


def test_records_are_lines_and_the_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    for number in range(2):
        log = AccessLog(path)
        assert log.enabled
        log.write({"n": number, "text": "two\nlines"})
        log.close()
        log.write({"n": "after the end"})
    lines = path.read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [0, 1]
    assert path.stat().st_mode & 0o077 == 0


def test_bytes_that_are_no_text_leave_a_line_too(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    log.write({"user_agent": b"a\xff".decode("utf-8", "surrogateescape")})
    log.close()
    line = (tmp_path / "access.log").read_text()
    assert json.loads(line) == {"user_agent": "a\udcff"}


def test_without_a_path_the_log_is_off() -> None:
    log = AccessLog()
    assert not log.enabled
    log.write({"n": 1})
    log.close()
