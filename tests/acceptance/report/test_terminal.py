"""What a person sees in a terminal and in a pipe, compared with stored snapshots."""

import io
from pathlib import Path

import pytest

from harness.events import (
    CheckFinished,
    Event,
    Finding,
    PhaseStarted,
    Progress,
    RequirementShown,
    RunStarted,
)
from harness.report.terminal import TerminalWriter


class Terminal(io.StringIO):
    """Text that claims to be a terminal."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def write(events: list[Event], out: io.StringIO, log: io.StringIO) -> None:
    writer = TerminalWriter(out, log, report=Path("reports/run/index.html"))
    for event in events:
        writer.on_event(event)
    writer.close()


def test_output_of_a_failed_run_in_a_pipe(failed_run, snapshots) -> None:
    out, log = io.StringIO(), io.StringIO()
    write(failed_run, out, log)
    snapshots.check("failed.out.txt", out.getvalue())
    snapshots.check("failed.log.txt", log.getvalue())


def test_output_of_a_passed_run_in_a_pipe(passed_run, snapshots) -> None:
    out, log = io.StringIO(), io.StringIO()
    write(passed_run, out, log)
    snapshots.check("passed.out.txt", out.getvalue())


def test_first_line_is_the_gravest_finding_and_last_line_counts(failed_run) -> None:
    out, log = io.StringIO(), io.StringIO()
    write(failed_run, out, log)
    lines = out.getvalue().splitlines()
    assert lines[0] == (
        "sql/climber/draft/20250101000100_tables.sql:112: anon_sees_no_private_rows:"
        " anon reads rows of wearable_data that belong to other users"
    )
    assert lines[-1].startswith("FAILED: 3 findings; 1 undecided; 14 checks")
    assert lines[-1].endswith("(seed 1764772)")


def test_a_message_of_many_lines_stays_one_line() -> None:
    out, log = io.StringIO(), io.StringIO()
    long = "x" * 300
    write([Finding(phase="p", check="c", message=f"one\n two {long}")], out, log)
    assert out.getvalue().splitlines()[0] == f"c: one two {long}"


def test_a_scenario_that_failed_is_named_with_its_first_error() -> None:
    out, log = io.StringIO(), io.StringIO()
    detail = "    def test_it():\nE   assert 1 == 2\nE    +  where 1 = f()"
    failed = CheckFinished(
        phase="kit.flows", check="test_it", outcome="failed", took_s=0.1, detail=detail
    )
    fallen = RequirementShown(
        requirement="KT-02", title="t", scenario="test_it", outcome="failed"
    )
    write([failed, fallen], out, log)
    lines = out.getvalue().splitlines()
    assert lines[0] == "test_it: failed: assert 1 == 2"
    assert lines[2] == "requirements that fall (1 of 1): KT-02"


def test_markup_in_a_message_is_shown_as_it_is() -> None:
    out, log = io.StringIO(), io.StringIO()
    write([Finding(phase="p", check="c", message="[red]not[/red] :smile:")], out, log)
    assert out.getvalue().splitlines()[0] == "c: [red]not[/red] :smile:"


@pytest.mark.parametrize("no_color", [True, False])
def test_colour_appears_on_a_terminal_unless_no_color_is_set(
    failed_run, monkeypatch: pytest.MonkeyPatch, no_color: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    out, log = Terminal(), io.StringIO()
    write(failed_run, out, log)
    assert ("\x1b[1;31m" in out.getvalue()) is not no_color
    assert "\x1b" not in log.getvalue()


def test_progress_bars_are_drawn_on_a_terminal_only(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    events = [
        RunStarted(what="x", seed=1, utc="", command="harness run x"),
        PhaseStarted(phase="policies", title="Policy checks", total=10),
        Progress(phase="policies", done=5, note="user_profiles"),
    ]
    terminal, pipe = Terminal(), io.StringIO()
    write(list(events), io.StringIO(), terminal)
    write(list(events), io.StringIO(), pipe)
    assert "policies" in terminal.getvalue()
    assert pipe.getvalue() == ""


def test_a_run_that_was_cut_short_says_so(failed_run) -> None:
    out, log = io.StringIO(), io.StringIO()
    write(failed_run[:-1], out, log)
    assert out.getvalue().splitlines()[-1].startswith("CUT SHORT: 3 findings")
