"""The official JavaScript client, unmodified: ``postgrest.test.mjs``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.rest.server import PREFIX, RestServer

pytestmark = pytest.mark.conformance

SCRIPT = Path(__file__).parent / "postgrest.test.mjs"
RunNode = Callable[[Path, dict[str, str]], str]


def test_postgrest_js_does_all_it_offers(films: RestServer, run_node: RunNode) -> None:
    environment = {"REST_URL": films.url + PREFIX, "TOKEN": films.token()}
    run_node(SCRIPT, environment)
