"""The settings of the REST service, under the names that PostgREST gives them.

They come from the project (the names of ``[api]`` in ``supabase/config.toml`` are
understood too) and, over those, from the database: ``ALTER ROLE authenticator SET
pgrst.db_max_rows = ...`` as PostgREST's in-database configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import ConfigError
from harness.servers.rest.schema import QualifiedName

__all__ = ["RestSettings"]

ALIASES = {
    "schemas": "db_schemas",
    "extra_search_path": "db_extra_search_path",
    "max_rows": "db_max_rows",
}
LISTS = frozenset({"db_schemas", "db_extra_search_path"})
FLAGS = frozenset({"db_plan_enabled", "db_aggregates_enabled"})
NUMBERS = frozenset({"db_max_rows", "db_pool"})
TX_ENDS = (
    "commit",
    "commit-allow-override",
    "rollback",
    "rollback-allow-override",
)
_IDENTIFIER = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".]+?))\s*(?:\.|\Z)')


@dataclass(frozen=True, slots=True)
class RestSettings:
    """What the service was told; the defaults are those of the CLI's local stack."""

    db_schemas: tuple[str, ...] = ("public", "graphql_public")
    db_extra_search_path: tuple[str, ...] = ("public", "extensions")
    db_max_rows: int | None = 1000
    db_pre_request: str = ""
    db_plan_enabled: bool = False
    db_aggregates_enabled: bool = False
    db_tx_end: str = "commit"
    db_pool: int = 10
    openapi_mode: str = "follow-privileges"

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> RestSettings:
        """Return the settings of a project; raises :class:`ConfigError`."""
        return cls().overridden(given)

    def overridden(self, given: Mapping[str, Any]) -> RestSettings:
        """Return these settings with those of ``given`` in their place."""
        known = set(self.__dataclass_fields__)
        changes: dict[str, Any] = {}
        for key, value in given.items():
            name = key.replace("-", "_")
            name = ALIASES.get(name, name)
            if name in known:
                changes[name] = _converted(name, value)
        return replace(self, **changes) if changes else self

    @property
    def pre_request(self) -> str | None:
        """The function to call before each request, as quoted SQL."""
        if not self.db_pre_request:
            return None
        parts = [
            (quoted or bare).replace('""', '"')
            for quoted, bare in _IDENTIFIER.findall(self.db_pre_request)
        ]
        schema, name = ("public", parts[0]) if len(parts) == 1 else parts[:2]
        return QualifiedName(schema, name).sql


def _converted(name: str, value: Any) -> Any:
    if name in LISTS:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(str(item).strip() for item in items if str(item).strip())
    if name in FLAGS:
        return (
            value if isinstance(value, bool) else str(value).lower() in ("true", "on")
        )
    if name in NUMBERS:
        if value is None or value == "":
            return None
        if not str(value).isdigit():
            raise ConfigError(f"rest.{name} is not a number: {value!r}")
        return int(value)
    if name == "db_tx_end" and value not in TX_ENDS:
        raise ConfigError(f"rest.db_tx_end is not one of {', '.join(TX_ENDS)}")
    return str(value)
