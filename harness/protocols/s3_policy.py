"""POST policies: what an HTML form may upload.

Source: "Browser-based uploads using POST" and storage-api 3.9: the expiration is
required and every field must be covered by a condition.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from harness.errors import RemoteProtocolError

__all__ = ["PolicyError", "PostPolicy"]

# What signs the form, and the file: every other field must be in a condition.
UNCOVERED: Final = frozenset(
    {
        "file",
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-signature",
    }
)
IGNORED_PREFIX: Final = "x-ignore-"


class PolicyError(RemoteProtocolError):
    """A form that its policy does not allow, or a policy that is none.

    ``reason`` is one of ``denied``, ``expired``, ``malformed``.
    """

    def __init__(self, message: str, reason: str = "malformed") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PostPolicy:
    """A policy: ``conditions`` are (operator, field in lower case, value)."""

    expires_at: datetime
    conditions: tuple[tuple[str, str, str], ...]
    size_range: tuple[int, int] | None

    @classmethod
    def parse(cls, encoded: str) -> PostPolicy:
        """Read the base64 JSON of a form's ``policy`` field."""
        try:
            document = json.loads(base64.b64decode(encoded, validate=True))
            expiration = str(document["expiration"]).replace("Z", "+00:00")
            expires_at = datetime.fromisoformat(expiration)
            conditions = document["conditions"]
        except (binascii.Error, ValueError, KeyError, TypeError) as exc:
            raise PolicyError("Invalid policy document") from exc
        if not isinstance(conditions, list):
            raise PolicyError("Invalid policy document")
        if expires_at.tzinfo is None:
            expires_at = expires_at.replace(tzinfo=UTC)
        rules: list[tuple[str, str, str]] = []
        size_range = None
        for condition in conditions:
            if isinstance(condition, list) and condition[:1] == [
                "content-length-range"
            ]:
                size_range = _size_range(condition)
            else:
                rules.extend(_rules(condition))
        return cls(expires_at, tuple(rules), size_range)

    def check(self, fields: Mapping[str, str], bucket: str, now: datetime) -> None:
        """Refuse form fields (names in lower case) that the policy does not allow."""
        if self.expires_at < now:
            raise PolicyError("Policy has expired", "expired")
        told = {**fields, "bucket": bucket}
        covered = {field for _, field, _ in self.conditions}
        for name in told:
            free = name in UNCOVERED or name.startswith(IGNORED_PREFIX)
            if not free and name not in covered:
                raise PolicyError(f"Extra input fields: {name}", "denied")
        for operator, field, value in self.conditions:
            given = told.get(field)
            if given is None or not (
                given == value if operator == "eq" else given.startswith(value)
            ):
                message = f"Policy Condition failed: {operator} ${field}"
                raise PolicyError(message, "denied")


def _rules(condition: Any) -> list[tuple[str, str, str]]:
    if isinstance(condition, dict):
        return [("eq", str(k).lower(), str(v)) for k, v in condition.items()]
    if isinstance(condition, list) and len(condition) == 3:
        operator, field, value = map(str, condition)
        if operator in ("eq", "starts-with") and field.startswith("$"):
            return [(operator, field[1:].lower(), value)]
    raise PolicyError("Invalid policy condition")


def _size_range(condition: list[Any]) -> tuple[int, int]:
    try:
        _, least, most = condition
        return int(least), int(most)
    except (ValueError, TypeError) as exc:
        raise PolicyError("Invalid policy condition") from exc
