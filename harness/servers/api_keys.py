"""The gateway's key rules: which token a request carries to the services.

The Supabase CLI's gateway enforces no key; it only translates.  An Authorization that
does not start with ``Bearer sb_`` is kept; otherwise an opaque key becomes the JWT of
its role, and a legacy key (a JWT itself) is copied into Authorization.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.protocols.jwt import ProjectKeys

__all__ = ["ApiKeys"]

OPAQUE_PREFIX = "sb_"


class ApiKeys:
    """The opaque keys of one project and the tokens they stand for."""

    def __init__(self, keys: ProjectKeys) -> None:
        self._tokens = {
            keys.publishable_key: keys.anon_key,
            keys.secret_key: keys.service_role_key,
        }

    def authorization(self, authorization: str, apikey: str) -> str:
        """Return the Authorization value for the services; ``''`` sends none."""
        scheme, _, token = authorization.strip().partition(" ")
        opaque = scheme.lower() == "bearer" and token.startswith(OPAQUE_PREFIX)
        if authorization and not opaque:
            return authorization
        key = apikey or token
        return f"Bearer {self.token(key)}" if key else ""

    def translated(self, values: Mapping[str, str], name: str) -> Mapping[str, str]:
        """Return ``values`` with the key under ``name``, if any, as its JWT."""
        key = values.get(name)
        return values if key not in self._tokens else {**values, name: self.token(key)}

    def token(self, key: str) -> str:
        """Return the JWT that ``key`` stands for, or ``key`` when it is not one."""
        return self._tokens.get(key, key)
