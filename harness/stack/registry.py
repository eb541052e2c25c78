"""Which stacks run on this machine: one descriptor file each in the state folder.

A file whose keeper is gone belongs to nobody and is removed when it is met.  Process
ids are used again, after a restart of the machine at the latest: a keeper lives if its
id does and somebody holds the stack's run folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.db.rundir import is_held
from harness.errors import StackError
from harness.stack.descriptor import StackDescriptor

__all__ = ["StackRegistry"]


class StackRegistry:
    """The descriptors in ``state_dir``/stacks."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "stacks"

    def add(self, descriptor: StackDescriptor) -> Path:
        """Write ``descriptor`` so that others find the stack; only we may read it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._path(descriptor.name)
            draft = path.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_text(descriptor.to_json(), encoding="utf-8")
            draft.replace(path)
        except OSError as exc:
            raise StackError(
                f"the state folder {self._folder} cannot be written: {exc}",
                hint="set HARNESS_STATE_DIR to a folder that can",
            ) from exc
        return path

    def remove(self, name: str) -> None:
        """Forget the stack ``name``; forgetting twice is no error."""
        self._path(name).unlink(missing_ok=True)

    def running(self) -> list[StackDescriptor]:
        """Return the descriptors of stacks whose keeper lives, by name."""
        return sorted(self._live(), key=lambda d: d.name)

    def _live(self) -> Iterator[StackDescriptor]:
        for path in self._folder.glob("*.json"):
            try:
                descriptor = StackDescriptor.read(path)
            except (StackError, OSError):
                path.unlink(missing_ok=True)
                continue
            if _is_kept(descriptor):
                yield descriptor
            else:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _is_kept(descriptor: StackDescriptor) -> bool:
    keeper = descriptor.pids.get("keeper", 0)
    return is_alive(keeper) and is_held(Path(descriptor.log_dir))


def is_alive(pid: int) -> bool:
    """Whether a process ``pid`` exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return _exists(pid) if not Path("/proc/self").exists() else False
    return state != "Z"


def _exists(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
