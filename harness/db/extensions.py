"""``CREATE EXTENSION`` as a hosted project knows it, on a server of any build.

There, role ``postgres`` may create extensions that stock PostgreSQL reserves for
superusers; so such extensions are created by the superuser of the connection, trusted
ones by the role itself, which then owns them as after ``supabase db push``.  What the
server lacks gets a stand-in in SQL where we have one (:mod:`harness.db.shims`), else an
:class:`~harness.errors.ExtensionMissingError` that says how to get it.

Servers that we run from a copy offer the stand-ins as extensions
(:mod:`harness.db.overlay`); on others a stand-in is not in ``pg_extension``, and
``extensions.harness_shims`` names it.
"""

from __future__ import annotations

from harness.db.address import Connection
from harness.db.shims import shim_names, shim_source
from harness.db.statements import Statement
from harness.errors import ExtensionMissingError, MigrationError

__all__ = ["create_extension", "is_shimmed"]

DUPLICATE_OBJECT = "42710"
FEATURE_NOT_SUPPORTED = "0A000"

# Debian's package of an extension, where it is not named after it.
DEBIAN_PACKAGES = {
    "vector": "pgvector",
    "pg_cron": "cron",
    "postgis": "postgis-3",
    "postgis_topology": "postgis-3",
    "pgtap": "pgtap",
    "hypopg": "hypopg",
    "pgaudit": "pgaudit",
    "http": "http",
    "rum": "rum",
    "timescaledb": "timescaledb",
    "plpgsql_check": "plpgsql-check",
    "pgrouting": "pgrouting",
    "pg_hint_plan": "pg-hint-plan",
    "pg_repack": "repack",
    "pg_partman": "partman",
}

REGISTRY = """\
create table if not exists extensions.harness_shims (
  name text primary key,
  schema text not null
)"""


async def is_shimmed(connection: Connection, name: str) -> bool:
    """Tell whether a stand-in of extension ``name`` is installed in this database."""
    if await connection.fetchval("select to_regclass('extensions.harness_shims')"):
        query = "select from extensions.harness_shims where name = $1"
        return await connection.fetchrow(query, name) is not None
    return False


async def create_extension(
    connection: Connection, statement: Statement, *, file: str
) -> bool:
    """Run one ``CREATE EXTENSION`` in a superuser's session; tells whether it is done.

    It is not for a trusted extension, which the role that wants it can create.
    """
    name = statement.subject
    if await is_shimmed(connection, name):
        if not statement.tree.if_not_exists:
            raise MigrationError(
                f'extension "{name}" already exists',
                file=file,
                line=statement.line,
                statement=statement.text,
                sqlstate=DUPLICATE_OBJECT,
                hint="write CREATE EXTENSION IF NOT EXISTS",
            )
        return True
    trusted = await _is_trusted(connection, name)
    if trusted:
        return False
    if trusted is not None:
        await connection.execute(statement.text)
    elif name in shim_names():
        await _install_shim(connection, statement)
    else:
        raise await _missing(connection, statement, file)
    return True


async def _is_trusted(connection: Connection, name: str) -> bool | None:
    """Tell whether an extension is trusted, ``None`` if the build lacks it."""
    trusted: bool | None = await connection.fetchval(
        "select bool_or(trusted) from pg_catalog.pg_available_extension_versions"
        " where name = $1",
        name,
    )
    return trusted


async def _install_shim(connection: Connection, statement: Statement) -> None:
    schema = _wanted_schema(statement) or await connection.fetchval(
        "select current_schema()"
    )
    quoted = await connection.fetchval("select quote_ident($1)", schema)
    # Their bodies name everything they use: the caller's search_path must not matter.
    source = shim_source(statement.subject).replace("@extschema@", quoted)
    await connection.execute(source)
    await connection.execute(REGISTRY)
    await connection.execute(
        "insert into extensions.harness_shims values ($1, $2)"
        " on conflict (name) do nothing",
        statement.subject,
        schema,
    )


def _wanted_schema(statement: Statement) -> str | None:
    for option in statement.tree.options or ():
        if option.defname == "schema":
            return str(option.arg.sval)
    return None


async def _missing(
    connection: Connection, statement: Statement, file: str
) -> ExtensionMissingError:
    name = statement.subject
    major = int(await connection.fetchval("show server_version_num")) // 10000
    package = DEBIAN_PACKAGES.get(name, name.replace("_", "-"))
    return ExtensionMissingError(
        f'extension "{name}" is not available in this PostgreSQL {major}',
        file=file,
        line=statement.line,
        statement=statement.text,
        sqlstate=FEATURE_NOT_SUPPORTED,
        hint=(
            f"install it (Debian: apt-get install postgresql-{major}-{package}), name a"
            " PostgreSQL that has it with HARNESS_POSTGRES, or run --stack containers"
        ),
    )
