"""The generator's process: ``python -m harness.load.worker --spec FILE``.

Runs Locust headless in one of three roles: ``local`` (alone), ``master`` (collects),
``worker`` (carries a share).  What it has to say goes to stdout as JSON lines with a
``kind``: ``progress``, ``report`` or ``error``.  It stops when its standard input is
closed, so that it never outlives whoever started it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from harness.load.pool_thread import PoolJob
from harness.load.profiles import LoadProfile, shard
from harness.load.step_report import StepReport, merge_reports
from harness.load.target import Target

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Spec", "main"]

LOOK_S = 0.1
STDIN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What all processes of one run share; ``name`` is new for every run.

    ``reconnects`` lets subscribers come back whose connection was lost.
    """

    profile: LoadProfile
    target: Target
    seed: int
    name: str
    workers: int = 1
    reconnects: bool = False

    def to_json(self) -> bytes:
        """Return the spec for its file."""
        record = {
            "profile": self.profile.to_record(),
            "target": orjson.Fragment(self.target.to_json()),
            "seed": self.seed,
            "name": self.name,
            "workers": self.workers,
            "reconnects": self.reconnects,
        }
        return orjson.dumps(record)

    @classmethod
    def read(cls, path: Path) -> Spec:
        """Read a spec file."""
        record = orjson.loads(path.read_bytes())
        record["profile"] = LoadProfile.from_record(record["profile"])
        record["target"] = Target.from_mapping(record["target"])
        return cls(**record)

    def job(self, index: int) -> PoolJob:
        """Return what worker ``index`` has to do."""
        return PoolJob(
            profile=shard(self.profile, index, self.workers),
            target=self.target,
            seed=self.seed + index,
            name=f"{self.name}-{index}",
            reconnects=self.reconnects,
        )


@click.command()
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), required=True)
@click.option(
    "--role", type=click.Choice(["local", "master", "worker"]), default="local"
)
@click.option("--index", default=0, help="Which worker this is, from 0.")
@click.option("--host", default="127.0.0.1", help="Where the master listens.")
@click.option("--port", default=5557, help="The master's port.")
def main(spec_file: Path, role: str, index: int, host: str, port: int) -> None:
    """Run one generator process."""
    # Locust would replace sockets and threads by greenlets, which asyncio cannot use.
    os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")
    from harness.load import locust_user  # Locust is heavy, and must see the variable

    spec = Spec.read(spec_file)
    locust_user.PoolUser.job = spec.job(index)
    locust_user.PoolUser.fixed_count = spec.workers  # over all workers, one for each
    node = Node(spec, locust_user)
    if role == "worker":
        node.serve(node.environment.create_worker_runner(host, port))
    elif role == "master":
        node.collect(node.environment.create_master_runner(host, port))
    else:
        node.collect(node.environment.create_local_runner())


@dataclass(slots=True)
class Node:
    """A Locust process: its environment, and what it has heard from the pools."""

    spec: Spec
    locust_user: ModuleType
    environment: Any = field(init=False)
    live: int = 0
    reports: list[list[StepReport]] = field(default_factory=list)
    is_over: bool = False
    is_orphan: bool = False

    def __post_init__(self) -> None:
        """Make the environment and listen for the end of standard input."""
        from gevent import monkey
        from locust.env import Environment

        self.environment = Environment(user_classes=[self.locust_user.PoolUser])
        monkey.get_original("_thread", "start_new_thread")(self._watch_input, ())

    def serve(self, runner: Any) -> None:
        """Be a worker: carry the share until the master or the parent says stop."""
        self._wait(lambda: not len(runner.greenlet))  # Locust ends them on quit
        self._end(runner)

    def collect(self, runner: Any) -> None:
        """Be alone or the master: start the pools, gather, say, quit."""
        kinds = self.locust_user
        runner.register_message(kinds.LIVE, self._on_live)
        runner.register_message(kinds.PROGRESS, self._on_progress)
        runner.register_message(kinds.REPORTS, self._on_reports)
        runner.register_message(kinds.FAILED, self._on_failed)
        if hasattr(runner, "clients"):
            self._wait(lambda: len(runner.clients.ready) >= self.spec.workers)
        if self.is_orphan:
            return
        runner.start(self.spec.workers, spawn_rate=self.spec.workers)
        self._wait(lambda: self.is_over)
        self._end(runner)

    def _on_live(self, environment: Any, msg: Any) -> None:
        self.live += 1
        if self.live == self.spec.workers:
            environment.runner.send_message(self.locust_user.GO, {})

    def _on_progress(self, environment: Any, msg: Any) -> None:
        _say("progress", msg.data)

    def _on_failed(self, environment: Any, msg: Any) -> None:
        _say("error", msg.data)
        self.is_over = True

    def _on_reports(self, environment: Any, msg: Any) -> None:
        records = msg.data["reports"]
        self.reports.append([StepReport.from_record(record) for record in records])
        if len(self.reports) < self.spec.workers:
            return
        for shares in zip(*self.reports, strict=True):
            merged = merge_reports(shares, profile=self.spec.profile.name)
            _say("report", merged.to_record())
        self.is_over = True

    def _wait(self, is_reached: Callable[[], bool]) -> None:
        import gevent

        while not is_reached() and not self.is_orphan:
            gevent.sleep(LOOK_S)

    def _end(self, runner: Any) -> None:
        for pool in self.locust_user.PoolUser.running:
            pool.cancel()
        self._wait_for_pools()
        runner.quit()

    def _wait_for_pools(self) -> None:
        import gevent

        while not all(pool.is_done for pool in self.locust_user.PoolUser.running):
            gevent.sleep(LOOK_S)

    def _watch_input(self) -> None:
        while os.read(STDIN, 4096):
            pass
        self.is_orphan = True


def _say(kind: str, record: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps({"kind": kind, **record}) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
