"""Validation of JSON bodies and queries, with the coercions and messages of the API.

Source: storage-api 3.1 (JSON input).  Values that can be read as the asked type are
converted, unknown keys are ignored, the first fault is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from harness.servers.storage import errors

__all__ = ["Field", "validate"]

Kind = Literal["string", "integer", "boolean", "object", "array", "any"]
MAX_SAFE_INTEGER: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Field:
    """What one key must be.

    ``minimum`` bounds integers, ``min_items``/``max_items`` arrays, ``min_length``
    strings; ``fields`` describes a nested object, ``items`` an array's elements.
    """

    kind: Kind
    required: bool = False
    nullable: bool = False
    minimum: int | None = None
    maximum: int | None = None
    min_length: int = 0
    min_items: int = 0
    max_items: int | None = None
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)
    items: Field | None = None
    or_kind: Kind | None = None


def validate(value: Any, fields: Mapping[str, Field], where: str = "body") -> Any:
    """Return ``value`` converted to ``fields``, without the keys it does not name."""
    if not isinstance(value, Mapping):
        raise _fault(f"{where} must be object")
    result: dict[str, Any] = {}
    for name, rule in fields.items():
        if name in value:
            result[name] = _check(value[name], rule, f"{where}/{name}")
        elif rule.required:
            raise _fault(f"{where} must have required property '{name}'")
    return result


def _check(value: Any, rule: Field, where: str) -> Any:
    if value is None and rule.nullable:
        return None
    if rule.or_kind is not None and _is(value, rule.or_kind):
        return value
    if rule.kind == "any":
        return value
    if rule.kind == "object":
        return validate(value, rule.fields, where)
    if rule.kind == "array":
        return _check_array(value, rule, where)
    return _check_scalar(value, rule, where)


def _check_scalar(value: Any, rule: Field, where: str) -> Any:
    converted = _CONVERT[rule.kind](value)
    if converted is _WRONG:
        raise _fault(f"{where} must be {rule.kind}")
    if rule.choices and converted not in rule.choices:
        raise _fault(f"{where} must be equal to one of the allowed values")
    if rule.kind == "integer":
        if rule.minimum is not None and converted < rule.minimum:
            raise _fault(f"{where} must be >= {rule.minimum}")
        if rule.maximum is not None and converted > rule.maximum:
            raise _fault(f"{where} must be <= {rule.maximum}")
    elif rule.kind == "string" and len(converted) < rule.min_length:
        raise _fault(f"{where} must NOT have fewer than {rule.min_length} characters")
    return converted


def _check_array(value: Any, rule: Field, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise _fault(f"{where} must be array")
    if len(value) < rule.min_items:
        raise _fault(f"{where} must NOT have fewer than {rule.min_items} items")
    if rule.max_items is not None and len(value) > rule.max_items:
        raise _fault(f"{where} must NOT have more than {rule.max_items} items")
    items = rule.items
    if items is None:
        return value
    return [_check(item, items, f"{where}/{i}") for i, item in enumerate(value)]


_WRONG: Final = object()


def _to_string(value: Any) -> Any:
    if isinstance(value, str):
        # PostgreSQL's text cannot hold a NUL, and no name or type may contain one.
        return _WRONG if "\0" in value else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return _WRONG


def _to_integer(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            value = float(value) if value.strip() and value.isascii() else _WRONG
        except ValueError:
            return _WRONG
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and abs(value) <= MAX_SAFE_INTEGER:
        return value
    return _WRONG


def _to_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in ("true", 1):
        return True
    if value in ("false", 0) or value is None:
        return False
    return _WRONG


_CONVERT: Final = {
    "string": _to_string,
    "integer": _to_integer,
    "boolean": _to_boolean,
}


def _is(value: Any, kind: Kind) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return kind == "string" and isinstance(value, str)


def _fault(message: str) -> errors.StorageError:
    return errors.invalid_request(message, error="Error")
