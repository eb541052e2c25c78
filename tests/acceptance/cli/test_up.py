"""``harness up``, ``status`` and ``down`` as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

from harness.stack.registry import is_alive

DEADLINE_S = 30.0


@pytest.fixture
def up(environment) -> Iterator[subprocess.Popen[str]]:
    """Start ``harness up`` in the foreground and wait until it has told its keys."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "up", "-o", "env"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def variables_of(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    found: dict[str, str] = {}
    while "SUPABASE_SERVICE_ROLE_KEY" not in found:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        name, _, value = line.strip().partition("=")
        found[name] = value
    return found


def stacks(harness) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(harness("status", "--json").stdout)
    return listed


def test_printed_keys_open_the_printed_urls(up) -> None:
    told = variables_of(up)
    for key in (told["ANON_KEY"], told["PUBLISHABLE_KEY"]):
        answer = httpx.get(f"{told['API_URL']}/rest/v1/", headers={"apikey": key})
        assert answer.status_code == 200
    buckets = httpx.get(
        f"{told['API_URL']}/storage/v1/bucket",
        headers={
            "apikey": told["SECRET_KEY"],
            "Authorization": f"Bearer {told['SECRET_KEY']}",
        },
    )
    assert buckets.json() == []


def test_interrupt_stops_everything(up, harness) -> None:
    told = variables_of(up)
    up.send_signal(signal.SIGINT)
    assert up.wait(DEADLINE_S) == 0
    assert stacks(harness) == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(told["API_URL"])


def test_second_interrupt_leaves_nothing_running(up, harness, environment) -> None:
    variables_of(up)
    folder = environment["HARNESS_STATE_DIR"] + "/stacks"
    descriptor = json.loads(
        subprocess.run(
            ["sh", "-c", f"cat {folder}/*.json"], capture_output=True, check=True
        ).stdout
    )
    up.send_signal(signal.SIGINT)
    up.send_signal(signal.SIGINT)
    up.wait(DEADLINE_S)
    deadline = time.monotonic() + DEADLINE_S
    while any(is_alive(pid) for pid in descriptor["pids"].values()):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)
    assert stacks(harness) == []


def test_service_that_ends_by_itself_ends_the_command(up, environment) -> None:
    variables_of(up)
    folder = environment["HARNESS_STATE_DIR"] + "/stacks"
    listed = subprocess.run(
        ["sh", "-c", f"cat {folder}/*.json"], capture_output=True, check=True
    )
    os.kill(json.loads(listed.stdout)["pids"]["server"], signal.SIGKILL)
    assert up.wait(DEADLINE_S) == 3
    assert up.stderr is not None
    assert "error: server ended by itself with status -9" in up.stderr.read()


def test_detached_stack_runs_until_down(harness) -> None:
    told = json.loads(harness("up", "--detach", "--json").stdout)
    assert httpx.get(told["API_URL"]).status_code == 200
    assert [s["API_URL"] for s in stacks(harness)] == [told["API_URL"]]
    assert harness("down").stdout.startswith("stopped ")
    assert stacks(harness) == []


def test_two_stacks_have_ports_of_their_own(harness) -> None:
    first = json.loads(harness("up", "--detach", "--json", "--name", "one").stdout)
    second = json.loads(harness("up", "--detach", "--json", "--name", "two").stdout)
    assert first["API_URL"] != second["API_URL"]
    assert first["DB_URL"] != second["DB_URL"]
    assert harness("down", "one").returncode == 0
    assert httpx.get(second["API_URL"]).status_code == 200
    assert harness("down").returncode == 0


def test_taken_port_is_told(harness) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = harness("up", "--port", str(port))
    assert result.returncode == 3
    assert f"port {port} is taken" in result.stderr
    assert "--port" in result.stderr


def test_project_folder_of_migrations_is_applied(harness) -> None:
    told = json.loads(
        harness("up", "--detach", "--json", "--project", "sql/climber").stdout
    )
    try:
        answer = httpx.get(
            f"{told['API_URL']}/rest/v1/training_plans",
            headers={"apikey": told["SERVICE_ROLE_KEY"]},
        )
        assert answer.json() == []
    finally:
        harness("down")
