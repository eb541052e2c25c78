"""What every stack can do: make projects from schemas and take them back.

A driver starts the processes and fills in a :class:`StackDescriptor`; from then on all
drivers, and processes that only attach to a running stack, work alike.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.db.address import DatabaseAddress
from harness.db.templates import TemplateStore
from harness.resources import sql_root
from harness.servers.project import ProjectSettings
from harness.stack.control import ControlClient
from harness.stack.descriptor import StackDescriptor
from harness.stack.project import Project

__all__ = ["DEFAULT_DBNAME", "Stack", "attach"]

DEFAULT_DBNAME = "postgres"


class Stack:
    """A running stack.  ``async with`` starts and stops what a driver owns."""

    descriptor: StackDescriptor
    shared = False

    def __init__(self) -> None:
        self._control: ControlClient | None = None
        self._templates: TemplateStore | None = None

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

    @property
    def templates(self) -> TemplateStore:
        """The template databases of the stack's PostgreSQL."""
        if self._templates is None:
            self._templates = TemplateStore(self.descriptor.postgres)
        return self._templates

    async def create_project(
        self,
        schema: Sequence[Path] = (),
        *,
        ref: str | None = None,
        settings: ProjectSettings | None = None,
    ) -> Project:
        """Return a new project with ``sql/platform`` and the folders of ``schema``.

        The first project of a schema applies its files to a template; the next ones
        are clones.  Raises :class:`harness.errors.MigrationError` with file and line.
        """
        database = await self.templates.take(self._folders(schema))
        ref = ref or f"p{uuid.uuid4().hex[:12]}"
        await self.control.register(ref, database.dbname, settings=settings)
        return self._project(ref, database)

    async def drop_project(self, project: Project) -> None:
        """Remove a project: its services, objects and database."""
        await self.control.unregister(project.ref)
        await self.templates.drop(project.database)

    async def serve_default(
        self, schema: Sequence[Path] = (), *, settings: ProjectSettings | None = None
    ) -> Project:
        """Serve a project without a path prefix, on a database named ``postgres``."""
        database = await self.templates.take(
            self._folders(schema), dbname=DEFAULT_DBNAME
        )
        await self.control.register("default", DEFAULT_DBNAME, settings=settings)
        return self._project("default", database)

    def _folders(self, schema: Sequence[Path]) -> tuple[Path, ...]:
        return (sql_root() / "platform", *schema)

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
