"""Values of PostgreSQL's types as ``to_jsonb`` writes them, from their printed text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import orjson

from harness.servers.realtime.tables import Column

__all__ = ["ValueEncoder", "value_encoder"]

NOT_JSON_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
ARRAY = "array:"
ValueEncoder = Callable[[str], bytes]


def value_encoder(
    column: Column, cast: Mapping[tuple[str, str], bytes]
) -> ValueEncoder:
    """Return what turns the text of a column's value into JSON.

    ``cast`` is asked, when a value is written, for forms that only PostgreSQL knows.
    """
    form = column.form
    if form == "sql":
        sql_type = column.sql_type
        return lambda text: cast[sql_type, text]
    if form.startswith(ARRAY):
        encode = FORMS[form.removeprefix(ARRAY)]
        return lambda text: _array(text, encode)
    return FORMS[form]


def _number(text: str) -> bytes:
    return b"null" if text in NOT_JSON_NUMBERS else text.encode()


def _bool(text: str) -> bytes:
    return b"true" if text == "t" else b"false"


def _timestamp(text: str) -> bytes:
    date, blank, rest = text.partition(" ")
    if not blank:
        return orjson.dumps(text)  # infinity
    clock, era, _ = rest.partition(" BC")
    sign = max(clock.rfind("+"), clock.rfind("-"))
    if sign > 0 and len(clock) - sign == 3:
        clock += ":00"  # JSON offsets always have minutes
    return orjson.dumps(f"{date}T{clock}{era}")


def _bytea(text: str) -> bytes:
    return orjson.dumps(text.removeprefix("\\x"))


FORMS: dict[str, ValueEncoder] = {
    "number": _number,
    "bool": _bool,
    "verbatim": str.encode,
    "timestamp": _timestamp,
    "bytea": _bytea,
    "string": orjson.dumps,
}


def _array(text: str, encode: ValueEncoder) -> bytes:
    """Rewrite an array literal of any depth as JSON."""
    # Unusual lower bounds stand in front: [0:1]={..}
    index = text.index("{") if text.startswith("[") else 0
    out: list[bytes] = []
    while index < len(text):
        char = text[index]
        if char in "{},":
            out.append({"{": b"[", "}": b"]", ",": b","}[char])
            index += 1
        elif char == '"':
            item, index = _quoted_item(text, index + 1)
            out.append(encode(item))
        else:
            end = index
            while text[end] not in ",}":
                end += 1
            item = text[index:end]
            out.append(b"null" if item == "NULL" else encode(item))
            index = end
    return b"".join(out)


def _quoted_item(text: str, start: int) -> tuple[str, int]:
    chars = []
    index = start
    while text[index] != '"':
        if text[index] == "\\":
            index += 1
        chars.append(text[index])
        index += 1
    return "".join(chars), index + 1
