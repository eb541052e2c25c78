"""The benchmark registry: results, side-by-side measuring, rendering, suites."""

import asyncio

import orjson
import pytest

from harness.bench import (
    Baseline,
    BenchResult,
    Suite,
    Target,
    find_suites,
    measure,
    render_json,
    render_table,
    run_suites,
)
from harness.errors import StackError, UsageError

TARGET = Target(url="http://h", anon_key="k")


def result(**changes: object) -> BenchResult:
    values: dict[str, object] = {
        "name": "rest",
        "operation": "select one row",
        "ops": 1000,
        "wall_s": 0.5,
        "server_cpu_s": 0.2,
        "postgres_cpu_s": 0.1,
        "baseline": Baseline(name="plain SELECT", ops=2000, wall_s=0.25),
    }
    return BenchResult(**{**values, **changes})  # type: ignore[arg-type]  # test data


def test_figures_are_per_operation_and_ratio_compares_wall_time() -> None:
    measured = result()
    assert measured.ops_per_s == 2000
    assert measured.wall_us_per_op == pytest.approx(500)
    assert measured.server_cpu_us_per_op == pytest.approx(200)
    assert measured.postgres_cpu_us_per_op == pytest.approx(100)
    assert measured.ratio == pytest.approx(4.0)
    assert result(baseline=None).ratio is None


async def slow_round() -> int:
    await asyncio.sleep(0.01)
    return 1


async def quick_round() -> int:
    await asyncio.sleep(0.001)
    return 1


def test_measure_alternates_with_the_baseline_and_judges_the_goal() -> None:
    measured = asyncio.run(
        measure(
            TARGET,
            name="own",
            operation="wait",
            action=slow_round,
            baseline=("shorter wait", quick_round),
            rounds=3,
            goal="under a microsecond",
            met=lambda r: r.wall_us_per_op < 1,
        )
    )
    assert measured.ratio is not None
    assert measured.ratio > 1
    assert measured.met is False


async def one_result(target: Target) -> list[BenchResult]:
    return [result(goal="300 us", met=True, reference="2 ms")]


async def no_server(target: Target) -> list[BenchResult]:
    raise StackError("no server", hint="start one with: harness up")


def test_a_suite_that_cannot_run_is_reported_beside_the_others() -> None:
    suites = [Suite("rest", "REST", one_result), Suite("gone", "Gone", no_server)]
    outcomes = asyncio.run(run_suites(suites, TARGET))
    table = render_table(outcomes)
    assert "select one row" in table
    assert "goal: 300 us: reached" in table
    assert "4.00x" in table
    assert "not measured: no server" in table
    assert "hint: start one with: harness up" in table
    record = orjson.loads(render_json(outcomes))
    assert record["rest"]["results"][0]["ratio"] == pytest.approx(4.0)
    assert record["gone"]["error"] == "no server"


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(UsageError, match="no benchmark 'nonsense'"):
        find_suites(["nonsense"])
