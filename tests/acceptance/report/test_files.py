"""The files of a run: each read back by what reads it in the field."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.events import Finding, Progress, RunStarted, Undecided, decode_event
from harness.report.github import GithubWriter, annotation
from harness.report.jsonl import JsonlWriter
from harness.report.junit import JunitWriter
from harness.report.sarif import SarifWriter, location
from harness.report.summary import SummaryWriter


def write(writer, events) -> None:
    for event in events:
        writer.on_event(event)
    writer.close()


def test_events_are_read_back_equal_and_progress_is_not_kept(
    failed_run, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    write(JsonlWriter(path), [*failed_run, Progress(phase="load", done=1)])
    assert [decode_event(line) for line in path.read_bytes().splitlines()] == failed_run


def test_an_event_is_on_disk_before_the_writer_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = JsonlWriter(path)
    writer.on_event(RunStarted(what="x", seed=1, utc="", command=""))
    assert path.read_bytes().endswith(b"\n")
    writer.close()


def test_summary_holds_verdict_figures_and_findings(failed_run, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write(SummaryWriter(path), failed_run)
    summary = json.loads(path.read_text())
    assert summary["verdict"] == "fail"
    assert summary["exit_code"] == 1
    assert summary["checks"] == {"failed": 3, "passed": 10, "skipped": 1}
    assert [f["severity"] for f in summary["findings"]] == [
        "critical",
        "high",
        "medium",
    ]
    assert summary["load"][-1]["lost"] == 12
    assert "histogram" not in summary["load"][-1]
    assert summary["requirements"] == {"passed": 45, "failed": 3, "skipped": 1}


def test_summary_of_a_run_cut_short_is_unknown(failed_run, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write(SummaryWriter(path), failed_run[:-1])
    summary = json.loads(path.read_text())
    assert (summary["verdict"], summary["finished"]) == ("unknown", False)


def test_junit_counts_failures_errors_and_skips(failed_run, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    write(JunitWriter(path), failed_run)
    root = ET.parse(path).getroot()
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "14",
        "failures": "3",
        "errors": "1",
    }
    case = root.find(".//testcase[@name='anon_sees_no_private_rows']")
    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    assert "wearable_data" in str(failure.get("message"))
    assert "set local role anon;" in str(failure.text)
    undecided = root.find(".//testcase[@name='premium_may_upload_videos']/error")
    assert undecided is not None
    assert root.find(".//property[@name='seed']").get("value") == "1764772"


def test_junit_replaces_characters_that_xml_cannot_hold(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    write(JunitWriter(path), [Finding(phase="p", check="c", message="a\x00b\x1b[1m")])
    failure = ET.parse(path).getroot().find(".//failure")
    assert failure is not None
    assert failure.get("message") == "a\ufffdb\ufffd[1m"


def test_sarif_points_at_file_and_line(failed_run, tmp_path: Path) -> None:
    path = tmp_path / "results.sarif"
    write(SarifWriter(path), failed_run)
    run = json.loads(path.read_text())["runs"][0]
    first = run["results"][0]
    assert first["ruleId"] == "anon_sees_no_private_rows"
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == first["ruleId"]
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("20250101000100_tables.sql")
    assert place["region"] == {"startLine": 112}
    assert run["invocations"][0]["exitCode"] == 1
    assert run["invocations"][0]["executionSuccessful"] is False


def test_sarif_fingerprint_survives_a_moved_line(tmp_path: Path) -> None:
    prints = []
    for line in (3, 90):
        path = tmp_path / f"{line}.sarif"
        finding = Finding(phase="p", check="c", message="m", where=f"a.sql:{line}")
        write(SarifWriter(path), [finding])
        result = json.loads(path.read_text())["runs"][0]["results"][0]
        prints.append(result["partialFingerprints"])
    assert prints[0] == prints[1]


@pytest.mark.parametrize(
    ("where", "uri", "region", "logical"),
    [
        ("sql/a b.sql:7:3", "sql/a%20b.sql", {"startLine": 7, "startColumn": 3}, None),
        ("public.notes", "public.notes", {"startLine": 1}, "public.notes"),
        ("f(uuid, text)", "f%28uuid%2C%20text%29", {"startLine": 1}, "f(uuid, text)"),
        ("", "unknown", {"startLine": 1}, "unknown"),
    ],
)
def test_every_sarif_location_has_a_file_and_objects_are_logical(
    where: str, uri: str, region: dict[str, int], logical: str | None
) -> None:
    found = location(where)
    assert found["physicalLocation"]["artifactLocation"] == {"uri": uri}
    assert found["physicalLocation"]["region"] == region
    names = [each["fullyQualifiedName"] for each in found.get("logicalLocations", [])]
    assert names == ([logical] if logical else [])


def test_github_annotations_escape_what_the_runner_would_read(tmp_path: Path) -> None:
    finding = Finding(
        phase="p", check="a:b,c", message="50% of\nrows", where="sql/x,y.sql:4"
    )
    assert annotation(finding) == (
        "::error file=sql/x%2Cy.sql,line=4,title=a%3Ab%2Cc::50%25 of rows"
    )


def test_github_summary_shows_each_finding(failed_run, tmp_path: Path) -> None:
    out = (tmp_path / "out").open("w+")
    summary = tmp_path / "summary.md"
    undecided = Undecided(phase="p", check="c", reason="r\nr")
    with out:
        writer = GithubWriter(out, step_summary=summary)
        write(writer, [*failed_run, undecided])
        out.seek(0)
        lines = out.read().splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        "::error",
        "::error",
        "::warning",
        "::error",
        "::error",
    ]
    text = summary.read_text()
    assert text.startswith("## climber-draft: failed\n")
    assert "a signed-in user changes &lt;rows> of realtime_channels &amp;" in text
