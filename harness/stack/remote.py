"""An existing project behind a URL, such as a hosted one or ``supabase start``.

The project has its schema already; suites run against it as it is.  There is one
project and no way to make more, so what a suite creates (users and what hangs on them,
objects in buckets) is removed again when the project is given back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit

import asyncpg

from harness.db.address import DatabaseAddress
from harness.errors import ConfigError, StackError
from harness.protocols.jwt import LOCAL_JWT_SECRET, ProjectKeys
from harness.servers.project import ProjectSettings
from harness.stack.base import SchemaSource, Stack
from harness.stack.descriptor import StackDescriptor
from harness.stack.project import Project

__all__ = ["RemoteStack"]

VARIABLES = {
    "SUPABASE_DB_URL": "the database URL, to look behind the API",
    "SUPABASE_JWT_SECRET": "the secret that signs tokens",
}
HINT = "export " + " and ".join(VARIABLES)


class RemoteStack(Stack):
    """A stack that is somebody else's, with one project."""

    shared = True

    def __init__(self, descriptor: StackDescriptor, login: str) -> None:
        super().__init__()
        self.descriptor = descriptor
        self._login = login

    @classmethod
    def from_environment(cls, url: str, environ: Mapping[str, str]) -> RemoteStack:
        """Build it from ``SUPABASE_*`` variables; raises :class:`ConfigError`."""
        missing = [name for name in VARIABLES if not environ.get(name)]
        if missing:
            wanted = ", ".join(f"{name} ({VARIABLES[name]})" for name in missing)
            raise ConfigError(f"the stack at {url} needs {wanted}", hint=HINT)
        address, login = _parse(environ["SUPABASE_DB_URL"])
        secret = environ.get("SUPABASE_JWT_SECRET", LOCAL_JWT_SECRET)
        descriptor = StackDescriptor(
            name=urlsplit(url).netloc,
            kind="remote",
            api_url=url,
            control_secret="",
            postgres=address,
            postgres_version="",
            db_host=address.host,
            db_port=address.port,
            keys=ProjectKeys(jwt_secret=secret),
            database_url=environ["SUPABASE_DB_URL"],
            login=login,
        )
        return cls(descriptor, login)

    async def start(self) -> None:
        """Look whether the database answers; nothing is started."""
        address = self.descriptor.postgres
        try:
            connection = await asyncpg.connect(**address.connect_args(self._login))
        except (OSError, asyncpg.PostgresError) as exc:
            raise StackError(
                f"the database at {address.host}:{address.port} does not answer: {exc}",
                service="postgres",
            ) from exc
        await connection.close()

    async def create_project(
        self,
        schema: Sequence[SchemaSource] = (),
        *,
        ref: str | None = None,
        settings: ProjectSettings | None = None,
    ) -> Project:
        """Return the project; its schema and settings are what they are."""
        return self._project("default", self.descriptor.postgres)

    async def drop_project(self, project: Project) -> None:
        """Remove the users that this run made, and by their foreign keys the rest."""
        connection = await project.connect()
        try:
            await connection.execute(
                "delete from auth.users where id = any($1::uuid[])", project.created
            )
        finally:
            await connection.close()


def _parse(url: str) -> tuple[DatabaseAddress, str]:
    parts = urlsplit(url)
    if not parts.hostname or not parts.username:
        raise ConfigError("SUPABASE_DB_URL is not a postgresql:// URL")
    address = DatabaseAddress(
        unquote(parts.hostname),
        parts.port or 5432,
        unquote(parts.path.lstrip("/")) or "postgres",
        unquote(parts.password or ""),
    )
    return address, unquote(parts.username)
