"""GitHub Actions: an annotation for each finding, a summary for the job's page.

Source: GitHub's documentation of workflow commands (``::error file=...::message``) and
of job summaries (Markdown in the file that ``GITHUB_STEP_SUMMARY`` names).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from harness.events import Event, Finding
from harness.report.model import RunModel, one_line
from harness.report.sarif import PLACE

__all__ = ["GithubWriter", "annotation", "job_summary"]

COMMANDS = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "warning",
    "note": "notice",
}
VERDICT_TITLES = {"pass": "passed", "fail": "failed", "unknown": "unknown"}


class GithubWriter:
    """Prints annotations when the run ends and appends the job summary, if asked."""

    def __init__(self, out: TextIO, *, step_summary: Path | None = None) -> None:
        self._out = out
        self._step_summary = step_summary
        self._model = RunModel()

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._model.add(event)

    def close(self) -> None:
        """Print the annotations and append the summary."""
        for finding in self._model.findings:
            self._out.write(annotation(finding) + "\n")
        for item in self._model.undecided:
            message = f"{item.check}: undecided: {one_line(item.reason)}"
            self._out.write(
                f"::error title={_property(item.check)}::{_data(message)}\n"
            )
        self._out.flush()
        if self._step_summary is not None:
            with self._step_summary.open("a", encoding="utf-8") as file:
                file.write(job_summary(self._model))


def annotation(finding: Finding) -> str:
    """Return the workflow command that marks ``finding`` at its line."""
    properties = [f"title={_property(finding.check)}"]
    if place := PLACE.fullmatch(finding.where):
        properties.insert(0, f"line={place['line']}")
        properties.insert(0, f"file={_property(place['file'])}")
    parts = (finding.message, finding.note, finding.hint, finding.repeat)
    message = _data("\n".join(one_line(part) for part in parts if part))
    return f"::{COMMANDS[finding.severity]} {','.join(properties)}::{message}"


def job_summary(run: RunModel) -> str:
    """Return the run as Markdown for the job's page."""
    return "\n".join((*_summary_lines(run), ""))


def _summary_lines(run: RunModel) -> Iterator[str]:
    yield f"## {run.what}: {VERDICT_TITLES[run.verdict]}"
    yield ""
    yield f"{run.headline} in {run.took_s:.1f} s"
    if run.findings:
        yield ""
        yield "| severity | check | where | message |"
        yield "| --- | --- | --- | --- |"
    for finding in run.findings:
        cells = (finding.severity, finding.check, finding.where, finding.message)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"
    for finding in run.findings:
        if finding.witness is not None and finding.witness.sql:
            yield ""
            yield f"<details><summary>{_cell(finding.check)}: witness</summary>"
            yield f"\n```sql\n{finding.witness.sql}\n```\n\n</details>"


def _cell(text: str) -> str:
    flat = one_line(text).replace("&", "&amp;").replace("<", "&lt;")
    return flat.replace("|", "\\|")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
