"""TUS 1.0.0 resumable uploads without I/O: headers in, decisions out.

Source: the tus protocol 1.0.0 (creation, creation-with-upload, creation-defer-length,
termination, expiration) and storage-api 3.8, whose words the refusals use.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from harness.errors import RemoteProtocolError

__all__ = [
    "EXPOSED_HEADERS",
    "EXTENSIONS",
    "OFFSET_TYPE",
    "VERSION",
    "Creation",
    "Patch",
    "TusError",
    "UploadId",
    "check_headers",
    "parse_creation",
    "parse_metadata",
    "parse_patch",
]

VERSION: Final = "1.0.0"
OFFSET_TYPE: Final = "application/offset+octet-stream"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,termination,expiration"
)
ALLOWED_HEADERS: Final = (
    "Authorization, Content-Type, Location, Tus-Extension, Tus-Max-Size, "
    "Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Length, "
    "Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Requested-With, "
    "X-Forwarded-Host, X-Forwarded-Proto, Forwarded, x-signature, x-upsert, apikey"
)
EXPOSED_HEADERS: Final = (
    "Authorization, Content-Type, Location, Tus-Extension, Tus-Max-Size, "
    "Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Expires, "
    "Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, "
    "X-Requested-With, X-Forwarded-Host, X-Forwarded-Proto, Forwarded, tus-complete"
)
NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
METADATA_KEY: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+", re.ASCII)


class TusError(RemoteProtocolError):
    """A refusal: ``status`` and the plain text of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class UploadId:
    """What an upload's URL names: a version of an object."""

    bucket: str
    key: str
    version: str

    def encode(self) -> str:
        """Return the last segment of the URL."""
        text = f"{self.bucket}/{self.key}/{self.version}"
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, segment: str) -> UploadId:
        """Read the last segment of the URL; anything else was never an upload."""
        try:
            padded = segment + "=" * (-len(segment) % 4)
            text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError) as exc:
            raise not_found() from exc
        bucket, _, rest = text.partition("/")
        key, _, version = rest.rpartition("/")
        if not (bucket and key and version) or "\0" in text:
            raise not_found()
        return cls(bucket, key, version)


@dataclass(frozen=True, slots=True)
class Creation:
    """What a POST asks for; ``size`` None defers the length."""

    size: int | None
    metadata: Mapping[str, str]
    raw_metadata: str
    carries_body: bool


@dataclass(frozen=True, slots=True)
class Patch:
    """Where a PATCH begins; ``size`` declares a deferred length."""

    offset: int
    size: int | None


def not_found() -> TusError:
    """Return: there is no such upload."""
    return TusError(404, "The file for this url was not found")


def check_headers(method: str, headers: Mapping[str, str]) -> None:
    """Refuse a request whose version or header values are not of the protocol."""
    if method == "OPTIONS":
        return
    if "Tus-Resumable" not in headers:
        raise TusError(412, "Tus-Resumable Required")
    wrong = [
        name.lower()
        for name, is_valid in _VALID.items()
        if (value := headers.get(name)) is not None and not is_valid(value)
    ]
    content_type = headers.get("Content-Type")
    if method == "PATCH" and content_type is not None and content_type != OFFSET_TYPE:
        wrong.append("content-type")
    if wrong:
        raise TusError(400, f"Invalid {' '.join(wrong)}")


def parse_creation(headers: Mapping[str, str]) -> Creation:
    """Read a POST whose headers were checked."""
    length, deferred = headers.get("Upload-Length"), "Upload-Defer-Length" in headers
    if "Upload-Concat" in headers:
        raise TusError(501, "Concatenation is not (yet) supported.")
    if (length is None) is not deferred:
        raise TusError(400, "Upload-Length or Upload-Defer-Length header required")
    raw = headers.get("Upload-Metadata", "")
    if not raw:
        raise TusError(400, "Metadata header is required")
    return Creation(
        size=None if length is None else int(length),
        metadata=parse_metadata(raw),
        raw_metadata=raw,
        carries_body=headers.get("Content-Type") == OFFSET_TYPE,
    )


def parse_patch(headers: Mapping[str, str]) -> Patch:
    """Read a PATCH whose headers were checked."""
    if "Upload-Offset" not in headers:
        raise TusError(403, "Upload-Offset header required")
    if "Content-Type" not in headers:
        raise TusError(403, "Content-Type header required")
    length = headers.get("Upload-Length")
    return Patch(int(headers["Upload-Offset"]), None if length is None else int(length))


def parse_metadata(text: str) -> dict[str, str]:
    """Read Upload-Metadata: ``key base64,key base64``, a value may be missing."""
    values: dict[str, str] = {}
    for pair in text.split(","):
        key, _, encoded = pair.strip(" ").partition(" ")
        if METADATA_KEY.fullmatch(key) is None or key in values:
            raise _bad_metadata()
        try:
            data = base64.b64decode(encoded, validate=True)
            values[key] = data.decode()
        except (binascii.Error, ValueError) as exc:
            raise _bad_metadata() from exc
    return values


def _bad_metadata() -> TusError:
    return TusError(400, "Invalid upload-metadata")


def _is_number(value: str) -> bool:
    return NUMBER.fullmatch(value) is not None


def _is_metadata(value: str) -> bool:
    try:
        parse_metadata(value)
    except TusError:
        return False
    return True


_VALID: Final[Mapping[str, Callable[[str], bool]]] = {
    "Upload-Offset": _is_number,
    "Upload-Length": _is_number,
    "Upload-Defer-Length": lambda value: value == "1",
    "Upload-Metadata": _is_metadata,
    "Tus-Resumable": lambda value: value == VERSION,
}
