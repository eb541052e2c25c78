"""The film database behind the REST service, for the official clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from harness.db.address import DatabaseAddress
from tests.integration.rest.server import RestServer

SCHEMA = Path(__file__).parents[2] / "integration" / "rest" / "schemas" / "films.sql"


@pytest.fixture
def films(database: DatabaseAddress, tmp_path: Path) -> Iterator[RestServer]:
    """Serve a film database of the test's own."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
    with RestServer(database, tmp_path, db_plan_enabled=True) as running:
        yield running
