"""JSON Web Tokens as Supabase mints and verifies them, and the keys of a project.

Source: RFC 7515, 7517, 7519 and 8725, and the conventions of the Supabase CLI's local
stack (HS256 demo keys, ``sb_publishable_``/``sb_secret_`` API keys, an ES256 signing
key with a ``kid``).  Times come in as Unix seconds; nothing here reads a clock.

HMAC tokens, which every request carries, are handled with the standard library; the
asymmetric ones go through PyJWT, imported when the first such key is met because its
cryptography costs a quarter of a second to load.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, RemoteProtocolError

if TYPE_CHECKING:
    from jwt import PyJWK

__all__ = [
    "LOCAL_JWT_SECRET",
    "BadTokenError",
    "KeySet",
    "ProjectKeys",
    "S3Keys",
    "mint",
    "public_jwk",
]

LOCAL_JWT_SECRET = "super-secret-jwt-token-with-at-least-32-characters-long"
LOCAL_PUBLISHABLE_KEY = "sb_publishable_ACJWlzQHlZjBrEguHvfOxg_3BJgxAaH"
LOCAL_SECRET_KEY = "sb_secret_N7UND0UgjKTVK-Uodkm0Hg_xSvEMPvz"
DEMO_KEY_EXPIRY = 1983812996  # Unix seconds, as in the CLI's demo keys
HMAC_ALGORITHMS = {
    "HS256": hashlib.sha256,
    "HS384": hashlib.sha384,
    "HS512": hashlib.sha512,
}
ASYMMETRIC_ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "EdDSA")
PUBLIC_JWK_MEMBERS = ("kty", "kid", "alg", "use", "crv", "x", "y", "n", "e")
COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


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
    user tokens and the keys of the roles.  Without any, those are HS256.  ``role_keys``
    holds the keys of the roles once they are signed: ES256 signs differently each time.
    """

    jwt_secret: str = LOCAL_JWT_SECRET
    publishable_key: str = LOCAL_PUBLISHABLE_KEY
    secret_key: str = LOCAL_SECRET_KEY
    s3: S3Keys = field(default_factory=S3Keys)
    signing_keys: tuple[Mapping[str, Any], ...] = ()
    role_keys: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        """Sign the keys of the roles, if that takes more than the secret."""
        if self.signing_keys and not self.role_keys:
            roles = {role: self._sign(role) for role in ("anon", "service_role")}
            object.__setattr__(self, "role_keys", roles)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProjectKeys:
        """Read what :func:`dataclasses.asdict` made; missing members get defaults.

        Raises :class:`ConfigError` for members that do not exist.
        """
        members = dict(record)
        try:
            if "s3" in members:
                members["s3"] = S3Keys(**members["s3"])
            members["signing_keys"] = tuple(members.get("signing_keys") or ())
            return cls(**members)
        except TypeError as exc:
            raise ConfigError(f"not the keys of a project: {exc}") from exc

    @property
    def anon_key(self) -> str:
        """The JWT of role ``anon``."""
        return self.role_keys.get("anon") or self._sign("anon")

    @property
    def service_role_key(self) -> str:
        """The JWT of role ``service_role``."""
        return self.role_keys.get("service_role") or self._sign("service_role")

    @property
    def user_token_key(self) -> str | Mapping[str, Any]:
        """What signs user tokens: the first signing key, else the secret."""
        return self.signing_keys[0] if self.signing_keys else self.jwt_secret

    def keyset(self) -> KeySet:
        """Return what verifies this project's tokens."""
        return KeySet(self.jwt_secret, self.signing_keys)

    def public_jwks(self) -> list[dict[str, Any]]:
        """Return the public halves of the signing keys, as a JWKS lists them."""
        return [public_jwk(key) for key in self.signing_keys]

    def _sign(self, role: str) -> str:
        return mint(
            {"iss": "supabase-demo", "role": role, "exp": DEMO_KEY_EXPIRY},
            self.user_token_key,
        )


def public_jwk(key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public half of a private JWK, for verifying only."""
    public = {name: key[name] for name in PUBLIC_JWK_MEMBERS if name in key}
    return {**public, "key_ops": ["verify"], "ext": True}


def mint(
    claims: Mapping[str, Any],
    key: str | Mapping[str, Any],
    *,
    header: Mapping[str, Any] | None = None,
) -> str:
    """Return a token signed by a secret (HS256) or a private JWK (its ``alg``)."""
    if isinstance(key, str):
        head = {"alg": "HS256", "typ": "JWT", **(header or {})}
        signed = f"{_encode_json(head)}.{_encode_json(claims)}"
        return f"{signed}.{_encode(_hmac('HS256', key, signed))}"
    import jwt  # costs 0.25 s; see the module docstring

    jwk = jwt.PyJWK.from_dict(dict(key))
    headers = {**(header or {}), "kid": key.get("kid")}
    return jwt.encode(
        dict(claims), jwk.key, algorithm=jwk.algorithm_name, headers=headers
    )


class KeySet:
    """Verifies tokens: HS256/384/512 by secret, ES/RS/EdDSA by ``kid``."""

    def __init__(
        self, secret: str, signing_keys: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._secret = secret
        self._records = {str(key["kid"]): key for key in signing_keys}
        self._by_kid: dict[str, PyJWK] = {}

    def verify(self, token: str, *, now: float, leeway_s: float = 0) -> dict[str, Any]:
        """Return the claims of ``token``, or raise :class:`BadTokenError`.

        ``now`` is Unix seconds.  ``exp`` and ``nbf`` are checked when present, either
        with ``leeway_s`` for clocks that differ; ``aud`` and ``iss`` are left to the
        caller, as the real services do.
        """
        if not COMPACT.fullmatch(token):
            raise BadTokenError("malformed", "token is not a valid JWT")
        head, body, signature = token.split(".")
        header = _decode_object(head, "header")
        # RFC 7515 4.1.11: whoever does not know a critical extension must refuse.
        if "crit" in header:
            raise BadTokenError("malformed", "token has unknown critical headers")
        algorithm = header.get("alg")
        if algorithm in HMAC_ALGORITHMS:
            self._check_hmac(algorithm, f"{head}.{body}", signature)
        else:
            self._check_asymmetric(header, token)
        claims = _decode_object(body, "payload")
        _check_times(claims, now, leeway_s)
        return claims

    def _check_hmac(self, algorithm: str, signed: str, signature: str) -> None:
        expected = _hmac(algorithm, self._secret, signed)
        if not hmac.compare_digest(expected, _decode(signature)):
            raise BadTokenError("signature", "signature verification failed")

    def _check_asymmetric(self, header: Mapping[str, Any], token: str) -> None:
        algorithm = header.get("alg")
        jwk = self._jwk(str(header.get("kid")))
        # RFC 8725 3.1: a key is used with its own algorithm only.
        if jwk is None or algorithm not in ASYMMETRIC_ALGORITHMS:
            raise BadTokenError("algorithm", f"no key for algorithm {algorithm!r}")
        import jwt

        try:
            jwt.api_jws.decode(token, jwk.key, algorithms=[jwk.algorithm_name])
        except jwt.exceptions.InvalidSignatureError as exc:
            raise BadTokenError("signature", "signature verification failed") from exc
        except jwt.exceptions.InvalidAlgorithmError as exc:
            raise BadTokenError(
                "algorithm", f"no key for algorithm {algorithm!r}"
            ) from exc
        except jwt.exceptions.InvalidTokenError as exc:
            raise BadTokenError("malformed", f"token is not valid: {exc}") from exc

    def _jwk(self, kid: str) -> PyJWK | None:
        jwk = self._by_kid.get(kid)
        if jwk is None and kid in self._records:
            import jwt

            # A private JWK verifies with its public half.
            jwk = jwt.PyJWK.from_dict(public_jwk(self._records[kid]))
            self._by_kid[kid] = jwk
        return jwk


def _hmac(algorithm: str, secret: str, signed: str) -> bytes:
    return hmac.digest(secret.encode(), signed.encode(), HMAC_ALGORITHMS[algorithm])


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _encode_json(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(dict(value), separators=(",", ":")).encode())


def _decode(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as exc:
        raise BadTokenError("malformed", "token is not base64url") from exc


def _decode_object(part: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part))
    except ValueError as exc:
        raise BadTokenError("malformed", f"token {what} is not JSON") from exc
    if not isinstance(value, dict):
        raise BadTokenError("malformed", f"token {what} is not an object")
    return value


def _check_times(claims: Mapping[str, Any], now: float, leeway_s: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if value is not None and not _is_number(value):
            raise BadTokenError("claims", f"claim {name} is not a number")
    expiry = claims.get("exp")
    if expiry is not None and expiry + leeway_s <= now:
        raise BadTokenError(
            "expired", "token has expired", expired_for_s=int(now - expiry)
        )
    if (not_before := claims.get("nbf")) is not None and (not_before > now + leeway_s):
        raise BadTokenError("claims", "token is not valid yet")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
