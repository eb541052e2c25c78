"""Several processes that write for one project: connections are shared out to them.

The service reads, decides, decodes changes and frames every message once; what costs
most, the kernel's work for each send, is done by writers (:mod:`.writer_process`),
which hold copies of the connections' descriptors.  A message to a thousand members
crosses to each writer once.  All that one connection gets goes through its writer, in
order.

A writer that cannot keep up holds the service back, as its own writing would: what
waits for a writer is bounded.  One that dies costs its connections, which the clients
open anew; the next one that is its turn starts another in its place.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import logging
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from harness.servers.realtime import writer_process as wire

__all__ = ["HandedTransport", "SharedMembers", "Writers"]

SCRIPT = Path(wire.__file__)
MAX_WAITING_BYTES = 16 * 1024 * 1024
STALL_S = 10.0
STOP_TIMEOUT_S = 2.0
NOBODY = array.array("I")
log = logging.getLogger(__name__)


class Congestible(Protocol):
    """The protocol of a connection, as far as its writer is concerned."""

    def pause_writing(self) -> None:
        """Note that much waits for the client."""
        ...

    def resume_writing(self) -> None:
        """Note that little does."""
        ...


class HandedTransport(asyncio.Transport):
    """A connection that is read here and written to by a writer.

    ``number`` is what the writer knows it by.
    """

    __slots__ = (
        "_is_closing",
        "_local",
        "_protocol",
        "_waiting",
        "number",
        "writer",
    )

    def __init__(
        self,
        local: asyncio.Transport,
        writer: Writer,
        number: int,
        protocol: Congestible,
    ) -> None:
        super().__init__()
        self._local = local
        self._protocol = protocol
        self._waiting = 0
        self._is_closing = False
        self.writer = writer
        self.number = number

    def write(self, data: Any) -> None:
        """Send bytes after all that was sent before."""
        self.expect(len(data))
        self.writer.tell(wire.ONE, self.number, NOBODY, data)

    def expect(self, size: int) -> None:
        """Count what its writer gets for the client, if much waits for it already."""
        if self._waiting:
            self._waiting += size

    def close(self) -> None:
        """Close once everything was sent."""
        if not self._is_closing:
            self._is_closing = True
            self.writer.tell(wire.CLOSE, self.number, NOBODY, b"")

    def abort(self) -> None:
        """Close now."""
        self._is_closing = True
        if self.writer.handed.pop(self.number, None) is not None:
            self.writer.tell(wire.ABORT, self.number, NOBODY, b"")
        if not self._local.is_closing():
            self._local.abort()

    def is_closing(self) -> bool:
        """Whether the connection is being closed."""
        return self._is_closing or self._local.is_closing()

    def is_reading(self) -> bool:
        """Whether what comes is read."""
        return self._local.is_reading()

    def pause_reading(self) -> None:
        """Leave what comes in the network."""
        self._local.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._local.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return what waits for the client, as far as its writer has told."""
        return self._waiting

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        """Do nothing: the limits are the writer's own."""

    def take(self, event: int, waiting_bytes: int) -> None:
        """Note what the writer tells of the connection."""
        self._waiting = waiting_bytes
        if event == wire.CONGESTED:
            self._protocol.pause_writing()
        elif event == wire.DRAINED:
            self._waiting = 0
            self._protocol.resume_writing()


class Writer:
    """One writer process and the connections it holds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.handed: dict[int, HandedTransport] = {}
        self._parts: list[bytes] = []
        self._waiting: deque[tuple[bytes | memoryview, int]] = deque()
        self._waiting_bytes = 0
        self._scheduled = self._wants_to_write = False
        self._events = b""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                # Isolated: modules beside the script are not what it imports.
                [sys.executable, "-IS", str(SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)
        self.is_alive = True

    def add(self, handed: HandedTransport, descriptor: int) -> None:
        """Hand a connection over; the descriptor is copied."""
        self.handed[handed.number] = handed
        self._seal()
        head = wire.HEAD.pack(wire.ADD, handed.number, 0, 0)
        self._queue(head, os.dup(descriptor))

    def tell(
        self, command: int, number: int, numbers: array.array[int], data: bytes
    ) -> None:
        """Give a command; those of one turn of the loop go together."""
        if not self.is_alive:
            return
        head = wire.HEAD.pack(command, number, len(numbers), len(data))
        self._parts += (head, numbers.tobytes(), data) if numbers else (head, data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def end(self) -> None:
        """Send what was told and let the process end."""
        if self.is_alive:
            self._turn()
        if self.is_alive:
            self._send_waiting(limit_bytes=0)
        if self.is_alive:
            self._disconnect()

    # Sending --------------------------------------------------------------------------

    def _turn(self) -> None:
        self._scheduled = False
        self._seal()
        self._send()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._send_waiting(limit_bytes=MAX_WAITING_BYTES // 2)

    def _seal(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._queue(b"".join(parts), -1)

    def _queue(self, data: bytes, descriptor: int) -> None:
        self._waiting.append((data, descriptor))
        self._waiting_bytes += len(data)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _send(self) -> None:
        """Send until the socket takes no more."""
        try:
            while self._waiting:
                data, descriptor = self._waiting[0]
                descriptors = [] if descriptor < 0 else [descriptor]
                sent = socket.send_fds(self._socket, [data], descriptors)
                if descriptor >= 0:
                    os.close(descriptor)
                self._waiting_bytes -= sent
                if sent == len(data):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = memoryview(data)[sent:], -1
        except BlockingIOError:
            pass
        except OSError as exc:
            self._lose(str(exc))
            return
        if bool(self._waiting) != self._wants_to_write:
            self._wants_to_write = bool(self._waiting)
            if self._wants_to_write:
                self._loop.add_writer(self._socket, self._send)
            else:
                self._loop.remove_writer(self._socket)

    def _send_waiting(self, *, limit_bytes: int) -> None:
        """Wait, with everything else, until no more than this waits."""
        room = select.poll()  # select() knows the first thousand descriptors only
        room.register(self._socket, select.POLLOUT)
        while self.is_alive and self._waiting_bytes > limit_bytes:
            if not room.poll(STALL_S * 1000):
                self._lose("it takes no more commands")
                return
            self._send()

    # Hearing --------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose("the process has ended")
            return
        data = self._events + data
        whole = len(data) - len(data) % wire.EVENT.size
        self._events = data[whole:]
        for event, number, size in wire.EVENT.iter_unpack(data[:whole]):
            handed = self.handed.get(number)
            if handed is not None:
                handed.take(event, size)

    def _lose(self, reason: str) -> None:
        log.error("writer %d is lost: %s", self.process.pid, reason)
        self._disconnect()
        self.process.kill()
        for handed in list(self.handed.values()):
            handed.abort()

    def _disconnect(self) -> None:
        self.is_alive = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        for _, descriptor in self._waiting:
            if descriptor >= 0:
                os.close(descriptor)
        self._waiting.clear()
        self._waiting_bytes = 0


class Writers:
    """The writers of one project; connections go to each in turn."""

    def __init__(self, count: int) -> None:
        self._writers = [Writer() for _ in range(count)]
        self._ended: list[Writer] = []
        self._numbers = itertools.count(1)
        self._groups = itertools.count(1)

    @property
    def process_ids(self) -> list[int]:
        """The processes that write now."""
        return [writer.process.pid for writer in self._writers]

    def hand(
        self, transport: asyncio.Transport, protocol: Congestible
    ) -> HandedTransport:
        """Let a writer write to the connection from now on."""
        number = next(self._numbers)
        place = number % len(self._writers)
        if not self._writers[place].is_alive:
            self._ended.append(self._writers[place])
            self._writers[place] = Writer()
        writer = self._writers[place]
        handed = HandedTransport(transport, writer, number, protocol)
        writer.add(handed, transport.get_extra_info("socket").fileno())
        return handed

    def group(self) -> SharedMembers:
        """Return a new group without members."""
        return SharedMembers(next(self._groups))

    async def close(self) -> None:
        """Send what is left, and wait for the processes to end."""
        for writer in self._writers:
            writer.end()
        for writer in (*self._writers, *self._ended):
            await asyncio.to_thread(_reap, writer.process)


class SharedMembers:
    """Connections that often get the same bytes, known to their writers as a group."""

    __slots__ = ("_known", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._known: dict[Writer, None] | None = None

    def change(self) -> None:
        """Note that members came or went."""
        if self._known is not None:
            self._forget()

    def send(
        self,
        members: Iterable[HandedTransport],
        left_out: Iterable[HandedTransport],
        data: bytes,
    ) -> None:
        """Send ``data`` to all ``members`` but those who are left out."""
        if self._known is None:
            self._know(members)
        numbers: dict[Writer, array.array[int]] = {}
        for handed in left_out:
            numbers.setdefault(handed.writer, array.array("I")).append(handed.number)
        for writer in self._known or ():
            writer.tell(wire.FAN, self._number, numbers.get(writer, NOBODY), data)

    def _know(self, members: Iterable[HandedTransport]) -> None:
        found: dict[Writer, array.array[int]] = {}
        for handed in members:
            found.setdefault(handed.writer, array.array("I")).append(handed.number)
        for writer, numbers in found.items():
            writer.tell(wire.GROUP, self._number, numbers, b"")
        self._known = dict.fromkeys(found)

    def _forget(self) -> None:
        known, self._known = self._known or {}, None
        for writer in known:
            writer.tell(wire.GROUP, self._number, NOBODY, b"")


def _reap(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
        return
    process.kill()
    process.wait()
