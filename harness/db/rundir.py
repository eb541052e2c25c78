"""Folders for running servers, and sweeping up those that a crash left behind.

A run folder carries a ``lock`` file on which every process that lives from the folder
holds a shared ``flock``.  The kernel drops the lock with the process, whatever killed
it, so a folder whose lock can be had exclusively belongs to nobody: :func:`sweep`
ends a server that may still run in it, frees its shared memory and removes it.

Standard library only, POSIX only: the keeper process uses it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["RUN_PREFIX", "RunDir", "is_held", "run_roots", "sweep"]

RUN_PREFIX = "supabase-harness-"
LOCK_NAME = "lock"
# Room for a cluster with a few dozen clones; below it the disk is the better place.
SHM_NEEDED_BYTES = 1 << 30
# Between mkdtemp and taking the lock a folder has no lock yet.
GRACE_S = 30.0
END_TIMEOUT_S = 5.0
IPC_RMID = 0


class RunDir:
    """A private folder, locked as long as this object is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)

    @classmethod
    def create(cls, root: Path) -> RunDir:
        """Make a new folder under ``root`` and lock it.

        Others may pass through it (a server that runs as another user must) but not
        list it; what is private inside has mode 0700 of its own.
        """
        path = Path(tempfile.mkdtemp(prefix=RUN_PREFIX, dir=root))
        path.chmod(0o711)
        return cls(path)

    def release(self) -> None:
        """Give up the lock, leaving the folder to another holder."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def remove(self) -> None:
        """Remove the folder with all it holds and give up the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


def run_roots(*, needed_bytes: int = SHM_NEEDED_BYTES) -> tuple[Path, ...]:
    """Return where run folders may live, best first: tmpfs if it has room, then disk.

    Shared memory of ``/dev/shm`` is limited by RAM; on a machine (or container) with
    a small one the temporary directory is used.
    """
    roots = [Path(tempfile.gettempdir())]
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK | os.X_OK):
        has_room = shutil.disk_usage(shm).free >= needed_bytes
        roots.insert(0 if has_room else len(roots), shm)
    return tuple(roots)


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the run folder ``path``."""
    if not path.is_dir():
        return False
    lock_fd = _claim(path)
    if lock_fd is None:
        return True
    os.close(lock_fd)
    return False


def sweep(roots: Iterable[Path]) -> list[Path]:
    """Remove the run folders of this user that no living process holds.

    Returns what was removed.
    """
    removed = []
    for path in _ours(roots):
        lock_fd = _claim(path)
        if lock_fd is None:
            continue
        try:
            for pid_file in path.glob("**/postmaster.pid"):
                _end_server(pid_file)
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        finally:
            os.close(lock_fd)
    return removed


def _ours(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        for path in root.glob(f"{RUN_PREFIX}*"):
            try:
                if path.stat().st_uid == os.getuid() and _is_settled(path):
                    yield path
            except OSError:
                # Somebody else's private folder, or gone by now.
                continue


def _is_settled(path: Path) -> bool:
    age_s = time.time() - path.stat().st_mtime
    return (path / LOCK_NAME).exists() or age_s > GRACE_S


def _claim(path: Path) -> int | None:
    """Return a descriptor with the exclusive lock, or ``None`` if it is held."""
    try:
        lock_fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock_fd)
        return None
    return lock_fd


def _end_server(pid_file: Path) -> None:
    """End the server that ``postmaster.pid`` names, if it is that one, and its memory.

    Line 1 is the process id, line 2 the data directory, line 7 the key and id of the
    System V segment that guards the data directory.
    """
    try:
        lines = pid_file.read_text().splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return
    if _runs_in(pid, pid_file.parent):
        os.kill(pid, signal.SIGQUIT)
        _await_exit(pid, END_TIMEOUT_S)
    if len(lines) > 6 and len(segment := lines[6].split()) == 2:
        _remove_segment(key=segment[0], segment_id=segment[1], creator=str(pid))


def _runs_in(pid: int, data_dir: Path) -> bool:
    """Tell whether process ``pid`` works in ``data_dir``: ids are used again."""
    try:
        return os.path.samefile(f"/proc/{pid}/cwd", data_dir)
    except OSError:
        return False


def _await_exit(pid: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not _is_running(pid):
            return
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # After the program's name, which may hold anything, in parentheses.
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _remove_segment(*, key: str, segment_id: str, creator: str) -> None:
    """Remove a server's System V shared memory segment, if it is still that one.

    Children that have not yet noticed the end of their server do not mind: the kernel
    frees the segment when the last of them lets go.
    """
    try:
        table = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    except OSError:
        return
    for row in table:
        found_key, found_id, _perms, _size, found_creator = row.split()[:5]
        # Keys are 32 bits, signed in one place and unsigned in the other.
        same_key = (int(found_key) - int(key)) % (1 << 32) == 0
        if same_key and (found_id, found_creator) == (segment_id, creator):
            ctypes.CDLL(None).shmctl(int(segment_id), IPC_RMID, None)
