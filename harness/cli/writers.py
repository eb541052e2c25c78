"""The report writers that a command's run feeds."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from harness.report.github import GithubWriter
from harness.report.html import HtmlWriter
from harness.report.jsonl import JsonlWriter
from harness.report.junit import JunitWriter
from harness.report.sarif import SarifWriter
from harness.report.summary import SummaryWriter
from harness.report.terminal import TerminalWriter
from harness.report.writers import Writer

__all__ = ["default_writers"]


def default_writers(
    folder: Path, environ: Mapping[str, str], *, as_json: bool, verbose: bool = False
) -> list[Writer]:
    """Return the writers of a run that reports into ``folder``.

    With ``as_json`` standard output stays free for the summary, and what people read
    goes to standard error.
    """
    out = sys.stderr if as_json else sys.stdout
    page = folder / "index.html"
    writers: list[Writer] = [
        TerminalWriter(out, sys.stderr, report=page, verbose=verbose),
        JsonlWriter(folder / "events.jsonl"),
        SummaryWriter(folder / "summary.json"),
        JunitWriter(folder / "junit.xml"),
        SarifWriter(folder / "report.sarif"),
        HtmlWriter(page),
    ]
    if environ.get("GITHUB_ACTIONS") == "true":
        summary = environ.get("GITHUB_STEP_SUMMARY")
        writers.append(
            GithubWriter(out, step_summary=Path(summary) if summary else None)
        )
    return writers
