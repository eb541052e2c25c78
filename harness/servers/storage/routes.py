"""Which handler answers a method and a path, under which operation and with which JWT.

Source: storage-api 3.3 and 3.4.  A static segment wins over a parameter; ``*`` takes
the rest of the path, which is decoded once, so an encoded slash becomes a separator.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from aiohttp import web

from harness.servers.storage import (
    buckets,
    copies,
    deletes,
    listing,
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
    for child, taken in (
        (node.static.get(segment), []),
        (node.parameter if segment else None, [segment]),
    ):
        if child is None:
            continue
        if not slash or not rest:
            route = child.here.get(method)
            if route is not None:
                return route, [decode_path(value) for value in taken]
        if slash:
            found = _find(child, method, rest)
            if found is not None:
                return found[0], [decode_path(value) for value in taken] + found[1]
    route = node.rest.get(method)
    return None if route is None else (route, [decode_path(path)])


OBJECT_READS: Final[tuple[tuple[str, str, Handler, Handler, str, Auth], ...]] = (
    (
        "/object/public/:bucket/*",
        "object.get_public",
        reads.get_public_object,
        reads.head_public_object,
        "object.info_public",
        "none",
    ),
    (
        "/object/authenticated/:bucket/*",
        "object.get_authenticated",
        reads.get_object,
        reads.head_object,
        "",
        "required",
    ),
    (
        "/object/:bucket/*",
        "object.get_authenticated",
        reads.get_object,
        reads.head_object,
        "",
        "optional",
    ),
)


TUS_VERBS: Final = (("PATCH", "part"), ("HEAD", "get"), ("DELETE", "delete"))


def rest_routes() -> Router:
    """Return the routes of buckets and objects."""
    router = Router()

    def add(
        method: str,
        pattern: str,
        handler: Handler,
        operation: str,
        auth: Auth = "required",
    ) -> None:
        router.add(method, pattern, Route(handler, f"storage.{operation}", auth))

    add("POST", "/bucket", buckets.create_bucket, "bucket.create")
    add("GET", "/bucket", buckets.list_buckets, "bucket.list")
    add("GET", "/bucket/:id", buckets.get_bucket, "bucket.get")
    add("HEAD", "/bucket/:id", buckets.get_bucket, "bucket.get")
    add("PUT", "/bucket/:id", buckets.update_bucket, "bucket.update")
    add("DELETE", "/bucket/:id", buckets.delete_bucket, "bucket.delete")
    add("POST", "/bucket/:id/empty", buckets.empty_bucket, "bucket.empty")

    add("POST", "/object/:bucket/*", uploads.upload_object, "object.upload")
    add("PUT", "/object/:bucket/*", uploads.upload_object, "object.upload_update")
    for pattern, operation, get, head, head_operation, auth in OBJECT_READS:
        add("GET", pattern, get, operation, auth)
        # HEAD of private objects keeps its old name, without the prefix.
        named = (
            f"storage.{head_operation}"
            if head_operation
            else ("object.head_authenticated_info")
        )
        router.add("HEAD", pattern, Route(head, named, auth))
    info = Route(reads.object_info, "object.get_authenticated_info", "optional")
    router.add("GET", "/object/info/:bucket/*", info)
    info = Route(reads.object_info, "object.get_authenticated_info")
    router.add("GET", "/object/info/authenticated/:bucket/*", info)
    add(
        "GET",
        "/object/info/public/:bucket/*",
        reads.public_object_info,
        "object.info_public",
        "none",
    )
    signed: Any = (reads.get_signed_object, "object.get_signed", "none")
    add("GET", "/object/sign/:bucket/*", *signed)
    add("HEAD", "/object/sign/:bucket/*", *signed)
    add("POST", "/object/sign/:bucket/*", signing.sign_object, "object.sign")
    add("POST", "/object/sign/:bucket", signing.sign_objects, "object.sign_many")
    add(
        "POST",
        "/object/upload/sign/:bucket/*",
        signing.sign_upload,
        "object.sign_upload_url",
    )
    add(
        "PUT",
        "/object/upload/sign/:bucket/*",
        signing.upload_signed_object,
        "object.upload_signed",
        "none",
    )
    add("POST", "/object/list/:bucket", listing.list_objects, "object.list")
    add("POST", "/object/list-v2/:bucket", listing.list_objects_v2, "object.list_v2")
    add("POST", "/object/copy", copies.copy_object, "object.copy")
    add("POST", "/object/move", copies.move_object, "object.move")
    add("DELETE", "/object/:bucket/*", deletes.delete_object, "object.delete")
    add("DELETE", "/object/:bucket", deletes.delete_objects, "object.delete_many")
    _add_tus(router, "/upload/resumable", "", "required", tus.start_upload, tus.resume)
    _add_tus(
        router,
        "/upload/resumable/sign",
        "_signed",
        "none",
        tus.start_signed_upload,
        tus.resume_signed,
    )
    add("GET", "/health", system.health, "health")
    add("GET", "/status", system.status, "status", "none")
    add("GET", "/version", system.version, "version", "none")
    add("GET", "/metrics", system.metrics, "metrics", "none")
    add("DELETE", "/cdn/:bucket/*", system.purge_object, "cdn.purge_object_cache")
    add("DELETE", "/cdn/:bucket", system.purge_bucket, "cdn.purge_bucket_cache")
    add("DELETE", "/cdn", system.purge_tenant, "cdn.purge_tenant_cache")
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
