"""``summary.json``: the verdict and its figures for programs; small, without data."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from harness.events import Event, LoadStepFinished
from harness.report.model import RunModel

__all__ = ["SummaryWriter", "summarise"]

BULKY = frozenset({"histogram", "timeline"})


class SummaryWriter:
    """Collects the run and writes its summary when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = RunModel()

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._model.add(event)

    def close(self) -> None:
        """Write the file whole or not at all."""
        draft = self._path.with_suffix(".part")
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        draft.write_bytes(orjson.dumps(summarise(self._model), option=options))
        os.replace(draft, self._path)


def summarise(run: RunModel) -> dict[str, Any]:
    """Return the summary of ``run``, ready for JSON."""
    started, finished = run.started, run.finished
    return {
        "what": run.what,
        "verdict": run.verdict,
        "exit_code": finished.exit_code if finished else None,
        "finished": finished is not None,
        "headline": run.headline,
        "seed": started.seed if started else None,
        "utc": started.utc if started else None,
        "command": started.command if started else None,
        "environment": dict(started.environment) if started else {},
        "took_s": run.took_s,
        "checks": dict(run.outcomes),
        "decisions": run.decisions,
        "findings": [{"id": f.id, **dataclasses.asdict(f)} for f in run.findings],
        "undecided": [dataclasses.asdict(item) for item in run.undecided],
        "load": [_step(step) for step in run.steps],
        "injected": [dataclasses.asdict(fault) for fault in run.injected],
        "requirements": dict(Counter(shown.outcome for shown in run.requirements)),
        "phases": [dataclasses.asdict(phase) for phase in run.phases],
    }


def _step(step: LoadStepFinished) -> dict[str, Any]:
    record = dataclasses.asdict(step)
    return {key: value for key, value in record.items() if key not in BULKY}
