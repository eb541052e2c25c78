"""Fixtures of the whole test suite: one throw-away PostgreSQL a worker, clones a test.

``HARNESS_POSTGRES`` chooses the PostgreSQL (a ``bin`` directory); under pytest-xdist
each worker has a server of its own.  The database of a failed test is kept until the
session ends and its DSN is printed; ``--keep-databases`` keeps the server as well.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from harness.db.address import DatabaseAddress
from harness.db.cluster import Cluster
from harness.db.discovery import PostgresInstallation, find_postgres
from harness.db.schema_files import Schema, read_schema
from harness.db.templates import TemplateStore

ROOT = Path(__file__).resolve().parent.parent
FAILED = pytest.StashKey[bool]()
Result = TypeVar("Result")
CloneOf = Callable[..., DatabaseAddress]

# On top of what Hypothesis chooses for this machine (it has a profile for CI): how long
# an example takes says nothing about what it tests.
settings.register_profile(
    "untimed",
    settings(),
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-databases",
        action="store_true",
        help="leave the PostgreSQL server running if a test failed",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        item.session.stash[FAILED] = True
    return report


@pytest.fixture(scope="session")
def postgres_installation() -> PostgresInstallation:
    """Find the PostgreSQL under test: ``HARNESS_POSTGRES`` or the best one."""
    return find_postgres(
        os.environ.get("HARNESS_POSTGRES"),
        search_path=os.environ.get("PATH", os.defpath),
    )


@pytest.fixture(scope="session")
def postgres(
    request: pytest.FixtureRequest, postgres_installation: PostgresInstallation
) -> Iterator[Cluster]:
    """Run a throw-away server for the session."""
    cluster = Cluster.start(postgres_installation)
    yield cluster
    failed = request.session.stash.get(FAILED, False)
    if failed and request.config.getoption("--keep-databases"):
        _say(request, f"kept: PostgreSQL, process {cluster.pid}, end it with SIGINT")
        return
    cluster.stop()


@pytest.fixture(scope="session")
def platform_schema() -> Schema:
    """Read the files of ``sql/platform``."""
    return read_schema(ROOT / "sql" / "platform", role="supabase_admin", recorded=False)


@pytest.fixture(scope="session")
def database_runner(postgres: Cluster) -> Iterator[DatabaseRunner]:
    """Make and drop databases from synchronous code."""
    runner = DatabaseRunner(postgres)
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def platform_database(
    database_runner: DatabaseRunner, platform_schema: Schema
) -> DatabaseAddress:
    """Share a database with the platform in the session: read, do not write."""
    return database_runner.clone(platform_schema)


@pytest.fixture
def clone_of(
    request: pytest.FixtureRequest,
    database_runner: DatabaseRunner,
    platform_schema: Schema,
) -> Iterator[CloneOf]:
    """Make a database of this test with the platform and more schemas.

    ``clone_of(read_schema(folder))``; dropped after the test unless it failed.
    """
    made: list[DatabaseAddress] = []

    def clone(*schemas: Schema) -> DatabaseAddress:
        made.append(database_runner.clone(platform_schema, *schemas))
        return made[-1]

    yield clone
    for address in made:
        if request.node.stash.get(FAILED, False):
            _say(request, f"kept: {address.dsn('supabase_admin')}")
        else:
            database_runner.drop(address)


@pytest.fixture
def database(clone_of: CloneOf) -> DatabaseAddress:
    """Make a fresh database with the platform."""
    return clone_of()


class DatabaseRunner:
    """A :class:`TemplateStore` for callers without an event loop, or inside of one.

    Its own loop runs in a thread, so that fixtures may be used by tests of either kind.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._store = TemplateStore(cluster.address())
        self._run(self._store.open())

    def clone(self, *schemas: Schema) -> DatabaseAddress:
        """Return a fresh database that holds ``schemas``."""
        return self._run(self._clone(schemas))

    def drop(self, address: DatabaseAddress) -> None:
        """Drop a database with all that is connected to it."""
        self._run(self._store.drop(address.dbname))

    def close(self) -> None:
        """Disconnect."""
        self._run(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _clone(self, schemas: tuple[Schema, ...]) -> DatabaseAddress:
        template = await self._store.template(schemas)
        return self._store.address(await self._store.clone(template))

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _say(request: pytest.FixtureRequest, line: str) -> None:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(line)
