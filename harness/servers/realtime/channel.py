"""One joined topic of one client: broadcast, presence, token, leaving.

A channel that waits for the database (authorisation) keeps later messages in a backlog,
so that they are handled in the order in which they were sent.  The rest of the socket
goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

from harness.protocols.phoenix import BinaryBroadcast, Message, encode_json
from harness.protocols.websocket import OP_TEXT, encode_frame
from harness.servers.realtime.authorization import Access
from harness.servers.realtime.fanout import (
    PRESENCE_DIFF,
    BinaryOutgoing,
    Bus,
    Outgoing,
    OutgoingMessage,
)
from harness.servers.realtime.join_request import TOPIC_PREFIX, JoinRequest
from harness.servers.realtime.term_size import exceeds, term_size
from harness.servers.realtime.tokens import Identity, RefusedError, expired

if TYPE_CHECKING:
    from harness.servers.realtime.presence import Meta
    from harness.servers.realtime.socket import Socket
    from harness.servers.realtime.subscriptions import Subscription

__all__ = ["Channel", "Incoming"]

BINARY_TUPLE_BYTES = 26
PAYLOAD_TOO_LARGE = "payload_size_exceeded"
TRACK_TOO_LARGE = "Track message size exceeded"
TRACK_TOO_OFTEN = "Client presence rate limit exceeded"
MAY_NOT_READ = "You do not have permissions to read from this Channel topic: "
MAY_NO_LONGER_READ = "You no longer have permission to read from this Channel topic: "

Incoming = Message | BinaryBroadcast
log = logging.getLogger(__name__)


class Channel:
    """A client's membership of a topic.

    ``backlog`` is a queue while the channel waits for the database, ``held`` one of
    broadcasts while stored messages are being read.  ``may_write`` and
    ``may_write_presence`` are ``None`` until a write has asked; ``seen_ids`` holds the
    ids of replayed messages where a replay was asked for.
    """

    __slots__ = (
        "__weakref__",
        "_presence_count",
        "_presence_since_s",
        "ack",
        "backlog",
        "bus",
        "echo",
        "held",
        "identity",
        "join_ref",
        "legacy",
        "may_write",
        "may_write_presence",
        "meta",
        "presence_enabled",
        "presence_key",
        "seen_ids",
        "socket",
        "subscription",
        "topic",
    )

    def __init__(
        self, socket: Socket, bus: Bus, join: Message, request: JoinRequest
    ) -> None:
        self.socket = socket
        self.bus: Bus | None = bus
        self.topic = bus.topic
        # Version 1 clients may name their join by its ref alone.
        self.join_ref = join.ref if join.join_ref is None else join.join_ref
        self.identity: Identity = socket.identity
        self.ack = request.ack
        self.echo = request.echo
        self.legacy = request.legacy
        self.presence_enabled = request.presence_enabled
        self.presence_key = request.presence_key
        self.may_write: bool | None = None if bus.private else True
        self.may_write_presence: bool | None = None if bus.private else True
        self.meta: Meta | None = None
        self.seen_ids: set[str] | None = None
        self.held: list[tuple[Outgoing, bytes]] | None = None
        self.subscription: Subscription | None = None
        self.backlog: deque[Incoming] | None = None
        self._presence_count = 0
        self._presence_since_s = 0.0

    @property
    def subtopic(self) -> str:
        """The topic as policies and system messages name it."""
        return self.topic.removeprefix(TOPIC_PREFIX)

    def has_seen(self, message: Outgoing) -> bool:
        """Tell whether a replay already showed ``message``; each id is asked once."""
        message_id = getattr(message, "message_id", None)
        if self.seen_ids is None or message_id not in self.seen_ids:
            return False
        self.seen_ids.discard(message_id)
        return True

    def release(self) -> None:
        """Send the broadcasts that were held, but for those a replay has shown."""
        held, self.held = self.held or [], None
        frames = [frame for message, frame in held if not self.has_seen(message)]
        if frames:
            self.socket.send(b"".join(frames))

    # Sending --------------------------------------------------------------------------

    def push(self, event: str, payload: bytes) -> None:
        """Send one message of the channel itself; ``payload`` is JSON."""
        text = self.socket.serializer.push(self.join_ref, self.topic, event, payload)
        self.socket.send(encode_frame(OP_TEXT, text))

    def system(self, status: str, extension: str, message: str) -> None:
        """Send a ``system`` message."""
        payload = self.system_payload(status, extension, message)
        self.push("system", encode_json(payload))

    def system_payload(
        self, status: str, extension: str, message: str
    ) -> dict[str, str]:
        """Return the payload of a ``system`` message."""
        return {
            "status": status,
            "extension": extension,
            "message": message,
            "channel": self.subtopic,
        }

    # Ending ---------------------------------------------------------------------------

    def shut_down(self, text: str) -> None:
        """End the channel against the client's will, saying why."""
        if self.bus is None:
            return
        self.system("error", "system", text)
        self.send_close("phx_close", {})
        self.remove()

    def shut_down_soon(self, text: str) -> None:
        """End the channel once whoever goes through its bus has finished."""
        asyncio.get_running_loop().call_soon(self.shut_down, text)

    def crash(self) -> None:
        """End the channel over a message that no channel can handle."""
        self.send_close("phx_error", {"reason": "channel_crash"})
        self.remove()

    def send_close(self, event: str, payload: Mapping[str, Any]) -> None:
        """Send ``phx_close`` or ``phx_error`` for this join."""
        text = self.socket.serializer.close(
            self.join_ref, self.topic, event, encode_json(payload)
        )
        self.socket.send_text(text)

    def remove(self) -> None:
        """Take the channel out of its socket and its bus."""
        if self.socket.channels.get(self.topic) is self:
            del self.socket.channels[self.topic]
            self.socket.empty_since_s = self.socket.service.now_s
        self.detach()

    def detach(self) -> None:
        """Take the channel out of its bus; others see its presence leave."""
        bus, self.bus = self.bus, None
        if bus is None:
            return
        bus.broadcasts.remove(self)
        bus.presences.remove(self)
        if self.meta is not None:
            difference = bus.presence.untrack(self.meta)
            self.meta = None
            bus.presences.publish(OutgoingMessage(bus.topic, PRESENCE_DIFF, difference))
        self.socket.service.leave(self, bus)

    # Waiting --------------------------------------------------------------------------

    def wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, keeping later messages until it is done."""
        self.backlog = deque()
        self.socket.begin_wait()
        self.socket.service.spawn(self._work(work))

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except RefusedError as exc:
            self.shut_down(exc.text)
        except Exception:
            self.crash()
            raise
        finally:
            try:
                self._resume()
            finally:
                self.socket.end_wait()

    def _resume(self) -> None:
        kept = self.backlog or deque()
        self.backlog = None
        while kept:
            message = kept.popleft()
            if self.bus is None:
                self.socket.receive(message)
            else:
                self.handle(message)
            if (waiting := self._kept_again()) is not None:
                # Handling made the channel wait again: the rest stays in order.
                waiting.extend(kept)
                return

    def _kept_again(self) -> deque[Incoming] | None:
        return self.backlog

    # Receiving ------------------------------------------------------------------------

    def handle(self, message: Incoming) -> None:
        """Act on one message of the client, or keep it for later."""
        if self.backlog is not None:
            self.backlog.append(message)
        elif isinstance(message, BinaryBroadcast):
            self._broadcast_binary(message)
        elif message.event in self._HANDLERS:
            self._HANDLERS[message.event](self, message)

    def _join_again(self, message: Message) -> None:
        self.socket.service.joiner.join(self.socket, message)

    def _leave(self, message: Message) -> None:
        if message.join_ref is not None and message.join_ref != self.join_ref:
            return
        self.remove()
        self.socket.reply(message, "ok", {})
        self.send_close("phx_close", {})

    def _broadcast(self, message: Message) -> None:
        if not isinstance(message.payload, Mapping):
            self.crash()
            return
        payload = encode_json(message.payload)
        outgoing = OutgoingMessage(self.topic, "broadcast", payload)
        limit = self.socket.service.settings.max_payload_bytes
        too_large = exceeds(limit, message.payload, len(payload))
        self._publish(message, outgoing, too_large=too_large)

    def _broadcast_binary(self, message: BinaryBroadcast) -> None:
        outgoing = BinaryOutgoing(
            self.topic,
            message.event,
            message.payload,
            is_json=message.is_json,
            unchecked=True,
        )
        limit = self.socket.service.settings.max_payload_bytes
        # The hosted service measures event, encoding and metadata with the payload.
        size_bytes = len(message.payload) + len(message.event) + BINARY_TUPLE_BYTES
        self._publish(message, outgoing, too_large=size_bytes > limit)

    def _publish(
        self, message: Incoming, outgoing: Outgoing, *, too_large: bool
    ) -> None:
        if self.may_write is None:
            self.wait_for(self._learn_access(message))
            return
        if not self.may_write or self.bus is None:
            return
        if too_large:
            if self.ack:
                self._reply(message, "error", PAYLOAD_TOO_LARGE)
            return
        self.bus.broadcasts.publish(outgoing, None if self.echo else self)
        if self.ack:
            self._reply(message, "ok", {})

    def _reply(self, message: Incoming, status: str, response: Any) -> None:
        text = self.socket.serializer.reply(
            message.join_ref, message.ref, message.topic, status, response
        )
        self.socket.send_text(text)

    # Presence -------------------------------------------------------------------------

    def _presence(self, message: Message) -> None:
        service = self.socket.service
        service.quotas.presence.add()
        if self._presence_limited(service.now_s):
            self.shut_down(TRACK_TOO_OFTEN)
            return
        payload = message.payload if isinstance(message.payload, Mapping) else {}
        event = payload.get("event")
        if event is None and isinstance(message.payload, Mapping):
            self._reply(message, "ok", {})
        elif isinstance(event, str) and event.lower() == "track":
            self._track(message, payload.get("payload", {}))
        elif isinstance(event, str) and event.lower() == "untrack":
            self._untrack()
            self._reply(message, "ok", {})
        else:
            self._reply(message, "error", {})

    def _presence_limited(self, now_s: float) -> bool:
        settings = self.socket.service.settings
        window_s = settings.client_presence_window_ms / 1000
        if now_s - self._presence_since_s >= window_s:
            self._presence_since_s = now_s
            self._presence_count = 0
        self._presence_count += 1
        return self._presence_count > settings.max_client_presence_events_per_window

    def _track(self, message: Message, payload: Any) -> None:
        settings = self.socket.service.settings
        if not isinstance(payload, dict):
            reason = {"reason": "Presence track payload must be a map"}
            self._reply(message, "error", reason)
        elif term_size(payload) > settings.max_payload_bytes:
            self.shut_down(TRACK_TOO_LARGE)
        elif self.may_write_presence is None:
            self._presence_count -= 1  # the same message comes again
            self.wait_for(self._learn_access(message, presence=True))
        elif not self.may_write_presence or self.bus is None:
            self._reply(message, "error", {})
        else:
            key = self.presence_key = self.presence_key or str(uuid4())
            self.meta, diff = self.bus.presence.track(self.meta, key, payload)
            self._announce(diff)
            self._reply(message, "ok", {})

    def _untrack(self) -> None:
        if self.meta is not None and self.bus is not None:
            meta, self.meta = self.meta, None
            self._announce(self.bus.presence.untrack(meta))

    def _announce(self, difference: bytes | None) -> None:
        if difference is not None and self.bus is not None:
            diff = OutgoingMessage(self.topic, PRESENCE_DIFF, difference)
            self.bus.presences.publish(diff)

    def push_presence_state(self) -> None:
        """Send who is present on the topic now."""
        if self.bus is not None:
            self.socket.service.quotas.presence.add()
            self.push("presence_state", self.bus.presence.state())

    # Authorisation --------------------------------------------------------------------

    async def _learn_access(self, message: Incoming, *, presence: bool = False) -> None:
        """Ask PostgreSQL what the channel may write, then handle ``message`` again."""
        authorizer = self.socket.service.authorizer
        access = await authorizer.write(
            self.identity, self.subtopic, self.socket.headers_json, presence=presence
        )
        self.may_write = access.broadcast
        if presence:
            self.may_write_presence = access.presence
            if not self.presence_enabled:
                await self._enable_presence()
        if self.backlog is not None:
            self.backlog.appendleft(message)

    async def _enable_presence(self) -> None:
        """Let a private channel that tracks hear presence, where it may."""
        access = await self.socket.service.authorizer.read(
            self.identity, self.subtopic, self.socket.headers_json, presence=True
        )
        if access.presence and self.bus is not None:
            self.presence_enabled = True
            self.bus.presences.add(self)

    async def read_access(self) -> Access:
        """Return what the channel may hear; raises when it is nothing."""
        if self.bus is None or not self.bus.private:
            return Access(broadcast=True, presence=True)
        access = await self.socket.service.authorizer.read(
            self.identity,
            self.subtopic,
            self.socket.headers_json,
            presence=self.presence_enabled,
        )
        if not access.broadcast and not access.presence:
            raise RefusedError("Unauthorized", MAY_NOT_READ + self.subtopic)
        return access

    def listen(self, access: Access) -> None:
        """Hear exactly these kinds of message from now on."""
        if self.bus is None:
            return
        wanted = {self.bus.broadcasts: access.broadcast}
        if self.bus.private:
            wanted[self.bus.presences] = access.presence
        for audience, hears in wanted.items():
            if hears:
                audience.add(self)
            else:
                audience.remove(self)

    def _access_token(self, message: Message) -> None:
        payload = message.payload if isinstance(message.payload, Mapping) else {}
        token = payload.get("access_token")
        if not isinstance(token, str) or token.startswith("sb_"):
            return
        if token == self.identity.token:
            return
        try:
            identity = self.socket.service.tokens.verify(token)
        except RefusedError as exc:
            self.shut_down(_shutdown_text(exc))
            return
        self.wait_for(self._adopt(identity))

    async def _adopt(self, identity: Identity) -> None:
        """Go on as ``identity``, if it may read what the channel reads."""
        self.identity = identity
        if self.bus is not None and self.bus.private:
            self.may_write = self.may_write_presence = None
            try:
                access = await self.read_access()
            except RefusedError as exc:
                if exc.code != "Unauthorized":
                    raise
                raise RefusedError("", MAY_NO_LONGER_READ + self.subtopic) from exc
            self.listen(access)
        if self.bus is not None:
            service = self.socket.service
            service.spawn(service.changes.subscriber.resubscribe(self))

    def check_expiry(self, unix_s: float) -> None:
        """Shut down when the token has run out."""
        if self.identity.expires_s <= unix_s:
            self.shut_down(expired(self.identity, unix_s).text)

    _HANDLERS: ClassVar[dict[str, Callable[[Channel, Message], None]]] = {
        "phx_join": _join_again,
        "phx_leave": _leave,
        "broadcast": _broadcast,
        "presence": _presence,
        "access_token": _access_token,
    }


def _shutdown_text(error: RefusedError) -> str:
    # The hosted service shows its internal name for this one reason.
    return ":signature_error" if error.code == "JwtSignatureError" else error.text
