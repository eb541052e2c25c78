"""Certificate authorities: left out of the import, there for whoever needs them."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys

import aiohttp
import pytest

from harness.servers.outward import client_session, without_authorities

LOADED = """
import sys
from harness.servers.outward import without_authorities
with without_authorities():
    import aiohttp.connector
import ssl
context = aiohttp.connector._SSL_CONTEXT_VERIFIED
print(context.cert_store_stats()["x509_ca"], context.verify_mode.name)
"""


@pytest.mark.parametrize("named", [None, "/somewhere"])
def test_the_environment_is_as_before(
    monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if named:
        monkeypatch.setenv("SSL_CERT_FILE", named)
    with without_authorities():
        assert os.environ["SSL_CERT_FILE"] == os.devnull
    assert os.environ.get("SSL_CERT_FILE") == named


def test_a_context_made_meanwhile_trusts_nobody() -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["0", "CERT_REQUIRED"]


async def test_a_client_checks_against_the_authorities_of_the_machine() -> None:
    async with client_session() as session:
        connector = session.connector
        assert isinstance(connector, aiohttp.TCPConnector)
        context = connector._ssl
        assert isinstance(context, ssl.SSLContext)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        expected = ssl.create_default_context().cert_store_stats()
        assert context.cert_store_stats() == expected
