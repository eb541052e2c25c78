"""Faults of real processes and of a real small disk."""

import asyncio
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.faults import LocalSite, SmallDisk, inject, parse_fault
from harness.faults.disk import fill_disk, free_bytes
from harness.faults.processes import is_running

COUNT = "import itertools, sys\nfor i in itertools.count(): print(i, flush=True)"


@pytest.fixture
def counter() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that prints numbers without end."""
    child = subprocess.Popen([sys.executable, "-c", COUNT], stdout=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid: int, states: str) -> None:
    deadline_s = time.monotonic() + 10
    while state_of(pid) not in states:
        assert time.monotonic() < deadline_s, f"state {state_of(pid)}, not {states}"


def test_kill_ends_the_process_before_the_block_begins(counter) -> None:
    async def main() -> None:
        site = LocalSite(services={"counter": [counter.pid]})
        async with inject(parse_fault("kill:counter"), site):
            assert not is_running(counter.pid)

    asyncio.run(main())
    assert counter.wait() == -9


def test_pause_stops_the_process_and_lets_it_go_on(counter) -> None:
    async def main() -> None:
        site = LocalSite(services={"counter": [counter.pid]})
        async with inject(parse_fault("pause:counter"), site):
            wait_for_state(counter.pid, "T")

    asyncio.run(main())
    wait_for_state(counter.pid, "RSD")


def test_killing_what_has_ended_already_is_no_error(counter) -> None:
    counter.kill()
    counter.wait()

    async def main() -> None:
        site = LocalSite(services={"counter": [counter.pid]})
        async with inject(parse_fault("kill:counter"), site):
            assert not is_running(counter.pid)

    asyncio.run(main())


def test_an_unknown_service_gets_the_nearest_name() -> None:
    async def main() -> None:
        async with inject(parse_fault("kill:postgre"), LocalSite({"postgres": [1]})):
            raise AssertionError("nothing may be injected")

    with pytest.raises(UsageError) as caught:
        asyncio.run(main())
    assert caught.value.hint == "did you mean 'postgres'?"


@pytest.fixture
def disk() -> Iterator[Path]:
    """Mount a small disk, where that is allowed."""
    if os.geteuid():
        pytest.skip("mounting a small disk needs root")
    with SmallDisk(4 * 1024**2) as small:
        yield small.path


def test_a_full_disk_refuses_writes_and_is_free_again_afterwards(disk: Path) -> None:
    async def main() -> None:
        async with inject(parse_fault("disk-full:d"), LocalSite(disks={"d": disk})):
            assert free_bytes(disk) == 0
            with pytest.raises(OSError) as caught:  # noqa: PT011 - judged by errno
                (disk / "file").write_bytes(b"x" * 8192)
            assert caught.value.errno == errno.ENOSPC

    asyncio.run(main())
    (disk / "file").write_bytes(b"x" * 8192)


def test_a_nearly_full_disk_keeps_the_room_that_was_asked_for(disk: Path) -> None:
    fill_disk(disk, leave_bytes=64 * 1024)
    assert 0 < free_bytes(disk) <= 64 * 1024
    (disk / "file").write_bytes(b"x" * 4096)


def test_a_large_disk_is_never_filled(tmp_path: Path) -> None:
    if free_bytes(tmp_path) < 2 * 1024**3:
        pytest.skip("the temporary folder is on a small disk")
    with pytest.raises(UsageError, match="too many to fill on purpose"):
        fill_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []
