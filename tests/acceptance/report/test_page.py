"""The HTML report in a real browser: quiet, self-contained, usable, narrow too."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.events import Event, Finding, RunStarted
from harness.report.html import HtmlWriter, render_page
from harness.report.model import RunModel


def _load_browser():
    path = Path(__file__).with_name("browser.py")
    spec = importlib.util.spec_from_file_location("report_test_browser", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


browser = _load_browser()
CHROMIUM = browser.find_chromium()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    """Share one browser between the tests of this file."""
    with browser.open_browser(CHROMIUM, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def write(events: list[Event], folder: Path) -> Path:
    path = folder / "index.html"
    writer = HtmlWriter(path)
    for event in events:
        writer.on_event(event)
    writer.close()
    return path


@needs_chromium
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_page_is_quiet_asks_no_network_and_fits_the_width(
    page, failed_run, tmp_path: Path, width: int
) -> None:
    page.complaints.clear()
    page.requests.clear()
    path = write(failed_run, tmp_path)
    page.open(path, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.complaints == []
    assert page.requests == [path.resolve().as_uri()]


@needs_chromium
def test_verdict_and_gravest_finding_are_on_the_first_screen(
    page, failed_run, tmp_path: Path
) -> None:
    page.open(write(failed_run, tmp_path), width=1280, height=900)
    bottom = "document.querySelector({!r}).getBoundingClientRect().bottom"
    assert page.evaluate(bottom.format(".verdict")) < 120
    assert page.evaluate(bottom.format("#finding-1 .message")) < 900
    text = page.evaluate("document.querySelector('#finding-1').innerText")
    assert "anon_sees_no_private_rows" in text


@needs_chromium
def test_tabs_filters_copy_and_theme_work(page, failed_run, tmp_path: Path) -> None:
    page.open(write(failed_run, tmp_path))
    shown = "getComputedStyle(document.querySelectorAll('.bodies > .code')[{}]).display"
    page.evaluate("document.querySelector('label[for=w1-1]').click()")
    assert page.evaluate(shown.format(0)) == "none"
    assert page.evaluate(shown.format(1)) == "flex"
    page.evaluate("document.querySelector('#requirements [data-show=failed]').click()")
    rows = "document.querySelectorAll('#requirements tbody tr:not([hidden])').length"
    assert page.evaluate(rows) == 3
    page.evaluate("document.querySelector('.copy').click()")
    page.wait_for("document.querySelector('.copy').textContent === 'Copied'")
    page.evaluate("document.querySelector('#theme').click()")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.complaints == []


@needs_chromium
def test_many_findings_are_folded_filtered_and_opened_by_a_link(
    page, tmp_path: Path
) -> None:
    events = [
        Finding(phase="p", check=f"check_{i % 2}", message=f"finding {i}", hint="h")
        for i in range(12)
    ]
    page.open(write(events, tmp_path))
    count = "document.querySelectorAll({!r}).length"
    assert page.evaluate(count.format("details")) == 12
    assert page.evaluate(count.format("details[open]")) == 1
    page.evaluate("document.querySelector('#findings [data-show=check_1]').click()")
    assert page.evaluate(count.format("details:not([hidden])")) == 6
    page.evaluate("document.querySelector('#finding-2 .anchor').click()")
    page.wait_for("document.querySelector('#finding-2').open")


@needs_chromium
def test_violations_of_the_matrix_say_what_they_are(
    page, failed_run, tmp_path: Path
) -> None:
    page.open(write(failed_run, tmp_path))
    tips = page.evaluate(
        "[...document.querySelectorAll('.matrix .violation')]"
        ".map(cell => cell.parentElement.dataset.tip)"
    )
    assert len(tips) == 2
    assert tips[0].startswith("anon: SELECT wearable_data, rows of others:")
    assert tips[0].endswith("allowed (violation)")


@needs_chromium
def test_a_run_that_ended_before_it_began_still_renders(page, tmp_path: Path) -> None:
    page.complaints.clear()
    page.open(write([], tmp_path))
    assert page.evaluate("document.querySelector('.verdict').innerText") == "Unknown"
    text = page.evaluate("document.querySelector('#findings').innerText")
    assert "that is not everything" in text
    assert page.complaints == []


def test_text_of_the_system_under_test_cannot_become_markup() -> None:
    evil = "</pre><script>alert(1)</script>"
    events = [
        RunStarted(what=evil, seed=1, utc=evil, command=evil, environment={evil: evil}),
        Finding(phase="p", check=evil, message=evil, where=evil, repeat=evil),
    ]
    html = render_page(RunModel.of(events))
    assert "<script>alert" not in html
    assert html.count("<script>") == 1


def test_page_needs_nothing_from_outside(passed_run) -> None:
    html = render_page(RunModel.of(passed_run))
    for reference in ("http://", "https://", "src=", "<link", "@import", "url("):
        assert reference not in html, reference
