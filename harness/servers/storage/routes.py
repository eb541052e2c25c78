"""Which handler answers a method and a path, under which operation and with which JWT.

Source: storage-api 3.3 and 3.4.  A static segment wins over a parameter; ``*`` takes
the rest of the path, which is decoded once, so an encoded slash becomes a separator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from aiohttp import web

from harness.servers.storage import (
    buckets,
    copies,
    deletes,
    images,
    listing,
    openapi,
    reads,
    signing,
    system,
    tus,
    uploads,
)
from harness.servers.storage.calls import decode_path

__all__ = ["Route", "Router", "rest_routes"]

Handler = Callable[..., Awaitable[web.StreamResponse]]
Auth = Literal["required", "optional", "none"]


@dataclass(frozen=True, slots=True)
class Route:
    """What answers, as which operation; ``auth`` says whether a JWT is needed."""

    handler: Handler
    operation: str
    auth: Auth = "required"


@dataclass(slots=True)
class _Node:
    static: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    here: dict[str, Route] = field(default_factory=dict)
    rest: dict[str, Route] = field(default_factory=dict)


class Router:
    """Finds the route of a request."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, method: str, pattern: str, route: Route) -> None:
        """Let ``route`` answer ``method`` on ``pattern`` (``/a/:parameter/*``)."""
        node = self._root
        for segment in pattern.strip("/").split("/"):
            if segment == "*":
                node.rest[method] = route
                return
            if segment.startswith(":"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
        node.here[method] = route

    def find(self, method: str, path: str) -> tuple[Route, list[str]] | None:
        """Return the route and the decoded parameters, or None."""
        return _find(self._root, method, path.removeprefix("/"))


def _find(node: _Node, method: str, path: str) -> tuple[Route, list[str]] | None:
    segment, slash, rest = path.partition("/")
    child = node.static.get(segment)
    if child is not None:
        found = _find_below(child, method, slash, rest)
        if found is not None:
            return found
    if segment and node.parameter is not None:
        found = _find_below(node.parameter, method, slash, rest)
        if found is not None:
            found[1].insert(0, decode_path(segment))
            return found
    route = node.rest.get(method)
    return None if route is None else (route, [decode_path(path)])


def _find_below(
    child: _Node, method: str, slash: str, rest: str
) -> tuple[Route, list[str]] | None:
    if not rest:
        route = child.here.get(method)
        if route is not None:
            return route, []
    return _find(child, method, rest) if slash else None


Row = tuple[str, str, Handler, str]

WITH_TOKEN: Final[tuple[Row, ...]] = (
    ("POST", "/bucket", buckets.create_bucket, "storage.bucket.create"),
    ("GET", "/bucket", buckets.list_buckets, "storage.bucket.list"),
    ("GET", "/bucket/:id", buckets.get_bucket, "storage.bucket.get"),
    ("HEAD", "/bucket/:id", buckets.get_bucket, "storage.bucket.get"),
    ("PUT", "/bucket/:id", buckets.update_bucket, "storage.bucket.update"),
    ("DELETE", "/bucket/:id", buckets.delete_bucket, "storage.bucket.delete"),
    ("POST", "/bucket/:id/empty", buckets.empty_bucket, "storage.bucket.empty"),
    ("POST", "/object/:bucket/*", uploads.upload_object, "storage.object.upload"),
    ("PUT", "/object/:bucket/*", uploads.upload_object, "storage.object.upload_update"),
    (
        "GET",
        "/object/authenticated/:bucket/*",
        reads.get_object,
        "storage.object.get_authenticated",
    ),
    # These two keep their old names, without the prefix.
    (
        "HEAD",
        "/object/authenticated/:bucket/*",
        reads.head_object,
        "object.head_authenticated_info",
    ),
    (
        "GET",
        "/object/info/authenticated/:bucket/*",
        reads.object_info,
        "object.get_authenticated_info",
    ),
    ("POST", "/object/sign/:bucket/*", signing.sign_object, "storage.object.sign"),
    ("POST", "/object/sign/:bucket", signing.sign_objects, "storage.object.sign_many"),
    (
        "POST",
        "/object/upload/sign/:bucket/*",
        signing.sign_upload,
        "storage.object.sign_upload_url",
    ),
    ("POST", "/object/list/:bucket", listing.list_objects, "storage.object.list"),
    (
        "POST",
        "/object/list-v2/:bucket",
        listing.list_objects_v2,
        "storage.object.list_v2",
    ),
    ("POST", "/object/copy", copies.copy_object, "storage.object.copy"),
    ("POST", "/object/move", copies.move_object, "storage.object.move"),
    ("DELETE", "/object/:bucket/*", deletes.delete_object, "storage.object.delete"),
    ("DELETE", "/object/:bucket", deletes.delete_objects, "storage.object.delete_many"),
    (
        "GET",
        "/render/image/authenticated/:bucket/*",
        images.render_image,
        "storage.render.image_authenticated",
    ),
    (
        "DELETE",
        "/cdn/:bucket/*",
        system.purge_object,
        "storage.cdn.purge_object_cache",
    ),
    ("DELETE", "/cdn/:bucket", system.purge_bucket, "storage.cdn.purge_bucket_cache"),
    ("DELETE", "/cdn", system.purge_tenant, "storage.cdn.purge_tenant_cache"),
    ("GET", "/health", system.health, ""),
)
TOKEN_OPTIONAL: Final[tuple[Row, ...]] = (
    ("GET", "/object/:bucket/*", reads.get_object, "storage.object.get_authenticated"),
    ("HEAD", "/object/:bucket/*", reads.head_object, "object.head_authenticated_info"),
    (
        "GET",
        "/object/info/:bucket/*",
        reads.object_info,
        "object.get_authenticated_info",
    ),
)
WITHOUT_TOKEN: Final[tuple[Row, ...]] = (
    (
        "GET",
        "/object/public/:bucket/*",
        reads.get_public_object,
        "storage.object.get_public",
    ),
    (
        "HEAD",
        "/object/public/:bucket/*",
        reads.head_public_object,
        "storage.object.info_public",
    ),
    (
        "GET",
        "/object/info/public/:bucket/*",
        reads.public_object_info,
        "storage.object.info_public",
    ),
    (
        "GET",
        "/object/sign/:bucket/*",
        reads.get_signed_object,
        "storage.object.get_signed",
    ),
    (
        "HEAD",
        "/object/sign/:bucket/*",
        reads.get_signed_object,
        "storage.object.get_signed",
    ),
    (
        "PUT",
        "/object/upload/sign/:bucket/*",
        signing.upload_signed_object,
        "storage.object.upload_signed",
    ),
    (
        "GET",
        "/render/image/public/:bucket/*",
        images.render_public_image,
        "storage.render.image_public",
    ),
    (
        "GET",
        "/render/image/sign/:bucket/*",
        images.render_signed_image,
        "storage.render.image_sign",
    ),
    ("GET", "/status", system.status, "storage.status"),
    ("GET", "/version", system.version, "storage.version"),
    ("GET", "/metrics", system.metrics, "storage.metrics"),
    ("GET", "/documentation/json", openapi.documentation, "storage.documentation"),
)
TUS_VERBS: Final = (("PATCH", "part"), ("HEAD", "get"), ("DELETE", "delete"))


def rest_routes() -> Router:
    """Return every route but those of the S3 protocol."""
    router = Router()
    tables: tuple[tuple[Auth, tuple[Row, ...]], ...] = (
        ("required", WITH_TOKEN),
        ("optional", TOKEN_OPTIONAL),
        ("none", WITHOUT_TOKEN),
    )
    for auth, rows in tables:
        for method, pattern, handler, operation in rows:
            router.add(method, pattern, Route(handler, operation, auth))
    _add_tus(router, "/upload/resumable", "", "required", tus.start_upload, tus.resume)
    _add_tus(
        router,
        "/upload/resumable/sign",
        "_signed",
        "none",
        tus.start_signed_upload,
        tus.resume_signed,
    )
    return router


def _add_tus(
    router: Router, base: str, suffix: str, auth: Auth, start: Handler, go_on: Handler
) -> None:
    upload = "storage.tus.upload"
    router.add("POST", base, Route(start, f"{upload}.create{suffix}", auth))
    for method, verb in TUS_VERBS:
        route = Route(go_on, f"{upload}.{verb}{suffix}", auth)
        router.add(method, f"{base}/:id", route)
    for pattern in (base, f"{base}/:id"):
        route = Route(tus.options, f"storage.tus.options{suffix}", "none")
        router.add("OPTIONS", pattern, route)
