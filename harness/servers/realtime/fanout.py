"""Sending one message to many channels: encoded once, queued, written together.

A :class:`Bus` is one topic (public and private topics of one name are two buses).  A
message is framed once per serializer.  Messages of one turn of the event loop are
joined, so that a client gets one write however many messages came; when writing takes
long, the next turn waits as long again, so that more are joined under load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from harness.errors import LocalProtocolError
from harness.protocols.phoenix import (
    V2,
    MalformedMessageError,
    Serializer,
    decode_json,
    encode_binary_broadcast,
    encode_json,
)
from harness.protocols.websocket import OP_BINARY, OP_TEXT, encode_frame
from harness.servers.realtime.presence import Presence
from harness.servers.realtime.quotas import Quotas
from harness.servers.realtime.writers import HandedTransport, SharedMembers, Writers

if TYPE_CHECKING:
    from harness.servers.realtime.channel import Channel

__all__ = [
    "PRESENCE_DIFF",
    "TOO_MANY_MESSAGES",
    "TOO_MANY_PRESENCES",
    "Audience",
    "BinaryOutgoing",
    "Bus",
    "Outbox",
    "Outgoing",
    "OutgoingMessage",
]

PRESENCE_DIFF = "presence_diff"
TOO_MANY_MESSAGES = "Too many messages per second"
TOO_MANY_PRESENCES = "Too many presence messages per second"
MAX_PAUSE_S = 0.005
MIN_PAUSE_S = 0.000_5


class Outgoing(Protocol):
    """A message for every member of an audience."""

    @property
    def event(self) -> str:
        """The event that clients see."""
        ...

    def frame(self, serializer: Serializer) -> bytes:
        """Return its frame for clients of ``serializer``; empty when it has none."""
        ...


class OutgoingMessage:
    """A message that goes out as text, with its payload as JSON already."""

    __slots__ = ("event", "payload", "topic")

    def __init__(self, topic: str, event: str, payload: bytes) -> None:
        self.topic = topic
        self.event = event
        self.payload = payload

    def frame(self, serializer: Serializer) -> bytes:
        """Return the text frame."""
        text = serializer.push(None, self.topic, self.event, self.payload)
        return encode_frame(OP_TEXT, text)


class BinaryOutgoing:
    """A user broadcast: binary for version 2, spliced into JSON for version 1.

    ``message_id`` is announced as ``meta.id``.  Binary payloads have no version 1 form,
    nor have ``unchecked`` ones that turn out to be no JSON: spliced in, they could say
    anything.
    """

    __slots__ = ("_unchecked", "event", "is_json", "message_id", "payload", "topic")

    def __init__(
        self,
        topic: str,
        event: str,
        payload: bytes,
        *,
        is_json: bool,
        message_id: str | None = None,
        unchecked: bool = False,
    ) -> None:
        self.topic = topic
        self.event = event
        self.payload = payload
        self.is_json = is_json
        self.message_id = message_id
        self._unchecked = unchecked

    def frame(self, serializer: Serializer) -> bytes:
        """Return the frame of either version."""
        if serializer is V2:
            try:
                return encode_frame(OP_BINARY, self._binary())
            except LocalProtocolError:
                # Names too long for one-byte sizes still fit the text form.
                pass
        if not self.is_json or (self._unchecked and not _is_json(self.payload)):
            return b""
        text = serializer.push(None, self.topic, "broadcast", self._json())
        return encode_frame(OP_TEXT, text)

    def _binary(self) -> bytes:
        metadata = encode_json({"id": self.message_id}) if self.message_id else b""
        return encode_binary_broadcast(
            self.topic,
            self.event,
            self.payload,
            is_json=self.is_json,
            metadata=metadata,
        )

    def _json(self) -> bytes:
        meta = b""
        if self.message_id:
            meta = b',"meta":%b' % encode_json({"id": self.message_id})
        return b'{"event":%b,"payload":%b,"type":"broadcast"%b}' % (
            encode_json(self.event),
            self.payload,
            meta,
        )


class Outbox:
    """Flushes audiences together at the end of a turn of the event loop."""

    __slots__ = (
        "_loop",
        "_next_s",
        "_scheduled",
        "_waiting",
        "delivered",
        "quotas",
        "writers",
    )

    def __init__(self, quotas: Quotas, writers: Writers | None = None) -> None:
        self.writers = writers
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Audience] = []
        self._scheduled = False
        self._next_s = 0.0
        self.quotas = quotas
        self.delivered = 0

    def schedule(self, audience: Audience) -> None:
        """Remember that ``audience`` has messages to send."""
        self._waiting.append(audience)
        if self._scheduled:
            return
        self._scheduled = True
        delay_s = self._next_s - self._loop.time()
        if delay_s > MIN_PAUSE_S:
            self._loop.call_later(delay_s, self._flush)
        else:
            self._loop.call_soon(self._flush)

    def count(self, messages: int, presence_messages: int, members: int) -> None:
        """Count what one audience was sent."""
        self.delivered += messages * members
        self.quotas.events.add((messages - presence_messages) * members)
        self.quotas.presence.add(presence_messages * members)

    def _flush(self) -> None:
        started_s = time.thread_time()  # not what others used of the processor
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        for audience in waiting:
            audience.flush()
        took_s = time.thread_time() - started_s
        self._next_s = self._loop.time() + min(took_s, MAX_PAUSE_S)


class Audience:
    """The channels of a bus that hear one kind of message."""

    __slots__ = ("_members", "_outbox", "_queue", "_shared")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._members: dict[Serializer, dict[Channel, None]] = {}
        self._queue: list[tuple[Outgoing, Channel | None]] = []
        self._shared: dict[Serializer, SharedMembers] = {}

    def __len__(self) -> int:
        return sum(map(len, self._members.values()))

    def add(self, channel: Channel) -> None:
        """Let ``channel`` hear what is published from now on."""
        self.flush()
        self._members.setdefault(channel.socket.serializer, {})[channel] = None
        self._change(channel)

    def remove(self, channel: Channel) -> None:
        """Let ``channel`` hear no more; what was published before still goes out."""
        members = self._members.get(channel.socket.serializer)
        if members and channel in members:
            self.flush()
            members.pop(channel, None)
            self._change(channel)

    def _change(self, channel: Channel) -> None:
        shared = self._shared.get(channel.socket.serializer)
        if shared is not None:
            shared.change()

    def close(self) -> None:
        """Let go of what writers know of the audience."""
        for shared in self._shared.values():
            shared.change()

    def members(self) -> list[Channel]:
        """Return who is listening now."""
        return [channel for group in self._members.values() for channel in group]

    def publish(self, message: Outgoing, skip: Channel | None = None) -> None:
        """Queue ``message`` for everyone but ``skip``."""
        if not self._queue:
            self._outbox.schedule(self)
        self._queue.append((message, skip))

    def flush(self) -> None:
        """Write what is queued."""
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        if self._refuse_over_quota(queue):
            return
        skipping = {skip for _, skip in queue if skip is not None}
        for serializer, members in self._members.items():
            if not members:
                continue
            frames = [message.frame(serializer) for message, _ in queue]
            joined = b"".join(frames)
            each: Iterable[Channel] = members
            if self._outbox.writers is not None:
                each = self._share(self._outbox.writers, serializer, skipping, joined)
            for channel in each:
                socket = channel.socket
                if channel in skipping or channel.seen_ids is not None:
                    data = b"".join(_for_one(channel, queue, frames))
                    if not data:
                        continue
                else:
                    data = joined
                if socket.congested:
                    socket.send_congested(data)
                else:
                    socket.write(data)
        presence = sum(message.event == PRESENCE_DIFF for message, _ in queue)
        self._outbox.count(len(queue), presence, len(self))

    def _share(
        self,
        writers: Writers,
        serializer: Serializer,
        skipping: set[Channel],
        data: bytes,
    ) -> list[Channel]:
        """Let writers send to the members for whom ``data`` is all; return the rest."""
        members = self._members[serializer]
        shared = self._shared.get(serializer)
        if shared is None:
            shared = self._shared[serializer] = writers.group()
        rest: list[Channel] = []
        given_up: list[Channel] = []
        for channel in members:
            if channel in skipping or channel.seen_ids is not None:
                rest.append(channel)
            elif channel.socket.congested:
                # It waits with the others' copy, but is counted for this client.
                if channel.socket.takes(len(data)):
                    _handed(channel).expect(len(data))
                else:
                    given_up.append(channel)
        left_out = map(_handed, (*rest, *given_up))
        shared.send(map(_handed, members), left_out, data)
        return rest

    def _refuse_over_quota(self, queue: list[tuple[Outgoing, Channel | None]]) -> bool:
        """Shut down every member that would see a message beyond the project's rate."""
        quotas = self._outbox.quotas
        if not quotas.events.exceeded and not quotas.presence.exceeded:
            return False
        presence = sum(message.event == PRESENCE_DIFF for message, _ in queue)
        if quotas.events.exceeded and presence < len(queue):
            text = TOO_MANY_MESSAGES
        elif quotas.presence.exceeded and presence:
            text = TOO_MANY_PRESENCES
        else:
            return False
        for channel in self.members():
            channel.shut_down_soon(text)
        return True


class Bus:
    """One topic and all who joined it.

    Who hears broadcasts and who hears presence differs on private topics only.
    """

    __slots__ = ("broadcasts", "channels", "presence", "presences", "private", "topic")

    def __init__(
        self, topic: str, *, private: bool, outbox: Outbox, next_ref: Callable[[], str]
    ) -> None:
        self.topic = topic
        self.private = private
        self.channels = 0
        self.broadcasts = Audience(outbox)
        self.presences = Audience(outbox) if private else self.broadcasts
        self.presence = Presence(next_ref)

    def close(self) -> None:
        """Let go of what writers know of the topic."""
        self.broadcasts.close()
        self.presences.close()


def _is_json(payload: bytes) -> bool:
    try:
        decode_json(payload)
    except MalformedMessageError:
        return False
    return True


def _handed(channel: Channel) -> HandedTransport:
    transport = channel.socket.transport
    assert isinstance(transport, HandedTransport)
    return transport


def _for_one(
    channel: Channel,
    queue: list[tuple[Outgoing, Channel | None]],
    frames: list[bytes],
) -> list[bytes]:
    """Leave out what ``channel`` sent itself, has seen, or is to see later."""
    kept = [
        (message, frame)
        for frame, (message, skip) in zip(frames, queue, strict=True)
        if skip is not channel
    ]
    if channel.held is not None:
        channel.held += kept
        return []
    return [frame for message, frame in kept if not channel.has_seen(message)]
