"""Benchmark results as a table for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from harness.bench.registry.result import BenchResult
from harness.bench.registry.suites import SuiteOutcome

__all__ = ["render_json", "render_table"]

COLUMNS = (
    "operation",
    "ops/s",
    "wall us",
    "server us",
    "postgres us",
    "p50/p99 ms",
    "baseline us",
    "ratio",
)


def render_json(outcomes: Iterable[SuiteOutcome]) -> bytes:
    """Return one JSON object: suite name to results or error."""
    record = {
        outcome.suite.name: {
            "title": outcome.suite.title,
            "results": [result.to_record() for result in outcome.results],
            "error": str(outcome.error) if outcome.error else None,
        }
        for outcome in outcomes
    }
    return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def render_table(outcomes: Iterable[SuiteOutcome]) -> str:
    """Return the results as aligned text, one block a suite."""
    return "\n".join(_block(outcome) for outcome in outcomes)


def _block(outcome: SuiteOutcome) -> str:
    head = f"{outcome.suite.name}: {outcome.suite.title}"
    if outcome.error is not None:
        hint = f"\n  hint: {outcome.error.hint}" if outcome.error.hint else ""
        return f"{head}\n  not measured: {outcome.error}{hint}\n"
    rows = [_cells(result) for result in outcome.results]
    widths = [max(len(row[i]) for row in (COLUMNS, *rows)) for i in range(len(COLUMNS))]
    lines = [head, _line(COLUMNS, widths)]
    for result, row in zip(outcome.results, rows, strict=True):
        lines.append(_line(row, widths))
        lines.extend(f"      {remark}" for remark in _remarks(result))
    return "\n".join(lines) + "\n"


def _cells(result: BenchResult) -> tuple[str, ...]:
    latency, baseline = result.latency, result.baseline
    return (
        result.operation,
        f"{result.ops_per_s:,.0f}",
        _us(result.wall_us_per_op),
        _us(result.server_cpu_us_per_op),
        _us(result.postgres_cpu_us_per_op),
        f"{latency.p50_ms:.1f}/{latency.p99_ms:.1f}" if latency else "",
        _us(baseline.wall_us_per_op) if baseline else "",
        f"{result.ratio:.2f}x" if result.ratio is not None else "",
    )


def _remarks(result: BenchResult) -> list[str]:
    remarks = []
    if result.baseline is not None:
        remarks.append(f"baseline: {result.baseline.name}")
    if result.goal:
        verdict = {None: "", True: ": reached", False: ": not reached"}[result.met]
        remarks.append(f"goal: {result.goal}{verdict}")
    if result.reference:
        remarks.append(f"real service: {result.reference}")
    if result.note:
        remarks.append(f"note: {result.note}")
    return remarks


def _us(value: float) -> str:
    if not value:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = (
        cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)
    )
    return "  ".join((f"  {first}", *rest)).rstrip()
