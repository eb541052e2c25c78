"""The findings of a run, each with its witness in three notations and its repeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.events import Finding, Undecided, Witness
from harness.report.html.filters import filters
from harness.report.html.markup import Html, join, tag
from harness.report.model import plural
from harness.report.terminal import witness_size

__all__ = ["code_block", "findings_section", "undecided_section"]

FEW = 6  # as many findings lie open


def findings_section(findings: Sequence[Finding], *, is_clean: bool) -> Html:
    """Return the cards of all findings, or the sentence that there are none.

    A few lie open; of many only the gravest does, and checks can be picked out.
    ``is_clean`` says whether no finding means that all is well.
    """
    if not findings and is_clean:
        return tag("p", "Nothing was found.", class_="empty")
    if not findings:
        words = "Nothing was found as far as it was looked; that is not everything."
        return tag("p", words, class_="empty open")
    many = len(findings) > FEW
    cards = (
        _card(number, finding, is_open=number == 1 or not many)
        for number, finding in enumerate(findings, start=1)
    )
    checks = Counter(finding.check for finding in findings)
    return join(
        filters(checks) if many and len(checks) > 1 else None,
        tag("div", *cards),
    )


def undecided_section(items: Sequence[Undecided]) -> Html:
    """Return what could not be decided; it keeps the run from passing."""
    rows = (
        tag(
            "li",
            tag("code", item.check, class_="check"),
            tag("span", item.where, class_="muted mono") if item.where else None,
            tag("p", item.reason),
        )
        for item in items
    )
    return tag("ul", *rows, class_="undecided panel")


def code_block(text: str, *, label: str = "code") -> Html:
    """Return ``text`` as code with a button that copies it."""
    return tag(
        "div",
        tag("pre", tag("code", text.strip("\n")), tabindex="0"),
        tag("button", "Copy", class_="copy", type="button", aria_label=f"Copy {label}"),
        class_="code",
    )


def _card(number: int, finding: Finding, *, is_open: bool) -> Html:
    requirements = (tag("span", r, class_="chip") for r in finding.requirements)
    head = tag(
        "summary",
        tag("span", finding.severity, class_=f"severity {finding.severity}"),
        tag("code", finding.check, class_="check"),
        *requirements,
        tag("a", f"#{number}", href=f"#finding-{number}", class_="anchor"),
        tag("span", finding.message, class_="message"),
    )
    return tag(
        "details",
        head,
        tag("p", finding.where, class_="where mono") if finding.where else None,
        _remark("Note", finding.note),
        _remark("Hint", finding.hint),
        _witness(number, finding.witness) if finding.witness else None,
        _repeat("Repeat it", finding.repeat),
        _repeat(
            "Run this case again",
            f"harness replay {finding.id}" if finding.is_replayable else "",
        ),
        class_=f"finding panel {finding.severity}",
        id=f"finding-{number}",
        open=is_open,
        data_key=finding.check,
    )


def _remark(label: str, text: str) -> Html | None:
    if not text:
        return None
    return tag("p", tag("b", label), text, class_="remark")


def _repeat(words: str, command: str) -> Html | None:
    if not command:
        return None
    title = tag("h4", words)
    return tag("div", title, code_block(command, label="command"), class_="repeat")


def _witness(number: int, witness: Witness) -> Html:
    notations = [
        (name, text)
        for name, text in (
            ("SQL", witness.sql),
            ("curl", witness.curl),
            ("Python", witness.python),
        )
        if text
    ]
    title = tag("h4", "Witness ", tag("small", witness_size(witness), class_="muted"))
    return tag("div", title, _tabs(f"w{number}", notations), class_="witness")


def _tabs(group: str, notations: Sequence[tuple[str, str]]) -> Html:
    """Return tabs made of radio buttons, which need no script."""
    parts: list[Html] = []
    for i, (name, _) in enumerate(notations):
        key = f"{group}-{i}"
        parts.append(tag("input", type="radio", name=group, id=key, checked=i == 0))
        parts.append(tag("label", name, for_=key))
    bodies = (code_block(text, label=name) for name, text in notations)
    return tag("div", *parts, tag("div", *bodies, class_="bodies"), class_="tabs")


def severity_counts(findings: Sequence[Finding]) -> str:
    """Return ``2 critical, 1 high`` for the tile on top."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.severity] = counts.get(finding.severity, 0) + 1
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or plural(
        0, "finding"
    )
