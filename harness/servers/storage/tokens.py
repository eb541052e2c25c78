"""Bearer tokens and the tokens of signed URLs, with the words of the real service.

Source: storage-api 3.1 and 3.7.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from harness.protocols.jwt import BadTokenError, KeySet
from harness.servers.caller import Caller, CallerResolver
from harness.servers.storage import errors

__all__ = ["ANONYMOUS", "SERVICE", "SignedUrls", "identify"]

Scope = Literal["download", "upload"]

EXPIRED: Final = '"exp" claim timestamp check failed'
MESSAGES: Final = {
    "malformed": "Invalid Compact JWS",
    "signature": "signature verification failed",
    "expired": EXPIRED,
    "algorithm": '"alg" (Algorithm) Header Parameter value not allowed',
    "claims": '"nbf" claim timestamp check failed',
}
MAX_EXPIRY_S: Final = (2**53 - 1) // 1000
HEADER: Final = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
ANONYMOUS: Final = Caller("anon", "", {"role": "anon"}, '{"role":"anon"}', "")


def identify(callers: CallerResolver, token: str) -> Caller:
    """Return whom ``token`` speaks for, or refuse it (AccessDenied, as a 400)."""
    if not token:
        raise errors.access_denied(MESSAGES["malformed"])
    try:
        return callers.resolve(token)
    except BadTokenError as exc:
        raise errors.access_denied(_message(exc)) from exc


SERVICE: Final = Caller(
    "service_role", "", {"role": "service_role"}, '{"role":"service_role"}', ""
)


class SignedUrls:
    """Mints and checks the tokens of signed URLs: HS256, no ``typ``, one URL each."""

    def __init__(self, secret: str, keyset: KeySet) -> None:
        self._key = hmac.new(secret.encode(), digestmod=hashlib.sha256)
        self._keyset = keyset

    def mint(self, claims: Mapping[str, Any], *, now: float, lifetime_s: int) -> str:
        """Return a token with ``iat`` and ``exp`` added to ``claims``."""
        issued = int(now)
        if not 1 <= lifetime_s <= MAX_EXPIRY_S - issued:
            raise errors.invalid_parameter("expiresIn")
        payload = orjson.dumps({**claims, "iat": issued, "exp": issued + lifetime_s})
        signed = HEADER + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=")
        digest = self._key.copy()
        digest.update(signed)
        signature = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=")
        return (signed + b"." + signature).decode()

    def check(
        self, token: str, url: str, scope: Scope, *, now: float
    ) -> dict[str, Any]:
        """Return the claims of a token for exactly ``url`` and ``scope``."""
        try:
            claims = self._keyset.verify(token, now=now)
        except BadTokenError as exc:
            raise errors.invalid_json_web_token(_message(exc)) from exc
        # Tokens of older versions have no scope; only upload tokens carry "upsert".
        legacy: Scope = "upload" if "upsert" in claims else "download"
        if claims.get("scope", legacy) != scope:
            raise errors.invalid_signature(f"Token is not scoped for {scope}")
        if claims.get("url") != url:
            raise errors.invalid_signature()
        return claims


def _message(exc: BadTokenError) -> str:
    return MESSAGES.get(exc.reason, str(exc))
