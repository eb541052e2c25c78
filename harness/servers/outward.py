"""HTTP clients of the services: their S3 endpoint, a CDN, another server process.

Importing aiohttp reads the machine's certificate authorities twice, a tenth of the time
that a server process takes to load, and few processes ever speak TLS.  So they are left
out of the import, and read by the first client.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

__all__ = ["client_session", "without_authorities"]

AUTHORITIES = "SSL_CERT_FILE"  # OpenSSL reads the file that this names


@contextmanager
def without_authorities() -> Iterator[None]:
    """Let TLS contexts made meanwhile know no certificate authority."""
    named = os.environ.get(AUTHORITIES)
    os.environ[AUTHORITIES] = os.devnull
    try:
        yield
    finally:
        if named is None:
            del os.environ[AUTHORITIES]
        else:
            os.environ[AUTHORITIES] = named


def client_session(**options: Any) -> aiohttp.ClientSession:
    """Return a session that checks certificates against the machine's authorities."""
    import aiohttp

    connector = aiohttp.TCPConnector(ssl=_context())
    return aiohttp.ClientSession(connector=connector, **options)


@cache
def _context() -> ssl.SSLContext:
    return ssl.create_default_context()
