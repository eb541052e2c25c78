"""Run folders: made, listed, found; broken ones are named."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import ReportError
from harness.events import RunFinished, RunStarted, encode_event
from harness.report.store import create_run_folder, find_run, list_runs, read_events

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
STARTED = RunStarted(what="climber", seed=7, utc="2026-11-21T12:00:00Z", command="c")
FINISHED = RunFinished(
    verdict="pass",
    exit_code=0,
    passed=1,
    failed=0,
    undecided=0,
    skipped=0,
    took_s=1.0,
)


def stored(root: Path, minute: int = 0, *, finished: bool = True) -> Path:
    now = NOON + timedelta(minutes=minute)
    folder = create_run_folder(root, what="climber", seed=7, now=now)
    lines = [STARTED, FINISHED] if finished else [STARTED]
    text = b"".join(encode_event(event) for event in lines)
    (folder / "events.jsonl").write_bytes(text)
    return folder


def test_folder_is_named_by_time_what_and_seed(tmp_path: Path) -> None:
    root = tmp_path / "reports"
    first = create_run_folder(root, what="Climber / draft", seed=7, now=NOON)
    again = create_run_folder(root, what="Climber / draft", seed=7, now=NOON)
    assert first.name == "20261121T120000Z-climber-draft-7"
    assert again.name == "20261121T120000Z-climber-draft-7.1"


def test_a_root_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot make a report folder") as caught:
        create_run_folder(tmp_path / "file" / "r", what="x", seed=1, now=NOON)
    assert "--reports" in (caught.value.hint or "")


def test_list_is_newest_first_and_passes_over_strangers(tmp_path: Path) -> None:
    old, new = stored(tmp_path, 0), stored(tmp_path, 5, finished=False)
    (tmp_path / "notes").mkdir()
    runs = list_runs(tmp_path)
    assert [run.folder for run in runs] == [new, old]
    assert [run.finished is None for run in runs] == [True, False]


def test_find_gives_the_latest_the_named_and_the_path(tmp_path: Path) -> None:
    old, new = stored(tmp_path, 0), stored(tmp_path, 5)
    assert find_run(tmp_path).folder == new
    assert find_run(tmp_path, old.name).folder == old
    assert find_run(tmp_path / "elsewhere", str(old)).folder == old


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(ReportError) as caught:
        find_run(tmp_path, "20261121T120000Z-climbr-7")
    assert caught.value.hint == "did you mean 20261121T120000Z-climber-7?"


def test_no_runs_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no runs in") as caught:
        find_run(tmp_path / "nothing")
    assert "harness run" in (caught.value.hint or "")


def test_a_line_cut_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    folder = stored(tmp_path)
    with (folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"Find')
    assert list(read_events(folder)) == [STARTED, FINISHED]


@pytest.mark.parametrize(
    "text", [b"", b"garbage\n", b'{"event":"Nonsense"}\n', b"\xff\xfe\n", b"[]\n"]
)
def test_a_broken_folder_is_named(tmp_path: Path, text: bytes) -> None:
    folder = stored(tmp_path)
    (folder / "events.jsonl").write_bytes(text)
    with pytest.raises(ReportError, match="broken report folder"):
        find_run(tmp_path, folder.name)
    assert list_runs(tmp_path) == []


def test_a_folder_without_events_is_broken(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, what="x", seed=1, now=NOON)
    with pytest.raises(ReportError, match="No such file"):
        list(read_events(folder))
