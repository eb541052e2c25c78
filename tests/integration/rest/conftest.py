"""Databases with the applications of these tests, served by the REST service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.db.address import DatabaseAddress
from harness.db.schema_files import Schema
from tests.conftest import DatabaseRunner
from tests.integration.rest.server import RestServer

SCHEMAS = Path(__file__).parent / "schemas"
Serve = Callable[..., RestServer]


@pytest.fixture
def serve(database: DatabaseAddress, tmp_path: Path) -> Iterator[Serve]:
    """Serve the test's own database: ``serve("create table ...", max_rows=2)``."""
    with ExitStack() as stack:

        def serving(sql: str = "", **settings: Any) -> RestServer:
            if sql:
                _apply(database, sql)
            return stack.enter_context(RestServer(database, tmp_path, **settings))

        yield serving


@pytest.fixture(scope="module")
def films(
    database_runner: DatabaseRunner,
    platform_schema: Schema,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RestServer]:
    """Serve the film database to the tests of a module, which only read it."""
    database = database_runner.clone(platform_schema)
    _apply(database, (SCHEMAS / "films.sql").read_text())
    with RestServer(database, tmp_path_factory.mktemp("objects")) as running:
        yield running
    database_runner.drop(database)


def _apply(database: DatabaseAddress, sql: str) -> None:
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(sql.encode())
