"""Faults laid over a load: each begins so many seconds after the first step.

The services that can be struck are those whose processes the target names (``server``,
``postgres``); the link is the one of the subscribers (``clients``), which then goes
through a proxy of this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.events import FaultInjected
from harness.faults import LocalSite, TcpProxy, inject
from harness.faults.vocabulary import Cut, DiskFull, Fault, Kill, Pause, TimedFault
from harness.load.cpu import process_tree
from harness.load.profiles import LoadProfile
from harness.load.target import Target

__all__ = ["FaultPlan"]

CLIENTS = "clients"


class FaultPlan:
    """``async with FaultPlan(...) as plan`` readies the link; ``plan.target`` uses it.

    Raises :class:`UsageError` for faults that this target or profile cannot have.
    """

    def __init__(
        self,
        faults: Sequence[TimedFault],
        profile: LoadProfile,
        target: Target,
        *,
        phase: str,
        seed: int,
    ) -> None:
        self.target = target
        self.injected: list[FaultInjected] = []
        self._faults = faults
        self._phase = phase
        self._seed = seed
        self._stack = AsyncExitStack()
        self._site = TargetSite(target)
        self._tasks: list[asyncio.Task[None]] = []
        for timed in faults:
            _check(timed, profile, self._site)

    async def __aenter__(self) -> Self:
        if any(_link_of(timed.fault) for timed in self._faults):
            parts = urlsplit(self.target.url)
            port = parts.port or 80
            proxy = TcpProxy(parts.hostname or "", port, seed=self._seed)
            self._site.links[CLIENTS] = await self._stack.enter_async_context(proxy)
            near = parts._replace(netloc=f"{proxy.host}:{proxy.port}").geturl()
            self.target = replace(self.target, subscribers_url=near)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self._stack.aclose()

    def begin(self, elapsed_s: float) -> None:
        """Start the clock, ``elapsed_s`` after the first step began; once."""
        if not self._tasks:
            start_s = time.monotonic() - elapsed_s
            self._tasks = [
                asyncio.create_task(self._inject(timed, start_s))
                for timed in self._faults
            ]

    async def _inject(self, timed: TimedFault, start_s: float) -> None:
        await asyncio.sleep(max(0.0, start_s + timed.at_s - time.monotonic()))
        began_s = time.monotonic()
        try:
            async with inject(timed.fault, self._site):
                await asyncio.sleep(timed.lasts_s if _lasts(timed.fault) else 0.0)
        finally:
            self.injected.append(
                FaultInjected(
                    phase=self._phase,
                    fault=timed.name,
                    began_s=began_s - start_s,
                    lasted_s=time.monotonic() - began_s,
                )
            )


class TargetSite:
    """The processes and the link of a load's target."""

    def __init__(self, target: Target) -> None:
        postmaster = (target.postgres_pid,) if target.postgres_pid else ()
        roots = {"server": target.server_pids, "postgres": postmaster}
        self._roots = {name: pids for name, pids in roots.items() if pids}
        self.links: dict[str, TcpProxy] = {}
        self.has_plain_link = urlsplit(target.url).scheme == "http"

    def processes(self, service: str) -> Sequence[int]:
        """Return the process ids of a service, children included, as they are now."""
        return process_tree(LocalSite(services=self._roots).processes(service))

    def link(self, name: str) -> TcpProxy:
        """Return the proxy in front of the subscribers."""
        return LocalSite(links=self.links).link(name)

    def disk(self, name: str) -> Path:
        """Refuse: a load has no disk of its own to fill."""
        return LocalSite().disk(name)


def _check(timed: TimedFault, profile: LoadProfile, site: TargetSite) -> None:
    """Refuse what cannot be done before anything is started."""
    lasts_s = sum(step.duration_s for step in profile.steps)
    if timed.at_s >= lasts_s:
        raise UsageError(
            f"{timed.name} at {timed.at_s:g} s would come after the load",
            hint=f"the steps of {profile.name} last {lasts_s:g} s",
        )
    match timed.fault:
        case Kill(service):
            raise UsageError(
                f"nobody starts {service} again after {timed.name}",
                hint=f"pause:{service} stops it for a while",
            )
        case Pause(service):
            site.processes(service)
        case DiskFull(disk):
            site.disk(disk)
        case fault:
            link = _link_of(fault)
            if link != CLIENTS:
                raise UsageError(
                    f"no link {link!r} to break", hint=f"the link is {CLIENTS!r}"
                )
            if not site.has_plain_link:
                raise UsageError(f"{timed.name}: a link with TLS cannot be disturbed")


def _link_of(fault: Fault) -> str:
    return "" if isinstance(fault, Kill | Pause | DiskFull) else fault.link


def _lasts(fault: Fault) -> bool:
    return not isinstance(fault, Cut)
