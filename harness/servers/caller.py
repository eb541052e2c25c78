"""Who a request speaks for: its token, verified and put as the database sees it.

A token that fails is a :class:`harness.protocols.jwt.BadTokenError`; how that is told
(status, code, words) is each service's own affair.  Which roles a token may name is
decided by PostgreSQL, which lets a login become only what it was granted, with two
exceptions that are decided here: its own name, and a superuser's freedom.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.protocols.jwt import BadTokenError, KeySet

if TYPE_CHECKING:
    from harness.clock import Clock

__all__ = ["ANON_ROLE", "Caller", "CallerResolver", "is_client_role"]

ANON_ROLE = "anon"
# PostgreSQL lets a login become itself, which "none" means too.
OWN_NAMES = frozenset({"none", "authenticator", "supabase_storage_admin"})
# Owners, logins and PostgreSQL's own roles, for a login that may become anybody.
RESERVED_ROLES = frozenset(
    {"none", "authenticator", "dashboard_user", "pgbouncer", "postgres"}
)
RESERVED_PREFIXES = ("pg_", "supabase_")
CACHE_SIZE = 4096  # verified tokens; the oldest half goes when it is full


def is_client_role(role: str) -> bool:
    """Tell whether a token may name ``role`` where a superuser would become it."""
    return role not in RESERVED_ROLES and not role.startswith(RESERVED_PREFIXES)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request speaks for, as the database will see them.

    ``claims_json`` is the claims object as JSON text, ready for
    ``request.jwt.claims``; ``token`` is the JWT itself ('' for none).
    """

    role: str
    sub: str
    claims: Mapping[str, Any]
    claims_json: str
    token: str


NOBODY = Caller(ANON_ROLE, "", {"role": ANON_ROLE}, '{"role":"anon"}', "")


class CallerResolver:
    """Turns tokens into callers and remembers those whose signature was good.

    A remembered token still expires: ``exp`` is compared at every call.
    """

    def __init__(
        self, keyset: KeySet, clock: Clock, *, cache_size: int = CACHE_SIZE
    ) -> None:
        self._keyset = keyset
        self._clock = clock
        self._cache_size = cache_size
        self._known: dict[str, tuple[float, Caller]] = {}

    def __len__(self) -> int:
        """Return how many tokens are remembered."""
        return len(self._known)

    def resolve(
        self, token: str, *, leeway_s: float = 0, now: float | None = None
    ) -> Caller:
        """Return who ``token`` speaks for; ``''`` is the anonymous role.

        ``leeway_s`` is how far the clock of whoever signed it may be off; ``now`` is
        the Unix time, where it is known already.  Raises
        :class:`BadTokenError` for a token that must not be trusted.
        """
        if not token:
            return NOBODY
        if now is None:
            now = self._clock.now().timestamp()
        known = self._known.get(token)
        if known is not None and now < known[0] + leeway_s:
            return known[1]
        claims = self._keyset.verify(token, now=now, leeway_s=leeway_s)
        caller = _caller(token, claims)
        # A token that only the leeway makes valid already is not valid for everybody.
        if not (leeway_s and claims.get("nbf", now) > now):
            self._remember(caller)
        return caller

    def _remember(self, caller: Caller) -> None:
        if len(self._known) >= self._cache_size:
            for token in list(self._known)[: self._cache_size // 2 + 1]:
                del self._known[token]
        expiry = caller.claims.get("exp")
        self._known[caller.token] = (
            float("inf") if expiry is None else float(expiry),
            caller,
        )


def _caller(token: str, claims: dict[str, Any]) -> Caller:
    role = ANON_ROLE if claims.get("role") is None else claims["role"]
    sub = claims.get("sub", "")
    if not isinstance(role, str) or "\0" in role:
        raise BadTokenError("claims", "claim role is not a role name")
    if role in OWN_NAMES:
        raise BadTokenError("claims", f'permission denied to set role "{role}"')
    claims_json = json.dumps(claims, separators=(",", ":"))
    return Caller(
        role or ANON_ROLE,
        sub if isinstance(sub, str) else str(sub),
        claims,
        claims_json,
        token,
    )
