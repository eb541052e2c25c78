"""How large the hosted service takes a payload to be: its external term format.

Limits are expressed in these sizes, so equal limits refuse equal payloads.  Source: the
Erlang external term format; JSON objects are maps, strings binaries, ``null`` the atom
``nil``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["exceeds", "term_size"]

VERSION_BYTES = 1
CONTAINER_BYTES = 5
ATOM_SIZES = {None: 5, True: 6, False: 7}
FLOAT_BYTES = 9
MAX_STRING_TERM = 65_535
# No JSON grows by more than this when it becomes a term: [1,1] does.
MAX_GROWTH = 7


def term_size(value: Any) -> int:
    """Return the encoded size of a JSON value in bytes."""
    return VERSION_BYTES + _size(value)


def exceeds(limit_bytes: int, value: Any, json_bytes: int) -> bool:
    """Tell whether a value, whose JSON has ``json_bytes``, is larger than the limit."""
    return json_bytes * MAX_GROWTH > limit_bytes and term_size(value) > limit_bytes


def _size(value: Any) -> int:
    if isinstance(value, str):
        return CONTAINER_BYTES + len(value.encode())
    if value is None or isinstance(value, bool):
        return ATOM_SIZES[value]
    if isinstance(value, int):
        return _integer_size(value)
    if isinstance(value, float):
        return FLOAT_BYTES
    if isinstance(value, dict):
        return CONTAINER_BYTES + sum(
            CONTAINER_BYTES + len(key.encode()) + _size(item)
            for key, item in value.items()
        )
    if not value:
        return 1
    if len(value) <= MAX_STRING_TERM and all(map(_is_byte, value)):
        return 3 + len(value)  # a list of bytes is written as a string
    return CONTAINER_BYTES + 1 + sum(map(_size, value))


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _integer_size(value: int) -> int:
    if 0 <= value <= 255:
        return 2
    if -(2**31) <= value < 2**31:
        return 5
    digits = (abs(value).bit_length() + 7) // 8
    return (3 if digits <= 255 else 6) + digits
