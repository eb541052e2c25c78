"""What the Storage API answers when it refuses: codes, statuses, messages, bodies.

Source: storage-api 3.1.  The HTTP status of the REST routes is 400 for nearly every
refusal; the real one is the string ``statusCode`` of the body.  S3 and TUS answer with
:attr:`StorageError.status` itself.
"""

from __future__ import annotations

import errno
from typing import Final

import asyncpg
import orjson
from aiohttp import web

__all__ = [
    "JSON_TYPE",
    "RLS_MESSAGE",
    "StorageError",
    "access_denied",
    "bucket_exists",
    "bucket_not_empty",
    "database_error",
    "database_timeout",
    "disk_error",
    "entity_too_large",
    "error_response",
    "expired_token",
    "from_postgres",
    "from_sqlstate",
    "internal_error",
    "invalid_bucket_name",
    "invalid_checksum",
    "invalid_file_size_limit",
    "invalid_json_web_token",
    "invalid_key",
    "invalid_mime_type",
    "invalid_parameter",
    "invalid_range",
    "invalid_request",
    "invalid_signature",
    "invalid_upload_signature",
    "invalid_x_robots_tag",
    "key_exists",
    "lock_timeout",
    "missing_content_length",
    "missing_parameter",
    "missing_part",
    "no_content",
    "no_such_bucket",
    "no_such_key",
    "no_such_upload",
    "precondition_failed",
    "related_resource_not_found",
    "resource_exists",
    "resource_locked",
    "role_denied",
    "route_not_found",
    "signature_does_not_match",
]

JSON_TYPE: Final = "application/json; charset=utf-8"


class StorageError(Exception):
    """A refusal, with everything that its wire forms need.

    ``status`` is the real status, ``http_status`` the one REST answers with, ``error``
    the legacy string of the body (the code when there is none).
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int,
        *,
        error: str | None = None,
        http_status: int | None = None,
        resource: str = "",
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.error = error or code
        self.http_status = http_status or (500 if status == 500 else 400)
        self.resource = resource
        self.close = close

    def body(self) -> bytes:
        """Return the JSON body of the REST routes."""
        return orjson.dumps(
            {
                "statusCode": str(self.status),
                "error": self.error,
                "message": self.message,
                "code": self.code,
            }
        )


def error_response(error: StorageError) -> web.Response:
    """Return the REST answer for ``error``."""
    response = web.Response(
        status=error.http_status,
        body=error.body(),
        headers={"Content-Type": JSON_TYPE},
    )
    if error.close:
        response.force_close()
    return response


def no_such_bucket(bucket: str = "") -> StorageError:
    """Return: the bucket does not exist or may not be seen."""
    message = "Bucket not found"
    return StorageError("NoSuchBucket", message, 404, error=message, resource=bucket)


def no_such_key(key: str = "") -> StorageError:
    """Return: the object does not exist or may not be seen."""
    return StorageError(
        "NoSuchKey", "Object not found", 404, error="not_found", resource=key
    )


def bucket_not_empty(bucket: str) -> StorageError:
    """Return: only an empty bucket can be deleted."""
    message = "The bucket you tried to delete is not empty"
    return StorageError("ResourceNotEmpty", message, 409, resource=bucket)


def bucket_exists(bucket: str) -> StorageError:
    """Return: a bucket of this id or name exists."""
    return _duplicate("BucketAlreadyExists", bucket)


def key_exists(key: str) -> StorageError:
    """Return: an object of this name exists and upsert was not asked for."""
    return _duplicate("KeyAlreadyExists", key)


def resource_exists(resource: str = "") -> StorageError:
    """Return: a row with this key exists."""
    return _duplicate("ResourceAlreadyExists", resource)


def precondition_failed() -> StorageError:
    """Return: the object is there, and was to be written only if it is not."""
    message = "At least one of the pre-conditions you specified did not hold"
    return StorageError("PreconditionFailed", message, 412)


def _duplicate(code: str, resource: str) -> StorageError:
    message = "The resource already exists"
    return StorageError(code, message, 409, error="Duplicate", resource=resource)


def access_denied(message: str = "Access denied", resource: str = "") -> StorageError:
    """Return: a policy, or the token, does not allow it."""
    return StorageError(
        "AccessDenied", message, 403, error="Unauthorized", resource=resource
    )


def role_denied() -> StorageError:
    """Return: the route is for service_role; one of the few real 403 of REST."""
    message = "Access denied: Invalid role"
    return StorageError(
        "AccessDenied", message, 403, error="Unauthorized", http_status=403
    )


def invalid_json_web_token(message: str = "Invalid JWT") -> StorageError:
    """Return: a signed URL's token is not valid."""
    return StorageError("InvalidJWT", message, 400)


def invalid_signature(message: str = "Invalid signature") -> StorageError:
    """Return: a token is valid but not for this."""
    return StorageError("InvalidSignature", message, 400)


def signature_does_not_match(message: str = "Signature does not match") -> StorageError:
    """Return: the S3 signature was not made with the secret of this key."""
    return StorageError("SignatureDoesNotMatch", message, 403)


def expired_token() -> StorageError:
    """Return: a presigned URL or a policy is too old."""
    return StorageError("ExpiredToken", "The provided token has expired.", 400)


def missing_content_length() -> StorageError:
    """Return: an S3 part must say how long it is."""
    message = "You must provide the Content-Length HTTP header."
    return StorageError("MissingContentLength", message, 400)


def no_such_upload(upload_id: str) -> StorageError:
    """Return: there is no such multipart upload."""
    return StorageError("NoSuchUpload", "Upload not found", 404, resource=upload_id)


def invalid_upload_signature() -> StorageError:
    """Return: a multipart upload's row was changed by somebody else."""
    return StorageError("InvalidUploadSignature", "Invalid upload Signature", 400)


def content_sha256_mismatch() -> StorageError:
    """Return: the body is not the one that was signed."""
    return StorageError(
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
        400,
    )


def invalid_checksum(message: str) -> StorageError:
    """Return: the bytes are not what was announced."""
    return StorageError("InvalidChecksum", message, 400)


def missing_part(number: int, upload_id: str) -> StorageError:
    """Return: a multipart upload is completed with a part that is not there."""
    message = f"Part {number} is missing for upload id {upload_id}"
    return StorageError("MissingPart", message, 400)


def invalid_request(
    message: str, *, status: int = 400, error: str | None = None, resource: str = ""
) -> StorageError:
    """Return: something about the request is wrong."""
    return StorageError(
        "InvalidRequest", message, status, error=error, resource=resource
    )


def invalid_parameter(name: str, message: str | None = None) -> StorageError:
    """Return: a parameter's value is not allowed."""
    return StorageError("InvalidParameter", message or f"Invalid Parameter {name}", 400)


def missing_parameter(name: str) -> StorageError:
    """Return: a parameter or a setting is missing."""
    return StorageError("MissingParameter", f"Missing Required Parameter {name}", 400)


def invalid_key(key: str, reason: str = "") -> StorageError:
    """Return: an object name that is not allowed."""
    return StorageError("InvalidKey", f"Invalid key: {key}{reason}", 400, resource=key)


def invalid_bucket_name(bucket: str) -> StorageError:
    """Return: a bucket name that is not allowed."""
    message = "Bucket name invalid"
    return StorageError(
        "InvalidBucketName", message, 400, error="Invalid Input", resource=bucket
    )


def invalid_file_size_limit() -> StorageError:
    """Return: a file_size_limit that is no size."""
    hint = "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B"
    return StorageError("InvalidRequest", hint, 400)


def invalid_mime_type(mime_type: str) -> StorageError:
    """Return: the bucket does not take this type."""
    message = f"mime type {mime_type} is not supported"
    return StorageError("InvalidMimeType", message, 415, error="invalid_mime_type")


def invalid_x_robots_tag(message: str) -> StorageError:
    """Return: an X-Robots-Tag header that is no list of rules."""
    return StorageError(
        "InvalidRequest",
        f"Invalid X-Robots-Tag header: {message}",
        400,
        error="invalid_x_robots_tag",
    )


def invalid_range() -> StorageError:
    """Return: a Range header that cannot be satisfied; a real 416."""
    return StorageError(
        "InvalidRange",
        "invalid range provided",
        416,
        error="invalid_range",
        http_status=416,
    )


def entity_too_large(
    entity: str = "object", limit: str = "the maximum allowed size"
) -> StorageError:
    """Return: more bytes than the limit allows."""
    message = f"The {entity} exceeded {limit}"
    return StorageError("EntityTooLarge", message, 413, error="Payload too large")


def no_content(message: str = "No content provided") -> StorageError:
    """Return: an upload without a body, or one that ended too early."""
    return StorageError("InvalidRequest", message, 400)


def related_resource_not_found() -> StorageError:
    """Return: a foreign key points at nothing, as a bucket that is gone."""
    return invalid_request("The related resource does not exist", status=404)


def resource_locked() -> StorageError:
    """Return: somebody else writes this object."""
    return StorageError("ResourceLocked", "The resource is locked", 423)


def lock_timeout() -> StorageError:
    """Return: a resumable upload is in somebody else's hands."""
    message = "acquiring lock timeout"
    return StorageError("LockTimeout", message, 503, error="acquiring_lock_timeout")


def database_timeout() -> StorageError:
    """Return: the database did not answer in time."""
    message = "The connection to the database timed out"
    return StorageError("DatabaseTimeout", message, 544, http_status=544)


def database_error(sqlstate: str) -> StorageError:
    """Return: a database error without a meaning of its own."""
    return StorageError("DatabaseError", f"database error, code: {sqlstate}", 500)


def internal_error() -> StorageError:
    """Return: a fault of the service itself; the client learns nothing else."""
    return StorageError("InternalError", "Internal Server Error", 500, error="Internal")


def disk_error(exc: OSError) -> StorageError:
    """Return what a full or broken disk is told as."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "No space left on the storage device"
        return StorageError("InternalError", message, 500)
    return internal_error()


def route_not_found(method: str, path: str) -> StorageError:
    """Return: no route below one of the API's prefixes; a real 404."""
    return StorageError(
        "InvalidRequest",
        f"Route {method}:{path} not found",
        404,
        error="Not Found",
        http_status=404,
    )


def _too_many_connections() -> StorageError:
    return StorageError(
        "SlowDown",
        "Too many connections issued to the database",
        429,
        error="too_many_connections",
        http_status=429,
    )


RLS_MESSAGE: Final = "new row violates row-level security policy"
READ_ONLY: Final = (
    "The database is currently in read-only mode. Please try again later."
)
BAD_DEFINITION: Final = "The database schema is invalid or incompatible."
OUT_OF_SYNC: Final = (
    "The database schema is out of sync. Please run migrations or contact support."
)


def from_sqlstate(sqlstate: str, message: str, resource: str = "") -> StorageError:
    """Return the refusal that PostgreSQL's ``sqlstate`` stands for."""
    if sqlstate == "42501":
        # The real service cuts the table's name off.
        short = RLS_MESSAGE if message.startswith(RLS_MESSAGE) else message
        return access_denied(short, resource)
    if sqlstate == "23505":
        return resource_exists(resource)
    if sqlstate == "23503":
        if "is still referenced" in message or "update or delete on" in message:
            return StorageError(
                "ResourceReferenced", "The resource is still referenced", 409
            )
        return related_resource_not_found()
    if sqlstate == "55P03":
        return resource_locked()
    if sqlstate == "57014" or sqlstate[:3] == "57P" or sqlstate[:2] == "08":
        # The statement or the server was stopped: what it did may be unknown.
        return database_timeout()
    if sqlstate == "53300":
        return _too_many_connections()
    if sqlstate in ("22P02", "22021"):
        return StorageError("InvalidParameter", message, 400)
    unavailable = {
        "25006": ("DatabaseReadOnly", READ_ONLY),
        "42P17": ("DatabaseInvalidObjectDefinition", BAD_DEFINITION),
        "42703": ("DatabaseSchemaMismatch", OUT_OF_SYNC),
        "42P01": ("DatabaseSchemaMismatch", OUT_OF_SYNC),
    }
    if sqlstate in unavailable:
        code, text = unavailable[sqlstate]
        return StorageError(code, text, 503)
    return database_error(sqlstate)


def from_postgres(exc: asyncpg.PostgresError) -> StorageError:
    """Return the refusal that a PostgreSQL error stands for."""
    return from_sqlstate(str(exc.sqlstate), str(getattr(exc, "message", None) or exc))
