"""``junit.xml``: a test suite for each phase, a test case for each check.

What could not be decided is an ``error`` (never a pass), a finding is a ``failure`` of
its check.  The dialect is the one that pytest writes and CI systems read.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

from harness.events import CheckFinished, Event, Finding, Undecided
from harness.report.model import RunModel, one_line

__all__ = ["JunitWriter", "junit_xml"]

# XML 1.0, production 2: every other character may not occur, not even escaped.
NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JunitWriter:
    """Collects the run and writes the file when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = RunModel()

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._model.add(event)

    def close(self) -> None:
        """Write the file."""
        self._path.write_bytes(junit_xml(self._model))


def junit_xml(run: RunModel) -> bytes:
    """Return ``run`` as a JUnit document."""
    root = ET.Element("testsuites", name=_clean(run.what))
    for phase, cases in _cases_by_phase(run).items():
        suite = ET.SubElement(root, "testsuite", name=_clean(phase))
        _add_properties(suite, run)
        suite.extend(cases)
        _count(suite)
    _count(root)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _cases_by_phase(run: RunModel) -> dict[str, list[ET.Element]]:
    findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in run.findings:
        findings[finding.phase, finding.check].append(finding)
    undecided: dict[tuple[str, str], list[Undecided]] = defaultdict(list)
    for item in run.undecided:
        undecided[item.phase, item.check].append(item)
    checks = {(check.phase, check.check): check for check in run.checks}
    phases: dict[str, list[ET.Element]] = defaultdict(list)
    for key in dict.fromkeys((*checks, *findings, *undecided)):
        case = _case(key, checks.get(key), findings[key], undecided[key])
        phases[key[0]].append(case)
    return phases


def _case(
    key: tuple[str, str],
    check: CheckFinished | None,
    findings: list[Finding],
    undecided: list[Undecided],
) -> ET.Element:
    took_s = check.took_s if check else 0.0
    case = ET.Element(
        "testcase", classname=_clean(key[0]), name=_clean(key[1]), time=f"{took_s:.3f}"
    )
    for finding in findings:
        _add_result(case, "failure", finding.message, _details(finding))
    for item in undecided:
        _add_result(case, "error", f"undecided: {item.reason}", item.where)
    if check is not None and not len(case):
        _add_outcome(case, check)
    return case


def _add_outcome(case: ET.Element, check: CheckFinished) -> None:
    tags = {"failed": "failure", "errored": "error", "skipped": "skipped"}
    tag = tags.get(check.outcome)
    if tag is not None:
        _add_result(case, tag, check.detail or check.outcome, "")


def _add_result(case: ET.Element, tag: str, message: str, text: str) -> None:
    result = ET.SubElement(case, tag, message=_clean(one_line(message)))
    result.text = _clean(text) or None


def _details(finding: Finding) -> str:
    witness = finding.witness.sql if finding.witness else ""
    parts = (
        ("at", finding.where),
        ("note", finding.note),
        ("hint", finding.hint),
        ("witness", f"\n{witness}" if witness else ""),
        ("repeat", finding.repeat),
    )
    return "\n".join(f"{name}: {text}" for name, text in parts if text)


def _add_properties(suite: ET.Element, run: RunModel) -> None:
    if run.started is None:
        return
    facts = {
        "seed": str(run.started.seed),
        "command": run.started.command,
        **run.started.environment,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))


def _count(parent: ET.Element) -> None:
    cases = list(parent.iter("testcase"))
    parent.set("tests", str(len(cases)))
    parent.set("failures", str(_having(cases, "failure")))
    parent.set("errors", str(_having(cases, "error")))
    parent.set("skipped", str(_having(cases, "skipped")))
    parent.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _having(cases: list[ET.Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)


def _clean(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)
