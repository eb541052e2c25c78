"""Sending a part of a file as an answer's body without copying it through Python.

The loop's own ``sendfile`` would do, but uvloop has none; so the file is sent over a
duplicate of the connection's descriptor, once all that was written before has left.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from aiohttp import web

__all__ = ["send_file"]

SLICE_BYTES: Final = 512 * 1024  # sent in one call; other connections get their turn


async def send_file(
    request: web.BaseRequest,
    response: web.StreamResponse,
    descriptor: int,
    start: int,
    end: int,
) -> bool:
    """Send bytes ``start`` to ``end``; False, with nothing sent, where it cannot be.

    ``response`` is prepared.  A client that is gone is a ConnectionError.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    plain = transport.get_extra_info("sslcontext") is None
    socket = transport.get_extra_info("socket")
    if not plain or socket is None or not hasattr(os, "sendfile"):
        return False
    transport.set_write_buffer_limits(high=0)
    try:
        await request.writer.drain()
        if transport.get_write_buffer_size():
            return False
        duplicate = os.dup(socket.fileno())
        try:
            await _send(transport, duplicate, descriptor, start, end)
        finally:
            os.close(duplicate)
    finally:
        transport.set_write_buffer_limits()
    return True


async def _send(
    transport: asyncio.Transport, out: int, source: int, start: int, end: int
) -> None:
    loop = asyncio.get_running_loop()
    while start < end:
        if transport.is_closing():
            raise ConnectionResetError("the client went away")
        try:
            sent = os.sendfile(out, source, start, min(SLICE_BYTES, end - start))
        except BlockingIOError:
            await _until_writable(loop, out)
            continue
        if not sent:
            raise ConnectionError("stored file is shorter than it was")
        start += sent
        await asyncio.sleep(0)


async def _until_writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    writable = loop.create_future()
    loop.add_writer(descriptor, _resolve, writable)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
