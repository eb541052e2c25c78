"""``supabase/config.toml``: the keys that matter to a stack, as frozen values.

Values may be ``env(NAME)``; a key can also be set from the environment, as
``SUPABASE_`` and its path (``SUPABASE_AUTH_SITE_URL``).  Keys that no part of ours
reads are left to the real CLI, so that a file made for it is never refused for what it
holds more; a value of the wrong type is.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

__all__ = [
    "CALLED_HOOKS",
    "ApiConfig",
    "AuthConfig",
    "AuthEmailConfig",
    "BucketConfig",
    "DbConfig",
    "HookConfig",
    "RealtimeConfig",
    "SeedConfig",
    "StorageConfig",
    "SupabaseConfig",
    "parse_size",
    "read_config",
]

ENV_REFERENCE = re.compile(r"^env\((\w+)\)$")
OVERRIDE_PREFIX = "SUPABASE_"
SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$", re.IGNORECASE)
SIZE_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
# A function of the database; what stands for the host is not looked at.
HOOK_URI = re.compile(r"pg-functions://[^/]*/([^/?#]+)/([^/?#]+)")
CALLED_HOOKS = (
    "before_user_created",
    "custom_access_token",
    "password_verification_attempt",
)
MAJOR_VERSIONS = (13, 14, 15, 17)
MIN_JWT_SECRET = 16
DEFAULT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """``[api]``; ``auto_expose_new_tables`` is ``None`` where the file is silent."""

    enabled: bool = True
    port: int = 54321
    schemas: tuple[str, ...] = ("public", "graphql_public")
    extra_search_path: tuple[str, ...] = ("public", "extensions")
    max_rows: int = 1000
    auto_expose_new_tables: bool | None = None


@dataclass(frozen=True, slots=True)
class SeedConfig:
    """``[db.seed]``; paths are relative to ``supabase/`` and may be patterns."""

    enabled: bool = True
    sql_paths: tuple[str, ...] = ("./seed.sql",)


@dataclass(frozen=True, slots=True)
class DbConfig:
    """``[db]``; ``settings`` are PostgreSQL's, ``vault`` holds secrets by name."""

    port: int = 54322
    shadow_port: int = 54320
    major_version: int = 17
    migrations_enabled: bool = True
    schema_paths: tuple[str, ...] = ()
    seed: SeedConfig = field(default_factory=SeedConfig)
    settings: Mapping[str, str] = field(default_factory=dict)
    vault: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RealtimeConfig:
    """``[realtime]``."""

    enabled: bool = True
    ip_version: str = "IPv4"
    max_header_length: int = 4096


@dataclass(frozen=True, slots=True)
class BucketConfig:
    """``[storage.buckets.<name>]``; ``None`` means no limit of the bucket's own.

    ``objects_path`` is a folder whose files belong into the bucket.
    """

    name: str
    public: bool = False
    file_size_limit: int | None = None
    allowed_mime_types: tuple[str, ...] | None = None
    objects_path: Path | None = None


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """``[storage]``; sizes in bytes."""

    enabled: bool = True
    file_size_limit: int = 50 * MIB
    s3_protocol_enabled: bool = True
    image_transformation_enabled: bool = False
    buckets: tuple[BucketConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthEmailConfig:
    """``[auth.email]``."""

    enable_signup: bool = True
    enable_confirmations: bool = False
    double_confirm_changes: bool = True


@dataclass(frozen=True, slots=True)
class HookConfig:
    """``[auth.hook.<name>]``."""

    name: str
    enabled: bool = False
    uri: str = ""

    @property
    def function(self) -> tuple[str, str] | None:
        """Schema and name of the function that Auth calls; None for any other hook."""
        match = HOOK_URI.fullmatch(self.uri)
        if match is None or self.name not in CALLED_HOOKS:
            return None
        return match[1], match[2]


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """``[auth]``; ``signing_keys_path`` is a file with an array of JWKs."""

    enabled: bool = True
    site_url: str = "http://127.0.0.1:3000"
    additional_redirect_urls: tuple[str, ...] = ()
    jwt_expiry_s: int = 3600
    jwt_secret: str = DEFAULT_SECRET
    jwt_issuer: str = ""
    signing_keys_path: Path | None = None
    enable_signup: bool = True
    enable_anonymous_sign_ins: bool = False
    enable_refresh_token_rotation: bool = True
    refresh_token_reuse_interval_s: int = 10
    minimum_password_length: int = 6
    password_requirements: str = ""
    email: AuthEmailConfig = field(default_factory=AuthEmailConfig)
    rate_limit: Mapping[str, int] = field(default_factory=dict)
    hooks: tuple[HookConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class SupabaseConfig:
    """A whole file; ``unset`` names variables that it asks for and nobody set."""

    project_id: str = ""
    api: ApiConfig = field(default_factory=ApiConfig)
    db: DbConfig = field(default_factory=DbConfig)
    realtime: RealtimeConfig = field(default_factory=RealtimeConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    unset: tuple[str, ...] = ()


def read_config(supabase_dir: Path, environ: Mapping[str, str]) -> SupabaseConfig:
    """Read a project's configuration; defaults if it has no file.

    ``environ`` is the environment with the project's ``.env`` files
    (:func:`harness.db.dotenv.load_env`).  Raises :class:`ConfigError`.
    """
    path, values = _read_values(supabase_dir)
    root = _Table(values, (), str(path), environ, supabase_dir, [])
    return SupabaseConfig(
        project_id=root.text("project_id", supabase_dir.resolve().parent.name),
        api=_api(root.table("api")),
        db=_db(root.table("db")),
        realtime=_realtime(root.table("realtime")),
        storage=_storage(root.table("storage")),
        auth=_auth(root.table("auth")),
        unset=tuple(dict.fromkeys(root.unset)),
    )


def parse_size(text: str | int) -> int:
    """Return bytes of a size such as ``50MiB``; units are powers of 1024."""
    if isinstance(text, int):
        return text
    match = SIZE.match(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * 1024 ** SIZE_POWERS[match[2].lower()])


@dataclass(slots=True)
class _Table:
    """One table of the file with typed access to its keys."""

    values: Mapping[str, Any]
    path: tuple[str, ...]
    source: str
    environ: Mapping[str, str]
    folder: Path
    unset: list[str]

    def table(self, key: str) -> _Table:
        value = self.values.get(key, {})
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a table")
        return _Table(
            value,
            (*self.path, key),
            self.source,
            self.environ,
            self.folder,
            self.unset,
        )

    def text(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def integer(self, key: str, default: int) -> int:
        value = self._get(key, default)
        if isinstance(value, str) and value.strip().isdecimal():
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "a whole number")
        return value

    def flag(self, key: str, default: bool | None) -> bool | None:
        value = self._get(key, default)
        if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
            return value.lower() in ("true", "1")
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def on(self, key: str, default: bool) -> bool:
        return bool(self.flag(key, default))

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._get(key, default)
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise self.wrong(key, "a list of strings")
        items = [self._resolved(item) for item in value]
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(key, "a list of strings")
        return tuple(items)

    def size(self, key: str, default: int | None) -> int | None:
        value = self._get(key, default)
        if value is None:
            return None
        try:
            return parse_size(value)
        except (TypeError, ValueError) as exc:
            raise self.wrong(key, "a size such as 50MiB") from exc

    def file(self, key: str) -> Path | None:
        value = self.text(key, "")
        return self.folder / value if value else None

    def all_texts(self) -> dict[str, str]:
        return {key: str(self._get(key, "")) for key in self.values}

    def wrong(self, key: str, wanted: str) -> ConfigError:
        name = ".".join((*self.path, key))
        return ConfigError(f"{self.source}: {name} must be {wanted}")

    def _get(self, key: str, default: Any) -> Any:
        override = OVERRIDE_PREFIX + "_".join((*self.path, key)).upper()
        if override in self.environ:
            return self.environ[override]
        return self._resolved(self.values.get(key, default))

    def _resolved(self, value: Any) -> Any:
        reference = ENV_REFERENCE.match(value) if isinstance(value, str) else None
        if reference is None:
            return value
        if reference[1] not in self.environ:
            self.unset.append(reference[1])
            return value
        return self.environ[reference[1]]


def _read_values(supabase_dir: Path) -> tuple[Path, Mapping[str, Any]]:
    toml, as_json = supabase_dir / "config.toml", supabase_dir / "config.json"
    path = as_json if as_json.exists() and not toml.exists() else toml
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return path, {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
    try:
        values = json.loads(text) if path is as_json else tomllib.loads(text)
    except ValueError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a table of settings")
    return path, values


def _api(table: _Table) -> ApiConfig:
    default = ApiConfig()
    return ApiConfig(
        enabled=table.on("enabled", default.enabled),
        port=table.integer("port", default.port),
        schemas=table.texts("schemas", default.schemas),
        extra_search_path=table.texts("extra_search_path", default.extra_search_path),
        max_rows=table.integer("max_rows", default.max_rows),
        auto_expose_new_tables=table.flag("auto_expose_new_tables", None),
    )


def _db(table: _Table) -> DbConfig:
    default = DbConfig()
    migrations, seed = table.table("migrations"), table.table("seed")
    version = table.integer("major_version", default.major_version)
    if version not in MAJOR_VERSIONS:
        allowed = ", ".join(map(str, MAJOR_VERSIONS))
        raise table.wrong("major_version", f"one of {allowed}, not {version}")
    return DbConfig(
        port=table.integer("port", default.port),
        shadow_port=table.integer("shadow_port", default.shadow_port),
        major_version=version,
        migrations_enabled=migrations.on("enabled", True),
        schema_paths=migrations.texts("schema_paths", ()),
        seed=SeedConfig(
            enabled=seed.on("enabled", True),
            sql_paths=seed.texts("sql_paths", default.seed.sql_paths),
        ),
        settings=table.table("settings").all_texts(),
        vault=table.table("vault").all_texts(),
    )


def _realtime(table: _Table) -> RealtimeConfig:
    default = RealtimeConfig()
    return RealtimeConfig(
        enabled=table.on("enabled", default.enabled),
        ip_version=table.text("ip_version", default.ip_version),
        max_header_length=table.integer("max_header_length", default.max_header_length),
    )


def _storage(table: _Table) -> StorageConfig:
    default = StorageConfig()
    buckets = table.table("buckets")
    return StorageConfig(
        enabled=table.on("enabled", default.enabled),
        file_size_limit=table.size("file_size_limit", default.file_size_limit)
        or default.file_size_limit,
        s3_protocol_enabled=table.table("s3_protocol").on("enabled", True),
        image_transformation_enabled=table.table("image_transformation").on(
            "enabled", False
        ),
        buckets=tuple(_bucket(name, buckets.table(name)) for name in buckets.values),
    )


def _bucket(name: str, table: _Table) -> BucketConfig:
    mime_types = table.texts("allowed_mime_types", ())
    return BucketConfig(
        name=name,
        public=table.on("public", False),
        file_size_limit=table.size("file_size_limit", None) or None,
        allowed_mime_types=mime_types or None,
        objects_path=table.file("objects_path"),
    )


def _auth(table: _Table) -> AuthConfig:
    default = AuthConfig()
    secret = table.text("jwt_secret", "") or default.jwt_secret
    if len(secret) < MIN_JWT_SECRET:
        raise table.wrong("jwt_secret", f"at least {MIN_JWT_SECRET} characters long")
    limits, hooks = table.table("rate_limit"), table.table("hook")
    return AuthConfig(
        enabled=table.on("enabled", default.enabled),
        site_url=table.text("site_url", default.site_url),
        additional_redirect_urls=table.texts("additional_redirect_urls", ()),
        jwt_expiry_s=table.integer("jwt_expiry", default.jwt_expiry_s),
        jwt_secret=secret,
        jwt_issuer=table.text("jwt_issuer", ""),
        signing_keys_path=table.file("signing_keys_path"),
        enable_signup=table.on("enable_signup", default.enable_signup),
        enable_anonymous_sign_ins=table.on("enable_anonymous_sign_ins", False),
        enable_refresh_token_rotation=table.on("enable_refresh_token_rotation", True),
        refresh_token_reuse_interval_s=table.integer(
            "refresh_token_reuse_interval", default.refresh_token_reuse_interval_s
        ),
        minimum_password_length=table.integer(
            "minimum_password_length", default.minimum_password_length
        ),
        password_requirements=table.text("password_requirements", ""),
        email=_email(table.table("email")),
        rate_limit={name: limits.integer(name, 0) for name in limits.values},
        hooks=tuple(_hook(name, hooks.table(name)) for name in hooks.values),
    )


def _email(table: _Table) -> AuthEmailConfig:
    default = AuthEmailConfig()
    # Newer files say `enabled`, older ones `enable_signup`.
    signup = table.on("enable_signup", table.on("enabled", default.enable_signup))
    return AuthEmailConfig(
        enable_signup=signup,
        enable_confirmations=table.on(
            "enable_confirmations", default.enable_confirmations
        ),
        double_confirm_changes=table.on(
            "double_confirm_changes", default.double_confirm_changes
        ),
    )


def _hook(name: str, table: _Table) -> HookConfig:
    return HookConfig(name, table.on("enabled", False), table.text("uri", ""))
