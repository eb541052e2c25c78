"""Finds the suites of the package and runs the chosen ones.

A suite that cannot run here (no PostgreSQL in reach, no secret) raises a
:class:`harness.errors.HarnessError`; its error is kept beside the results of the
others, and nothing passes for measured that was not.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from harness.bench.registry.result import BenchResult
from harness.errors import HarnessError, UsageError
from harness.load.target import Target

__all__ = ["Suite", "SuiteOutcome", "find_suites", "run_suites"]

PACKAGE = "harness.bench"


@dataclass(frozen=True, slots=True)
class Suite:
    """A benchmark suite: its module name, one-line title and entry point."""

    name: str
    title: str
    run: Callable[[Target], Awaitable[list[BenchResult]]]


@dataclass(frozen=True, slots=True)
class SuiteOutcome:
    """What a suite gave: results, or the error that stopped it."""

    suite: Suite
    results: tuple[BenchResult, ...] = ()
    error: HarnessError | None = None


def find_suites(names: Iterable[str] = ()) -> list[Suite]:
    """Return the suites called ``names`` in that order, or all of them by name.

    Raises :class:`UsageError` with the nearest name for one that does not exist.
    """
    known = _suite_names()
    wanted = list(names) or known
    for name in wanted:
        if name not in known:
            raise UsageError(f"no benchmark {name!r}", hint=_nearest(name, known))
    return [_load(name) for name in wanted]


async def run_suites(
    suites: Sequence[Suite],
    target: Target,
    *,
    started: Callable[[Suite], None] = lambda suite: None,
) -> list[SuiteOutcome]:
    """Run ``suites`` one after the other against ``target``."""
    outcomes = []
    for suite in suites:
        started(suite)
        try:
            outcomes.append(SuiteOutcome(suite, tuple(await suite.run(target))))
        except HarnessError as exc:
            outcomes.append(SuiteOutcome(suite, error=exc))
    return outcomes


def _suite_names() -> list[str]:
    package = importlib.import_module(PACKAGE)
    found = pkgutil.iter_modules(package.__path__)
    return sorted(module.name for module in found if not module.ispkg)


def _load(name: str) -> Suite:
    module = importlib.import_module(f"{PACKAGE}.{name}")
    return Suite(name=name, title=_title(module), run=module.run)


def _title(module: ModuleType) -> str:
    return (module.__doc__ or module.__name__).strip().splitlines()[0]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(known)}"
