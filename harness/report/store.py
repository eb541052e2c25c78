"""The folder of a run, ``<root>/<utc>-<what>-<seed>/``: made, listed, found, read.

Names sort by time.  A folder without ``events.jsonl`` is not a run; one whose events
cannot be read is broken and says so with a :class:`harness.errors.ReportError`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import ReportError
from harness.events import Event, Finding, RunFinished, RunStarted, decode_event

__all__ = [
    "StoredRun",
    "create_run_folder",
    "find_finding",
    "find_run",
    "list_runs",
    "read_events",
]

EVENTS = "events.jsonl"
PAGE = "index.html"
NAME = re.compile(r"(?P<utc>\d{8}T\d{6}Z)-(?P<what>.+)-(?P<seed>\d+)(?:\.\d+)?")
UTC_FORMAT = "%Y%m%dT%H%M%SZ"
ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run on disk; ``verdict`` is None when it was cut short."""

    folder: Path
    started: RunStarted
    finished: RunFinished | None

    @property
    def name(self) -> str:
        """The folder's name, which ``harness report`` takes."""
        return self.folder.name

    @property
    def page(self) -> Path:
        """The HTML report."""
        return self.folder / PAGE


def create_run_folder(root: Path, *, what: str, seed: int, now: datetime) -> Path:
    """Make and return a new folder; ``now`` is UTC.

    Raises :class:`ReportError` when ``root`` cannot be written.
    """
    name = f"{now.strftime(UTC_FORMAT)}-{_slug(what)}-{seed}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            folder = root / (f"{name}.{attempt}" if attempt else name)
            try:
                folder.mkdir()
            except FileExistsError:
                continue  # another run of the same second and seed
            return folder
    except OSError as exc:
        raise ReportError(
            f"cannot make a report folder in {root}: {exc.strerror}",
            hint="choose another folder with --reports DIR",
        ) from exc
    raise ReportError(f"{ATTEMPTS} runs named {name} exist in {root} already")


def list_runs(root: Path) -> list[StoredRun]:
    """Return the runs below ``root``, newest first; broken ones are left out."""
    runs = []
    for folder in _folders(root):
        try:
            runs.append(_open(folder))
        except ReportError:
            continue  # a listing shows what can be opened; find_run names the fault
    return runs


def find_run(root: Path, name: str | None = None) -> StoredRun:
    """Return the run called ``name`` (or a path to one), by default the latest.

    Raises :class:`ReportError` when there is none, or when it is broken.
    """
    if name is None:
        return _latest(root)
    for folder in (root / name, Path(name)):
        if folder.is_dir():
            return _open(folder)
    close = difflib.get_close_matches(name, [f.name for f in _folders(root)], n=1)
    hint = f"did you mean {close[0]}?" if close else "harness report --list shows all"
    raise ReportError(f"no run {name!r} in {root}", hint=hint)


def find_finding(
    root: Path, finding_id: str, run: str | None = None
) -> tuple[StoredRun, Finding]:
    """Return the finding whose id begins so, and its run: ``run``, or the latest.

    Raises :class:`ReportError` when no run has one.
    """
    for stored in [find_run(root, run)] if run else list_runs(root):
        for event in read_events(stored.folder):
            if isinstance(event, Finding) and event.id.startswith(finding_id.lower()):
                return stored, event
    raise ReportError(
        f"no finding {finding_id!r} in {run or f'the runs in {root}'}",
        hint="the ids stand beside the findings of a report",
    )


def read_events(folder: Path) -> Iterator[Event]:
    """Read a run's events; raises :class:`ReportError` on a broken folder.

    A last line without its end was being written when the run was killed; it is
    passed over.
    """
    path = folder / EVENTS
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as exc:
        raise _broken(folder, exc.strerror or str(exc)) from exc
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            event = decode_event(line)
        except ReportError as exc:
            raise _broken(folder, f"{EVENTS}:{number}: {exc}") from exc
        yield event


def _latest(root: Path) -> StoredRun:
    folders = _folders(root)
    if not folders:
        raise ReportError(
            f"no runs in {root}", hint="make one with: harness run SYSTEM"
        )
    return _open(folders[0])


def _folders(root: Path) -> list[Path]:
    try:
        found = [folder for folder in root.iterdir() if NAME.fullmatch(folder.name)]
    except OSError:
        return []  # no folder yet: no runs
    return sorted(found, key=lambda folder: folder.name, reverse=True)


def _open(folder: Path) -> StoredRun:
    started: RunStarted | None = None
    finished: RunFinished | None = None
    for event in read_events(folder):
        if isinstance(event, RunStarted):
            started = event
        elif isinstance(event, RunFinished):
            finished = event
    if started is None:
        raise _broken(folder, f"{EVENTS} does not begin with a run")
    return StoredRun(folder, started, finished)


def _broken(folder: Path, reason: str) -> ReportError:
    return ReportError(
        f"broken report folder {folder}: {reason}",
        hint="run again; the folder can be deleted",
    )


def _slug(what: str) -> str:
    return re.sub(r"[^0-9a-z]+", "-", what.lower()).strip("-")[:60] or "run"
