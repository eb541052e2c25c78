"""The one HTTP port: chooses the project and the service, as the CLI's gateway does.

A project is named by a path prefix (``/p/<ref>``), by a host (``<ref>.localhost``), or
is the default one.  The gateway translates keys (:mod:`harness.servers.api_keys`), adds
the forwarding headers, answers preflights, stamps every answer with CORS and a request
id, and writes one access log line a request.  It enforces no key: the services do.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import orjson
from aiohttp import web

from harness.clock import Clock
from harness.protocols.jwt import BadTokenError
from harness.servers import control
from harness.servers.access_log import AccessLog
from harness.servers.heads import Fields
from harness.servers.hosting import (
    DEFAULT_REF,
    SERVICE_CLASSES,
    HostedProject,
    ProjectRegistry,
)
from harness.servers.project import (
    ERROR_CODE,
    OWN_HEADERS,
    HeaderRules,
    Passage,
    bearer_token,
    headers_json,
    joined_headers,
    token_of,
)

__all__ = ["Gateway", "GatewayRequest", "locate"]

logger = logging.getLogger(__name__)

BODY_LIMIT_BYTES = 256 * 1024 * 1024  # of bodies that a service reads whole
KEPT_RULES = 512  # blocks of headers whose rules are not applied anew
LOGGED_BODY_BYTES = 4096  # a longer refusal is not searched for its code
ID_BYTES = 16
IDS_AT_ONCE = 256
REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
PROJECT_HOST = re.compile(r"([\w-]+)\.localhost(?::\d+)?", re.ASCII | re.IGNORECASE)
ABSOLUTE_FORM = re.compile(r"https?://[^/?#]*", re.IGNORECASE)

# What the CLI's gateway also routes, and what this stack does not have.
OFF = {
    "/graphql/v1": "GraphQL (pg_graphql)",
    "/functions/v1": "Edge Functions",
    "/analytics/v1": "Analytics",
    "/pg": "postgres-meta",
    "/mcp": "the MCP server",
}

CORS_METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT"
CORS_EXPOSED = (
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, ETag, "
    "Link, Location, Preference-Applied, Range-Unit, Retry-After, Tus-Resumable, "
    "Upload-Length, Upload-Offset, X-Request-Id, X-Supabase-Api-Version, X-Total-Count"
)


class GatewayRequest(web.BaseRequest):
    """A request with its id and, once its answer began, a note of that."""

    request_id: str = ""
    answer_began: bool = False
    fields: Fields | None = None
    passage: Passage | None = None
    service: str = "gateway"

    @property
    def whole_body(self) -> bytes | None:
        """The body, if all of it came together with the head."""
        return None

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        # aiohttp calls this just before the head is written, streamed answers included.
        self.answer_began = True
        headers = response.headers
        headers["Access-Control-Allow-Origin"] = "*"
        headers.setdefault("Access-Control-Expose-Headers", CORS_EXPOSED)
        headers["X-Request-Id"] = self.request_id


def locate(
    registry: ProjectRegistry, path: str, host: str
) -> tuple[HostedProject | None, str, str]:
    """Return (project or None, its reference, the path without the project prefix)."""
    if path.startswith("/p/"):
        ref, slash, rest = path[3:].partition("/")
        return registry.find(ref), ref, slash + rest
    ref = _ref_of_host(host)
    return registry.find(ref), ref, path


@lru_cache(maxsize=256)
def _ref_of_host(host: str) -> str:
    named = PROJECT_HOST.fullmatch(host)
    return named[1].lower() if named else DEFAULT_REF


class Gateway:
    """Answers HTTP requests by handing them to the services of a project."""

    def __init__(
        self,
        registry: ProjectRegistry,
        control_routes: control.ControlRoutes,
        clock: Clock,
        log: AccessLog,
    ) -> None:
        self._registry = registry
        self._control = control_routes
        self._clock = clock
        self._log = log

    def make_request(self, *args: Any) -> GatewayRequest:
        """Build the request object that aiohttp passes to :meth:`handle`."""
        message, payload, protocol, writer, task = args
        return GatewayRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            task.get_loop(),
            client_max_size=BODY_LIMIT_BYTES,
        )

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request and log it."""
        assert isinstance(request, GatewayRequest)
        began_s = self._clock.monotonic_s()
        request.request_id = _request_id(request)
        target = request.raw_path
        if not target.startswith("/"):
            target = ABSOLUTE_FORM.sub("", target, count=1)
        path = target.partition("?")[0] or "/"
        # Not request.host, which asks the resolver when the header is missing.
        host = request.headers.get("Host", "")
        hosted, ref, inner = locate(self._registry, path, host)
        response = await self._answer(request, hosted, ref, path, inner)
        if self._log.enabled:
            took_ms = (self._clock.monotonic_s() - began_s) * 1000
            self._record(request, response, hosted, path, took_ms)
        return response

    async def _answer(
        self,
        request: GatewayRequest,
        hosted: HostedProject | None,
        ref: str,
        path: str,
        inner: str,
    ) -> web.StreamResponse:
        if _is_preflight(request):
            return _preflight(request)
        try:
            prefix, slash, rest = path.partition(control.PREFIX)
            if slash and not prefix and rest[:1] in ("", "/"):
                return await self._control.handle(request, rest)
            if hosted is None:
                return self._without_project(path, ref)
            return await self._serve(request, hosted, inner)
        except web.HTTPException as exc:
            return _json({"message": exc.text or exc.reason}, exc.status)
        except Exception as exc:
            # The last line of defence: whatever a service let through is told to the
            # client as a fault of the server, with its id, and logged with its trace.
            if request.answer_began:
                raise
            logger.exception("request %s failed", request.request_id)
            return _fault(exc, request.request_id)

    async def _serve(
        self, request: GatewayRequest, hosted: HostedProject, path: str
    ) -> web.StreamResponse:
        service, rest = _route(path)
        if not service and _is_signed_for_s3(request):
            # Clients whose endpoint has no path (minio) reach S3 at the root.
            service, rest = "storage", f"/s3{path}"
        if service:
            request.service = service
            _forward(request, hosted, path, rest)
            # Storage answers once it wants the body; plain requests expect nothing.
            if service != "storage" and request.fields is None:
                await _continue(request)
            running = hosted.started(service) or await hosted.service(service)
            return await running.handle(request, rest)
        if path in ("", "/"):
            return _json(_inventory([hosted]))
        if path in ("/rest-admin/v1/ready", "/rest-admin/v1/live"):
            return await _rest_ready(hosted)
        for prefix, what in OFF.items():
            if path == prefix or path.startswith(f"{prefix}/"):
                message = f"{what} is not part of this stack"
                return _json({"code": "SERVICE_OFF", "message": message}, 501)
        return _json({"message": "no Route matched with those values"}, 404)

    def _without_project(self, path: str, ref: str) -> web.Response:
        if path == "/":
            return _json(_inventory(list(self._registry)))
        return _json({"message": f"no project {ref!r} is served here"}, 404)

    def _record(
        self,
        request: GatewayRequest,
        response: web.StreamResponse,
        hosted: HostedProject | None,
        path: str,
        took_ms: float,
    ) -> None:
        now = self._clock.now()
        role, sub = _identity(request, hosted, now.timestamp())
        self._log.write(
            {
                "at": now,
                "request_id": request.request_id,
                "project": hosted.project.ref if hosted else None,
                "service": request.service,
                "method": request.method,
                "path": path,
                "status": response.status,
                "code": _error_code(request, response)
                if response.status >= 400
                else None,
                "role": role,
                "sub": sub,
                "remote": request.remote,
                "user_agent": request.headers.get("User-Agent"),
                "took_ms": round(took_ms, 3),
                "sent_bytes": _sent_bytes(response),
            }
        )


def _random_ids() -> Iterator[str]:
    """Yield ids of 32 hexadecimal digits; the kernel is asked for many at once."""
    while True:
        stock = secrets.token_hex(ID_BYTES * IDS_AT_ONCE)
        for start in range(0, len(stock), 2 * ID_BYTES):
            yield stock[start : start + 2 * ID_BYTES]


RANDOM_IDS = _random_ids()


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get("X-Request-Id")
    if given and REQUEST_ID.fullmatch(given):
        return given
    return next(RANDOM_IDS)


def _route(path: str) -> tuple[str, str]:
    name, _, rest = path[1:].partition("/")
    if name in SERVICE_CLASSES and (rest[:3] == "v1/" or rest == "v1"):
        return name, rest[2:]
    return "", path


def _is_signed_for_s3(request: web.BaseRequest) -> bool:
    authorization = request.headers.get("Authorization", "")
    return authorization.startswith("AWS4-HMAC-SHA256 ") or (
        "X-Amz-Signature" in request.query
    )


def _is_preflight(request: web.BaseRequest) -> bool:
    return (
        request.method == "OPTIONS"
        and "Origin" in request.headers
        and "Access-Control-Request-Method" in request.headers
    )


def _preflight(request: web.BaseRequest) -> web.Response:
    asked = request.headers.get("Access-Control-Request-Headers", "*")
    return web.Response(
        headers={
            "Access-Control-Allow-Methods": CORS_METHODS,
            "Access-Control-Allow-Headers": asked,
            "Access-Control-Max-Age": "3600",
        }
    )


def _forward(
    request: GatewayRequest, hosted: HostedProject, path: str, rest: str
) -> None:
    # S3 requests are signed: their Authorization must arrive as it was sent.
    mapped = not path.startswith("/storage/v1/s3")
    key = request.fields, request.remote, mapped
    rules = hosted.header_rules.get(key)
    if rules is None:
        rules = _header_rules(request, hosted, mapped=mapped)
        if request.fields is not None:
            if len(hosted.header_rules) >= KEPT_RULES:
                hosted.header_rules.clear()
            hosted.header_rules[key] = rules
    request.passage = Passage(
        rules,
        request.raw_path.partition("?")[0],
        path[: len(path) - len(rest)] + "/",
        request.request_id,
    )


def _header_rules(
    request: GatewayRequest, hosted: HostedProject, *, mapped: bool
) -> HeaderRules:
    headers = request.headers
    authorization = headers.get("Authorization", "")
    passed = joined_headers(headers)
    if mapped:
        apikey = headers.get("apikey", "")
        authorization = hosted.api_keys.authorization(authorization, apikey)
        if authorization:
            passed["authorization"] = authorization
    host = headers.get("Host", "")
    for own in OWN_HEADERS:
        passed.pop(own, None)
    name, _, port = host.rpartition(":") if ":" in host else (host, "", "80")
    remote = request.remote or ""
    hops = headers.get("X-Forwarded-For")
    passed |= {
        "x-forwarded-for": f"{hops}, {remote}" if hops else remote,
        "x-forwarded-proto": "http",
        "x-forwarded-host": name,
        "x-forwarded-port": port,
        "x-real-ip": remote,
    }
    return HeaderRules(
        token_of(authorization),
        passed,
        request.fields is not None,
        headers_json(passed),
    )


async def _continue(request: web.BaseRequest) -> None:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun


async def _rest_ready(hosted: HostedProject) -> web.Response:
    pool = await hosted.project.pool("authenticator")
    await pool.fetchval("select 1")
    return web.Response()


def _inventory(projects: list[HostedProject]) -> dict[str, Any]:
    return {
        "projects": [
            {
                "ref": hosted.project.ref,
                "url": hosted.project.public_url,
                "services": {
                    name: f"{hosted.project.public_url}/{name}/v1"
                    for name in SERVICE_CLASSES
                    if name not in hosted.project.settings.off
                },
            }
            for hosted in projects
        ],
        "off": sorted(OFF),
    }


def _identity(
    request: web.BaseRequest, hosted: HostedProject | None, now: float
) -> tuple[str | None, str | None]:
    if hosted is None:
        return None, None
    try:
        caller = hosted.project.callers.resolve(bearer_token(request), now=now)
    except BadTokenError:
        return None, None
    return caller.role, caller.sub or None


def _error_code(request: web.BaseRequest, response: web.StreamResponse) -> str | None:
    if ERROR_CODE in request:
        return request[ERROR_CODE]
    body = getattr(response, "body", None)
    if not isinstance(body, bytes) or len(body) > LOGGED_BODY_BYTES:
        return None
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _first_text(told, ("error_code", "code", "error"))


def _sent_bytes(response: web.StreamResponse) -> int | None:
    # A whole body is sent after this; a streamed one was.
    if isinstance(response, web.Response) and not response.prepared:
        body = response.body
        return len(body) if isinstance(body, bytes) else response.content_length
    return response.body_length


def _first_text(told: Any, names: tuple[str, ...]) -> str | None:
    if not isinstance(told, Mapping):
        return None
    found = (told.get(name) for name in names)
    return next((text for text in found if isinstance(text, str)), None)


def _fault(exc: Exception, request_id: str) -> web.Response:
    from harness.servers.outages import OUTAGES

    status, message = 500, "the server failed on this request"
    if isinstance(exc, OUTAGES):
        status, message = 503, "the database does not answer"
    return _json({"message": message, "request_id": request_id}, status)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json"
    )
