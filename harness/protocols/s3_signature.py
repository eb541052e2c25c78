"""AWS Signature Version 4, both ways, without I/O.

Source: "AWS Signature Version 4 for API requests" (canonical request, string to sign,
signing key, presigned URLs, POST policies) and storage-api 3.9 for which refusals the
service knows.  Times come in as datetimes; nothing here reads a clock.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl, quote, unquote

from harness.errors import RemoteProtocolError

__all__ = [
    "EMPTY_SHA256",
    "UNSIGNED_PAYLOAD",
    "Request",
    "Signature",
    "SignatureError",
    "form_matches",
    "form_signature",
    "parse_signature",
    "presign",
    "sign",
    "signature_of",
    "signing_key",
    "string_to_sign",
]

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
MAX_PRESIGNED_S: Final = 7 * 24 * 3600
SPACES: Final = re.compile(r" +")
HEX64: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class SignatureError(RemoteProtocolError):
    """A signature that cannot be accepted.

    ``reason`` is one of ``missing``, ``malformed``, ``expired``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed: ``path`` and ``query`` as on the wire, header names any case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    host: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature as it came, from a header, a presigned URL or a form."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    timestamp: str
    payload_hash: str
    session_token: str
    is_presigned: bool = False

    @property
    def scope(self) -> str:
        """The credential scope."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    def matches(self, request: Request, secret: str) -> bool:
        """Whether ``secret`` made this signature of ``request``."""
        key = signing_key(secret, self.date, self.region, self.service)
        # Most clients sign the path encoded anew, some as they send it.
        paths = dict.fromkeys((canonical_path(request.path), request.path))
        return any(self._covers(request, path, key) for path in paths)

    def _covers(self, request: Request, path: str, key: bytes) -> bool:
        canonical = self._canonical(request, path)
        text = string_to_sign(self.timestamp, self.scope, canonical)
        return hmac.compare_digest(signature_of(key, text), self.signature)

    def _canonical(self, request: Request, path: str) -> str:
        pairs = parse_qsl(request.query, keep_blank_values=True)
        if self.is_presigned:
            pairs = [pair for pair in pairs if pair[0] != "X-Amz-Signature"]
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers["host"] = request.host
        return canonical_request(
            request.method,
            path,
            pairs,
            {name: headers.get(name, "") for name in self.signed_headers},
            self.payload_hash,
        )


def parse_signature(request: Request, now: datetime) -> Signature:
    """Read the signature of a request: the header's, else the presigned URL's."""
    authorization = request.headers.get("Authorization", "")
    if authorization.startswith(ALGORITHM):
        return _from_header(authorization, request.headers)
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    if "X-Amz-Signature" in query:
        return _from_query(query, request.headers, now)
    raise SignatureError("missing", "Missing signature")


def _from_header(authorization: str, headers: Mapping[str, str]) -> Signature:
    parts: dict[str, str] = {}
    for part in authorization[len(ALGORITHM) :].split(","):
        name, _, value = part.strip().partition("=")
        parts[name] = value
    timestamp = headers.get("x-amz-date") or _timestamp_of(headers.get("Date", ""))
    return _signature(
        parts.get("Credential", ""),
        parts.get("SignedHeaders", ""),
        parts.get("Signature", ""),
        timestamp,
        headers.get("x-amz-content-sha256") or UNSIGNED_PAYLOAD,
        headers.get("x-amz-security-token", ""),
    )


def _from_query(
    query: Mapping[str, str], headers: Mapping[str, str], now: datetime
) -> Signature:
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise SignatureError("malformed", "Invalid Signature")
    timestamp = query.get("X-Amz-Date", "")
    signature = _signature(
        query.get("X-Amz-Credential", ""),
        query.get("X-Amz-SignedHeaders", ""),
        query["X-Amz-Signature"],
        timestamp,
        query.get("X-Amz-Content-Sha256")
        or headers.get("x-amz-content-sha256")
        or UNSIGNED_PAYLOAD,
        query.get("X-Amz-Security-Token", ""),
        is_presigned=True,
    )
    expires = query.get("X-Amz-Expires", "")
    if not expires.isascii() or not expires.isdigit():
        raise SignatureError("malformed", "Invalid Signature")
    lifetime_s = int(expires)
    if not 0 <= lifetime_s <= MAX_PRESIGNED_S:
        raise SignatureError("malformed", "Invalid Signature")
    signed_at = datetime.strptime(timestamp, TIMESTAMP).replace(tzinfo=UTC)
    if signed_at + timedelta(seconds=lifetime_s) < now:
        raise SignatureError("expired", "The provided token has expired.")
    return signature


def _signature(
    credential: str,
    signed_headers: str,
    signature: str,
    timestamp: str,
    payload_hash: str,
    session_token: str,
    *,
    is_presigned: bool = False,
) -> Signature:
    # An access key may hold slashes; the scope is the last four parts.
    parts = credential.rsplit("/", 4)
    malformed = SignatureError("malformed", "Invalid signature format")
    if len(parts) != 5 or parts[4] != "aws4_request" or not parts[0]:
        raise malformed
    if HEX64.fullmatch(signature) is None or not signed_headers:
        raise malformed
    try:
        datetime.strptime(timestamp, TIMESTAMP).replace(tzinfo=UTC)
    except ValueError as exc:
        raise malformed from exc
    if not timestamp.startswith(parts[1]):
        raise malformed
    return Signature(
        access_key=parts[0],
        date=parts[1],
        region=parts[2],
        service=parts[3],
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        timestamp=timestamp,
        payload_hash=payload_hash,
        session_token=session_token,
        is_presigned=is_presigned,
    )


def form_signature(fields: Mapping[str, str]) -> Signature:
    """Read the signature of a POST policy form; field names in lower case."""
    if "x-amz-signature" not in fields:
        raise SignatureError("missing", "Missing signature")
    if fields.get("x-amz-algorithm") != ALGORITHM:
        raise SignatureError("malformed", "Invalid Signature")
    return _signature(
        fields.get("x-amz-credential", ""),
        "host",
        fields["x-amz-signature"],
        fields.get("x-amz-date", ""),
        UNSIGNED_PAYLOAD,
        fields.get("x-amz-security-token", ""),
    )


def form_matches(signature: Signature, policy: str, secret: str) -> bool:
    """Whether ``secret`` signed the form's base64 ``policy``."""
    key = signing_key(secret, signature.date, signature.region, signature.service)
    return hmac.compare_digest(signature_of(key, policy), signature.signature)


def canonical_request(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    payload_hash: str,
) -> str:
    """Return the canonical request of a canonical path.

    ``headers`` are the signed ones, in lower case.
    """
    names = sorted(headers)
    lines = [f"{name}:{SPACES.sub(' ', headers[name].strip())}\n" for name in names]
    return "\n".join(
        [
            method,
            path,
            canonical_query(query),
            "".join(lines),
            ";".join(names),
            payload_hash,
        ]
    )


def canonical_path(path: str) -> str:
    """Return a path with each character encoded as the signature wants it."""
    return quote(unquote(path), safe="/-_.~")


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return query parameters encoded and sorted."""
    encoded = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Return what the signing key signs."""
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"


def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key of one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature_of(key: bytes, text: str) -> str:
    """Return the signature of ``text``."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def sign(
    request: Request,
    access_key: str,
    secret: str,
    region: str,
    now: datetime,
    *,
    payload_hash: str = UNSIGNED_PAYLOAD,
) -> dict[str, str]:
    """Return the headers that sign ``request``, to be sent with those it has."""
    timestamp = now.astimezone(UTC).strftime(TIMESTAMP)
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    added = {"x-amz-date": timestamp, "x-amz-content-sha256": payload_hash}
    signed = {name.lower(): value for name, value in request.headers.items()}
    signed |= {"host": request.host, **added}
    pairs = parse_qsl(request.query, keep_blank_values=True)
    path = canonical_path(request.path)
    canonical = canonical_request(request.method, path, pairs, signed, payload_hash)
    key = signing_key(secret, timestamp[:8], region, "s3")
    signature = signature_of(key, string_to_sign(timestamp, scope, canonical))
    added["Authorization"] = (
        f"{ALGORITHM} Credential={access_key}/{scope}, "
        f"SignedHeaders={';'.join(sorted(signed))}, Signature={signature}"
    )
    return added


def presign(
    request: Request,
    access_key: str,
    secret: str,
    region: str,
    now: datetime,
    *,
    lifetime_s: int,
) -> str:
    """Return the query string of a presigned URL for ``request``."""
    timestamp = now.astimezone(UTC).strftime(TIMESTAMP)
    scope = f"{timestamp[:8]}/{region}/s3/aws4_request"
    pairs = [
        *parse_qsl(request.query, keep_blank_values=True),
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{access_key}/{scope}"),
        ("X-Amz-Date", timestamp),
        ("X-Amz-Expires", str(lifetime_s)),
        ("X-Amz-SignedHeaders", "host"),
    ]
    canonical = canonical_request(
        request.method,
        canonical_path(request.path),
        pairs,
        {"host": request.host},
        UNSIGNED_PAYLOAD,
    )
    key = signing_key(secret, timestamp[:8], region, "s3")
    signature = signature_of(key, string_to_sign(timestamp, scope, canonical))
    return f"{canonical_query(pairs)}&X-Amz-Signature={signature}"


def _timestamp_of(date: str) -> str:
    """Return a Date header as a signature's timestamp; '' for what is none."""
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return ""
    return at.astimezone(UTC).strftime(TIMESTAMP)
