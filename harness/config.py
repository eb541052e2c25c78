"""Settings of the harness, read once and frozen.

Sources, later ones win: defaults, ``[tool.harness]`` of ``pyproject.toml``,
``harness.toml``, ``HARNESS_*`` of the environment (passed in as a mapping), and the
command line (:meth:`Config.replace`).  A project of the Supabase CLI is read by
:mod:`harness.db.supabase_project`.
"""

from __future__ import annotations

import dataclasses
import difflib
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from harness.errors import ConfigError

__all__ = ["Config", "Durability", "did_you_mean", "load_config"]

Durability = Literal["fast", "full"]
ENVIRONMENT_PREFIX = "HARNESS_"
# Variables of ours that are not settings: they hand a running stack to a child.
NOT_SETTINGS = frozenset({"HARNESS_STACK", "HARNESS_EVENTS", "HARNESS_SCHEMA"})
MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, with its default.

    ``postgres`` is a bin folder; ``None`` means look for one.  Ports are where
    the search for a free port begins.  ``container_*`` name the base images that
    ``--stack containers`` builds on and a folder of wheels for building offline.
    ``realtime_workers`` are processes that write to Realtime's clients in the server's
    place, for each project that has clients.
    """

    postgres: str | None = None
    stack: str = "embedded"
    api_port: int = 54321
    db_port: int = 54322
    durability: Durability = "fast"
    reports_dir: Path = Path("reports")
    cache_dir: Path = field(
        default_factory=lambda: Path("~/.cache/harness").expanduser()
    )
    state_dir: Path = field(
        default_factory=lambda: Path("~/.local/state/harness").expanduser()
    )
    ready_timeout_s: float = 30.0
    policy_budget_s: float = 20.0
    statement_timeout_ms: int = 5000
    realtime_workers: int = 0
    container_postgres_base: str = "postgres:17-bookworm"
    container_postgres_bin: str = "/usr/lib/postgresql/17/bin"
    container_python_base: str = "python:3.12-slim-bookworm"
    container_wheels: Path | None = None

    def __post_init__(self) -> None:
        """Check ranges; raises :class:`ConfigError`."""
        for name in ("api_port", "db_port"):
            port = getattr(self, name)
            if not 0 <= port <= MAX_PORT:
                raise ConfigError(f"{name} must be 0 to {MAX_PORT}, not {port}")
        if self.durability not in get_args(Durability):
            raise ConfigError(
                f"durability must be fast or full, not {self.durability!r}"
            )
        for name in ("ready_timeout_s", "policy_budget_s", "statement_timeout_ms"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be more than 0")
        if self.realtime_workers < 0:
            raise ConfigError("realtime_workers must not be negative")

    def replace(self, **changes: Any) -> Config:
        """Return a copy with ``changes``; values of ``None`` change nothing."""
        given = {key: value for key, value in changes.items() if value is not None}
        return dataclasses.replace(self, **given)


def load_config(folder: Path, environ: Mapping[str, str]) -> Config:
    """Read the settings that hold in ``folder`` under ``environ``.

    Raises :class:`ConfigError` for unknown keys, wrong types and broken files.
    """
    values: dict[str, Any] = dict(_default_folders(environ))
    pyproject = _read_toml(folder / "pyproject.toml")
    values |= _checked(pyproject.get("tool", {}).get("harness", {}), "pyproject.toml")
    values |= _checked(_read_toml(folder / "harness.toml"), "harness.toml")
    values |= _from_environment(environ)
    return Config(**values)


def did_you_mean(name: str, known: list[str]) -> str | None:
    """Return a hint naming the closest known word, if one is close."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else None


def _default_folders(environ: Mapping[str, str]) -> Mapping[str, Path]:
    """Follow the XDG base directory rules, with a temporary folder as last resort."""
    home = environ.get("HOME") or tempfile.gettempdir()
    cache = environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    state = environ.get("XDG_STATE_HOME") or f"{home}/.local/state"
    return {"cache_dir": Path(cache, "harness"), "state_dir": Path(state, "harness")}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path.name} cannot be read: {exc}") from exc


def _checked(table: Mapping[str, Any], source: str) -> dict[str, Any]:
    return {
        key.replace("-", "_"): _coerce(key.replace("-", "_"), value, source)
        for key, value in table.items()
    }


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): _coerce(
            name.removeprefix(ENVIRONMENT_PREFIX).lower(), value, f"environment {name}"
        )
        for name, value in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS and value
    }


def _coerce(key: str, value: Any, source: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(Config)}
    if key not in fields:
        raise ConfigError(
            f"{source}: unknown setting {key!r}", hint=did_you_mean(key, list(fields))
        )
    kind = str(fields[key].type)
    try:
        if "Path" in kind:
            return Path(cast("str", value)).expanduser()
        if kind == "int":
            return int(value)
        if kind == "float":
            return float(value)
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{source}: {key} wants {kind}, not {value!r}") from exc
    if not isinstance(value, str):
        raise ConfigError(f"{source}: {key} wants a string, not {value!r}")
    return value
