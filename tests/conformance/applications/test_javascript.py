"""The application by the official JavaScript client, in Node.js and in a browser."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.stack.project import Project

pytestmark = pytest.mark.conformance

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RunNode = Callable[[Path, dict[str, str]], str]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def page_url(tmp_path: Path, node_modules: Path) -> Iterator[str]:
    """Serve the page and the client library, from another origin than the stack."""
    site = tmp_path / "site"
    shutil.copytree(HERE / "browser", site)
    library = node_modules / "@supabase" / "supabase-js" / "dist" / "umd"
    shutil.copy(library / "supabase.js", site)
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def environment(project: Project) -> dict[str, str]:
    return {
        "SUPABASE_URL": project.url,
        "SUPABASE_PUBLISHABLE_KEY": project.publishable_key,
        "SUPABASE_SECRET_KEY": project.secret_key,
    }


def test_the_application_runs_in_node(project: Project, run_node: RunNode) -> None:
    run_node(HERE / "javascript" / "team_notes.test.mjs", environment(project))


def test_the_application_runs_in_a_browser(
    project: Project, page_url: str, run_node: RunNode
) -> None:
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    script = HERE / "browser" / "page.test.mjs"
    more = {"CHROMIUM": browser, "PAGE_URL": page_url}
    run_node(script, {**environment(project), **more})
