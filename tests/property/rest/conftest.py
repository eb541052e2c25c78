"""One served database for all examples of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from harness.db.schema_files import Schema
from tests.conftest import DatabaseRunner
from tests.integration.rest.server import RestServer

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(
    database_runner: DatabaseRunner,
    platform_schema: Schema,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RestServer]:
    """Serve ``schema.sql``; a client may have its writes rolled back."""
    database = database_runner.clone(platform_schema)
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute((HERE / "schema.sql").read_bytes())
    folder = tmp_path_factory.mktemp("objects")
    settings = {"db_tx_end": "commit-allow-override", "db_aggregates_enabled": True}
    with RestServer(database, folder, **settings) as running:
        yield running
    database_runner.drop(database)
