"""Load results: who got what, how late, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from harness.events import FaultInjected, LoadStepFinished
from harness.load.capacity import estimate_capacity
from harness.load.histogram import LatencyHistogram
from harness.report.html.markup import Html, join, tag
from harness.report.html.plot import Axis, Mark, Series, chart, nice_ticks

__all__ = ["format_ms", "load_section"]

KINDS = "abcd"
MAX_CURVES = len(KINDS)
PERCENTILES = (50, 90, 99, 99.9, 99.99)
CURVE_POINTS = 120
US = 1e6
# A step ends within a slice; what came in less time than this is no rate.
SHORTEST_SLICE_S = 0.05
ANOMALIES = (
    ("lost", "lost"),
    ("duplicate", "duplicate"),
    ("reordered", "reordered"),
    ("wrong_recipient", "wrong recipient"),
    ("stale", "stale"),
)


def load_section(
    steps: Sequence[LoadStepFinished], faults: Sequence[FaultInjected] = ()
) -> Html:
    """Return a panel for each profile."""
    profiles = dict.fromkeys(step.profile for step in steps)
    panels = [
        _profile(name, [step for step in steps if step.profile == name], faults)
        for name in profiles
    ]
    return join(*panels)


def _profile(
    name: str, steps: Sequence[LoadStepFinished], faults: Sequence[FaultInjected]
) -> Html:
    # Faults are timed from the first step, a time line from its own.
    marks = [Mark(f.began_s, f.fault.partition(":")[0]) for f in faults]
    charts = [
        _percentiles(steps),
        *_timelines(steps[-1], marks if len(steps) == 1 else ()),
        *_steps(steps),
    ]
    return tag(
        "div",
        tag("h3", tag("code", name)),
        _verdict(steps),
        _faults(faults, steps),
        tag("div", *(c for c in charts if c), class_="charts"),
        tag("div", _table(steps), class_="scroll"),
        class_="panel load",
    )


def _verdict(steps: Sequence[LoadStepFinished]) -> Html:
    expected = sum(step.expected for step in steps)
    delivered = sum(step.delivered for step in steps)
    chips = []
    for attribute, word in ANOMALIES:
        count = sum(getattr(step, attribute) for step in steps)
        kind = "bad" if count else "ok"
        chips.append(tag("span", f"{count:,} {word}", class_=f"chip {kind}"))
    sentence = f"{delivered:,} of {expected:,} expected deliveries arrived"
    return tag("p", tag("span", sentence, class_="delivered"), *chips, class_="history")


def _faults(
    faults: Sequence[FaultInjected], steps: Sequence[LoadStepFinished]
) -> Html | None:
    if not faults:
        return None
    told = ", ".join(
        f"{fault.fault} at {fault.began_s:.2f} s for {fault.lasted_s:.2f} s"
        for fault in faults
    )
    back = sum(step.reconnects for step in steps)
    away = sum(step.away for step in steps)
    return tag(
        "p",
        f"Faults on purpose: {told}. {back:,} lost connections were made anew;"
        f" {away:,} deliveries fell into the time between.",
    )


def _percentiles(steps: Sequence[LoadStepFinished]) -> Html | None:
    chosen = [step for step in steps if step.histogram][-MAX_CURVES:]
    if not chosen:
        return None
    histograms = [LatencyHistogram.decode(step.histogram) for step in chosen]
    most = max(histogram.count for histogram in histograms)
    last = math.log10(max(10, most))
    series = [
        Series(_step_name(step, steps), _percentile_curve(histogram), kind)
        for step, histogram, kind in zip(chosen, histograms, KINDS, strict=False)
    ]
    highest = max(histogram.max_ms for histogram in histograms)
    ticks = nice_ticks(highest, format_ms)
    x_ticks = [(_rarity(p), f"{p:g}%") for p in PERCENTILES if _rarity(p) <= last]
    return chart(
        "Latency by percentile",
        series,
        Axis("percentile", 0, last, x_ticks),
        Axis("ms from the intended send time", 0, ticks[-1][0], ticks),
        tips=_percentile_tips(histograms[-1], last),
    )


def _rarity(percentile: float) -> float:
    """Return the place of a percentile on an axis where each 9 is as wide."""
    return -math.log10(1 - percentile / 100)


def _percentile_curve(histogram: LatencyHistogram) -> list[tuple[float, float]]:
    last = math.log10(max(10, histogram.count))
    places = [last * i / CURVE_POINTS for i in range(CURVE_POINTS + 1)]
    return [(p, histogram.percentile_ms(100 * (1 - 10**-p))) for p in places]


def _percentile_tips(
    histogram: LatencyHistogram, last: float
) -> list[tuple[float, str]]:
    places = [last * i / 24 for i in range(25)]
    tips = []
    for place in places:
        percentile = 100 * (1 - 10**-place)
        value = format_ms(histogram.percentile_ms(percentile))
        tips.append((place, f"{percentile:.6g}% within {value} ms"))
    return tips


def _timelines(step: LoadStepFinished, marks: Sequence[Mark]) -> list[Html]:
    if len(step.timeline) < 2:
        return []
    times = [at for at, _, _ in step.timeline]
    widths_s = [b - a for a, b in pairwise((0.0, *times))]
    rates = [
        (at, count / width_s)
        for (at, count, _), width_s in zip(step.timeline, widths_s, strict=True)
        if width_s >= SHORTEST_SLICE_S
    ]
    slow = [(at, p99) for at, _, p99 in step.timeline]
    x = Axis("seconds", times[0], times[-1], _seconds(times[0], times[-1]))
    rate_ticks = nice_ticks(max(rate for _, rate in rates), _short)
    slow_ticks = nice_ticks(max(p99 for _, p99 in slow), format_ms)
    return [
        chart(
            "Deliveries a second",
            [Series("deliveries", rates, "a", filled=True)],
            x,
            Axis("messages/s", 0, rate_ticks[-1][0], rate_ticks),
            tips=[(at, f"{at:.1f} s: {rate:,.0f}/s") for at, rate in rates],
            marks=marks,
        ),
        chart(
            "p99 over time",
            [Series("p99", slow, "b", filled=True)],
            x,
            Axis("ms", 0, slow_ticks[-1][0], slow_ticks),
            tips=[(at, f"{at:.1f} s: p99 {format_ms(p99)} ms") for at, p99 in slow],
            marks=marks,
        ),
    ]


def _steps(steps: Sequence[LoadStepFinished]) -> list[Html]:
    if len(steps) < 3:
        return []
    rates = [step.offered_per_s for step in steps]
    x_ticks = nice_ticks(max(rates), _short)
    x = Axis("offered messages/s", 0, x_ticks[-1][0], x_ticks)
    estimate = estimate_capacity(steps)
    marks = []
    if estimate is not None and not estimate.is_lower_bound:
        marks.append(Mark(estimate.knee_per_s, "knee"))
    p50 = [(s.offered_per_s, s.latency.p50_ms) for s in steps]
    p99 = [(s.offered_per_s, s.latency.p99_ms) for s in steps]
    y_ticks = nice_ticks(max(value for _, value in p99), format_ms)
    cost = [(s.offered_per_s, _per_delivery(s.server_cpu_s, s)) for s in steps]
    cost_ticks = nice_ticks(max(value for _, value in cost), lambda v: f"{v:g}")
    return [
        chart(
            "Latency by offered load",
            [Series("p50", p50, "a", dots=True), Series("p99", p99, "b", dots=True)],
            x,
            Axis("ms", 0, y_ticks[-1][0], y_ticks),
            tips=[
                (s.offered_per_s, f"{s.offered_per_s:,.0f}/s: {_latency_words(s)}")
                for s in steps
            ],
            marks=marks,
            caption=str(estimate) if estimate is not None else "",
        ),
        chart(
            "Server CPU a delivery",
            [Series("server", cost, "c", dots=True)],
            x,
            Axis("us", 0, cost_ticks[-1][0], cost_ticks),
        ),
    ]


def _latency_words(step: LoadStepFinished) -> str:
    latency = step.latency
    return f"p50 {format_ms(latency.p50_ms)} ms, p99 {format_ms(latency.p99_ms)} ms"


def _table(steps: Sequence[LoadStepFinished]) -> Html:
    seen = [(a, word) for a, word in ANOMALIES if any(getattr(s, a) for s in steps)]
    heads = (
        *("step", "subscribers", "offered/s", "sent", "expected", "delivered"),
        *(word for _, word in seen),
        *("p50 ms", "p95 ms", "p99 ms", "max ms"),
        *("server us", "PostgreSQL us", "generator us", "MiB"),
    )
    head = tag("tr", *(tag("th", word, scope="col") for word in heads))
    rows = (_row(step, [attribute for attribute, _ in seen]) for step in steps)
    note = "CPU in microseconds for each delivery; MiB is the server's resident memory."
    return join(
        tag("table", tag("thead", head), tag("tbody", *rows), class_="figures"),
        tag("p", note, class_="muted small"),
    )


def _row(step: LoadStepFinished, anomalies: Sequence[str]) -> Html:
    latency = step.latency
    plain = (
        f"{step.step}",
        f"{step.subscribers:,}",
        f"{step.offered_per_s:,.0f}",
        f"{step.sent:,}",
        f"{step.expected:,}",
        f"{step.delivered:,}",
    )
    wrong = [getattr(step, attribute) for attribute in anomalies]
    times = (latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.max_ms)
    costs = (step.server_cpu_s, step.postgres_cpu_s, step.generator_cpu_s)
    return tag(
        "tr",
        *(tag("td", text) for text in plain),
        *(tag("td", f"{count:,}", class_="bad" if count else None) for count in wrong),
        *(tag("td", format_ms(value)) for value in times),
        *(tag("td", f"{_per_delivery(cost, step):.2f}") for cost in costs),
        tag("td", f"{step.server_rss_mib:,.0f}"),
    )


def _per_delivery(cpu_s: float, step: LoadStepFinished) -> float:
    return cpu_s * US / max(1, step.delivered)


def _step_name(step: LoadStepFinished, steps: Sequence[LoadStepFinished]) -> str:
    if len(steps) == 1:
        return f"{step.subscribers:,} subscribers"
    return f"{step.offered_per_s:,.0f}/s"


def _seconds(first: float, last: float) -> list[tuple[float, str]]:
    return [
        (at, text)
        for at, text in nice_ticks(last, lambda v: f"{v:g}", count=6)
        if first <= at <= last
    ]


def format_ms(value: float) -> str:
    """Return milliseconds with the digits that count, without the unit."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
