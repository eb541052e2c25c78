"""Bare HTTP, as anybody has it who only knows a URL."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import httpx

__all__ = ["browser"]


def browser(**options: Any) -> httpx.AsyncClient:
    """Return an HTTP client, to be used with ``async with``."""
    return httpx.AsyncClient(verify=_trusted_certificates(), **options)


@functools.cache
def _trusted_certificates() -> ssl.SSLContext:
    """Load the certificates once: each load takes a client 20 to 50 ms."""
    return ssl.create_default_context()
