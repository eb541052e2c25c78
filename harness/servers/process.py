"""The server process of a stack: ``python -m harness.servers --spec FILE``.

The specification is JSON: ``host``, ``port`` (0 takes a free one), ``control_secret``,
``objects_root``, ``postgres`` (``host``, ``port``, ``password``), ``durability``,
``projects`` (each ``ref``, ``dbname`` and optionally ``keys`` and ``settings``),
``access_log`` (a path or null) and optionally ``upstreams`` (service name to the URL of
the server process that answers it).  When it listens it prints one JSON line,
``{"event": "ready", "port": N}``, on standard output; SIGTERM or SIGINT end it, and
with ``--exit-with-parent`` so does the end of standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.clock import SystemClock
from harness.servers.access_log import AccessLog
from harness.servers.control import ControlRoutes
from harness.servers.file_limit import raise_file_limit
from harness.servers.front import FrontFactory
from harness.servers.gateway import Gateway
from harness.servers.hosting import SERVICE_CLASSES, ProjectRegistry, Upstreams
from harness.servers.unreadable import GatewayServer

__all__ = ["main"]

KEEPALIVE_S = 75.0
LINE_LIMIT_BYTES = 64 * 1024
BACKLOG = 4096
# Clients that wait for a stack ask Storage and REST first.
WARMED = ("storage", "rest", "auth", "realtime")
# A connection is dozens of objects that live long: collecting after every 700 new ones,
# as is usual, finds nothing and costs a twentieth of each.
GC_THRESHOLDS = (10_000, 20, 20)
STOP_GRACE_S = 0.25  # for answers under way; idle connections wait it out too


def main() -> int:
    """Run the server until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m harness.servers")
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--exit-with-parent", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    raise_file_limit()
    spec = json.loads(options.spec.read_text(encoding="utf-8"))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(spec, exit_with_parent=options.exit_with_parent))
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if sys.platform == "win32":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


async def _serve(spec: dict[str, Any], *, exit_with_parent: bool) -> None:
    clock = SystemClock()
    access_log = AccessLog(Path(spec["access_log"]) if spec["access_log"] else None)
    postgres = spec["postgres"]
    registry = ProjectRegistry(
        postgres=(postgres["host"], postgres["port"], postgres.get("password", "")),
        objects_root=Path(spec["objects_root"]),
        durability=spec["durability"],
        clock=clock,
        access_log=access_log,
        upstreams=Upstreams(spec.get("upstreams") or {}, spec["control_secret"]),
    )
    control = ControlRoutes(registry, spec["control_secret"], clock)
    gateway = Gateway(registry, control, clock, access_log)
    server = GatewayServer(
        gateway.handle,
        request_factory=gateway.make_request,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        max_line_size=LINE_LIMIT_BYTES,
        max_field_size=LINE_LIMIT_BYTES,
        # Bodies reach the services as they were sent: Storage keeps an encoded one.
        auto_decompress=False,
    )
    front = FrontFactory(server, registry, gateway.handle)
    stopped = _stop_signals(exit_with_parent=exit_with_parent)
    listener = await asyncio.get_running_loop().create_server(
        front, spec["host"], spec["port"], backlog=BACKLOG
    )
    port = listener.sockets[0].getsockname()[1]
    registry.base_url = f"http://{spec['host']}:{port}"
    for record in spec["projects"]:
        registry.register(record)
    # What is loaded by now lives as long as the process: no collection need look at it.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    sys.stdout.write(json.dumps({"event": "ready", "port": port}) + "\n")
    sys.stdout.flush()
    # Imports that the first request of each service would wait for.
    warming = asyncio.create_task(asyncio.to_thread(_import_services))
    await stopped.wait()
    listener.close()
    # Requests under way may end; sockets end with their service.
    await asyncio.gather(front.shutdown(STOP_GRACE_S), server.shutdown(STOP_GRACE_S))
    await registry.stop()
    await warming
    access_log.close()


def _stop_signals(*, exit_with_parent: bool) -> asyncio.Event:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if exit_with_parent:
        stdin = sys.stdin.fileno()

        def read() -> None:
            if not os.read(stdin, 4096):
                loop.remove_reader(stdin)
                stopped.set()

        loop.add_reader(stdin, read)
    return stopped


def _import_services() -> None:
    for name in WARMED:
        importlib.import_module(SERVICE_CLASSES[name][0])
