"""pytest fixtures over a stack, and test reports as events.

Fixtures: ``stack``, ``project``, ``as_persona``, ``realtime``, ``storage``.  The stack
is started once a session, or attached to where ``HARNESS_STACK`` names the descriptor
of a running one, as the suites of ``harness run`` are told to.  ``project`` is a
database, objects and channels of its own for each test, cloned from a template of the
schema that the fixture ``harness_schema`` names.

``HARNESS_EVENTS`` names a file that gets a :class:`harness.events.CheckFinished` line
for each test, with the ids of its ``requirement`` markers.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from realtime import AsyncRealtimeClient
    from storage3 import AsyncStorageClient
    from supabase import AsyncClient

    from harness.servers.project import ProjectSettings
    from harness.stack.base import Stack
    from harness.stack.project import Persona, Project

__all__: list[str] = []

REQUIREMENTS = "requirements"
FIXTURES = frozenset({"stack", "project", "as_persona", "storage", "realtime"})
_Collected = (
    pytest.Item | pytest.Collector | list[pytest.Item | pytest.Collector] | None
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and write events where a file is named for them."""
    config.addinivalue_line(
        "markers", "requirement(*ids): ids of the requirements that this test shows"
    )
    path = os.environ.get("HARNESS_EVENTS")
    is_worker = hasattr(config, "workerinput")
    if path and not is_worker:
        config.pluginmanager.register(_EventWriter(Path(path)), "harness-events")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, obj: object
) -> Generator[None, _Collected, _Collected]:
    """Let ``async def`` tests that use our fixtures run, in the loop of the stack.

    Nearest to the collection, so that pytest-asyncio finds the marker in its own turn,
    whatever its mode and default loop.
    """
    collected = yield
    if inspect.iscoroutinefunction(obj):
        found = collected if isinstance(collected, list) else [collected]
        for item in found:
            if isinstance(item, pytest.Function) and _is_ours(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"))
    return collected


def _is_ours(item: pytest.Function) -> bool:
    """Say whether a test uses our fixtures and leaves its loop to us."""
    marked = item.get_closest_marker("asyncio") is not None
    return not marked and bool(FIXTURES.intersection(item.fixturenames))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Carry requirement ids in the report, which xdist passes between processes."""
    for item in items:
        ids = [str(i) for m in item.iter_markers("requirement") for i in m.args]
        if ids:
            item.user_properties.append((REQUIREMENTS, ",".join(dict.fromkeys(ids))))


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Return the folders of migrations of the projects; override it in a conftest."""
    return ()


@pytest.fixture(scope="session")
def harness_settings() -> ProjectSettings | None:
    """Return the settings of the projects' services; override it in a conftest."""
    return None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Yield the running stack of this session."""
    from harness.config import load_config
    from harness.stack.base import attach
    from harness.stack.embedded import EmbeddedStack

    descriptor = os.environ.get("HARNESS_STACK")
    if descriptor:
        async with attach(Path(descriptor)) as running:
            yield running
        return
    config = load_config(Path.cwd(), os.environ)
    async with EmbeddedStack(config) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def project(
    stack: Stack,
    harness_schema: tuple[Path, ...],
    harness_settings: ProjectSettings | None,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Project]:
    """Yield a fresh project; the database of a failed test is kept and named."""
    fresh = await stack.create_project(harness_schema, settings=harness_settings)
    yield fresh
    report = request.node.stash.get(_CALL_REPORT, None)
    if report is not None and report.failed and not stack.shared:
        request.node.add_report_section("call", "project", fresh.db_url)
    await fresh.drop()


@pytest.fixture
def as_persona(project: Project) -> Callable[[Persona], Awaitable[AsyncClient]]:
    """Return a function that gives the official client speaking for a persona."""
    return project.client


@pytest_asyncio.fixture(loop_scope="session")
async def storage(
    as_persona: Callable[[Persona], Awaitable[AsyncClient]],
) -> Callable[[Persona], Awaitable[AsyncStorageClient]]:
    """Return a function that gives the official Storage client of a persona."""

    async def of(persona: Persona) -> AsyncStorageClient:
        return (await as_persona(persona)).storage

    return of


@pytest_asyncio.fixture(loop_scope="session")
async def realtime(
    as_persona: Callable[[Persona], Awaitable[AsyncClient]],
) -> Callable[[Persona], Awaitable[AsyncRealtimeClient]]:
    """Return a function that gives the connected Realtime client of a persona."""

    async def of(persona: Persona) -> AsyncRealtimeClient:
        client = (await as_persona(persona)).realtime
        await client.connect()
        return client

    return of


_CALL_REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember how the test itself ended, for the fixtures that clean up."""
    report = yield
    if report.when == "call":
        item.stash[_CALL_REPORT] = report
    return report


class _EventWriter:
    """Appends one event a test to a file that ``harness run`` reads along."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._began = time.monotonic()
        self._total: int | None = None
        self._done = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note how many tests there will be; under xdist only the workers know."""
        self._total = len(session.items) or None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the outcome of a test, or of a phase of it that went wrong."""
        if report.when == "call" or report.outcome != "passed":
            self._write_report(report)

    def pytest_unconfigure(self) -> None:
        """Close the file."""
        self._file.close()

    def _write_report(self, report: pytest.TestReport) -> None:
        from harness.events import CheckFinished, Progress, encode_event

        properties = {str(k): str(v) for k, v in report.user_properties}
        ids = properties.get(REQUIREMENTS, "")
        outcome = report.outcome if report.when == "call" else _outside(report)
        event = CheckFinished(
            at=time.monotonic() - self._began,
            phase="suite",
            check=report.nodeid,
            outcome=outcome,
            took_s=report.duration,
            detail="" if report.passed else report.longreprtext,
            requirements=tuple(ids.split(",")) if ids else (),
        )
        self._done += 1
        progress = Progress(phase="suite", done=self._done, total=self._total)
        self._file.write(encode_event(event) + encode_event(progress))


def _outside(report: pytest.TestReport) -> Any:
    """Name the outcome of set-up and clean-up: what fails there is an error."""
    return "skipped" if report.skipped else "errored"
