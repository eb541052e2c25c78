"""A project: a database, objects and channels of its own, and who may use them."""

from __future__ import annotations

import functools
import itertools
import json
import ssl
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import httpx

from harness.clock import Clock, SystemClock
from harness.db.address import DatabaseAddress
from harness.protocols.jwt import ProjectKeys, mint
from harness.stack.descriptor import StackDescriptor

if TYPE_CHECKING:
    from supabase import AsyncClient

__all__ = ["Persona", "Project"]

TOKEN_LIFE_S = 3600
CLIENT_TIMEOUT_S = 120


@functools.cache
def _trusted_certificates() -> ssl.SSLContext:
    """Load the certificates once: each load takes a client 20 to 50 ms."""
    return ssl.create_default_context()


HTTP_TIMEOUT_S = 120.0
INSERT_USER = """\
insert into auth.users (instance_id, id, aud, role, email, email_confirmed_at,
    raw_app_meta_data, raw_user_meta_data, is_anonymous, created_at, updated_at)
values ('00000000-0000-0000-0000-000000000000', $1::text::uuid, 'authenticated',
    'authenticated', $2, now(), $3::jsonb, $4::jsonb, $5, now(), now())"""


@dataclass(frozen=True, slots=True)
class Persona:
    """Somebody who uses a project: a user, ``anon`` or ``service_role``.

    ``id`` is the user's uuid as text ('' for the two keys), ``token`` the JWT that
    requests carry.
    """

    id: str
    token: str
    role: str
    email: str = ""
    claims: Mapping[str, Any] = field(default_factory=dict)


class ProjectOwner(Protocol):
    """The stack as a project sees it: what it is, and where a project goes back."""

    descriptor: StackDescriptor

    async def drop_project(self, project: Project) -> None:
        """Take ``project`` back."""
        ...


@dataclass(slots=True)
class Project:
    """A running project and everything a client needs to reach it.

    ``url`` is what official clients call ``SUPABASE_URL``; ``database`` is how the
    harness reaches the database as superuser, ``db_url`` what users are given,
    ``created`` the ids of the users made here.
    """

    ref: str
    url: str
    db_url: str
    database: DatabaseAddress
    keys: ProjectKeys
    stack: ProjectOwner
    clock: Clock = field(default_factory=SystemClock)
    created: list[str] = field(default_factory=list)
    _admin: asyncpg.Connection[Any] | None = None
    _http: httpx.AsyncClient | None = None
    _clients: list[AsyncClient] = field(default_factory=list)
    _emails: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def anon_key(self) -> str:
        """The legacy JWT of role ``anon``."""
        return self.keys.anon_key

    @property
    def service_role_key(self) -> str:
        """The legacy JWT of role ``service_role``."""
        return self.keys.service_role_key

    @property
    def publishable_key(self) -> str:
        """The API key that stands for ``anon``."""
        return self.keys.publishable_key

    @property
    def secret_key(self) -> str:
        """The API key that stands for ``service_role``."""
        return self.keys.secret_key

    @property
    def s3_endpoint(self) -> str:
        """The endpoint for S3 clients, whose keys are ``keys.s3``."""
        return f"{self.url}/storage/v1/s3"

    @property
    def anon(self) -> Persona:
        """Whoever has only the anon key."""
        return Persona("", self.anon_key, "anon")

    @property
    def service(self) -> Persona:
        """The server side, which row level security does not bind."""
        return Persona("", self.service_role_key, "service_role")

    async def connect(self, login: str = "supabase_admin") -> asyncpg.Connection[Any]:
        """Return a new database connection as ``login``; the caller closes it."""
        login = self.stack.descriptor.login or login
        return await asyncpg.connect(**self.database.connect_args(login))

    def token(self, sub: str, role: str = "authenticated", **claims: Any) -> str:
        """Return a signed user token for ``sub``, good for an hour.

        ``claims`` add to, or replace, those that a sign-in would give.  There is no
        ``session_id``: Auth would look for that session and believe the token no more.
        """
        now = int(self.clock.now().timestamp())
        full = {
            "iss": f"{self.url}/auth/v1",
            "sub": sub,
            "aud": "authenticated",
            "role": role,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
            "aal": "aal1",
            "is_anonymous": False,
            "app_metadata": {"provider": "email", "providers": ["email"]},
            "user_metadata": {},
            **claims,
        }
        signing = self.keys.signing_keys
        return mint(full, signing[0] if signing else self.keys.jwt_secret)

    async def create_user(
        self,
        email: str | None = None,
        *,
        user_id: str | None = None,
        app_metadata: Mapping[str, Any] | None = None,
        user_metadata: Mapping[str, Any] | None = None,
        is_anonymous: bool = False,
    ) -> Persona:
        """Create a confirmed user in ``auth.users`` and return them signed in.

        The user has no password; sign up through Auth where one is wanted.
        """
        email = email or f"user{next(self._emails)}@example.test"
        persona_id = user_id or str(uuid.uuid4())
        app = {"provider": "email", "providers": ["email"], **(app_metadata or {})}
        mine = dict(user_metadata or {})
        await self._insert_user(persona_id, email, app, mine, is_anonymous)
        self.created.append(persona_id)
        claims: dict[str, Any] = {
            "email": email,
            "app_metadata": app,
            "user_metadata": mine,
            "is_anonymous": is_anonymous,
        }
        token = self.token(persona_id, **claims)
        return Persona(persona_id, token, "authenticated", email, claims)

    async def create_users(self, count: int) -> Sequence[Persona]:
        """Create ``count`` users with generated e-mail addresses."""
        return [await self.create_user() for _ in range(count)]

    async def client(self, persona: Persona | None = None) -> AsyncClient:
        """Return the official asynchronous client, speaking for ``persona``.

        Without one it has the anon key alone.  Its realtime connection carries the
        persona's token too.
        """
        who = persona or self.anon
        key = self.service_role_key if who.role == "service_role" else self.anon_key
        # Imported here: the official client takes as long as all else together, and
        # most commands never speak to the API.
        from supabase import AsyncClientOptions, create_async_client

        if self._http is None:
            self._http = httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, verify=tls_context())
        options = AsyncClientOptions(
            headers={"Authorization": f"Bearer {who.token}"}, httpx_client=self._http
        )
        client = await create_async_client(self.url, key, options)
        await client.realtime.set_auth(who.token)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        """Close the clients that were handed out and the own connection."""
        clients, self._clients = self._clients, []
        for client in clients:
            if client.realtime.is_connected:
                await client.remove_all_channels()
                await client.realtime.close()
        if self._http is not None:
            await self._http.aclose()
            self._http = None
        if self._admin is not None:
            await self._admin.close()
            self._admin = None

    async def drop(self) -> None:
        """Give the project back: its clients, services, objects and database go."""
        await self.close()
        await self.stack.drop_project(self)

    async def _insert_user(
        self,
        persona_id: str,
        email: str,
        app: Mapping[str, Any],
        mine: Mapping[str, Any],
        is_anonymous: bool,
    ) -> None:
        if self._admin is None:
            self._admin = await self.connect()
        await self._admin.execute(
            INSERT_USER,
            persona_id,
            email,
            json.dumps(app),
            json.dumps(mine),
            is_anonymous,
        )


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the one TLS context of this process: making one takes tens of ms."""
    return ssl.create_default_context()
