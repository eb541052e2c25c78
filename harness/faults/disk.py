"""A disk that is really full: a small file system and a ballast file on it.

:class:`SmallDisk` mounts a tmpfs of its own, which needs the right to mount; a folder
on a small file system that exists already will do as well.  Filling is refused where
it would take more than a gibibyte: nobody's real disk is filled by accident.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.errors import StackError, UsageError

__all__ = ["SmallDisk", "fill_disk", "free_bytes", "free_disk"]

BALLAST = ".ballast"
MAX_FILL_BYTES = 1024**3
DEFAULT_SIZE_BYTES = 16 * 1024**2


class SmallDisk:
    """A tmpfs of ``size_bytes`` at ``path`` while the block runs.

    Raises :class:`UsageError` without the right to mount.
    """

    def __init__(self, size_bytes: int = DEFAULT_SIZE_BYTES) -> None:
        self._size_bytes = size_bytes
        self.path = Path()

    def __enter__(self) -> Self:
        self.path = Path(tempfile.mkdtemp(prefix="harness-disk-"))
        options = f"size={self._size_bytes},mode=0777"
        mounted = _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path))
        if mounted.returncode:
            self.path.rmdir()
            raise UsageError(
                f"cannot mount a small disk: {mounted.stderr.strip()}",
                hint="run as root, or name a folder on a small file system",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Lazily: a process of the system under test may still have a file open.
        released = _run("umount", "--lazy", str(self.path))
        if released.returncode:
            raise StackError(f"cannot unmount {self.path}: {released.stderr.strip()}")
        self.path.rmdir()


def fill_disk(folder: Path, *, leave_bytes: int = 0) -> int:
    """Fill the file system of ``folder`` but for ``leave_bytes``; returns the ballast.

    Raises :class:`UsageError` when that would be more than a gibibyte.
    """
    wanted = free_bytes(folder) - leave_bytes
    if wanted > MAX_FILL_BYTES:
        raise UsageError(
            f"{folder} has {wanted:,} bytes free, too many to fill on purpose",
            hint="put what is tested on a small disk of its own",
        )
    if wanted <= 0:
        return 0
    descriptor = os.open(folder / BALLAST, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        os.posix_fallocate(descriptor, size, wanted)
    finally:
        os.close(descriptor)
    return wanted


def free_disk(folder: Path) -> None:
    """Take the ballast away."""
    (folder / BALLAST).unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Return how many bytes fit on the file system of ``folder``."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
