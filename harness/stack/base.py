"""What every stack can do: make projects from schemas and take them back.

A driver starts the processes and fills in a :class:`StackDescriptor`; from then on all
drivers, and processes that only attach to a running stack, work alike.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from harness.db.address import DatabaseAddress
from harness.db.clone_pool import ClonePool
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, read_schema
from harness.db.supabase_project import find_project, read_project
from harness.db.templates import TemplateStore
from harness.protocols.jwt import ProjectKeys
from harness.resources import sql_root
from harness.servers.project import ProjectSettings
from harness.stack.control import ControlClient
from harness.stack.descriptor import StackDescriptor
from harness.stack.project import Project

__all__ = ["DEFAULT_DBNAME", "Stack", "attach", "platform_schema"]

DEFAULT_DBNAME = "postgres"

SchemaSource: TypeAlias = "Path | Schema"


class Stack:
    """A running stack.  ``async with`` starts and stops what a driver owns.

    ``registered`` holds what the gateway was told of each project, by reference.
    """

    descriptor: StackDescriptor
    shared = False
    started_in_s = 0.0

    def __init__(self) -> None:
        self.registered: dict[str, dict[str, Any]] = {}
        self._control: ControlClient | None = None
        self._templates: TemplateStore | None = None
        self._templates_lock = asyncio.Lock()
        self._drops: set[asyncio.Task[None]] = set()
        self._drop_lock = asyncio.Lock()
        self._pools: dict[str, ClonePool | None] = {}

    async def __aenter__(self) -> Self:
        """Start the stack."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it, whatever happened inside."""
        await self.stop()

    async def start(self) -> None:
        """Start what the driver owns; afterwards ``descriptor`` is set."""
        raise TypeError(f"{type(self).__name__} is no driver")

    async def stop(self) -> None:
        """Let go of the connections; drivers stop their processes too."""
        await self._end_drops()
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            if pool is not None:
                await pool.close()
        if self._templates is not None:
            await self._templates.close()
            self._templates = None
        if self._control is not None:
            await self._control.close()
            self._control = None

    @property
    def control(self) -> ControlClient:
        """The client of the gateway's control routes."""
        if self._control is None:
            descriptor = self.descriptor
            self._control = ControlClient(descriptor.api_url, descriptor.control_secret)
        return self._control

    async def create_project(
        self,
        schema: Sequence[SchemaSource] = (),
        *,
        ref: str | None = None,
        settings: ProjectSettings | None = None,
    ) -> Project:
        """Return a new project with ``sql/platform`` and the parts of ``schema``.

        A part is a folder (of migrations, or a project of the Supabase CLI) or a
        schema that was read already.

        The first project of a schema applies its files to a template; the next ones
        are clones.  Raises :class:`harness.errors.MigrationError` with file and line.
        """
        database = await self._clone(schema)
        ref = ref or f"p{uuid.uuid4().hex[:12]}"
        await self._register(ref, database, settings)
        return self._project(ref, database)

    async def create_database(
        self, schema: Sequence[SchemaSource] = ()
    ) -> DatabaseAddress:
        """Return a database with ``sql/platform`` and ``schema``, served by nobody."""
        return await self._clone(schema)

    async def apply(self, project: Project, schema: Sequence[Path]) -> None:
        """Apply the folders of ``schema`` to the database of ``project`` (again)."""
        connection = await project.connect()
        try:
            for folder in schema:
                for part in read_folder(folder):
                    await apply_schema(connection, part)
        finally:
            await connection.close()

    async def drop_project(self, project: Project) -> None:
        """Remove a project: its services and objects now, its database soon after."""
        await self.control.unregister(project.ref)
        self.registered.pop(project.ref, None)
        task = asyncio.create_task(self._drop_database(project.database.dbname))
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    async def _end_drops(self) -> None:
        """Wait for the drops; where the server ends anyway, none of them can fail."""
        await asyncio.gather(*self._drops, return_exceptions=not self.shared)

    async def _drop_database(self, dbname: str) -> None:
        # On a connection of its own: dropping is slow and nobody waits for it.
        async with self._drop_lock, (await self._store()).sibling() as store:
            await store.drop(dbname)

    async def serve_default(
        self,
        schema: Sequence[SchemaSource] = (),
        *,
        settings: ProjectSettings | None = None,
        keys: ProjectKeys | None = None,
    ) -> Project:
        """Serve a project without a path prefix, on a database named ``postgres``.

        ``keys`` become those of the whole stack.
        """
        if keys is not None:
            self.descriptor = dataclasses.replace(self.descriptor, keys=keys)
        database = await self._clone(schema, DEFAULT_DBNAME)
        await self._register("default", database, settings)
        return self._project("default", database)

    async def _register(
        self, ref: str, database: DatabaseAddress, settings: ProjectSettings | None
    ) -> None:
        record: dict[str, Any] = {"ref": ref, "dbname": database.dbname}
        if self.descriptor.keys != ProjectKeys():
            record["keys"] = dataclasses.asdict(self.descriptor.keys)
        if settings is not None:
            record["settings"] = dataclasses.asdict(settings)
        await self.control.register(record)
        self.registered[ref] = record

    async def _clone(
        self, sources: Sequence[SchemaSource], name: str | None = None
    ) -> DatabaseAddress:
        schemas = [platform_schema()]
        for source in sources:
            schemas += [source] if isinstance(source, Schema) else read_folder(source)
        # The store speaks over one connection; takers wait for their turn.
        async with self._templates_lock:
            store = await self._store()
            template = await store.template(schemas)
            if template not in self._pools:
                # Who asks once may never ask again: the pool opens at the second time.
                self._pools[template] = None
                return store.address(await store.clone(template, name))
            pool = self._pools[template] or await self._open_pool(store, template)
        return await pool.take(name)

    async def _open_pool(self, store: TemplateStore, template: str) -> ClonePool:
        pool = ClonePool(store, template)
        await pool.open()
        self._pools[template] = pool
        return pool

    async def _store(self) -> TemplateStore:
        if self._templates is None:
            store = TemplateStore(self.descriptor.postgres)
            await store.open()
            self._templates = store
        return self._templates

    def _project(self, ref: str, database: DatabaseAddress) -> Project:
        descriptor = self.descriptor
        prefix = "" if ref == "default" else f"/p/{ref}"
        return Project(
            ref=ref,
            url=descriptor.api_url + prefix,
            db_url=descriptor.db_url(database.dbname),
            database=database,
            keys=descriptor.keys,
            stack=self,
        )


class AttachedStack(Stack):
    """A stack that somebody else started: it is used, not stopped."""

    shared = True

    def __init__(self, descriptor: StackDescriptor) -> None:
        super().__init__()
        self.descriptor = descriptor

    async def start(self) -> None:
        """Do nothing: it runs already."""


@asynccontextmanager
async def attach(descriptor_path: Path) -> AsyncIterator[Stack]:
    """Use the running stack that the file ``descriptor_path`` describes."""
    async with AttachedStack(StackDescriptor.read(descriptor_path)) as stack:
        yield stack


def read_folder(folder: Path) -> list[Schema]:
    """Return the schemas of a folder: of a Supabase CLI project, or of migrations."""
    if find_project(folder) is not None:
        return list(read_project(folder, os.environ).schemas())
    return [read_schema(folder)]


def platform_schema() -> Schema:
    """Return ``sql/platform``: what every Supabase database has before its schema."""
    return read_schema(sql_root() / "platform", role="supabase_admin", recorded=False)
