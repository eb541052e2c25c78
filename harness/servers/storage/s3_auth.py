"""Who an S3 request speaks for: its signature, checked; its body, unwrapped.

Source: storage-api 3.9.  The static key pair is service_role; with a session token the
access key is the project, the secret its anon key, and the token's user is the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from harness.errors import RemoteProtocolError
from harness.protocols import s3_chunks, s3_signature
from harness.protocols.s3_chunks import ChunkDecoder, ChunkSigner
from harness.protocols.s3_policy import PolicyError, PostPolicy
from harness.protocols.s3_signature import Request, Signature, SignatureError
from harness.servers.caller import Caller
from harness.servers.storage import errors
from harness.servers.storage.calls import Call
from harness.servers.storage.core import Core
from harness.servers.storage.staging import body_chunks
from harness.servers.storage.tokens import SERVICE, identify

__all__ = ["S3Caller", "authorize", "authorize_form"]

ANY_REGION: Final = frozenset({"", "auto", "us-east-1"})
REFUSALS: Final[Mapping[str, Callable[[str], errors.StorageError]]] = {
    "missing": errors.access_denied,
    "malformed": errors.invalid_signature,
    "expired": lambda _: errors.expired_token(),
    "denied": errors.access_denied,
}
# Signed or not, these cannot change what a request does.
FREE_HEADERS: Final = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-user-agent",
    }
)


@dataclass(frozen=True, slots=True)
class S3Caller:
    """A checked signature and the secret that made it."""

    signature: Signature
    secret: str

    @property
    def payload_sha256(self) -> str:
        """The digest that the body must have; '' when it is not signed as a whole."""
        declared = self.signature.payload_hash
        return declared if len(declared) == 64 else ""

    def body(self, call: Call) -> AsyncIterator[bytes]:
        """Return the body's data, without the framing of aws-chunked."""
        return _verified(self._data(call), call.request.headers)

    def _data(self, call: Call) -> AsyncIterator[bytes]:
        chunks = body_chunks(call.request)
        mode = self.signature.payload_hash
        if mode not in s3_chunks.MODES:
            return chunks
        signature = self.signature
        signer = ChunkSigner(
            s3_signature.signing_key(
                self.secret, signature.date, signature.region, signature.service
            ),
            signature.timestamp,
            signature.scope,
            signature.signature,
        )
        decoder = ChunkDecoder(mode, signer, call.header("x-amz-trailer"))
        return _decoded(chunks, decoder, self.declared_size(call))

    def declared_size(self, call: Call) -> int | None:
        """Return how long the data will be, when the request says so."""
        if self.signature.payload_hash in s3_chunks.MODES:
            text = call.header("x-amz-decoded-content-length")
            return int(text) if text.isascii() and text.isdigit() else None
        return call.request.content_length


def authorize(core: Core, call: Call) -> S3Caller:
    """Check the signature of a request and set its caller."""
    request = signed_request(call)
    now = datetime.fromtimestamp(call.now, UTC)
    try:
        signature = s3_signature.parse_signature(request, now)
    except SignatureError as exc:
        raise REFUSALS[exc.reason](str(exc)) from exc
    secret, caller = _credentials(core, signature)
    if not _is_known_region(core, signature) or not signature.matches(request, secret):
        raise errors.signature_does_not_match()
    payload = signature.payload_hash
    if payload.startswith("STREAMING-") and payload not in s3_chunks.MODES:
        raise errors.invalid_request(f"Payload signing is not supported: {payload}")
    if not core.settings.compat:
        _refuse_unsigned(call, signature)
    call.caller, call.authenticated = caller, True
    return S3Caller(signature, secret)


def authorize_form(
    core: Core, call: Call, fields: Mapping[str, str], bucket: str
) -> PostPolicy:
    """Check the signed policy of a form (field names in lower case)."""
    policy_text = fields.get("policy", "")
    try:
        signature = s3_signature.form_signature(fields)
    except SignatureError as exc:
        raise REFUSALS[exc.reason](str(exc)) from exc
    secret, caller = _credentials(core, signature)
    known = _is_known_region(core, signature)
    if not known or not s3_signature.form_matches(signature, policy_text, secret):
        raise errors.signature_does_not_match()
    try:
        policy = PostPolicy.parse(policy_text)
        policy.check(fields, bucket, datetime.fromtimestamp(call.now, UTC))
    except PolicyError as exc:
        raise REFUSALS[exc.reason](str(exc)) from exc
    call.caller, call.authenticated = caller, True
    return policy


def _refuse_unsigned(call: Call, signature: Signature) -> None:
    """Refuse what was added to a signed request: a presigned PUT is no copy."""
    for name in map(str.lower, call.request.headers):
        if (
            name.startswith("x-amz-")
            and name not in FREE_HEADERS
            and name not in signature.signed_headers
        ):
            raise errors.access_denied(
                "There were headers present in the request which were not signed"
            )


def signed_request(call: Call) -> Request:
    """Return a request as its client signed it: with path and host as it saw them."""
    request = call.request
    headers = request.headers
    host = headers.get("X-Forwarded-Host") or request.host
    port = headers.get("X-Forwarded-Port")
    if port and ":" not in host and port not in ("80", "443"):
        host = f"{host}:{port}"
    path, _, query = request.raw_path.partition("?")
    return Request(request.method, path, query, headers, host)


def _credentials(core: Core, signature: Signature) -> tuple[str, Caller]:
    if signature.service != "s3":
        raise errors.access_denied("Invalid service")
    keys = core.project.keys
    if signature.session_token:
        if signature.access_key not in (core.project.ref, core.settings.tenant_id):
            raise errors.access_denied("Invalid tenant id")
        return keys.anon_key, identify(core.project.callers, signature.session_token)
    if signature.access_key != keys.s3.access_key_id:
        raise errors.access_denied("Invalid Access Key")
    return keys.s3.secret_access_key, SERVICE


def _is_known_region(core: Core, signature: Signature) -> bool:
    own = core.project.keys.s3.region
    return signature.region in ANY_REGION or signature.region == own


def _verified(
    data: AsyncIterator[bytes], headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """Return ``data``, held to what a header of the request says of it, if one does."""
    for header in s3_chunks.DIGEST_HEADERS:
        if value := headers.get(header):
            return _compared(data, header, value)
    return data


async def _compared(
    data: AsyncIterator[bytes], header: str, value: str
) -> AsyncIterator[bytes]:
    checksum = s3_chunks.Checksum()
    checksum.expect(header)
    async for chunk in data:
        checksum.update(chunk)
        yield chunk
    if not checksum.matches(value):
        raise errors.StorageError(
            "BadDigest", f"The {header} you specified did not match the data", 400
        )


async def _decoded(
    chunks: AsyncIterator[bytes], decoder: ChunkDecoder, declared: int | None
) -> AsyncIterator[bytes]:
    size = 0
    try:
        async for chunk in chunks:
            for data in decoder.feed(chunk):
                size += len(data)
                yield data
        decoder.end()
        if declared is not None and size != declared:
            raise RemoteProtocolError(
                f"{size} bytes came where x-amz-decoded-content-length says {declared}"
            )
    except s3_chunks.ChunkSignatureError as exc:
        raise errors.signature_does_not_match() from exc
    except s3_chunks.ChecksumError as exc:
        raise errors.invalid_checksum(str(exc)) from exc
    except RemoteProtocolError as exc:
        raise errors.invalid_request(str(exc)) from exc
