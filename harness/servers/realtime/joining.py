"""How a channel comes to be: admitted, authorised, subscribed, replied to.

A join that needs the database (private, or with row changes) waits beside the socket,
never in front of it.  The reply is sent when what was asked for is live, so that
nothing that happens after ``SUBSCRIBED`` is missed; a database that takes too long does
not hold the reply for longer than clients wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from harness.protocols.phoenix import Message
from harness.servers.realtime.authorization import Access
from harness.servers.realtime.channel import Channel
from harness.servers.realtime.join_request import (
    TOPIC_PREFIX,
    JoinRequest,
    read_join,
)
from harness.servers.realtime.late import Seen
from harness.servers.realtime.replay import Replayed
from harness.servers.realtime.subscriptions import Subscription, SubscriptionError
from harness.servers.realtime.tokens import Identity, RefusedError

if TYPE_CHECKING:
    from harness.servers.realtime.service import RealtimeService
    from harness.servers.realtime.socket import Socket

__all__ = ["TOO_MANY_JOINS", "TOO_MANY_USERS", "Joiner"]

CLOSE_GOING_AWAY = 1001
PATIENCE_S = 5.0  # official clients give a join up after 10 s
PUBLIC_PATIENCE_S = 1.0  # with a stream that a public channel may do without
REPLICATION_DEADLINE_S = 60.0
TOO_MANY_USERS = "Too many connected users"
TOO_MANY_JOINS = "Too many joins per second"
REPLICATING = "Replication connection established"
NOT_REPLICATING = "Replication connection was not established in time"


class Joiner:
    """Takes join messages of one project's sockets."""

    def __init__(self, service: RealtimeService) -> None:
        self._service = service
        self._settings = service.settings

    def join(self, socket: Socket, message: Message) -> None:
        """Start a channel, or refuse it with the reason."""
        if not message.topic.startswith(TOPIC_PREFIX):
            socket.refuse_unmatched(message)
            return
        self._service.quotas.joins.add()
        previous = socket.channels.get(message.topic)
        try:
            request, identity = self._admit(socket, message, previous)
        except RefusedError as exc:
            self._refuse(socket, message, exc)
            if previous is not None:
                previous.remove()
                previous.send_close("phx_close", {})
            if exc.text == TOO_MANY_JOINS:
                socket.close(CLOSE_GOING_AWAY, TOO_MANY_JOINS)
            return
        if previous is not None:
            previous.remove()
        channel = self._start(socket, message, request, identity)
        is_open = self._service.changes.open_soon().done()
        if request.private or request.bindings or not is_open:
            channel.wait_for(self._complete(channel, message, request, previous))
        else:
            access = Access(broadcast=True, presence=True)
            self._welcome(channel, message, request, previous, access)

    def _start(
        self, socket: Socket, message: Message, request: JoinRequest, identity: Identity
    ) -> Channel:
        bus = self._service.bus(message.topic, private=request.private)
        bus.channels += 1
        channel = Channel(socket, bus, message, request)
        channel.identity = identity
        socket.channels[message.topic] = channel
        self._service.joined.add(socket)
        return channel

    # Deciding -------------------------------------------------------------------------

    def _admit(
        self, socket: Socket, message: Message, previous: Channel | None
    ) -> tuple[JoinRequest, Identity]:
        settings, service = self._settings, self._service
        if settings.suspend:
            raise RefusedError(
                "RealtimeDisabledForTenant", "Realtime disabled for this tenant"
            )
        if message.topic == TOPIC_PREFIX:
            raise RefusedError("TopicNameRequired", "You must provide a topic name")
        if service.quotas.joins.exceeded:
            raise RefusedError("ClientJoinRateLimitReached", TOO_MANY_JOINS)
        others = len(socket.channels) - (previous is not None)
        if others >= settings.max_channels_per_client:
            raise RefusedError("ChannelRateLimitReached", "Too many channels")
        if not socket.channels and len(service.joined) >= settings.max_concurrent_users:
            raise RefusedError("ConnectionRateLimitReached", TOO_MANY_USERS)
        request = read_join(
            message.topic, message.payload, presence_enabled=settings.presence_enabled
        )
        identity = service.tokens.verify(request.token or socket.identity.token)
        if settings.private_only and not request.private:
            raise RefusedError(
                "PrivateOnly", "This project only allows private channels"
            )
        return request, identity

    def _refuse(
        self,
        socket: Socket,
        message: Message,
        refusal: RefusedError,
        identity: Identity | None = None,
    ) -> None:
        self._service.metrics.refused_joins += 1
        self._record(message, identity or socket.identity, refusal.code)
        response = {"reason": refusal.reason}
        delay_s = self._settings.channel_error_backoff_ms / 1000
        if delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(delay_s, socket.reply, message, "error", response)
        else:
            socket.reply(message, "error", response)

    # Completing -----------------------------------------------------------------------

    async def _complete(
        self,
        channel: Channel,
        message: Message,
        request: JoinRequest,
        previous: Channel | None,
    ) -> None:
        replayed: list[Replayed] = []
        subscription: Subscription | SubscriptionError | None = None
        changes = self._service.changes
        seen: Seen | None = None
        try:
            access = await channel.read_access()
            patience_s = PATIENCE_S if request.private else PUBLIC_PATIENCE_S
            if not await self._stream_opens(patience_s):
                seen = await changes.late.look(channel)
            if request.bindings and not self._settings.compat:
                subscription = await self._subscription(channel, request)
            if request.replay is not None and access.broadcast:
                # Heard from now on, so that nothing falls between stored and live.
                channel.seen_ids, channel.held = set(), []
                channel.listen(access)
                replayed = await self._service.replayer.fetch(
                    channel.subtopic, request.replay
                )
        except RefusedError as exc:
            channel.remove()
            self._refuse(channel.socket, message, exc, channel.identity)
            if previous is not None:
                previous.send_close("phx_close", {})
            return
        self._welcome(channel, message, request, previous, access)
        for stored in replayed:
            stored.send_to(channel)
        channel.release()
        if access.broadcast and not changes.open_soon().done():
            changes.late.add(channel, seen)
        if subscription is not None:
            changes.subscriber.settle(channel, subscription)
        elif request.bindings:
            changes.subscriber.subscribe(channel, request.bindings)

    async def _stream_opens(self, patience_s: float) -> bool:
        """Say whether broadcasts from the database can arrive, waiting for a moment."""
        opening = self._service.changes.open_soon()
        if not opening.done():
            await asyncio.wait([opening], timeout=patience_s)
        return opening.done()

    async def _subscription(
        self, channel: Channel, request: JoinRequest
    ) -> Subscription | SubscriptionError | None:
        """Return the subscription, why there is none, or ``None`` for not yet."""
        preparing = asyncio.ensure_future(
            self._service.changes.subscriber.prepare(channel, request.bindings)
        )
        done, _ = await asyncio.wait([preparing], timeout=PATIENCE_S)
        if not done:
            preparing.cancel()
            return None
        return preparing.result()

    def _welcome(
        self,
        channel: Channel,
        message: Message,
        request: JoinRequest,
        previous: Channel | None,
        access: Access,
    ) -> None:
        if channel.bus is None:
            return
        self._service.metrics.joins += 1
        self._record(message, channel.identity, None)
        replies = [binding.reply() for binding in request.bindings]
        response = {"postgres_changes": [] if channel.legacy else replies}
        channel.socket.reply(message, "ok", response)
        if previous is not None:
            previous.send_close("phx_close", {})
        channel.listen(access)
        if channel.presence_enabled and access.presence:
            channel.push_presence_state()
        if request.replication_ready:
            self._service.spawn(self._announce_replication(channel))

    def _record(self, message: Message, identity: Identity, code: str | None) -> None:
        self._service.project.record(
            "realtime",
            "join",
            topic=message.topic,
            role=identity.role,
            sub=identity.sub or None,
            code=code,
        )

    async def _announce_replication(self, channel: Channel) -> None:
        opening = self._service.changes.open_soon()
        done, _ = await asyncio.wait([opening], timeout=REPLICATION_DEADLINE_S)
        if channel.bus is None:
            return
        if done:
            channel.system("ok", "system", REPLICATING)
        else:
            channel.shut_down(NOT_REPLICATING)
