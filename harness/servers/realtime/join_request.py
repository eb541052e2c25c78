"""What a client asks for when it joins: read leniently, as the hosted service does.

A field of the wrong type falls back to its default; only a payload or ``config`` that
is no object, and bad replay parameters, refuse the join.  A join without ``config`` is
the legacy form, whose topic names the table: ``realtime:schema:table:col=op.value``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.protocols.phoenix import encode_json
from harness.servers.realtime.tokens import RefusedError

__all__ = ["TOPIC_PREFIX", "Binding", "JoinRequest", "Replay", "read_join"]

TOPIC_PREFIX = "realtime:"
BINDING_ID_MASK = 0x7FF_FFFF  # 27 bits, as the ids of the hosted service
MAX_REPLAY = 25


@dataclass(frozen=True, slots=True)
class Replay:
    """Stored broadcasts to send after the join: since when, and how many at most."""

    since_ms: int
    limit: int


@dataclass(frozen=True, slots=True)
class Binding:
    """One entry of ``postgres_changes`` as requested, with the id it is known by.

    ``params`` is verbatim, for the reply; equal params have equal ids everywhere.
    """

    id: int
    params: Mapping[str, Any]

    def reply(self) -> dict[str, Any]:
        """Return the entry as the join's reply shows it."""
        return {**self.params, "id": self.id}


class JoinRequest(NamedTuple):
    """Everything a join asks for.  ``token`` is ``None`` to use the socket's."""

    token: str | None
    private: bool
    ack: bool
    echo: bool
    replay: Replay | None
    replication_ready: bool
    presence_key: str
    presence_enabled: bool
    bindings: tuple[Binding, ...]
    legacy: bool


def read_join(topic: str, payload: Any, *, presence_enabled: bool) -> JoinRequest:
    """Return what ``payload`` asks for, or raise :class:`RefusedError`.

    ``presence_enabled`` is the project's default.
    """
    if not isinstance(payload, Mapping):
        raise RefusedError("UnknownErrorOnChannel", "join payload is not an object")
    legacy = "config" not in payload
    config = payload.get("config") or {}
    if not isinstance(config, Mapping):
        raise RefusedError("UnknownErrorOnChannel", "config is not an object")
    broadcast = _map(config.get("broadcast"))
    presence = _map(config.get("presence"))
    requested = config.get("postgres_changes")
    bindings = _legacy_bindings(topic) if legacy else _bindings(requested)
    private = _flag(config.get("private"), default=False)
    return JoinRequest(
        token=_token(payload),
        private=private,
        ack=_flag(broadcast.get("ack"), default=False),
        echo=_flag(broadcast.get("self"), default=False),
        replay=_replay(broadcast.get("replay"), private=private),
        replication_ready=_flag(broadcast.get("replication_ready"), default=False),
        presence_key=str(key) if isinstance(key := presence.get("key"), str) else "",
        presence_enabled=_flag(presence.get("enabled"), default=presence_enabled),
        bindings=bindings,
        legacy=legacy,
    )


def _token(payload: Mapping[str, Any]) -> str | None:
    token = payload.get("access_token") or payload.get("user_token")
    if not isinstance(token, str) or token.startswith("sb_"):
        return None
    return token


def _flag(value: Any, *, default: bool) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return default


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _replay(value: Any, *, private: bool) -> Replay | None:
    if value is None:
        return None
    if not private:
        raise RefusedError(
            "UnableToReplayMessages", "Replay is not allowed for public channels"
        )
    since, limit = _map(value).get("since"), _map(value).get("limit", MAX_REPLAY)
    if type(since) is int and type(limit) is int and 1 <= limit <= MAX_REPLAY:
        return Replay(since, limit)
    raise RefusedError("UnableToReplayMessages", "Replay params are not valid")


def _bindings(requested: Any) -> tuple[Binding, ...]:
    if not isinstance(requested, list):
        return ()
    return tuple(
        Binding(_binding_id(params), params)
        for params in requested
        if isinstance(params, Mapping)
    )


def _legacy_bindings(topic: str) -> tuple[Binding, ...]:
    schema, *rest = topic.removeprefix(TOPIC_PREFIX).split(":", 2)
    params = {"event": "*", "schema": schema}
    params |= dict(zip(("table", "filter"), rest, strict=False))
    return (Binding(_binding_id(params), params),)


def _binding_id(params: Mapping[str, Any]) -> int:
    canonical = encode_json(dict(sorted(params.items())))
    # Clients take the id 0 for a missing one.
    return zlib.crc32(canonical) & BINDING_ID_MASK or 1
