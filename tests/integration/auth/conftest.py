"""A project, and an HTTP client that speaks to its Auth."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from harness.protocols.jwt import ProjectKeys
from harness.servers.project import ProjectSettings
from harness.stack.base import Stack
from harness.stack.project import Project

PASSWORD = "correct horse battery"
CODED = {"X-Supabase-Api-Version": "2024-01-01"}


@dataclass
class Auth:
    """Auth of one project, spoken to as a client library would."""

    http: httpx.AsyncClient
    project: Project
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request with the anon key, or as ``token``."""
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        sent = {"apikey": self.project.anon_key, **CODED, **bearer, **(headers or {})}
        return await self.http.request(method, path, json=body, headers=sent)

    async def sign_up(self, **members: Any) -> dict[str, Any]:
        """Sign up somebody new; return the session."""
        email = f"person{next(self._numbers)}@example.test"
        body = {"email": email, "password": PASSWORD, **members}
        response = await self.call("POST", "/signup", body)
        assert response.status_code == 200, response.text
        session: dict[str, Any] = response.json()
        return session

    async def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        """Ask for a session by password."""
        body = {"email": email, "password": password}
        return await self.call("POST", "/token?grant_type=password", body)

    async def refresh(self, token: str) -> httpx.Response:
        """Trade a refresh token."""
        body = {"refresh_token": token}
        return await self.call("POST", "/token?grant_type=refresh_token", body)

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call an admin endpoint with the service role."""
        key = self.project.service_role_key
        return await self.call(method, f"/admin{path}", body, token=key)

    async def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Run a statement as superuser."""
        connection = await self.project.connect()
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()


MakeAuth = Callable[..., Awaitable[Auth]]


@pytest.fixture
async def make_auth(stack: Stack) -> AsyncIterator[MakeAuth]:
    """Make projects with settings and keys of their own, dropped after the test."""
    made: list[Auth] = []

    async def make(
        settings: dict[str, Any] | None = None, keys: ProjectKeys | None = None
    ) -> Auth:
        project = await stack.create_project(
            settings=ProjectSettings(auth=settings or {})
        )
        if keys is not None:
            await stack.control.unregister(project.ref)
            record = {
                **stack.registered[project.ref],
                "keys": dataclasses.asdict(keys),
            }
            await stack.control.register(record)
            project.keys = keys
        http = httpx.AsyncClient(base_url=f"{project.url}/auth/v1", timeout=20)
        made.append(Auth(http, project))
        return made[-1]

    yield make
    for auth in made:
        await auth.http.aclose()
        await auth.project.drop()


@pytest.fixture
async def auth(make_auth: MakeAuth) -> Auth:
    """Make a project with the default settings."""
    return await make_auth({"password_hash_cost": 4})


def assert_refused(response: httpx.Response, status: int, code: str) -> None:
    """Check status, code, the coded body and its header."""
    assert (response.status_code, response.json().get("code")) == (status, code), (
        response.text
    )
    assert response.headers["x-sb-error-code"] == code
    assert response.json()["message"]


@pytest.fixture
def refused() -> Callable[[httpx.Response, int, str], None]:
    """Give the assertion that a response is a documented refusal."""
    return assert_refused
