"""CPU time and memory of processes, read from Linux's ``/proc``.

Live threads are read from ``schedstat`` (nanoseconds), exited ones from the counters
of ``stat`` (clock ticks).  The children of PostgreSQL's postmaster come and go: what
an exited backend used is added to its parent's child time when it is reaped, so that
the sum over the tree never loses any.  Where ``/proc`` is not to be had, everything
reads as 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.load.target import Target

__all__ = ["CpuMeter", "CpuUse", "process_tree", "tree_cpu_s", "tree_rss_mib"]

PROC = Path("/proc")
NS = 1e-9
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU seconds used between two readings, and resident memory at the second."""

    wall_s: float
    server_s: float
    postgres_s: float
    generator_s: float
    server_rss_mib: float


class CpuMeter:
    """Reads the CPU of a target's processes and of this process since its start."""

    def __init__(self, target: Target) -> None:
        self._servers = target.server_pids
        self._postgres = (target.postgres_pid,) if target.postgres_pid else ()
        self.restart()

    def restart(self) -> None:
        """Begin to count from now."""
        self._wall_s = time.monotonic()
        self._server_s = tree_cpu_s(self._servers)
        self._postgres_s = tree_cpu_s(self._postgres)
        self._generator_s = time.process_time()

    def read(self) -> CpuUse:
        """Return what was used since the start; the count goes on.

        A process that has ended meanwhile reads as 0 (see :meth:`ended`).
        """
        return CpuUse(
            wall_s=time.monotonic() - self._wall_s,
            server_s=max(0.0, tree_cpu_s(self._servers) - self._server_s),
            postgres_s=max(0.0, tree_cpu_s(self._postgres) - self._postgres_s),
            generator_s=time.process_time() - self._generator_s,
            server_rss_mib=tree_rss_mib(self._servers),
        )

    def ended(self) -> list[int]:
        """Return the processes of the target that are gone."""
        return [pid for pid in (*self._servers, *self._postgres) if not _exists(pid)]


def _exists(pid: int) -> bool:
    return (PROC / str(pid)).exists()


def tree_cpu_s(roots: Iterable[int]) -> float:
    """Return the CPU seconds of ``roots`` and all their descendants, dead ones too."""
    return sum(_process_cpu_s(pid) for pid in process_tree(roots))


def tree_rss_mib(roots: Iterable[int]) -> float:
    """Return the resident memory of ``roots`` and their descendants, in MiB."""
    pages = sum(_resident_pages(pid) for pid in process_tree(roots))
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def process_tree(roots: Iterable[int]) -> list[int]:
    """Return ``roots`` and their descendants that are alive now."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in _tasks(pid):
        children.extend(int(word) for word in _read(task / "children").split())
    return children


def _process_cpu_s(pid: int) -> float:
    fields = _stat_fields(pid)
    if not fields:
        return 0.0
    tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
    own_s, children_s = ((fields[i] + fields[i + 1]) * tick_s for i in (UTIME, CUTIME))
    live_s = sum(_thread_cpu_s(task) for task in _tasks(pid))
    # Ticks count exited threads too, but lag by up to one tick; nanoseconds do not.
    return max(own_s, live_s) + children_s


UTIME = 11  # fields of /proc/<pid>/stat after the command name, counted from 0
CUTIME = 13


def _stat_fields(pid: int) -> list[int]:
    text = _read(PROC / str(pid) / "stat")
    # proc(5): the command name stands in parentheses and may hold spaces itself.
    words = text.rpartition(")")[2].split()
    return [0, *(int(word) for word in words[1:])] if words else []


def _thread_cpu_s(task: Path) -> float:
    words = _read(task / "schedstat").split()
    return int(words[0]) * NS if words else 0.0


def _resident_pages(pid: int) -> int:
    words = _read(PROC / str(pid) / "statm").split()
    return int(words[1]) if words else 0


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except OSError:
        return []  # the process has ended


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # the process or thread has ended
