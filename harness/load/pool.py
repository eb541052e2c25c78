"""The client pool: thousands of subscribers in one event loop, judged as they listen.

A run connects everybody, waits until all are live, then takes the steps of the profile
one by one: send on schedule, wait for the last delivery (or the drain time), count.
Latency is the time from the *intended* send to the moment the subscriber read the
message; how late the generator itself was is kept beside it (``lag_p99_ms``), so that
a slow generator cannot pass for a slow server.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from harness.clock import seeded
from harness.errors import HarnessError, RemoteProtocolError, StackError
from harness.events import LoadStepFinished
from harness.load.broadcast import BroadcastLoad
from harness.load.cpu import CpuMeter
from harness.load.database_load import ChangesLoad, DatabaseBroadcastLoad
from harness.load.histogram import LatencyHistogram
from harness.load.history import SequenceCheck
from harness.load.phoenix_client import PhoenixClient
from harness.load.profiles import LoadProfile
from harness.load.returning import Returning
from harness.load.schedule import Step, arrivals
from harness.load.step_report import PoolProgress, StepReport
from harness.load.target import Target
from harness.load.workload import Outgoing, Workload

__all__ = ["LoadPool", "make_workload"]

CONNECT_TIMEOUT_S = 60.0
HANDSHAKES_AT_ONCE = 64
HEARTBEAT_S = 20.0
TICK_S = 0.25
DRAIN_CHECK_S = 0.005
START_DELAY_NS = 20_000_000
US_NS = 1000
US_PER_MS = 1000
MAX_EXAMPLES = 5


@dataclass(slots=True)
class StepTally:
    """What all subscribers of a step write into; streams before ``first`` are over."""

    first: int = 0
    latencies_us: list[int] = field(default_factory=list)
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def begin(self, first: int) -> None:
        """Forget the step before."""
        self.first = first
        self.latencies_us.clear()
        self.wrong = 0
        self.examples.clear()

    def take_latencies(self) -> list[int]:
        """Return the latencies since the last call."""
        taken = self.latencies_us.copy()
        self.latencies_us.clear()
        return taken

    def count_wrong(self, example: str) -> None:
        """Count a message that reached a stranger."""
        self.wrong += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(example)


class Subscriber:
    """A client with the check of the only stream that it may see now."""

    __slots__ = ("_latencies_us", "_tally", "check", "client", "stream")

    def __init__(self, index: int, topic: str, tally: StepTally) -> None:
        self.client = PhoenixClient(index, topic, self.take)
        self.stream = -1
        self.check = SequenceCheck()
        self._tally = tally
        self._latencies_us = tally.latencies_us

    def take(self, stream: int, sequence: int, intended_ns: int) -> None:
        """Judge one message and note how late it came."""
        if stream == self.stream:
            self.check.accept(sequence)
            self._latencies_us.append((time.monotonic_ns() - intended_ns) // US_NS)
        elif stream >= self._tally.first:
            topic = self.client.topic
            self._tally.count_wrong(
                f"{topic} got message {sequence} of stream {stream}"
            )
        # Else a straggler of an earlier step, which has counted it as lost.


class LoadPool:
    """Runs one profile against one target from the running event loop.

    ``name`` must be new for every run and worker; ``progress`` is called four times a
    second, ``all_live`` once everybody has joined: the steps begin when it returns.
    ``reconnects`` lets subscribers come back after a lost connection.
    """

    def __init__(
        self,
        profile: LoadProfile,
        target: Target,
        *,
        seed: int,
        name: str,
        progress: Callable[[PoolProgress], None] = lambda progress: None,
        all_live: Callable[[], Awaitable[None]] | None = None,
        reconnects: bool = False,
    ) -> None:
        self.profile = profile
        self._target = target
        self._random = seeded(seed)
        self._workload = make_workload(profile, target, name=name, seed=seed)
        self._progress = progress
        self._all_live = all_live
        self._reconnects = reconnects
        self._returning: Returning | None = None
        self._subscribers: list[Subscriber] = []
        self._meter = CpuMeter(target)
        self._tally = StepTally()

    async def run(self) -> list[StepReport]:
        """Run every step and return its report; cleans up whatever happens."""
        try:
            await self._workload.prepare()
            await self._connect_all()
            await self._workload.connect_senders()
            if self._all_live is not None:
                await self._all_live()
            return await self._run_steps()
        finally:
            if self._returning is not None:
                await self._returning.close()
            for subscriber in self._subscribers:
                subscriber.client.close()
            await self._workload.close()

    async def _connect_all(self) -> None:
        url = self._target.websocket_url(for_subscribers=True)
        gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        loop = asyncio.get_running_loop()
        start_s = loop.time()

        self._subscribers = [
            Subscriber(index, member.topic, self._tally)
            for index, member in enumerate(self._workload.members)
        ]

        async def admit(index: int) -> None:
            member = self._workload.members[index]
            client = self._subscribers[index].client
            due_s = start_s + index / self.profile.clients_per_s
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            async with gate:
                await client.connect(url)
                await client.join(member.config, member.access_token)

        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S), asyncio.TaskGroup() as group:
                for index in range(len(self._workload.members)):
                    group.create_task(admit(index))
        except* HarnessError as failed:
            raise _admission_error(self.profile, failed) from failed
        except* TimeoutError as failed:
            raise StackError(
                f"not all of {self.profile.subscribers} clients were live"
                f" after {CONNECT_TIMEOUT_S:.0f} s",
                service="realtime",
            ) from failed
        if self._reconnects:
            clients = [subscriber.client for subscriber in self._subscribers]
            self._returning = Returning(url, self._workload.members, clients)
        gc.collect()
        gc.freeze()  # what lives as long as the run is not worth scanning

    async def _run_steps(self) -> list[StepReport]:
        heartbeats = asyncio.create_task(self._beat())
        try:
            reports = []
            if self.profile.warmup_s > 0:
                warmup = Step(self.profile.steps[0].rate_per_s, self.profile.warmup_s)
                await self._run_step(0, warmup)
            for number, step in enumerate(self.profile.steps, start=1):
                reports.append(await self._run_step(number, step))
            return reports
        finally:
            heartbeats.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeats

    async def _run_step(self, number: int, step: Step) -> StepReport:
        due_s = list(arrivals(step, self.profile.arrival, self._random))
        outgoing = Outgoing()
        self._begin_step(number, outgoing)
        recorder = StepRecorder(self._tally.take_latencies)
        self._meter.restart()
        start_ns = time.monotonic_ns() + START_DELAY_NS
        ticker = asyncio.create_task(self._tick(number, step, recorder))
        try:
            await self._workload.send(number, due_s, start_ns, outgoing)
            sending_s = (time.monotonic_ns() - start_ns) / 1e9
            await self._drain(outgoing)
        finally:
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
        recorder.take()
        return self._report(number, step, outgoing, recorder, sending_s)

    def _begin_step(self, number: int, outgoing: Outgoing) -> None:
        self._tally.begin(self._workload.stream_of(number, 0))
        for subscriber in self._subscribers:
            index = subscriber.client.index
            subscriber.stream = self._workload.stream_of(number, index)
            subscriber.check = SequenceCheck()
        if self._returning is not None:
            checks = [subscriber.check for subscriber in self._subscribers]
            streams = [subscriber.stream for subscriber in self._subscribers]
            self._returning.begin_step(checks, streams, outgoing)

    async def _drain(self, outgoing: Outgoing) -> None:
        entitled = [s for s in self._subscribers if s.stream not in outgoing.ended_at]
        deadline_s = time.monotonic() + self.profile.drain_s
        while time.monotonic() < deadline_s:
            if all(s.check.has_all(outgoing.sent.get(s.stream, 0)) for s in entitled):
                return
            await asyncio.sleep(DRAIN_CHECK_S)

    async def _tick(self, number: int, step: Step, recorder: StepRecorder) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            slice_ms = recorder.take()
            self._progress(
                PoolProgress(
                    step=number,
                    steps=len(self.profile.steps),
                    elapsed_s=recorder.elapsed_s,
                    duration_s=step.duration_s,
                    delivered=recorder.histogram.count,
                    p99_ms=recorder.timeline[-1][2],
                    slice_ms=slice_ms,
                )
            )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for subscriber in self._subscribers:
                subscriber.client.heartbeat()
            self._workload.heartbeat()

    def _report(
        self,
        number: int,
        step: Step,
        outgoing: Outgoing,
        recorder: StepRecorder,
        sending_s: float,
    ) -> StepReport:
        use = self._meter.read()
        checks = [s.check for s in self._subscribers]
        lost = [
            s.check.finish(
                outgoing.sent.get(s.stream, 0),
                ended_at=outgoing.ended_at.get(s.stream),
            )
            for s in self._subscribers
        ]
        delivered = sum(check.delivered for check in checks)
        finished = LoadStepFinished(
            profile=self.profile.name,
            step=number,
            subscribers=len(self._subscribers),
            offered_per_s=self.profile.deliveries_per_s(step),
            duration_s=max(step.duration_s, sending_s),
            sent=outgoing.total,
            expected=delivered + sum(lost),
            delivered=delivered,
            lost=sum(lost),
            duplicate=sum(check.duplicate for check in checks),
            reordered=sum(check.reordered for check in checks),
            wrong_recipient=self._tally.wrong + sum(check.phantom for check in checks),
            stale=sum(check.stale for check in checks),
            reconnects=self._returning.returned if self._returning else 0,
            away=sum(check.excused for check in checks),
            latency=recorder.histogram.summary(),
            server_cpu_s=use.server_s,
            generator_cpu_s=use.generator_s,
            postgres_cpu_s=use.postgres_s,
            server_rss_mib=use.server_rss_mib,
            histogram=recorder.histogram.encode(),
            timeline=tuple(recorder.timeline),
        )
        return StepReport(
            finished=finished,
            lag_p99_ms=outgoing.lag.percentile_ms(99),
            generator_share=use.generator_s / max(use.wall_s, 1e-9),
            examples=(*self._tally.examples, *self._lost_examples(lost)),
            complaints=self._complaints(),
        )

    def _complaints(self) -> tuple[str, ...]:
        ended = [f"process {pid} of the server ended" for pid in self._meter.ended()]
        said = {s.client.complaint for s in self._subscribers if s.client.complaint}
        return (*ended, *sorted(said)[:MAX_EXAMPLES])

    def _lost_examples(self, lost: Sequence[int]) -> list[str]:
        examples: list[str] = []
        for subscriber, count in zip(self._subscribers, lost, strict=True):
            if count and len(examples) < MAX_EXAMPLES:
                first = subscriber.check.first_missing()
                topic = subscriber.client.topic
                examples.append(f"{topic} missed {count}, the first is number {first}")
        return examples


class StepRecorder:
    """Turns latencies into a histogram and a time line, a slice at a time."""

    def __init__(self, take: Callable[[], list[int]]) -> None:
        self._take = take
        self._start_s = time.monotonic()
        self.histogram = LatencyHistogram()
        self.timeline: list[tuple[float, int, float]] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._start_s

    def take(self) -> Mapping[int, int]:
        """Count what arrived since the last call; returns it by whole milliseconds."""
        latencies = self._take()
        piece = LatencyHistogram()
        piece.record_many_us(latencies)
        self.histogram.merge(piece)
        at_s = round(self.elapsed_s, 3)
        self.timeline.append((at_s, len(latencies), piece.percentile_ms(99)))
        return Counter(latency // US_PER_MS for latency in latencies)


def make_workload(
    profile: LoadProfile, target: Target, *, name: str, seed: int
) -> Workload:
    """Return the workload of the profile's kind."""
    if profile.kind == "changes":
        return ChangesLoad(profile, target, name=name, seed=seed)
    if profile.kind == "database_broadcast":
        return DatabaseBroadcastLoad(profile, target, name=name, seed=seed)
    return BroadcastLoad(profile, target, name=name)


def _admission_error(
    profile: LoadProfile, failed: BaseExceptionGroup[HarnessError]
) -> StackError:
    cause = _first(failed)
    settings = ", ".join(f"{k}={v}" for k, v in profile.realtime_settings().items())
    quotas = f"the profile needs the project's realtime settings {settings}"
    was_refused = isinstance(cause, RemoteProtocolError)
    return StackError(
        f"not every client could join: {cause}",
        service="realtime",
        hint=quotas if was_refused else "the log of the server says more",
    )


def _first(failed: BaseExceptionGroup[HarnessError]) -> HarnessError:
    error = failed.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
