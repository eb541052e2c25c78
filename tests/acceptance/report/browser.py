"""A headless Chromium driven over its DevTools protocol, one page at a time."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

START_TIMEOUT_S = 30.0
REPLY_TIMEOUT_S = 30.0


def find_chromium() -> str | None:
    """Return the browser's path, or None where none is installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Page:
    """An open page: what it logged, what it asked the network for, what it shows."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._next_id = 0
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        """Run one DevTools command and return its result."""
        self._next_id += 1
        message = {"id": self._next_id, "method": method, "params": params}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=REPLY_TIMEOUT_S))
            if answer.get("id") == self._next_id:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression (awaited if a promise)."""
        result = self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while not self.evaluate(script):
            assert time.monotonic() < deadline, f"never true: {script}"

    def open(self, path: Path, *, width: int = 1280, height: int = 900) -> None:
        """Load a file at a window size and wait until it is complete."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        url = path.resolve().as_uri()
        self.call("Page.navigate", url=url)
        self.wait_for(
            f"location.href === {url!r} && document.readyState === 'complete'"
        )

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(params))
            case "Log.entryAdded":
                self.complaints.append(json.dumps(params["entry"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@contextmanager
def open_browser(program: str, profile: Path) -> Iterator[Page]:
    """Start the browser with an empty profile; it is gone when the block ends."""
    arguments = [
        program,
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    if os.geteuid() == 0:
        arguments.insert(1, "--no-sandbox")  # Chromium refuses to sandbox as root
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        with connect(_page_url(profile, process), max_size=None) as socket:
            page = Page(socket)
            yield page
            socket.send(json.dumps({"id": 0, "method": "Browser.close"}))
            process.wait(timeout=REPLY_TIMEOUT_S)
    finally:
        process.kill()
        process.wait()


def _page_url(profile: Path, process: subprocess.Popen[bytes]) -> str:
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, "the browser ended at its start"
        assert time.monotonic() < deadline, "the browser did not start"
        if port_file.exists() and len(port_file.read_text().split()) == 2:
            break
        time.sleep(0.02)
    port = port_file.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as reply:
        targets = json.load(reply)
    return next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
