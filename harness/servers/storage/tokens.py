"""Bearer tokens and the tokens of signed URLs, with the words of the real service.

Source: storage-api 3.1 and 3.7.
"""

from __future__ import annotations

import base64
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
        self._key = secret.encode()
        self._keyset = keyset

    def mint(self, claims: Mapping[str, Any], *, now: float, lifetime_s: int) -> str:
        """Return a token with ``iat`` and ``exp`` added to ``claims``."""
        issued = int(now)
        if not 1 <= lifetime_s <= MAX_EXPIRY_S - issued:
            raise errors.invalid_parameter("expiresIn")
        payload = orjson.dumps({**claims, "iat": issued, "exp": issued + lifetime_s})
        signed = HEADER + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=")
        return (signed + b"." + self._sign(signed)).decode()

    def check(
        self, token: str, url: str, scope: Scope, *, now: float
    ) -> dict[str, Any]:
        """Return the claims of a token for exactly ``url`` and ``scope``."""
        try:
            claims = self._own_claims(token, now) or self._keyset.verify(token, now=now)
        except BadTokenError as exc:
            raise errors.invalid_json_web_token(_message(exc)) from exc
        # Tokens of older versions have no scope; only upload tokens carry "upsert".
        legacy: Scope = "upload" if "upsert" in claims else "download"
        if claims.get("scope", legacy) != scope:
            raise errors.invalid_signature(f"Token is not scoped for {scope}")
        if claims.get("url") != url:
            raise errors.invalid_signature()
        return claims

    def _own_claims(self, token: str, now: float) -> dict[str, Any] | None:
        """Return the claims of a current token with the header that we write.

        None leaves the decision to the general verification, which costs ten times as
        much.
        """
        signed, _, signature = token.encode().rpartition(b".")
        header, _, payload = signed.partition(b".")
        if header != HEADER or not hmac.compare_digest(self._sign(signed), signature):
            return None
        try:
            claims = orjson.loads(base64.urlsafe_b64decode(payload + b"=="))
        except ValueError:
            return None
        current = isinstance(claims, dict) and isinstance(claims.get("exp"), int)
        if not current or claims["exp"] <= now or "nbf" in claims:
            return None
        known: dict[str, Any] = claims
        return known

    def _sign(self, signed: bytes) -> bytes:
        digest = hmac.digest(self._key, signed, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _message(exc: BadTokenError) -> str:
    return MESSAGES.get(exc.reason, str(exc))
