"""Own figures of this machine: what one operation costs, beside a baseline.

Each module of this package that is not a package is a *suite*: it has a docstring
(its first line is the title) and ``async def run(target) -> list[BenchResult]``.
A suite measures with :func:`measure`, which alternates the operation with its
baseline, so that both meet the same noise, and reads the CPU of server and
PostgreSQL.  ``harness bench`` lists, runs and renders suites through this package.
"""

from harness.bench.registry.measure import measure
from harness.bench.registry.render import render_json, render_table
from harness.bench.registry.result import Baseline, BenchResult
from harness.bench.registry.suites import Suite, find_suites, run_suites
from harness.load.target import Target

__all__ = [
    "Baseline",
    "BenchResult",
    "Suite",
    "Target",
    "find_suites",
    "measure",
    "render_json",
    "render_table",
    "run_suites",
]
