"""The stack for code without an event loop: scripts, notebooks, synchronous tests.

A thread of its own runs the loop; every call waits for its answer::

    with SyncStack() as stack:
        project = stack.create_project([Path("supabase/migrations")])
        client = project.client(project.create_user())
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import uvloop
from supabase import Client, ClientOptions, create_client

from harness.config import Config, load_config
from harness.servers.project import ProjectSettings
from harness.stack.base import Stack
from harness.stack.embedded import EmbeddedStack
from harness.stack.project import HTTP_TIMEOUT_S, Persona, Project, tls_context

__all__ = ["SyncProject", "SyncStack"]

T = TypeVar("T")


class SyncStack:
    """A blocking face of a :class:`~harness.stack.base.Stack`, embedded by default."""

    def __init__(
        self, config: Config | None = None, *, stack: Stack | None = None
    ) -> None:
        self._stack = stack or EmbeddedStack(
            config or load_config(Path.cwd(), os.environ)
        )
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="harness-stack", daemon=True
        )

    def __enter__(self) -> Self:
        """Start the loop and the stack."""
        self._thread.start()
        try:
            self._wait(self._stack.start())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop both."""
        try:
            self._wait(self._stack.stop())
        finally:
            self._end_loop()

    @property
    def api_url(self) -> str:
        """The gateway's URL."""
        return self._stack.descriptor.api_url

    def create_project(
        self,
        schema: Sequence[Path] = (),
        *,
        settings: ProjectSettings | None = None,
    ) -> SyncProject:
        """Return a new project with the migrations of the folders ``schema``."""
        project = self._wait(self._stack.create_project(schema, settings=settings))
        return SyncProject(project, self)

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SyncProject:
    """A blocking face of a :class:`~harness.stack.project.Project`."""

    def __init__(self, project: Project, stack: SyncStack) -> None:
        self.url = project.url
        self.db_url = project.db_url
        self.anon_key = project.anon_key
        self.service_role_key = project.service_role_key
        self.anon = project.anon
        self.service = project.service
        self._project = project
        self._stack = stack
        self._http: httpx.Client | None = None

    def create_user(
        self,
        email: str | None = None,
        *,
        app_metadata: Mapping[str, Any] | None = None,
        user_metadata: Mapping[str, Any] | None = None,
    ) -> Persona:
        """Create a confirmed user and return them signed in."""
        made = self._project.create_user(
            email, app_metadata=app_metadata, user_metadata=user_metadata
        )
        return self._stack._wait(made)

    def client(self, persona: Persona | None = None) -> Client:
        """Return the official blocking client, speaking for ``persona``."""
        who = persona or self.anon
        service = who.role == "service_role"
        if self._http is None:
            self._http = httpx.Client(timeout=HTTP_TIMEOUT_S, verify=tls_context())
        options = ClientOptions(
            headers={"Authorization": f"Bearer {who.token}"}, httpx_client=self._http
        )
        key = self.service_role_key if service else self.anon_key
        return create_client(self.url, key, options)

    def drop(self) -> None:
        """Give the project back: its clients, services, objects and database go."""
        if self._http is not None:
            self._http.close()
            self._http = None
        self._stack._wait(self._project.drop())
