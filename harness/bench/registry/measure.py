"""Measure an operation side by side with its baseline.

Rounds alternate (ours, baseline, ours, ...), the first round of each is thrown away
as warm-up, and the round with the median time an operation speaks for each side: a
neighbour's burst of CPU then spoils a round, not the ratio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from harness.bench.registry.result import Baseline, BenchResult
from harness.load.cpu import CpuMeter
from harness.load.target import Target

__all__ = ["ROUNDS", "Action", "measure"]

Action = Callable[[], Awaitable[int]]
ROUNDS = 5


@dataclass(frozen=True, slots=True)
class _Round:
    ops: int
    wall_s: float
    server_s: float
    postgres_s: float
    rss_mib: float

    @property
    def wall_s_per_op(self) -> float:
        return self.wall_s / max(1, self.ops)


async def measure(
    target: Target,
    *,
    name: str,
    operation: str,
    action: Action,
    baseline: tuple[str, Action] | None = None,
    rounds: int = ROUNDS,
    reference: str = "",
    goal: str = "",
    met: Callable[[BenchResult], bool] | None = None,
    note: str = "",
) -> BenchResult:
    """Run ``action`` (and ``baseline``) ``rounds`` times; return the median round.

    An action does one round of work and returns how many operations that was.  ``met``
    decides from the result whether the goal is reached.
    """
    ours: list[_Round] = []
    theirs: list[_Round] = []
    for _ in range(rounds + 1):
        ours.append(await _one_round(target, action))
        if baseline is not None:
            theirs.append(await _one_round(target, baseline[1]))
    best = _median(ours[1:])
    result = BenchResult(
        name=name,
        operation=operation,
        ops=best.ops,
        wall_s=best.wall_s,
        server_cpu_s=best.server_s,
        postgres_cpu_s=best.postgres_s,
        server_rss_mib=best.rss_mib,
        baseline=_as_baseline(baseline[0], theirs[1:]) if baseline else None,
        reference=reference,
        goal=goal,
        note=note,
    )
    return replace(result, met=met(result)) if met is not None else result


async def _one_round(target: Target, action: Action) -> _Round:
    meter = CpuMeter(target)
    ops = await action()
    use = meter.read()
    return _Round(ops, use.wall_s, use.server_s, use.postgres_s, use.server_rss_mib)


def _as_baseline(name: str, rounds: list[_Round]) -> Baseline:
    chosen = _median(rounds)
    return Baseline(
        name=name,
        ops=chosen.ops,
        wall_s=chosen.wall_s,
        server_cpu_s=chosen.server_s,
        postgres_cpu_s=chosen.postgres_s,
    )


def _median(rounds: list[_Round]) -> _Round:
    return sorted(rounds, key=lambda r: r.wall_s_per_op)[len(rounds) // 2]
