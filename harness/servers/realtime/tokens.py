"""Who a socket or channel speaks for: tokens verified once, with the service's texts.

A refusal has a ``code`` (joins show ``code: text``) and a ``text`` (connects and
channel shutdowns show it alone).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from harness.errors import RemoteProtocolError
from harness.protocols.jwt import BadTokenError, KeySet
from harness.protocols.phoenix import encode_json
from harness.servers.caller import is_client_role

__all__ = ["Identity", "RefusedError", "TokenVerifier", "expired"]

CACHE_SIZE = 8192
NEVER_S = 2**53  # nor do infinity, NaN and integers beyond every float tell a time

MISSING_CLAIMS = "Fields `role` and `exp` are required in JWT"
NOT_A_TOKEN = "The token provided is not a valid JWT"
BAD_SIGNATURE = "Failed to validate JWT signature"
NO_SIGNER = "Failed to generate JWT signer"


class RefusedError(RemoteProtocolError):
    """A connect, join or message that is not allowed; ``code`` names the reason."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def reason(self) -> str:
        """The ``reason`` of an error reply."""
        return f"{self.code}: {self.text}" if self.code else self.text


class Identity:
    """A verified token: what PostgreSQL is told about whoever holds it."""

    __slots__ = ("claims_json", "expires_s", "role", "sub", "token")

    def __init__(self, token: str, claims: Mapping[str, Any]) -> None:
        self.token = token
        self.role = str(claims["role"])
        self.sub = str(claims.get("sub") or "")
        self.expires_s = round(claims["exp"])
        self.claims_json = encode_json(claims).decode()

    @property
    def key(self) -> tuple[str, str]:
        """What decides visibility: holders of equal keys see the same rows."""
        return self.role, self.claims_json


class TokenVerifier:
    """Verifies tokens of one project and remembers the good ones until they expire.

    ``now`` returns Unix seconds; ``validators`` are claims every token must hold.
    """

    def __init__(
        self,
        keyset: KeySet,
        now: Callable[[], float],
        validators: Mapping[str, Any],
    ) -> None:
        self._keyset = keyset
        self._now = now
        self._validators = validators
        self._known: OrderedDict[str, Identity] = OrderedDict()

    def verify(self, token: str) -> Identity:
        """Return who ``token`` speaks for, or raise :class:`RefusedError`."""
        now_s = self._now()
        known = self._known.get(token)
        if known is not None:
            if known.expires_s <= now_s:
                del self._known[token]
                raise expired(known, now_s)
            return known
        identity = self._read("".join(unquote(token).split()), now_s)
        self._known[token] = identity
        if len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return identity

    def _read(self, token: str, now_s: float) -> Identity:
        try:
            claims = self._keyset.verify(token, now=now_s)
        except BadTokenError as exc:
            raise _refusal(exc) from exc
        if not isinstance(claims.get("role"), str) or "exp" not in claims:
            raise RefusedError("InvalidJWTToken", MISSING_CLAIMS)
        if not is_client_role(claims["role"]):
            # The database login is a superuser, to whom PostgreSQL refuses no role.
            raise RefusedError("InvalidJWTToken", NOT_A_TOKEN)
        if "\0" in claims["role"] or "\0" in str(claims.get("sub")):
            raise RefusedError("InvalidJWTToken", NOT_A_TOKEN)
        if not abs(claims["exp"]) < NEVER_S:
            raise RefusedError("InvalidJWTToken", NOT_A_TOKEN)
        for name, wanted in self._validators.items():
            if claims.get(name) != wanted:
                raise RefusedError("InvalidJWTToken", NOT_A_TOKEN)
        return Identity(token, claims)


def expired(identity: Identity, now_s: float) -> RefusedError:
    """Return the refusal of a token that has run out."""
    return _expired_for(int(now_s - identity.expires_s))


def _expired_for(seconds: int) -> RefusedError:
    return RefusedError("InvalidJWTToken", f"Token has expired {seconds} seconds ago")


def _refusal(error: BadTokenError) -> RefusedError:
    if error.reason == "expired":
        return _expired_for(error.expired_for_s or 0)
    if error.reason == "signature":
        return RefusedError("JwtSignatureError", BAD_SIGNATURE)
    if error.reason == "algorithm":
        return RefusedError("JwtSignerError", NO_SIGNER)
    if error.reason == "claims":
        return RefusedError("InvalidJWTToken", MISSING_CLAIMS)
    return RefusedError("MalformedJWT", NOT_A_TOKEN)
