"""What a served project is: its database, its keys, its limits, its connections.

A :class:`ServedProject` is the one argument that every service (auth, rest, storage,
realtime) is built from.  The gateway holds one per project reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiohttp import web

from harness.db.address import DatabaseAddress
from harness.protocols.jwt import KeySet, ProjectKeys
from harness.servers.access_log import AccessLog
from harness.servers.caller import Caller, CallerResolver

if TYPE_CHECKING:
    import asyncpg
    from multidict import CIMultiDictProxy

    from harness.clock import Clock

__all__ = [
    "ERROR_CODE",
    "OWN_HEADERS",
    "Caller",
    "DatabaseAddress",
    "HeaderRules",
    "Passage",
    "ProjectSettings",
    "ServedProject",
    "bearer_token",
    "headers_json",
    "joined_headers",
    "passage_of",
    "request_headers",
    "request_headers_json",
    "token_of",
]

POOL_IDLE_S = 30.0
# Headers whose values are the gateway's, one by one those of a Passage.
OWN_HEADERS = ("x-forwarded-path", "x-forwarded-prefix", "x-request-id")


@dataclass(frozen=True, slots=True, eq=False)
class HeaderRules:
    """What the gateway's rules make of a request's headers.

    ``token`` is the bearer token after the key rules; ``headers`` are those that a
    service behind the gateway receives, names in lower case, but for what differs
    between requests with equal headers: that is in the :class:`Passage`.  ``json`` is
    ``headers`` as JSON.  Requests with equal headers have the same rules where
    ``shared``.
    """

    token: str
    headers: Mapping[str, str]
    shared: bool
    json: bytes = b"{}"


class Passage(NamedTuple):
    """A request's way through the gateway."""

    rules: HeaderRules
    path: str
    prefix: str
    request_id: str


ERROR_CODE = web.RequestKey("ERROR_CODE", str)
"""The code of a refusal, for the access log where the body does not show it."""


@dataclass(frozen=True, slots=True)
class ProjectSettings:
    """Settings of a project's services; each service reads its own mapping.

    ``storage``, ``realtime``, ``auth`` and ``rest`` hold the documented keys of each
    service with their defaults applied by the service itself; ``off`` names those that
    do not run.
    """

    storage: Mapping[str, Any] = field(default_factory=dict)
    realtime: Mapping[str, Any] = field(default_factory=dict)
    auth: Mapping[str, Any] = field(default_factory=dict)
    rest: Mapping[str, Any] = field(default_factory=dict)
    off: Sequence[str] = ()


@dataclass(slots=True)
class ServedProject:
    """A project as its services see it.

    ``ref`` is the project reference, ``public_url`` the URL clients use (gateway URL
    plus path prefix, without a trailing slash), ``objects_dir`` the folder of the file
    backend.  ``callers`` turns tokens into who they speak for; ``access_log`` takes
    operations that are not HTTP requests (a refused join, say).
    """

    ref: str
    public_url: str
    database: DatabaseAddress
    keys: ProjectKeys
    objects_dir: Path
    clock: Clock
    settings: ProjectSettings = field(default_factory=ProjectSettings)
    access_log: AccessLog = field(default_factory=AccessLog)
    keyset: KeySet = field(init=False)
    callers: CallerResolver = field(init=False)
    _pools: dict[str, asyncpg.Pool[asyncpg.Record]] = field(
        default_factory=dict, init=False
    )
    _pool_lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        """Derive the verification keys from the project's keys."""
        self.keyset = self.keys.keyset()
        self.callers = CallerResolver(self.keyset, self.clock)

    async def pool(
        self, login: str, *, max_size: int = 16
    ) -> asyncpg.Pool[asyncpg.Record]:
        """Return the connection pool of ``login``, opened on first use.

        Services log in as the role that the real service uses: ``authenticator``
        (rest), ``supabase_storage_admin``, ``supabase_auth_admin``, ``supabase_admin``
        (realtime).
        """
        pool = self._pools.get(login)
        if pool is not None:
            return pool
        import asyncpg  # loaded on first use: the server listens 0.15 s earlier

        async with self._pool_lock:
            if login not in self._pools:
                self._pools[login] = await asyncpg.create_pool(
                    min_size=0,
                    max_size=max_size,
                    max_inactive_connection_lifetime=POOL_IDLE_S,
                    **self.database.connect_args(login),
                )
            return self._pools[login]

    def record(self, service: str, operation: str, **facts: Any) -> None:
        """Leave a line in the access log for an operation that is no HTTP request.

        ``facts`` that matter: ``role`` and ``sub`` of who asked, ``topic`` or ``path``
        of what for, ``code`` of a refusal (None for success).
        """
        if self.access_log.enabled:
            self.access_log.write(
                {
                    "at": self.clock.now(),
                    "project": self.ref,
                    "service": service,
                    "operation": operation,
                    **facts,
                }
            )

    async def close(self) -> None:
        """Close every pool, dropping connections that are still in use."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.terminate()


def passage_of(request: web.BaseRequest) -> Passage | None:
    """Return what the gateway found out about a request, if it came through it."""
    return getattr(request, "passage", None)


def bearer_token(request: web.BaseRequest) -> str:
    """Return the token of a request ('' for none), after the gateway's key rules.

    The scheme is case-insensitive and may be missing, as the real services accept.
    """
    passage = passage_of(request)
    if passage is not None:
        return passage.rules.token
    authorization: str = request.headers.get("Authorization", "")
    return token_of(authorization)


def token_of(authorization: str) -> str:
    """Return the token in the value of an Authorization header."""
    value = authorization.strip()
    scheme, _, token = value.partition(" ")
    if token and scheme.lower() == "bearer":
        return token.strip()
    return "" if scheme.lower() == "bearer" else value


def request_headers(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers as a service behind the gateway would receive them.

    Names are lower-case, repeated headers are joined by commas, the Authorization is
    the mapped one, and the ``x-forwarded-*`` headers are the gateway's.  This is what
    ``request.headers`` shows to policies.
    """
    passage = passage_of(request)
    if passage is None:
        return joined_headers(request.headers)
    return {**passage.rules.headers, **_own_headers(passage)}


def request_headers_json(request: web.BaseRequest) -> bytes:
    """Return :func:`request_headers` as JSON."""
    passage = passage_of(request)
    if passage is None or not passage.rules.shared:
        return headers_json(request_headers(request))
    # All but the last three were written once for all requests with these headers.
    return passage.rules.json[:-1] + b"," + headers_json(_own_headers(passage))[1:]


def headers_json(headers: Mapping[str, str]) -> bytes:
    """Return headers as JSON; what is no UTF-8 in them becomes question marks."""
    try:
        return orjson.dumps(headers)
    except orjson.JSONEncodeError:
        clean = {_clean(name): _clean(value) for name, value in headers.items()}
        return orjson.dumps(clean)


def _clean(text: str) -> str:
    # Headers and paths may hold bytes that are no UTF-8, which a setting cannot.
    return text.encode("utf-8", "replace").replace(b"\0", b"").decode()


def _own_headers(passage: Passage) -> dict[str, str]:
    """Return those headers that differ between requests with equal headers."""
    own = (passage.path, passage.prefix, passage.request_id)
    return dict(zip(OWN_HEADERS, own, strict=True))


def joined_headers(sent: CIMultiDictProxy[str]) -> dict[str, str]:
    """Return headers with names in lower case, repeated ones joined by commas."""
    headers: dict[str, str] = {}
    for name, value in sent.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
