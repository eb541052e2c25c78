"""The tables and lists of the page: requirements, checks, phases, environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from harness.events import CheckFinished, RequirementShown
from harness.report.html.filters import filters
from harness.report.html.markup import Html, join, tag
from harness.report.html.plot import nice_ticks
from harness.report.model import Phase

__all__ = [
    "checks_section",
    "environment_section",
    "phases_section",
    "requirements_section",
]

OUTCOMES = ("failed", "errored", "skipped", "passed")  # what needs a look, first
NUMERIC = frozenset({"decisions", "time"})
GRANTED_S = 0.001  # a phase is drawn at least this long


def requirements_section(shown: Sequence[RequirementShown]) -> Html:
    """Return the requirement table, the unfulfilled first, with buttons to filter."""
    ordered = sorted(shown, key=lambda r: OUTCOMES.index(r.outcome))
    rows = (
        tag(
            "tr",
            tag("td", tag("code", item.requirement)),
            tag("td", item.title),
            tag("td", tag("code", item.scenario), _reason(item.reason)),
            tag("td", badge(item.outcome)),
            data_key=item.outcome,
        )
        for item in ordered
    )
    heads = ("requirement", "what it asks", "shown by", "outcome")
    return join(
        filters(_in_order(item.outcome for item in shown)),
        _table(heads, rows_=join(*rows), class_="list filtered"),
    )


def checks_section(checks: Sequence[CheckFinished]) -> Html:
    """Return every check with its outcome, decisions and time."""
    ordered = sorted(checks, key=lambda c: OUTCOMES.index(c.outcome))
    rows = (
        tag(
            "tr",
            tag("td", check.phase),
            tag("td", tag("code", check.check), _reason(check.detail)),
            tag("td", f"{check.decisions:,}" if check.decisions else "", class_="n"),
            tag("td", f"{check.took_s:.2f} s", class_="n"),
            tag("td", badge(check.outcome)),
            data_key=check.outcome,
        )
        for check in ordered
    )
    heads = ("phase", "check", "decisions", "time", "outcome")
    return join(
        filters(_in_order(check.outcome for check in checks)),
        _table(heads, rows_=join(*rows), class_="list filtered"),
    )


def phases_section(phases: Sequence[Phase], took_s: float) -> Html:
    """Return the phases as bars on one time line."""
    ends = (p.started_s + (p.took_s or 0.0) for p in phases)
    whole_s = max(took_s, *ends, GRANTED_S) if phases else took_s
    ticks = nice_ticks(whole_s, lambda v: f"{v:g} s", count=5)
    scale_s = ticks[-1][0]
    rows = (_phase(phase, whole_s, scale_s) for phase in phases)
    marks = (tag("span", text, style=f"left:{at / scale_s:.3%}") for at, text in ticks)
    return tag(
        "div",
        *rows,
        tag("div", tag("div", *marks, class_="track"), class_="phase scale"),
        class_="phases panel",
    )


def environment_section(facts: Mapping[str, str]) -> Html:
    """Return names and values, such as versions, processor, seed and command."""
    pairs = (
        join(tag("dt", name), tag("dd", value))
        for name, value in facts.items()
        if value
    )
    return tag("dl", *pairs, class_="facts panel")


def _in_order(outcomes: Iterable[str]) -> dict[str, int]:
    counts = Counter(outcomes)
    return {name: counts[name] for name in OUTCOMES if counts[name]}


def badge(outcome: str) -> Html:
    """Return an outcome as a coloured word."""
    return tag("span", outcome, class_=f"badge {outcome}")


def _phase(phase: Phase, whole_s: float, scale_s: float) -> Html:
    took_s = phase.took_s
    length_s = max(
        GRANTED_S, took_s if took_s is not None else whole_s - phase.started_s
    )
    bar = tag(
        "i",
        style=f"left:{phase.started_s / scale_s:.3%};width:{length_s / scale_s:.3%}",
        class_="bar" if took_s is not None else "bar cut",
        title=f"{phase.title}: from {phase.started_s:.2f} s, {length_s:.2f} s",
    )
    time = f"{took_s:.2f} s" if took_s is not None else "not finished"
    return tag(
        "div",
        tag("span", phase.title, class_="name"),
        tag("div", bar, class_="track"),
        tag("span", time, class_="time"),
        tag("span", phase.summary, class_="muted summary") if phase.summary else None,
        class_="phase",
    )


def _table(heads: Sequence[str], *, rows_: Html, class_: str) -> Html:
    head = tag("tr", *(_head(word) for word in heads))
    table = tag("table", tag("thead", head), tag("tbody", rows_), class_=class_)
    return tag("div", table, class_="panel scroll long", tabindex="0")


def _head(word: str) -> Html:
    return tag("th", word, scope="col", class_="n" if word in NUMERIC else None)


def _reason(text: str) -> Html | None:
    return tag("p", text, class_="muted small") if text else None
