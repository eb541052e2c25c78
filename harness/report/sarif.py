"""``results.sarif``: findings for code scanning, as SARIF 2.1.0 (OASIS).

Each check is a rule, each finding a result at its file and line.  A finding that names
an object and no file has it as logical location, and its name stands for the file as
well, because GitHub refuses a whole log that holds one result without a file.
Fingerprints hold the check and the place without its line, so that moved code does not
reopen a finding.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from harness.events import Event, Finding, Undecided
from harness.report.model import RunModel, one_line

__all__ = ["SarifWriter", "sarif_log"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {
    "critical": "error",
    "high": "error",
    "medium": "warning",
    "low": "warning",
    "note": "note",
}
# GitHub orders findings by this number, from 0 to 10.
SCORES = {
    "critical": "9.5",
    "high": "8.0",
    "medium": "5.5",
    "low": "3.0",
    "note": "0.0",
}
PLACE = re.compile(r"(?P<file>.+?):(?P<line>[1-9]\d*)(?::(?P<column>[1-9]\d*))?")


class SarifWriter:
    """Collects the run and writes the log when it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._model = RunModel()

    def on_event(self, event: Event) -> None:
        """Take the next event."""
        self._model.add(event)

    def close(self) -> None:
        """Write the file."""
        text = orjson.dumps(sarif_log(self._model), option=orjson.OPT_INDENT_2)
        self._path.write_bytes(text + b"\n")


def sarif_log(run: RunModel) -> dict[str, Any]:
    """Return ``run`` as a SARIF log with one run."""
    rules = _rules(run)
    places = {rule["id"]: i for i, rule in enumerate(rules)}
    results = [_result(finding, places[finding.check]) for finding in run.findings]
    tool = {"driver": {"name": "harness", "rules": rules}}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": tool,
                "columnKind": "utf16CodeUnits",
                "invocations": [_invocation(run)],
                "results": results,
            }
        ],
    }


def _rules(run: RunModel) -> list[dict[str, Any]]:
    first: dict[str, Finding] = {}
    for finding in run.findings:
        first.setdefault(finding.check, finding)
    return [
        {
            "id": check,
            "name": _pascal(check),
            "shortDescription": {"text": check.replace("_", " ")},
            "help": {"text": finding.hint or check.replace("_", " ")},
            "defaultConfiguration": {"level": LEVELS[finding.severity]},
            "properties": {
                "security-severity": SCORES[finding.severity],
                "tags": ["security", finding.phase, *finding.requirements],
            },
        }
        for check, finding in first.items()
    ]


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    return {
        "ruleId": finding.check,
        "ruleIndex": rule,
        "level": LEVELS[finding.severity],
        "message": {"text": _message(finding)},
        "locations": [location(finding.where)],
        "partialFingerprints": {"checkAndPlace/v1": _fingerprint(finding)},
    }


def location(where: str) -> dict[str, Any]:
    """Return ``file:line`` as a location; a bare name is a logical one besides."""
    place = PLACE.fullmatch(where)
    if place is None:
        return {
            "physicalLocation": _physical(where or "unknown", {"startLine": 1}),
            "logicalLocations": [{"fullyQualifiedName": where or "unknown"}],
        }
    region = {"startLine": int(place["line"])}
    if place["column"]:
        region["startColumn"] = int(place["column"])
    return {"physicalLocation": _physical(place["file"], region)}


def _physical(file: str, region: dict[str, int]) -> dict[str, Any]:
    uri = quote(file.replace("\\", "/"), safe="/")
    return {"artifactLocation": {"uri": uri}, "region": region}


def _message(finding: Finding) -> str:
    parts = [one_line(finding.message)]
    if finding.note:
        parts.append(f"Note: {finding.note}")
    if finding.witness is not None and finding.witness.sql:
        parts.append(f"Witness:\n{finding.witness.sql}")
    if finding.repeat:
        parts.append(f"Repeat: {finding.repeat}")
    return "\n\n".join(parts)


def _invocation(run: RunModel) -> dict[str, Any]:
    invocation: dict[str, Any] = {
        "executionSuccessful": run.finished is not None and not run.undecided,
        "toolExecutionNotifications": [_notification(item) for item in run.undecided],
    }
    if run.started is not None:
        invocation["commandLine"] = run.started.command
        invocation["startTimeUtc"] = run.started.utc.replace("+00:00", "Z")
        invocation["properties"] = {"seed": run.started.seed}
    if run.finished is not None:
        invocation["exitCode"] = run.finished.exit_code
    return invocation


def _notification(item: Undecided) -> dict[str, Any]:
    text = f"{item.check}: undecided: {one_line(item.reason)}"
    return {"level": "error", "message": {"text": text}}


def _fingerprint(finding: Finding) -> str:
    place = PLACE.fullmatch(finding.where)
    where = place["file"] if place else finding.where
    key = "\0".join((finding.check, where, one_line(finding.message)))
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _pascal(check: str) -> str:
    return "".join(word.capitalize() for word in re.split(r"[^0-9A-Za-z]+", check))
