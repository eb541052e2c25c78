"""JSON Web Tokens as Supabase mints and verifies them, and the keys of a project.

Source: RFC 7519, RFC 7517, and the conventions of the Supabase CLI's local stack
(HS256 demo keys, ``sb_publishable_``/``sb_secret_`` API keys, an ES256 signing key with
a ``kid``).  Times come in as Unix seconds; nothing here reads a clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt as pyjwt
from jwt.exceptions import InvalidTokenError

from harness.errors import RemoteProtocolError

__all__ = [
    "LOCAL_JWT_SECRET",
    "BadTokenError",
    "KeySet",
    "ProjectKeys",
    "S3Keys",
    "mint",
]

LOCAL_JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
LOCAL_PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
LOCAL_SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
DEMO_KEY_EXPIRY = 1983812996  # Unix seconds, as in the CLI's demo keys
HMAC_ALGORITHMS = ("HS256", "HS384", "HS512")
ASYMMETRIC_ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "EdDSA")


class BadTokenError(RemoteProtocolError):
    """A token that must not be trusted.

    ``reason`` is one of ``malformed``, ``signature``, ``expired``, ``algorithm``,
    ``claims``; ``expired_for_s`` is set for ``expired``.
    """

    def __init__(
        self, reason: str, message: str, *, expired_for_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.expired_for_s = expired_for_s


@dataclass(frozen=True, slots=True)
class S3Keys:
    """The static S3 key pair of a project (service role) and its region."""

    access_key_id: str = "625729a08b95bf1b7ff351a663f3a23c"
    secret_access_key: str = (
        "850181e4652dd023b7a98c58ae0d2d34bd487ee0cc3254aed6eda37307425907"
    )
    region: str = "local"


@dataclass(frozen=True, slots=True)
class ProjectKeys:
    """Every key of a project; the defaults are the public ones of a local stack.

    ``signing_keys`` are private JWKs (ES256 or RS256, with ``kid``); the first signs
    user tokens.  Without any, user tokens are HS256.
    """

    jwt_secret: str = LOCAL_JWT_SECRET
    publishable_key: str = LOCAL_PUBLISHABLE_KEY
    secret_key: str = LOCAL_SECRET_KEY
    s3: S3Keys = field(default_factory=S3Keys)
    signing_keys: tuple[Mapping[str, Any], ...] = ()

    @property
    def anon_key(self) -> str:
        """The legacy JWT of role ``anon``."""
        return self._demo_key("anon")

    @property
    def service_role_key(self) -> str:
        """The legacy JWT of role ``service_role``."""
        return self._demo_key("service_role")

    def keyset(self) -> KeySet:
        """Return what verifies this project's tokens."""
        return KeySet(self.jwt_secret, self.signing_keys)

    def _demo_key(self, role: str) -> str:
        return mint(
            {"iss": "supabase-demo", "role": role, "exp": DEMO_KEY_EXPIRY},
            self.jwt_secret,
        )


def mint(
    claims: Mapping[str, Any],
    key: str | Mapping[str, Any],
    *,
    header: Mapping[str, Any] | None = None,
) -> str:
    """Return a signed token: HS256 for a secret, the key's ``alg`` for a private JWK."""
    if isinstance(key, str):
        return pyjwt.encode(
            dict(claims), key, algorithm="HS256", headers=dict(header or {})
        )
    jwk = pyjwt.PyJWK.from_dict(dict(key))
    headers = {**(header or {}), "kid": key.get("kid")}
    return pyjwt.encode(
        dict(claims), jwk.key, algorithm=jwk.algorithm_name, headers=headers
    )


class KeySet:
    """Verifies tokens: HS256/384/512 by secret, ES/RS/EdDSA by ``kid``."""

    def __init__(
        self, secret: str, signing_keys: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._secret = secret
        self._by_kid: dict[str, pyjwt.PyJWK] = {
            str(key["kid"]): pyjwt.PyJWK.from_dict(dict(key)) for key in signing_keys
        }

    def verify(self, token: str, *, now: float) -> dict[str, Any]:
        """Return the claims of ``token``, or raise :class:`BadTokenError`.

        ``now`` is Unix seconds.  ``exp`` and ``nbf`` are checked when present; ``aud``
        and ``iss`` are left to the caller, as the real services do.
        """
        try:
            header = pyjwt.get_unverified_header(token)
        except InvalidTokenError as exc:
            raise BadTokenError("malformed", "token is not a valid JWT") from exc
        key, algorithms = self._key_for(header)
        try:
            payload = pyjwt.api_jws.decode(token, key, algorithms=list(algorithms))
            claims = json.loads(payload)
        except pyjwt.exceptions.InvalidSignatureError as exc:
            raise BadTokenError("signature", "signature verification failed") from exc
        except (InvalidTokenError, ValueError) as exc:
            raise BadTokenError("malformed", f"token is not valid: {exc}") from exc
        if not isinstance(claims, dict):
            raise BadTokenError("malformed", "token payload is not an object")
        _check_times(claims, now)
        return claims

    def _key_for(self, header: Mapping[str, Any]) -> tuple[Any, tuple[str, ...]]:
        algorithm = header.get("alg")
        if algorithm in HMAC_ALGORITHMS:
            return self._secret, HMAC_ALGORITHMS
        jwk = self._by_kid.get(str(header.get("kid")))
        if algorithm in ASYMMETRIC_ALGORITHMS and jwk is not None:
            # RFC 8725 3.1: a key is used with its own algorithm only.
            return jwk.key, (jwk.algorithm_name,)
        raise BadTokenError("algorithm", f"no key for algorithm {algorithm!r}")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is not None and not _is_number(value):
            raise BadTokenError("claims", f"claim {name} is not a number")
    expiry = claims.get("exp")
    if expiry is not None and expiry <= now:
        raise BadTokenError(
            "expired", "token has expired", expired_for_s=int(now - expiry)
        )
    if (not_before := claims.get("nbf")) is not None and not_before > now:
        raise BadTokenError("claims", "token is not valid yet")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
