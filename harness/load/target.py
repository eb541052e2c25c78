"""What load is sent at: the address, the keys, and the processes whose CPU counts.

A :class:`Target` is plain data, so that it travels to the generator's process as JSON.
It is built by whoever started the stack; a remote project has no process ids and, if
only its anonymous key is known, no ``jwt_secret``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson

from harness.db.address import DatabaseAddress
from harness.errors import UsageError
from harness.protocols.jwt import mint

__all__ = ["Target"]

ISSUED_AT = (
    1_767_225_600  # Unix seconds; fixed, so that tokens depend on the seed alone
)
FAR_EXPIRY = 4_102_444_800  # Unix seconds, the year 2100


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running project: ``url`` is its public URL without a trailing slash.

    ``server_pids`` are the service processes, ``postgres_pid`` the postmaster (its
    children are counted with it); 0 and ``()`` stand for processes that cannot be seen.
    ``subscribers_url`` is where subscribers connect if not at ``url``: on a link that
    may be disturbed, while the senders' is not.
    """

    url: str
    anon_key: str
    service_role_key: str = ""
    jwt_secret: str = ""
    database: DatabaseAddress | None = None
    server_pids: tuple[int, ...] = ()
    postgres_pid: int = 0
    subscribers_url: str = ""

    def websocket_url(
        self, *, vsn: str = "2.0.0", for_subscribers: bool = False
    ) -> str:
        """Return the address of the realtime WebSocket, with the anonymous key."""
        base = (for_subscribers and self.subscribers_url) or self.url
        parts = urlsplit(base)
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = f"{parts.path.rstrip('/')}/realtime/v1/websocket"
        query = f"apikey={self.anon_key}&vsn={vsn}"
        return urlunsplit((scheme, parts.netloc, path, query, ""))

    def user_token(self, user_id: str, **claims: Any) -> str:
        """Return an access token of the signed-in user ``user_id``.

        Raises :class:`UsageError` when the target's secret is not known.
        """
        if not self.jwt_secret:
            raise UsageError(
                "this profile needs tokens of many users, and the secret that signs"
                " them is not known",
                hint="give the project's JWT secret, or choose a broadcast profile",
            )
        own = {
            "sub": user_id,
            "role": "authenticated",
            "aud": "authenticated",
            "iat": ISSUED_AT,
            "exp": FAR_EXPIRY,
        }
        return mint({**own, **claims}, self.jwt_secret)

    def to_json(self) -> bytes:
        """Return the target as JSON for another process."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Target:
        """Read what :meth:`to_json` wrote."""
        return cls.from_mapping(orjson.loads(text))

    @classmethod
    def from_mapping(cls, record: Mapping[str, Any]) -> Target:
        """Build a target from its plain mapping."""
        values = dict(record)
        if values.get("database") is not None:
            values["database"] = DatabaseAddress(**values["database"])
        values["server_pids"] = tuple(values.get("server_pids", ()))
        return cls(**values)
