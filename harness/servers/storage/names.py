"""Which object keys, bucket names, sizes and mime types are allowed.

Source: storage-api 3.2.  Pure decisions; nothing here reads a clock or a disk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from harness.servers.storage import errors

__all__ = [
    "check_bucket_name",
    "check_key",
    "check_mime_type",
    "check_mime_types",
    "has_dot_segment",
    "is_empty_folder",
    "is_uuid",
    "parse_size_limit",
]

KEY: Final = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+", re.ASCII)
BUCKET: Final = re.compile(r"[A-Za-z0-9_!.*'() &$=@;:+,?-]{1,100}", re.ASCII)
SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(gb|mb|kb|b)", re.ASCII | re.IGNORECASE)
UNITS: Final = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
MIME_PATTERN: Final = re.compile(
    r"([a-zA-Z0-9\-+.]+)/([a-zA-Z0-9\-+.]+)(;\s*charset=[a-zA-Z0-9\-]+)?|.*\*",
    re.ASCII,
)
UUID_FORM: Final = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII
)
ICEBERG_SUFFIX: Final = "--table-s3"
EMPTY_FOLDER: Final = ".emptyFolderPlaceholder"
MAX_MIME_LENGTH: Final = 1000


def check_key(key: str) -> None:
    """Refuse an object key with characters that are not allowed."""
    if KEY.fullmatch(key) is None:
        raise errors.invalid_key(key)


def has_dot_segment(key: str) -> bool:
    """Whether a segment of ``key`` is ``.`` or ``..``."""
    return "." in key and any(part in (".", "..") for part in key.split("/"))


def check_bucket_name(name: str) -> None:
    """Refuse a bucket name that is not allowed."""
    if (
        BUCKET.fullmatch(name) is None
        or name != name.strip()
        or name.endswith(ICEBERG_SUFFIX)
    ):
        raise errors.invalid_bucket_name(name)


def is_empty_folder(key: str) -> bool:
    """Whether ``key`` is the placeholder that makes an empty folder visible."""
    return key.endswith(EMPTY_FOLDER)


def parse_size_limit(value: int | str | None, *, ceiling: int) -> int | None:
    """Return a ``file_size_limit`` in bytes (decimal units); None means no limit."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.isascii() and value.isdigit():
            size = int(value)
        else:
            match = SIZE.fullmatch(value)
            if match is None:
                raise errors.invalid_file_size_limit()
            size = int(Decimal(match[1]) * UNITS[match[2].lower()])
    elif value < 0:
        raise errors.invalid_file_size_limit()
    else:
        size = value
    if size > ceiling:
        raise errors.entity_too_large()
    return size


def check_mime_types(patterns: Sequence[str]) -> list[str]:
    """Return the non-empty ``allowed_mime_types``; refuse one that is no type."""
    kept = [pattern for pattern in patterns if pattern]
    for pattern in kept:
        too_long = len(pattern) > MAX_MIME_LENGTH
        if too_long or MIME_PATTERN.fullmatch(pattern) is None:
            raise errors.invalid_mime_type(pattern)
    return kept


def check_mime_type(
    mime_type: str, allowed: Sequence[str] | None, *, key: str = ""
) -> None:
    """Refuse an upload whose type the bucket does not take.

    Types are compared as text, parameters included, as the real service does.
    """
    if not allowed or is_empty_folder(key):
        return
    parts = mime_type.split("/")
    if len(parts) < 2:
        raise errors.invalid_mime_type(mime_type)
    for pattern in allowed:
        kind, _, subtype = pattern.partition("/")
        if kind == parts[0] and subtype in ("*", parts[1]):
            return
    raise errors.invalid_mime_type(mime_type)


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID in its usual form."""
    return UUID_FORM.fullmatch(text) is not None
