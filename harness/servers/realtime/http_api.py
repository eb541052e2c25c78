"""The HTTP endpoints: broadcasting without a socket, health, metrics.

A batch (``POST /api/broadcast``) goes out as text; a single message
(``POST /api/broadcast/{topic}/events/{event}``) with its body untouched.  Topics come
without the ``realtime:`` prefix.  Private topics take what the caller's policies allow:
a batch drops the rest silently, a single message is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

from harness.protocols.phoenix import MalformedMessageError, decode_json, encode_json
from harness.servers.project import bearer_token
from harness.servers.realtime.fanout import (
    BinaryOutgoing,
    Outgoing,
    OutgoingMessage,
)
from harness.servers.realtime.join_request import TOPIC_PREFIX
from harness.servers.realtime.metrics import render
from harness.servers.realtime.term_size import term_size
from harness.servers.realtime.tokens import Identity, RefusedError

if TYPE_CHECKING:
    from harness.servers.realtime.service import RealtimeService

__all__ = ["HttpApi"]

MAX_BODY_BYTES = 8_000_000
JSON, BINARY = "application/json", "application/octet-stream"
BLANK, INVALID = "can't be blank", "is invalid"
TOO_LARGE = "Payload size exceeds tenant limit"
OVER_RATE = "You have exceeded your rate limit"
BATCH_TOO_LARGE = "Too many messages to broadcast, please reduce the batch size"
UNSUPPORTED = "Unsupported Media Type. Use application/json or application/octet-stream"
NO_LONG_POLLING = "Long polling is not offered: connect with a WebSocket"
NODE = "realtime@127.0.0.1"


class HttpApi:
    """Answers HTTP requests of one project."""

    def __init__(self, service: RealtimeService) -> None:
        self._service = service

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer a request to ``path``, which is still percent-encoded."""
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match (request.method, *parts):
            case ("POST", "api", "broadcast"):
                return await self._broadcast_batch(request)
            case ("POST", "api", "broadcast", topic, "events", event):
                return await self._broadcast_one(request, topic, event)
            case (_, "longpoll"):
                return _answer(404, {"message": NO_LONG_POLLING})
            case ("GET" | "HEAD", "api", "ping"):
                return _answer(200, {"message": "Success"})
            case ("GET" | "HEAD", "healthcheck"):
                return web.Response(text="ok")
            case ("GET" | "HEAD", "metrics", *_):
                return self._metrics(request)
            case (method, "api", "tenants", name, *rest):
                return await self._tenant(request, method, name, "/".join(rest))
        return _answer(404, {"message": "not found"})

    # Broadcasting ---------------------------------------------------------------------

    async def _broadcast_batch(self, request: web.BaseRequest) -> web.Response:
        try:
            identity = self._caller(request)
            body = await _json_body(request)
        except _AnswerError as exc:
            return exc.response
        messages = body.get("messages") if isinstance(body, Mapping) else None
        if messages in (None, []):
            return _errors([BLANK])
        if not isinstance(messages, list):
            return _errors([INVALID])
        errors = [self._check_message(message) for message in messages]
        if any(errors):
            return _errors(errors)
        refused = self._rate_refusal(len(messages))
        if refused is not None:
            return refused
        headers_json = _headers_json(request)
        allowed: dict[str, bool] = {}
        for message in messages:
            topic = message["topic"]
            if message.get("private"):
                if topic not in allowed:
                    allowed[topic] = await self._may_write(
                        identity, topic, headers_json
                    )
                if not allowed[topic]:
                    continue
            self._publish(topic, bool(message.get("private")), _as_text(message))
        return self._accepted()

    async def _broadcast_one(
        self, request: web.BaseRequest, topic: str, event: str
    ) -> web.Response:
        try:
            identity = self._caller(request)
            payload, is_json = await _single_body(request)
        except _AnswerError as exc:
            return exc.response
        if len(payload) > self._service.settings.max_payload_bytes:
            return _answer(422, {"errors": {"payload": [TOO_LARGE]}})
        refused = self._rate_refusal(1)
        if refused is not None:
            return refused
        private = request.query.get("private", "").lower() == "true"
        if private and not await self._may_write(
            identity, topic, _headers_json(request)
        ):
            return _answer(403, {"message": "Unauthorized"})
        message = BinaryOutgoing(TOPIC_PREFIX + topic, event, payload, is_json=is_json)
        self._publish(topic, private, message)
        return self._accepted()

    def _check_message(self, message: Any) -> dict[str, list[str]]:
        """Return what is wrong with one message of a batch, by field."""
        if not isinstance(message, Mapping):
            return {field: [BLANK] for field in ("topic", "event", "payload")}
        errors: dict[str, list[str]] = {}
        for field, kind in (("topic", str), ("event", str), ("payload", dict)):
            value = message.get(field)
            if value is None or value == "":
                errors[field] = [BLANK]
            elif not isinstance(value, kind):
                errors[field] = [INVALID]
        if not isinstance(message.get("private", False), bool):
            errors["private"] = [INVALID]
        if "payload" not in errors:
            limit = self._service.settings.max_payload_bytes
            if term_size(message["payload"]) > limit:
                errors["payload"] = [TOO_LARGE]
        return errors

    def _publish(self, topic: str, private: bool, message: Outgoing) -> None:
        self._service.quotas.events.add()
        bus = self._service.buses.get((private, TOPIC_PREFIX + topic))
        if bus is not None:
            bus.broadcasts.publish(message)

    async def _may_write(
        self, identity: Identity, topic: str, headers_json: str
    ) -> bool:
        try:
            access = await self._service.authorizer.write(
                identity, topic, headers_json, presence=False
            )
        except RefusedError:
            return False
        return access.broadcast

    def _caller(self, request: web.BaseRequest) -> Identity:
        if self._service.settings.suspend:
            raise _AnswerError(403, {"message": "Tenant is suspended"})
        token = bearer_token(request) or request.headers.get("apikey", "")
        try:
            return self._service.tokens.verify(token)
        except RefusedError as exc:
            raise _AnswerError(401, {"message": "Unauthorized"}) from exc

    def _rate_refusal(self, count: int) -> web.Response | None:
        meter = self._service.quotas.events
        if meter.exceeded:
            return _answer(429, {"message": OVER_RATE}, self._rates())
        if meter.average + count > meter.limit:
            return _answer(429, {"message": BATCH_TOO_LARGE}, self._rates())
        return None

    def _accepted(self) -> web.Response:
        return web.Response(status=202, headers=self._rates())

    def _rates(self) -> dict[str, str]:
        meter = self._service.quotas.events
        remaining = max(0, int(meter.limit - meter.average))
        return {
            "x-rate-rolling": f"{meter.average:g}",
            "x-rate-limit": str(meter.limit),
            "x-rate-limit-remaining": str(remaining),
        }

    # Watching -------------------------------------------------------------------------

    async def _tenant(
        self, request: web.BaseRequest, method: str, name: str, rest: str
    ) -> web.Response:
        if not self._is_service(request):
            return web.Response(status=403)
        match method, rest:
            case "GET" | "HEAD", "":
                return _answer(200, {"data": self._tenant_data(name)})
            case "GET" | "HEAD", "health":
                return _answer(200, {"data": await self._health()})
            case "POST", "reload" | "shutdown":
                self._service.disconnect_all()
                return web.Response(status=204)
        return _answer(404, {"message": "not found"})

    def _tenant_data(self, name: str) -> dict[str, Any]:
        settings = self._service.settings
        return {
            "id": self._service.project.ref,
            "external_id": name,
            "name": name,
            "max_concurrent_users": settings.max_concurrent_users,
            "max_events_per_second": settings.max_events_per_second,
            "max_joins_per_second": settings.max_joins_per_second,
            "max_channels_per_client": settings.max_channels_per_client,
            "max_presence_events_per_second": settings.max_presence_events_per_second,
            "max_payload_size_in_kb": settings.max_payload_size_in_kb,
            "private_only": settings.private_only,
            "presence_enabled": settings.presence_enabled,
            "suspend": settings.suspend,
        }

    async def _health(self) -> dict[str, Any]:
        reachable = await self._service.database.is_reachable()
        users = len(self._service.joined)
        streaming = self._service.changes.is_streaming
        return {
            "healthy": reachable and (streaming or not users),
            "db_connected": reachable,
            "replication_connected": streaming,
            "connected_cluster": users,
            "region": "local",
            "node": NODE,
        }

    def _metrics(self, request: web.BaseRequest) -> web.Response:
        if not self._is_service(request):
            return web.Response(status=403)
        service = self._service
        text = render(service.metrics, service.gauges(), service.project.ref)
        return web.Response(text=text, content_type="text/plain")

    def _is_service(self, request: web.BaseRequest) -> bool:
        token = bearer_token(request) or request.headers.get("apikey", "")
        try:
            return self._service.tokens.verify(token).role == "service_role"
        except RefusedError:
            return False


class _AnswerError(Exception):
    """Ends the handling of a request with a response."""

    def __init__(self, status: int, body: Mapping[str, Any] | str) -> None:
        super().__init__(str(body))
        if isinstance(body, str):
            self.response = web.Response(status=status, text=body)
        else:
            self.response = _answer(status, body)


async def _read_body(request: web.BaseRequest) -> bytes:
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise _AnswerError(413, "Request Entity Too Large")
    parts = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _AnswerError(413, "Request Entity Too Large")
        parts.append(part)
    return b"".join(parts)


async def _json_body(request: web.BaseRequest) -> Any:
    body = await _read_body(request)
    if request.content_type != JSON:
        return None
    try:
        return decode_json(body)
    except MalformedMessageError as exc:
        raise _AnswerError(400, "Bad Request") from exc


async def _single_body(request: web.BaseRequest) -> tuple[bytes, bool]:
    """Return the payload and whether it is JSON."""
    if request.content_type not in (JSON, BINARY):
        raise _AnswerError(415, {"error": UNSUPPORTED})
    body = await _read_body(request)
    if request.content_type == BINARY:
        return body, False
    try:
        value = decode_json(body)
    except MalformedMessageError as exc:
        raise _AnswerError(400, "Bad Request") from exc
    if isinstance(value, dict):
        return body, True
    return b'{"_json":' + body + b"}", True


def _as_text(message: Mapping[str, Any]) -> OutgoingMessage:
    payload = {
        "event": message["event"],
        "payload": message["payload"],
        "type": "broadcast",
    }
    if message.get("id") is not None:
        payload["meta"] = {"id": message["id"]}
    topic = TOPIC_PREFIX + message["topic"]
    return OutgoingMessage(topic, "broadcast", encode_json(payload))


def _headers_json(request: web.BaseRequest) -> str:
    # Bytes of a header that are no text came as halves of characters.
    headers = {
        name.lower(): value.encode(errors="surrogateescape").decode(errors="replace")
        for name, value in request.headers.items()
    }
    return encode_json(headers).decode()


def _errors(messages: list[Any]) -> web.Response:
    return _answer(422, {"errors": {"messages": messages}})


def _answer(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        body=encode_json(body),
        content_type=JSON,
        headers=dict(headers or {}),
    )
