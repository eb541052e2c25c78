"""A throw-away server: starting, its settings, and leaving nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from harness.db.account import server_account
from harness.db.cluster import Cluster, ClusterOptions, prepare_cluster
from harness.db.discovery import PostgresInstallation
from harness.db.launch import (
    LaunchPlan,
    end_server,
    probe,
    spawn_server,
    wait_until_ready,
)
from harness.db.rundir import RUN_PREFIX, RunDir, run_roots, sweep
from harness.errors import NotReadyError, StackError

DEADLINE_S = 20.0


@pytest.fixture
def run_root() -> Iterator[Path]:
    """Make a folder for run folders that the server's account may pass through.

    Not ``tmp_path``: that is closed to other accounts, and too long for the path of a
    Unix socket, which is limited to about a hundred bytes.
    """
    with tempfile.TemporaryDirectory(dir=run_roots()[0]) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def options(run_root: Path) -> ClusterOptions:
    return ClusterOptions(run_root=run_root)


def segments() -> set[str]:
    """Return the ids of the System V shared memory segments of the machine."""
    table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {row.split()[1] for row in table}


def eventually(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, a few seconds at most."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        return False


def segment_of(plan: LaunchPlan) -> str:
    lines = Path(plan.data_dir, "postmaster.pid").read_text().splitlines()
    return lines[6].split()[1]


async def test_server_has_the_settings_of_the_stack(
    postgres_installation: PostgresInstallation, options: ClusterOptions
) -> None:
    with Cluster.start(postgres_installation, options) as cluster:
        connection = await asyncpg.connect(
            **cluster.address().connect_args("supabase_admin")
        )
        names = (
            "wal_level",
            "synchronous_commit",
            "fsync",
            "full_page_writes",
            "jit",
            "max_connections",
            "max_wal_senders",
            "max_replication_slots",
        )
        seen = {n: await connection.fetchval(f"show {n}") for n in names}
        await connection.close()
    assert seen == {
        "wal_level": "logical", "synchronous_commit": "on", "fsync": "off",
        "full_page_writes": "off", "jit": "off", "max_connections": "300",
        "max_wal_senders": "64", "max_replication_slots": "64",
    }  # fmt: skip


async def test_full_durability_keeps_fsync_on(
    postgres_installation: PostgresInstallation, run_root: Path
) -> None:
    options = ClusterOptions(
        run_root=run_root, durability="full", settings={"work_mem": "7MB"}
    )
    with Cluster.start(postgres_installation, options) as cluster:
        connection = await asyncpg.connect(
            **cluster.address().connect_args("supabase_admin")
        )
        shown = [
            await connection.fetchval(f"show {name}")
            for name in ("fsync", "full_page_writes", "synchronous_commit", "work_mem")
        ]
        await connection.close()
    assert shown == ["on", "on", "on", "7MB"]


def test_server_runs_as_an_unprivileged_account(
    postgres_installation: PostgresInstallation, options: ClusterOptions
) -> None:
    with Cluster.start(postgres_installation, options) as cluster:
        owner = os.stat(f"/proc/{cluster.pid}").st_uid
        assert owner != 0
        account = server_account()
        assert owner == (os.getuid() if account is None else account.uid)
        assert Path(cluster.plan.data_dir).stat().st_mode & 0o077 == 0
        assert Path(cluster.plan.socket_dir).stat().st_mode & 0o077 == 0


def test_stopping_leaves_nothing(
    postgres_installation: PostgresInstallation, options: ClusterOptions, run_root: Path
) -> None:
    cluster = Cluster.start(postgres_installation, options)
    pid, port, segment = cluster.pid, cluster.port, segment_of(cluster.plan)
    assert segment in segments()
    cluster.stop()
    cluster.stop()
    assert not is_alive(pid)
    assert list(run_root.iterdir()) == []
    assert segment not in segments()
    with socket.socket() as attempt:
        assert attempt.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_two_servers_live_side_by_side(
    postgres_installation: PostgresInstallation, options: ClusterOptions
) -> None:
    with (
        Cluster.start(postgres_installation, options) as one,
        Cluster.start(postgres_installation, options) as two,
    ):
        assert one.port != two.port
        assert probe(one.plan) is None
        assert probe(two.plan) is None


def test_plan_survives_json_and_runs_elsewhere(
    postgres_installation: PostgresInstallation, options: ClusterOptions
) -> None:
    run_dir, plan = prepare_cluster(postgres_installation, options)
    copy = LaunchPlan.from_json(plan.to_json())
    assert copy == plan
    server = spawn_server(copy)
    try:
        wait_until_ready(copy, server, timeout_s=DEADLINE_S)
    finally:
        end_server(server, clean=True)
        run_dir.remove()
    assert server.returncode == 0


def test_taken_port_is_an_error_that_says_so(
    postgres_installation: PostgresInstallation, run_root: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options = ClusterOptions(run_root=run_root, port=taken.getsockname()[1])
        with pytest.raises(StackError) as caught:
            Cluster.start(postgres_installation, options)
    assert "Address already in use" in caught.value.log_tail
    assert list(run_root.iterdir()) == []


def test_bad_setting_shows_the_servers_own_words(
    postgres_installation: PostgresInstallation, run_root: Path
) -> None:
    options = ClusterOptions(run_root=run_root, settings={"shared_buffers": "many"})
    with pytest.raises(StackError, match="while starting") as caught:
        Cluster.start(postgres_installation, options)
    assert "shared_buffers" in caught.value.log_tail
    assert list(run_root.iterdir()) == []


def test_server_that_never_answers_is_given_up_and_removed(
    postgres_installation: PostgresInstallation, run_root: Path
) -> None:
    options = ClusterOptions(run_root=run_root, ready_timeout_s=0.0)
    with pytest.raises(NotReadyError) as caught:
        Cluster.start(postgres_installation, options)
    assert caught.value.service == "postgres"
    assert caught.value.last_seen
    assert list(run_root.iterdir()) == []


def test_killed_parent_takes_its_server_along(
    postgres_installation: PostgresInstallation, run_root: Path
) -> None:
    parent = _start_in_a_child(postgres_installation, run_root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not is_alive(pid))
    # The folder is left, and the next start clears it.
    assert len(list(run_root.iterdir())) == 1
    assert len(sweep([run_root])) == 1
    assert list(run_root.iterdir()) == []


def test_leftovers_of_a_power_cut_are_cleared_at_the_next_start(
    postgres_installation: PostgresInstallation, options: ClusterOptions, run_root: Path
) -> None:
    run_dir, plan = prepare_cluster(postgres_installation, options)
    server = spawn_server(plan, die_with_parent=False)
    wait_until_ready(plan, server, timeout_s=DEADLINE_S)
    segment = segment_of(plan)
    assert segment in segments()
    server.kill()
    server.wait()
    run_dir.release()
    with Cluster.start(postgres_installation, options) as cluster:
        assert [p.name for p in run_root.iterdir()] == [Path(cluster.plan.run_dir).name]
        eventually(lambda: segment not in segments())


def test_orphaned_server_is_ended_by_the_sweep(
    postgres_installation: PostgresInstallation, options: ClusterOptions, run_root: Path
) -> None:
    run_dir, plan = prepare_cluster(postgres_installation, options)
    server = spawn_server(plan, die_with_parent=False)
    wait_until_ready(plan, server, timeout_s=DEADLINE_S)
    assert sweep([run_root]) == [], "held folders are left alone"
    assert probe(plan) is None
    run_dir.release()
    assert sweep([run_root]) == [run_dir.path]
    assert server.wait(DEADLINE_S) == 0
    assert list(run_root.iterdir()) == []


def test_sweep_leaves_strangers_alone(run_root: Path) -> None:
    (run_root / "other").mkdir()
    fresh = run_root / f"{RUN_PREFIX}fresh"
    fresh.mkdir()
    held = RunDir.create(run_root)
    assert sweep([run_root]) == []
    assert fresh.is_dir(), "a folder whose maker has not locked it yet"
    # An id that was used again by a process that is no server of ours.
    bystander = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE
    )
    (held.path / "data").mkdir()
    (held.path / "data" / "postmaster.pid").write_text(f"{bystander.pid}\n/x\n")
    held.release()
    assert sweep([run_root]) == [held.path]
    assert bystander.poll() is None
    bystander.communicate(b"\n")


def test_full_disk_is_named(
    postgres_installation: PostgresInstallation, small_disk: Path
) -> None:
    options = ClusterOptions(run_root=small_disk)
    with pytest.raises(StackError, match="is full") as caught:
        Cluster.start(postgres_installation, options)
    assert "TMPDIR" in (caught.value.hint or "")
    assert list(small_disk.iterdir()) == []


def test_read_only_disk_is_named(
    postgres_installation: PostgresInstallation, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StackError, match="is read-only"):
        Cluster.start(postgres_installation, ClusterOptions(run_root=small_disk))


def test_full_cache_disk_only_costs_time(
    postgres_installation: PostgresInstallation, run_root: Path, small_disk: Path
) -> None:
    options = ClusterOptions(run_root=run_root, cache_dir=small_disk)
    with Cluster.start(postgres_installation, options) as cluster:
        assert probe(cluster.plan) is None
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def small_disk(run_root: Path) -> Iterator[Path]:
    """Mount a file system of 8 MiB, if we may mount one."""
    disk = run_root / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", disk],
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def _start_in_a_child(
    installation: PostgresInstallation, run_root: Path
) -> subprocess.Popen[bytes]:
    script = (
        "import sys, signal; from pathlib import Path;"
        "from harness.db.cluster import Cluster, ClusterOptions;"
        "from harness.db.discovery import find_postgres;"
        "c = Cluster.start(find_postgres(sys.argv[1]),"
        " ClusterOptions(run_root=Path(sys.argv[2])));"
        "print(c.pid, flush=True); signal.pause()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(installation.bin_dir), str(run_root)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
