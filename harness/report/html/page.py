"""The page: verdict on top, then what was found, then what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from harness.events import Event
from harness.report.html.findings import (
    code_block,
    findings_section,
    severity_counts,
    undecided_section,
)
from harness.report.html.load import format_ms, load_section
from harness.report.html.markup import Html, raw, tag
from harness.report.html.matrix import matrix_section
from harness.report.html.tables import (
    checks_section,
    environment_section,
    phases_section,
    requirements_section,
)
from harness.report.model import RunModel, plural

__all__ = ["HtmlWriter", "render_page"]

VERDICTS = {
    "pass": ("Passed", "Everything that was asked was decided, and was right."),
    "fail": ("Failed", "The system under test gave wrong answers."),
    "unknown": ("Unknown", "Something could not be decided; this is not a pass."),
}
CUT_SHORT = "The run was cut short; what follows is what it had seen by then."
SUFFIX = "harness report"


class HtmlWriter:
    """Collects the run and writes the page when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = RunModel()

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._model.add(event)

    def close(self) -> None:
        """Write the page."""
        self._path.write_text(render_page(self._model), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with its place in the navigation."""

    key: str
    title: str
    body: Html
    count: int | None = None
    bad: bool = False


def render_page(run: RunModel) -> str:
    """Return the whole page of ``run``."""
    sections = list(_sections(run))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{VERDICTS[run.verdict][0]}: {run.what} - {SUFFIX}"),
        tag("style", raw(_asset("page.css"))),
    )
    body = tag(
        "body",
        _top(run),
        tag(
            "div",
            _navigation(sections),
            tag("main", *(_section(section) for section in sections)),
            class_="columns",
        ),
        tag("div", id="tip", role="tooltip", hidden=True),
        tag("script", raw(_asset("page.js"))),
        class_=f"verdict-{run.verdict}",
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _sections(run: RunModel) -> Iterator[Section]:
    findings = run.findings
    yield Section(
        "findings",
        "Findings",
        findings_section(findings, is_clean=run.verdict == "pass"),
        len(findings),
        bad=bool(run.faults),
    )
    if run.undecided:
        body = undecided_section(run.undecided)
        yield Section("undecided", "Undecided", body, len(run.undecided), bad=True)
    if run.cells:
        yield Section("matrix", "Policy matrix", matrix_section([*run.cells.values()]))
    if run.steps:
        yield Section("load", "Load", load_section(run.steps, run.injected))
    if run.phases:
        yield Section("phases", "Phases", phases_section(run.phases, run.took_s))
    if run.requirements:
        body = requirements_section(run.requirements)
        yield Section("requirements", "Requirements", body, len(run.requirements))
    if run.checks:
        yield Section("checks", "Checks", checks_section(run.checks), len(run.checks))
    facts = environment_section(dict(_facts(run)))
    yield Section("environment", "Environment", facts)


def _section(section: Section) -> Html:
    return tag("section", tag("h2", section.title), section.body, id=section.key)


def _navigation(sections: list[Section]) -> Html:
    links = (
        tag(
            "a",
            section.title,
            None if section.count is None else _count(section),
            href=f"#{section.key}",
        )
        for section in sections
    )
    return tag("nav", *links, aria_label="Sections")


def _count(section: Section) -> Html:
    return tag("b", f"{section.count:,}", class_="bad" if section.bad else None)


def _top(run: RunModel) -> Html:
    word, meaning = VERDICTS[run.verdict]
    if run.finished is None:
        meaning = CUT_SHORT
    command = run.started.command if run.started else ""
    return tag(
        "header",
        tag("button", "Theme", id="theme", type="button", title="Light, dark, system"),
        tag(
            "div",
            tag("span", word, class_="verdict"),
            tag("h1", run.what),
            tag("p", _when(run), class_="muted when"),
            class_="title",
        ),
        tag("p", meaning, class_="meaning"),
        tag("div", *_tiles(run), class_="tiles"),
        code_block(command, label="the command") if command else None,
        class_="top",
    )


def _when(run: RunModel) -> str:
    if run.started is None:
        return f"{run.took_s:.1f} s"
    return f"{_utc(run.started.utc)} · {run.took_s:.1f} s · seed {run.started.seed}"


def _tiles(run: RunModel) -> Iterator[Html]:
    findings, outcomes = run.findings, run.outcomes
    yield _tile(
        "findings",
        f"{run.faults:,}",
        severity_counts(findings) if findings else "none",
        bad=bool(run.faults),
    )
    if run.undecided:
        checks = len({item.check for item in run.undecided})
        count = f"{len(run.undecided):,}"
        yield _tile("undecided", count, f"in {plural(checks, 'check')}", bad=True)
    if run.checks:
        passed = f"{outcomes['passed']:,} / {len(run.checks):,}"
        yield _tile("checks passed", passed, _skipped(outcomes["skipped"]))
    if run.decisions:
        yield _tile("decisions", f"{run.decisions:,}", "by execution")
    if run.requirements:
        shown = sum(item.outcome == "passed" for item in run.requirements)
        count = f"{shown:,} / {len(run.requirements):,}"
        yield _tile("requirements", count, "shown")
    if run.steps:
        yield _deliveries(run)
        last = run.steps[-1]
        yield _tile("p99", f"{format_ms(last.latency.p99_ms)} ms", last.profile)


def _skipped(skipped: int) -> str:
    return f"{skipped:,} skipped" if skipped else "none skipped"


def _deliveries(run: RunModel) -> Html:
    expected = sum(step.expected for step in run.steps)
    delivered = sum(step.delivered for step in run.steps)
    lost = sum(step.lost for step in run.steps)
    words = f"of {expected:,}, {lost:,} lost"
    return _tile("deliveries", f"{delivered:,}", words, bad=lost > 0)


def _tile(label: str, value: str, detail: str, *, bad: bool = False) -> Html:
    return tag(
        "div",
        tag("span", label, class_="label"),
        tag("b", value),
        tag("span", detail, class_="muted small"),
        class_="tile bad" if bad else "tile",
    )


def _facts(run: RunModel) -> Iterator[tuple[str, str]]:
    if run.started is not None:
        yield "seed", str(run.started.seed)
        yield "command", run.started.command
        yield "started", _utc(run.started.utc)
    if run.stack is not None:
        yield "stack", f"{run.stack.kind}, ready in {run.stack.took_s:.2f} s"
        yield "PostgreSQL", run.stack.postgres
        yield "API", run.stack.api_url
    if run.started is not None:
        yield from run.started.environment.items()
    if run.finished is not None:
        yield "exit code", str(run.finished.exit_code)


def _utc(text: str) -> str:
    """Return an ISO time in UTC as people read it."""
    return f"{text.removesuffix('Z').removesuffix('+00:00').replace('T', ' ')} UTC"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
