"""The server process: how it starts, is controlled, and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.db.address import DatabaseAddress
from harness.protocols.jwt import ProjectKeys

DEADLINE_S = 15.0
SECRET = "control secret of this test"
StartServer = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start_server(
    tmp_path: Path, platform_database: DatabaseAddress
) -> Iterator[StartServer]:
    """Start server processes; what still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, projects: Any = ()) -> tuple[subprocess.Popen[bytes], str]:
        spec = {
            "host": "127.0.0.1",
            "port": 0,
            "control_secret": SECRET,
            "objects_root": str(tmp_path / "objects"),
            "postgres": {
                "host": platform_database.host,
                "port": platform_database.port,
                "password": platform_database.password,
            },
            "durability": "fast",
            "projects": list(projects),
            "access_log": None,
        }
        path = tmp_path / "spec.json"
        path.write_text(json.dumps(spec))
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.servers", "--spec", str(path), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["event"] == "ready"
        return process, f"http://127.0.0.1:{ready['port']}"

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        with process:  # waits and closes the pipes
            pass


def test_it_announces_itself_and_ends_on_a_signal(start_server: StartServer) -> None:
    process, url = start_server(projects=[{"ref": "default", "dbname": "postgres"}])
    assert httpx.get(f"{url}/auth/v1/health").status_code == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, b"")


def test_it_ends_with_open_connections(
    start_server: StartServer, platform_database: DatabaseAddress
) -> None:
    record = {"ref": "default", "dbname": platform_database.dbname}
    process, url = start_server(projects=[record])
    with httpx.Client(base_url=url) as client:
        assert client.post("/auth/v1/signup", json={}).status_code in (200, 500)
        assert client.get("/rest-admin/v1/ready").status_code == 200
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, b"")
    assert time.monotonic() - began_s < 5


def test_it_ends_with_its_parent_when_asked_to(start_server: StartServer) -> None:
    process, _ = start_server("--exit-with-parent")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(DEADLINE_S) == 0


def test_a_broken_specification_is_told(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text("{}")
    done = subprocess.run(
        [sys.executable, "-m", "harness.servers", "--spec", str(path)],
        capture_output=True,
        timeout=DEADLINE_S,
        env=os.environ,
        check=False,
    )
    assert done.returncode != 0
    assert b"access_log" in done.stderr


def test_control_needs_its_secret(start_server: StartServer) -> None:
    _, url = start_server(projects=[{"ref": "default", "dbname": "postgres"}])
    for header in ({}, {"Authorization": "Bearer guess"}, {"apikey": SECRET}):
        for method, path in (
            ("GET", "/_harness/status"),
            ("POST", "/_harness/projects"),
            ("DELETE", "/_harness/projects/default"),
        ):
            response = httpx.request(method, url + path, headers=header)
            assert response.status_code == 401


def test_control_registers_shows_and_removes(start_server: StartServer) -> None:
    _, url = start_server()
    bearer = {"Authorization": f"Bearer {SECRET}"}
    with httpx.Client(base_url=url, headers=bearer) as client:
        record = {"ref": "one", "dbname": "db1", "settings": {"auth": {"x": 1}}}
        made = client.post("/_harness/projects", json=record)
        shown = {"ref": "one", "url": f"{url}/p/one", "dbname": "db1", "running": []}
        assert (made.status_code, made.json()) == (201, shown)
        assert client.post("/_harness/projects", json=record).status_code == 409
        assert client.get("/p/one/auth/v1/health").status_code == 200
        shown["running"] = ["auth"]
        assert client.get("/_harness/projects/one").json() == shown
        status = client.get("/_harness/status").json()
        assert status["projects"] == [shown]
        assert client.delete("/_harness/projects/one").status_code == 204
        assert client.delete("/_harness/projects/one").status_code == 404
        assert client.get("/p/one/auth/v1/health").status_code == 404
        assert client.get("/_harness/elsewhere").status_code == 404


@pytest.mark.parametrize(
    "record",
    [
        {},
        [],
        {"ref": "a"},
        {"ref": "../x", "dbname": "d"},
        {"ref": "a b", "dbname": "d"},
        {"ref": "ä", "dbname": "d"},
        {"ref": "a", "dbname": 7},
        {"ref": "a", "dbname": "d", "keys": {"unknown": 1}},
        {"ref": "a", "dbname": "d", "settings": {"mail": {}}},
    ],
)
def test_control_refuses_what_is_no_project(
    start_server: StartServer, record: Any
) -> None:
    _, url = start_server()
    bearer = {"Authorization": f"Bearer {SECRET}"}
    response = httpx.post(f"{url}/_harness/projects", json=record, headers=bearer)
    assert response.status_code == 400
    assert response.json()["message"]


def test_a_lost_database_is_unavailable_not_a_fault(start_server: StartServer) -> None:
    record = {"ref": "default", "dbname": "no_such_database"}
    _, url = start_server(projects=[record])
    key = {"apikey": ProjectKeys().secret_key}
    for path in ("/auth/v1/admin/users", "/rest-admin/v1/ready"):
        response = httpx.get(url + path, headers=key)
        assert response.status_code == 503
        assert response.json()["message"] == "the database does not answer"
