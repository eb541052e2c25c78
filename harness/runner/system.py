"""A scenario taken through its phases: schema, policies, flows, load.

Every phase emits events; none decides the verdict.  The stack is started by whoever
calls, so that several systems share one.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.config import Config
from harness.db.address import DatabaseAddress
from harness.db.fingerprint import fingerprint
from harness.errors import MigrationError
from harness.events import CheckFinished, Event, Finding
from harness.load.profiles import find_profile
from harness.load.runner import run_profile
from harness.load.target import Target
from harness.policies.check import Budget, check_schema
from harness.policies.hints import hints_on
from harness.policies.locations import Locations, sql_files
from harness.policies.rules import read_rules
from harness.report.model import plural
from harness.runner.session import RunSession
from harness.runner.suite import run_suite
from harness.scenario import Scenario
from harness.stack.base import Stack
from harness.stack.project import Project

__all__ = ["PHASES", "SystemRun", "check_policies", "load_target"]

PHASES = ("schema", "policies", "flows", "load")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRun:
    """One scenario on one stack, reported to one session.

    ``descriptor`` is the file that lets the suites attach to the stack; ``phases`` is a
    selection of :data:`PHASES`.
    """

    scenario: Scenario
    stack: Stack
    session: RunSession
    config: Config
    descriptor: Path
    report_dir: Path
    phases: Sequence[str] = PHASES
    workers: int = 0

    async def run(self) -> None:
        """Take the phases in order."""
        steps = {
            "schema": self._schema,
            "policies": self._policies,
            "flows": self._flows,
            "load": self._load,
        }
        for name, step in steps.items():
            if name in self.phases:
                await step()

    async def _schema(self) -> None:
        scenario = self.scenario
        with self.session.phase(self._phase("schema"), f"{scenario.title}: schema"):
            began_s = time.monotonic()
            project = await self._project()
            self._ended("schema", "schema_applies", began_s)
            await self._check_reapplies(project)
            await project.drop()

    async def _check_reapplies(self, project: Project) -> None:
        """Apply the schema once more: no error, no difference in the catalog."""
        began_s = time.monotonic()
        before = await _fingerprint(project)
        where = f"sql/{self.scenario.schema[0]}"
        try:
            await self.stack.apply(project, self.scenario.schema_folders())
        except MigrationError as exc:
            said = f"[{exc.sqlstate}] {exc.hint or ''}".strip()
            told = (f"applying the schema again fails: {exc.message}", said)
            where = f"{exc.file}:{exc.line}"
        else:
            difference = _difference(before, await _fingerprint(project))
            if not difference:
                self._ended("schema", "schema_applied_twice_is_the_same", began_s)
                return
            told = ("applying the schema again changes the catalog", difference)
        self.session.emit(
            Finding(
                phase=self._phase("schema"),
                check="schema_applied_twice_is_the_same",
                message=told[0],
                note=told[1],
                where=where,
                severity="medium",
                hint="write CREATE ... IF NOT EXISTS, CREATE OR REPLACE, and DROP"
                " POLICY IF EXISTS before CREATE POLICY",
            )
        )
        self._ended("schema", "schema_applied_twice_is_the_same", began_s, "failed")

    async def _policies(self) -> None:
        scenario = self.scenario
        title = f"{scenario.title}: policies by execution"
        with self.session.phase(self._phase("policies"), title) as summarise:
            project = await self._project()
            summary = await check_policies(
                project.database,
                rules=scenario.rules,
                config=self.config,
                seed=self.session.seed,
                emit=self.session.emit,
                sources=scenario.schema_folders(),
            )
            summarise(summary)
            await project.drop()

    async def _flows(self) -> None:
        scenario = self.scenario
        if scenario.suite is None:
            return
        title = f"{scenario.title}: flows"
        tally = self.session.tally
        before = (tally.passed, tally.failed)
        with self.session.phase(self._phase("flows"), title) as summarise:
            await run_suite(
                scenario.suite,
                descriptor=self.descriptor,
                report_dir=self.report_dir,
                emit=self.session.emit,
                phase=self._phase("flows"),
                seed=self.session.seed,
                cache_dir=self.config.cache_dir,
                workers=self.workers,
                schema=scenario.schema,
            )
            passed, failed = tally.passed - before[0], tally.failed - before[1]
            summarise(f"{passed} scenarios passed, {failed} failed")

    async def _load(self) -> None:
        scenario = self.scenario
        if scenario.load is None:
            return
        profile = find_profile(scenario.load)
        title = f"{scenario.title}: load, {profile.name}"
        with self.session.phase(self._phase("load"), title):
            project = await self._project(profile.realtime_settings())
            await run_profile(
                profile,
                load_target(self.stack, project),
                seed=self.session.seed,
                emit=self.session.emit,
                phase=self._phase("load"),
            )
            await project.drop()

    async def _project(self, realtime: Mapping[str, Any] | None = None) -> Project:
        settings = self.scenario.settings
        if realtime:
            settings = dataclasses.replace(
                settings, realtime={**settings.realtime, **realtime}
            )
        return await self.stack.create_project(
            self.scenario.schema_folders(), settings=settings
        )

    def _ended(
        self,
        phase: str,
        check: str,
        began_s: float,
        outcome: Literal["passed", "failed"] = "passed",
    ) -> None:
        self.session.emit(
            CheckFinished(
                phase=self._phase(phase),
                check=check,
                outcome=outcome,
                took_s=time.monotonic() - began_s,
            )
        )

    def _phase(self, name: str) -> str:
        return f"{self.scenario.name}.{name}"


async def check_policies(
    database: DatabaseAddress,
    *,
    rules: Path | None,
    config: Config,
    seed: int,
    emit: Callable[[Event], None],
    sources: Sequence[Path] = (),
    hints: bool = False,
) -> str:
    """Judge the schema in ``database`` by execution; returns one line of summary.

    ``sources`` are the files it was made from: findings tell them and their lines.
    ``hints`` adds what rule sets of others say, as notes.
    """
    told = tuple(str(source) for source in sources)

    def emit_with_source(event: Event) -> None:
        if isinstance(event, Finding):
            event = dataclasses.replace(event, schema=told)
        emit(event)

    locations = Locations.of(sources)
    summary = await check_schema(
        database,
        rules=read_rules(rules) if rules else None,
        seed=seed,
        budget=Budget(
            per_check_s=config.policy_budget_s,
            statement_timeout_ms=config.statement_timeout_ms,
        ),
        emit=emit_with_source,
        locate=locations.place,
    )
    if hints:
        files = [path.resolve() for source in sources for path in sql_files(source)]
        for note in await hints_on(database, files, locate=locations.place):
            emit_with_source(note)
    return (
        f"{summary.checks} checks, {summary.decisions:,} decisions, "
        f"{plural(summary.findings, 'finding')}, {summary.undecided} undecided"
    )


def load_target(stack: Stack, project: Project) -> Target:
    """Return what a load generator needs to know of ``project``."""
    pids = stack.descriptor.pids
    return Target(
        url=project.url,
        anon_key=project.anon_key,
        service_role_key=project.service_role_key,
        jwt_secret=project.keys.jwt_secret,
        database=project.database,
        server_pids=(pids["server"],) if "server" in pids else (),
        postgres_pid=pids.get("postgres", 0),
    )


async def _fingerprint(project: Project) -> str:
    connection = await project.connect()
    try:
        return await fingerprint(connection)
    finally:
        await connection.close()


def _difference(before: str, after: str) -> str:
    old, new = set(before.splitlines()), set(after.splitlines())
    lines = [f"- {line}" for line in sorted(old - new)]
    lines += [f"+ {line}" for line in sorted(new - old)]
    return "\n".join(lines[:20])
