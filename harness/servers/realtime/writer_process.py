"""One writer: sends what it is told to connections that it was handed.

It is started as a script with the standard library alone, so that it is up at once.
Commands come over a Unix socket, each a head (:data:`HEAD`), ``count`` connection
numbers and ``size`` bytes; a connection's descriptor comes along with its ``ADD``.
What a connection is to get by the commands of one reading goes out in one write.
Nothing here waits: what a connection does not take at once is kept for it, and the
service is told when that is much and when it is little again.  When the commands end,
what is left is sent for a moment, and the process with its connections ends too.
"""

from __future__ import annotations

import array
import contextlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections import deque
from itertools import islice

HEAD = struct.Struct("=BIII")  # command, connection or group, count, size
EVENT = struct.Struct("=BIQ")  # event, connection, bytes that wait for it
ADD, ONE, GROUP, FAN, CLOSE, ABORT = range(1, 7)
CONGESTED, WAITING, DRAINED = range(1, 4)
HIGH_WATER_BYTES = 256 * 1024
LOW_WATER_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024
MAX_DESCRIPTORS = 64
MAX_PARTS = 64  # of one write
JOINED_BYTES = 64 * 1024  # to which small parts are joined; larger ones are shared
LAST_WORDS_S = 0.25


class Kept:
    """What waits for one connection: parts that others may wait for as well.

    ``told`` is the size that the service last heard of.
    """

    __slots__ = ("closes", "parts", "size", "told")

    def __init__(self) -> None:
        self.parts: deque[memoryview] = deque()
        self.size = 0
        self.told = 0
        self.closes = False

    def keep(self, parts: list[bytes]) -> None:
        """Add parts, without copying them."""
        self.parts.extend(map(memoryview, parts))
        self.size += sum(map(len, parts))

    def take(self, sent: int) -> None:
        """Take away the first ``sent`` bytes."""
        self.size -= sent
        while self.parts and sent >= len(self.parts[0]):
            sent -= len(self.parts.popleft())
        if sent:
            self.parts[0] = self.parts[0][sent:]


class Writer:
    """The connections and groups of one process."""

    def __init__(self, commands: socket.socket) -> None:
        self._commands = commands
        self._selector = selectors.DefaultSelector()
        self._selector.register(commands, selectors.EVENT_READ)
        self._received: deque[int] = deque()
        self._buffer = bytearray()
        self._descriptors: dict[int, int] = {}
        self._kept: dict[int, Kept] = {}
        self._groups: dict[int, array.array[int]] = {}
        self._outgoing: dict[int, list[bytes]] = {}
        self._events = bytearray()

    def run(self) -> None:
        """Obey until the commands end."""
        commands_go_on = True
        while commands_go_on:
            for key, events in self._selector.select():
                if key.fileobj is not self._commands:
                    self._send_kept(key.data)
                elif events & selectors.EVENT_READ:
                    commands_go_on = self._read()
            self._tell()
        self._finish()

    def _finish(self) -> None:
        self._selector.unregister(self._commands)
        deadline_s = time.monotonic() + LAST_WORDS_S
        while self._kept and (left_s := deadline_s - time.monotonic()) > 0:
            for key, _ in self._selector.select(left_s):
                self._send_kept(key.data)
        for number in list(self._descriptors):
            self._drop(number)

    # Commands -------------------------------------------------------------------------

    def _read(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._commands, READ_BYTES, MAX_DESCRIPTORS
            )
        except ConnectionError:
            return False
        self._received.extend(descriptors)
        if not data:
            return False
        self._buffer += data
        with memoryview(self._buffer) as view:
            done = self._obey_all(view)
        del self._buffer[:done]
        outgoing, self._outgoing = self._outgoing, {}
        for number, parts in outgoing.items():
            self._send(number, parts)
        return True

    def _obey_all(self, data: memoryview) -> int:
        """Obey the commands that are whole; return where the rest begins."""
        start, end = 0, len(data)
        while end - start >= HEAD.size:
            command, number, count, size = HEAD.unpack_from(data, start)
            body = start + HEAD.size
            content = body + 4 * count
            if end < content + size:
                break
            start = content + size
            numbers = array.array("I", bytes(data[body:content]))
            self._obey(command, number, numbers, bytes(data[content:start]))
        return start

    def _obey(
        self, command: int, number: int, numbers: array.array[int], data: bytes
    ) -> None:
        outgoing = self._outgoing
        if command == FAN:
            left_out = frozenset(numbers)
            for one in self._groups.get(number, ()):
                if one in left_out:
                    continue
                if one in outgoing:
                    outgoing[one].append(data)
                else:
                    outgoing[one] = [data]
        elif command == ONE:
            outgoing.setdefault(number, []).append(data)
        elif command == ADD:
            self._descriptors[number] = self._received.popleft()
        elif command == GROUP:
            self._groups[number] = numbers
            if not numbers:
                del self._groups[number]
        elif command == CLOSE:
            if number in outgoing:
                self._send(number, outgoing.pop(number))
            if number in self._kept:
                self._kept[number].closes = True
            else:
                self._drop(number)
        elif command == ABORT:
            self._drop(number)

    # Connections ----------------------------------------------------------------------

    def _send(self, number: int, parts: list[bytes]) -> None:
        descriptor = self._descriptors.get(number)
        if descriptor is None:
            return
        if len(parts) > 1 and sum(map(len, parts)) <= JOINED_BYTES:
            parts = [b"".join(parts)]
        kept = self._kept.get(number)
        if kept is None:
            try:
                sent = os.write(descriptor, parts[0])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(number)
                return
            if sent == len(parts[0]) and len(parts) == 1:
                return
            kept = self._kept[number] = Kept()
            self._selector.register(descriptor, selectors.EVENT_WRITE, number)
            kept.keep(parts)
            kept.take(sent)
        else:
            kept.keep(parts)
        if not kept.told and kept.size > HIGH_WATER_BYTES:
            self._note(CONGESTED, number, kept)

    def _send_kept(self, number: int) -> None:
        kept, descriptor = self._kept[number], self._descriptors[number]
        try:
            sent = os.writev(descriptor, list(islice(kept.parts, MAX_PARTS)))
        except BlockingIOError:
            return
        except OSError:
            self._drop(number)
            return
        kept.take(sent)
        if kept.told and kept.size < LOW_WATER_BYTES:
            self._note(DRAINED, number, kept)
            kept.told = 0
        elif kept.told - kept.size > HIGH_WATER_BYTES:
            self._note(WAITING, number, kept)
        if not kept.parts:
            self._selector.unregister(descriptor)
            del self._kept[number]
            if kept.closes:
                self._drop(number)

    def _drop(self, number: int) -> None:
        """End a connection: the service, which reads from it, sees its end."""
        descriptor = self._descriptors.pop(number, None)
        if descriptor is None:
            return
        if self._kept.pop(number, None) is not None:
            self._selector.unregister(descriptor)
        # The client may have gone first.
        with (
            socket.socket(fileno=descriptor) as connection,
            contextlib.suppress(OSError),
        ):
            connection.shutdown(socket.SHUT_RDWR)

    # Events ---------------------------------------------------------------------------

    def _note(self, event: int, number: int, kept: Kept) -> None:
        kept.told = kept.size
        self._events += EVENT.pack(event, number, kept.told)

    def _tell(self) -> None:
        """Send events; those that find no room go with the next ones."""
        if not self._events:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            del self._events[: self._commands.send(self._events)]
        wanted = selectors.EVENT_READ
        if self._events:
            wanted |= selectors.EVENT_WRITE
        self._selector.modify(self._commands, wanted)


def main() -> None:
    """Serve the command socket whose descriptor is the argument."""
    # Who interrupts the service by the keyboard means us as well; it tells us to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as commands:
        commands.setblocking(False)
        Writer(commands).run()


if __name__ == "__main__":
    main()
