"""A project folder of the Supabase CLI, and applying it as the CLI would.

Order: ``roles.sql``, ``migrations/``, the seed files of ``[db.seed]``, the buckets of
``[storage.buckets]``.  :meth:`SupabaseProject.schemas` gives all of it for a fresh
database (and so for a template); :func:`apply_project` brings an existing database up
to date by its history, like ``supabase db push --include-seed``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.db.address import Connection
from harness.db.dotenv import load_env
from harness.db.migrations import applied_versions, apply_schema
from harness.db.schema_files import MIGRATION_NAME, Schema, SchemaFile, read_file
from harness.db.supabase_config import (
    BucketConfig,
    SeedConfig,
    SupabaseConfig,
    read_config,
)
from harness.errors import MigrationError, UsageError

__all__ = [
    "SeedFile",
    "SupabaseProject",
    "apply_project",
    "bucket_objects",
    "find_project",
    "read_project",
]

SUPABASE_DIR = "supabase"
# The CLI once wrote a first migration that repeated the platform itself.
INIT_NAME = re.compile(r"^([0-9]{14})_init\.sql$")
INIT_SKIPPED_BEFORE = 20211209000000

SEED_HISTORY = """\
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.seed_files (
  path text not null primary key,
  hash text not null
);
"""
CLOSED_TABLES = """\
alter default privileges for role postgres in schema public
  revoke all on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke all on functions from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke all on sequences from anon, authenticated, service_role;
"""


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A seed file under the path that ``seed_files`` knows it by, and its SHA-256."""

    path: str
    hash: str
    file: SchemaFile


@dataclass(frozen=True, slots=True)
class SupabaseProject:
    """What a project's folder holds; ``warnings`` are sentences for its reader."""

    folder: Path
    config: SupabaseConfig
    roles: SchemaFile | None
    migrations: tuple[SchemaFile, ...]
    seeds: tuple[SeedFile, ...]
    warnings: tuple[str, ...]

    def schemas(self, *, seed: bool = True) -> tuple[Schema, ...]:
        """Return what a fresh database with the platform needs to become this."""
        parts = [*self.before_migrations(), Schema(self.migrations)]
        if seed:
            parts += [_seed_schema(self.seeds), *self.buckets()]
        return tuple(part for part in parts if part.files)

    def before_migrations(self) -> tuple[Schema, ...]:
        """Return what is no migration but must be there before the first."""
        parts = []
        if self.config.api.auto_expose_new_tables is False:
            parts.append(_generated("auto_expose_new_tables", CLOSED_TABLES))
        if self.config.db.vault:
            parts.append(_generated("vault", _vault_sql(self.config.db.vault)))
        if self.roles is not None:
            parts.append(Schema((self.roles,), recorded=False))
        return tuple(parts)

    def buckets(self) -> tuple[Schema, ...]:
        """Return the rows of the configured buckets."""
        rows = self.config.storage.buckets
        if not rows or not self.config.storage.enabled:
            return ()
        return (_generated("buckets", "".join(map(_bucket_sql, rows))),)


def find_project(folder: Path) -> Path | None:
    """Return the ``supabase/`` folder that ``folder`` is or holds, if it does."""
    candidates = (folder, folder / SUPABASE_DIR)
    configured = (
        candidate
        for candidate in candidates
        if (candidate / "config.toml").is_file()
        or (candidate / "config.json").is_file()
    )
    migrated = (c for c in candidates if (c / "migrations").is_dir())
    return next(configured, None) or next(migrated, None)


def read_project(folder: Path, environ: Mapping[str, str]) -> SupabaseProject:
    """Read a project; ``folder`` is the project or its ``supabase/`` folder.

    Raises :class:`UsageError` if it is neither, :class:`ConfigError` for its settings
    and :class:`MigrationError` for its files.
    """
    supabase_dir = find_project(folder)
    if supabase_dir is None:
        raise UsageError(
            f"{folder} is not a project of the Supabase CLI",
            hint="it should hold supabase/config.toml (supabase init)",
        )
    config = read_config(supabase_dir, load_env(supabase_dir, environ))
    warnings = [f"environment variable is unset: {name}" for name in config.unset]
    warnings += [
        f"auth.hook.{hook.name} is not called: {hook.uri}"
        for hook in config.auth.hooks
        if hook.enabled and hook.function is None
    ]
    migrations = _read_migrations(supabase_dir / "migrations", warnings)
    roles = supabase_dir / "roles.sql"
    return SupabaseProject(
        folder=supabase_dir,
        config=config,
        roles=read_file(roles) if roles.is_file() else None,
        migrations=migrations if config.db.migrations_enabled else (),
        seeds=_read_seeds(supabase_dir, config, warnings),
        warnings=tuple(warnings),
    )


async def apply_project(
    connection: Connection, project: SupabaseProject, *, seed: bool = True
) -> tuple[str, ...]:
    """Bring a database up to date; returns the labels of the files that were applied.

    Raises :class:`MigrationError`, also where the history does not fit the files.
    """
    applied = await applied_versions(connection)
    pending = _pending(project.migrations, applied)
    if not applied:
        for schema in project.before_migrations():
            await apply_schema(connection, schema)
    await apply_schema(connection, Schema(pending))
    labels = [file.label for file in pending]
    if seed:
        known = await _known_seeds(connection)
        fresh = [s for s in project.seeds if s.path not in known]
        changed = [s for s in project.seeds if known.get(s.path, s.hash) != s.hash]
        await apply_schema(connection, _seed_schema(fresh, changed))
        for schema in project.buckets():
            await apply_schema(connection, schema)
        labels += [s.file.label for s in fresh]
    return tuple(labels)


def bucket_objects(bucket: BucketConfig) -> Iterator[tuple[str, Path]]:
    """Yield key and file of every object that belongs into a bucket."""
    root = bucket.objects_path
    if root is None:
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            yield path.relative_to(root).as_posix(), path


def _read_migrations(folder: Path, warnings: list[str]) -> tuple[SchemaFile, ...]:
    files: list[SchemaFile] = []
    for path in sorted(folder.glob("*"), key=lambda p: p.name):
        if path.is_dir():
            continue
        first = INIT_NAME.match(path.name) if not files else None
        if MIGRATION_NAME.match(path.name) is None:
            warnings.append(
                f"skipping migration {path.name}: its name must be <timestamp>_name.sql"
            )
        elif first and int(first[1]) < INIT_SKIPPED_BEFORE:
            warnings.append(f"skipping migration {path.name}: replaced by the platform")
        else:
            files.append(read_file(path))
    _refuse_duplicates(files)
    return tuple(files)


def _refuse_duplicates(files: Sequence[SchemaFile]) -> None:
    seen: dict[str, str] = {}
    for file in files:
        if file.version in seen:
            raise MigrationError(
                f"version {file.version} is already that of {seen[file.version]}",
                file=file.label,
                line=1,
                hint="rename one of the two",
            )
        seen[file.version] = file.label


def _read_seeds(
    supabase_dir: Path, config: SupabaseConfig, warnings: list[str]
) -> tuple[SeedFile, ...]:
    if not config.db.seed.enabled:
        return ()
    found: dict[Path, None] = {}
    for pattern in config.db.seed.sql_paths:
        matches = sorted(p for p in _glob(supabase_dir, pattern) if p.is_file())
        if not matches and pattern not in SeedConfig().sql_paths:
            warnings.append(f"no files matched the seed pattern {pattern}")
        found |= dict.fromkeys(matches)
    return tuple(_seed_file(path, supabase_dir) for path in found)


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    parts = Path(pattern).parts
    if Path(pattern).is_absolute():
        return Path(parts[0]).glob("/".join(parts[1:]))
    while parts and parts[0] == "..":
        folder, parts = folder.parent, parts[1:]
    return folder.glob("/".join(parts)) if parts else iter(())


def _seed_file(path: Path, supabase_dir: Path) -> SeedFile:
    project = supabase_dir.resolve().parent
    resolved = path.resolve()
    inside = resolved.is_relative_to(project)
    return SeedFile(
        path=resolved.relative_to(project).as_posix() if inside else str(path),
        hash=hashlib.sha256(path.read_bytes()).hexdigest(),
        file=read_file(path),
    )


def _pending(
    migrations: Sequence[SchemaFile], applied: Sequence[str]
) -> tuple[SchemaFile, ...]:
    local = {file.version: file for file in migrations}
    if missing := [version for version in applied if version not in local]:
        raise MigrationError(
            f"the database has version {missing[0]}, which has no file here",
            file="supabase/migrations",
            line=1,
            hint=f"supabase migration repair --status reverted {missing[0]}",
        )
    pending = tuple(file for file in migrations if file.version not in applied)
    if pending and applied and pending[0].version < max(applied):
        raise MigrationError(
            f"version {pending[0].version} comes before {max(applied)}, the last one"
            " that was applied",
            file=pending[0].label,
            line=1,
            hint="give it a later timestamp",
        )
    return pending


async def _known_seeds(connection: Connection) -> dict[str, str]:
    if not await connection.fetchval(
        "select to_regclass('supabase_migrations.seed_files') is not null"
    ):
        return {}
    rows = await connection.fetch(
        "select path, hash from supabase_migrations.seed_files"
    )
    return {row["path"]: row["hash"] for row in rows}


def _seed_schema(fresh: Sequence[SeedFile], changed: Sequence[SeedFile] = ()) -> Schema:
    """Return the new seed files and the entries of all.

    Of a file that was applied before only the hash is entered, as the CLI does: seeds
    hold data, which another run would double.
    """
    if not fresh and not changed:
        return Schema(())
    entries = "".join(map(_seed_entry, [*fresh, *changed]))
    history = SchemaFile("seed history", "", "seed_files", SEED_HISTORY + entries)
    return Schema((*(seed.file for seed in fresh), history), recorded=False)


def _seed_entry(seed: SeedFile) -> str:
    return (
        "insert into supabase_migrations.seed_files (path, hash) values"
        f" ({_literal(seed.path)}, {_literal(seed.hash)})"
        " on conflict (path) do update set hash = excluded.hash;\n"
    )


def _vault_sql(secrets: Mapping[str, str]) -> str:
    return "".join(
        f"select vault.create_secret({_literal(value)}, {_literal(name)});\n"
        for name, value in secrets.items()
    )


def _bucket_sql(bucket: BucketConfig) -> str:
    types = bucket.allowed_mime_types
    mime_types = (
        "null" if types is None else f"array[{', '.join(map(_literal, types))}]"
    )
    size = "null" if bucket.file_size_limit is None else str(bucket.file_size_limit)
    name = _literal(bucket.name)
    return (
        "insert into storage.buckets"
        " (id, name, public, file_size_limit, allowed_mime_types) values"
        f" ({name}, {name}, {str(bucket.public).lower()}, {size}, {mime_types})"
        " on conflict (id) do update set public = excluded.public,"
        " file_size_limit = excluded.file_size_limit,"
        " allowed_mime_types = excluded.allowed_mime_types;\n"
    )


def _generated(name: str, sql: str) -> Schema:
    file = SchemaFile(f"config.toml ({name})", "", name, sql)
    return Schema((file,), role="supabase_admin", recorded=False)


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return (
        f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{quoted}'"
    )
