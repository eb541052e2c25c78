"""Answers of the S3 protocol: documents, refusals, times, continuation tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from aiohttp import web

from harness.protocols import s3_xml
from harness.servers.storage import errors
from harness.servers.storage.core import iso

__all__ = [
    "decode_token",
    "document",
    "encode_token",
    "js_date",
    "refusal",
    "s3_time",
    "url_encoded",
]


def document(
    root: str,
    content: Mapping[str, Any],
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an XML answer."""
    response = web.Response(
        status=status, body=s3_xml.render(root, content), headers=headers
    )
    response.headers["Content-Type"] = "application/xml; charset=utf-8"
    return response


def refusal(error: errors.StorageError, resource: str, *, head: bool) -> web.Response:
    """Return an S3 error with its real status; HEAD answers have no body."""
    if head:
        return web.Response(status=error.status)
    body = s3_xml.render(
        "Error",
        {"Resource": resource, "Code": error.code, "Message": error.message},
        namespace=False,
    )
    headers = {"Content-Type": "application/xml; charset=utf-8"}
    response = web.Response(status=error.status, body=body, headers=headers)
    if error.close:
        response.force_close()
    return response


def s3_time(at: datetime | None) -> str | None:
    """Return a time as S3 documents write it."""
    return iso(at)


def js_date(at: datetime) -> str:
    """Return a time as JavaScript's Date.toString in UTC writes it."""
    return f"{at:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"


def url_encoded(text: str, encoding: str | None) -> str:
    """Return a key as ``encoding-type`` asks for; ``url`` encodes slashes too."""
    return quote(text, safe="-_.!~*'()") if encoding == "url" else text


def encode_token(last: str) -> str:
    """Return the continuation token of a listing that goes on after ``last``."""
    return base64.b64encode(f"l:{last}".encode()).decode()


def decode_token(token: str, name: str) -> str:
    """Read a continuation token; refuse anything else."""
    try:
        text = base64.b64decode(token, validate=True).decode()
    except (binascii.Error, ValueError) as exc:
        raise errors.invalid_parameter(name) from exc
    if not text.startswith("l:") or "\0" in text:
        raise errors.invalid_parameter(name)
    return text.partition("\n")[0][2:]
