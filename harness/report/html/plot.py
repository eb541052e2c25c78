"""Line charts: SVG for the curves, HTML for the words.

The SVG stretches to any width (its strokes do not scale), while tick labels and the
legend are HTML placed in per cent, so that text keeps its size on a narrow screen.
Values under the pointer appear through invisible strips that carry a ``title``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.report.html.markup import Html, join, tag

__all__ = ["Axis", "Mark", "Series", "chart", "nice_ticks"]

Point = tuple[float, float]
SIDE = 1000.0  # the viewBox is a square that is stretched
CHARACTER_SHARE = 0.03  # of the width of a narrow plot


@dataclass(frozen=True, slots=True)
class Series:
    """A named curve; ``kind`` is its CSS class: ``a``, ``b``, ``c`` or ``d``."""

    name: str
    points: Sequence[Point]
    kind: str = "a"
    filled: bool = False
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis from ``low`` to ``high`` with labelled ``ticks``."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]

    def share(self, value: float) -> float:
        """Return where ``value`` lies, from 0 to 1."""
        span = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / span)) if span else 0.0


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled vertical line at ``x``."""

    x: float
    label: str


def chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    tips: Sequence[tuple[float, str]] = (),
    marks: Sequence[Mark] = (),
    caption: str = "",
) -> Html:
    """Return a figure; ``tips`` are (x, text) shown under the pointer."""
    curves = join(*(_curve(s, x, y) for s in series))
    svg = tag(
        "svg",
        join(*(_grid_line(y.share(value)) for value, _ in y.ticks)),
        join(*(_mark_line(x.share(mark.x)) for mark in marks)),
        curves,
        viewBox=f"0 0 {SIDE:.0f} {SIDE:.0f}",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    dots = join(*(_dots(s, x, y) for s in series if s.dots))
    plot = tag(
        "div",
        svg,
        dots,
        join(*(_mark_label(x.share(m.x), m.label) for m in marks)),
        join(*(_y_tick(y.share(value), text) for value, text in y.ticks)),
        join(*(_x_tick(x.share(value), text) for value, text in x.ticks)),
        _strips(tips, x),
        class_="plot",
    )
    head = tag("figcaption", tag("b", title), _legend(series), class_="plot-head")
    axes = tag("div", tag("span", y.label), tag("span", x.label), class_="axes")
    note = tag("p", caption, class_="muted small") if caption else None
    label = f"{title}. {caption}".strip()
    return tag("figure", head, axes, plot, note, class_="chart", aria_label=label)


def nice_ticks(
    high: float, text: Callable[[float], str], *, count: int = 4
) -> list[tuple[float, str]]:
    """Return about ``count`` round values from 0 to at least ``high``, with labels."""
    if high <= 0:
        return [(0.0, text(0.0)), (1.0, text(1.0))]
    raw_step = high / count
    power = 10.0 ** math.floor(math.log10(raw_step))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw_step * 0.999)
    steps = math.ceil(high / step - 1e-9)
    return [(i * step, text(i * step)) for i in range(steps + 1)]


def _curve(series: Series, x: Axis, y: Axis) -> Html:
    if not series.points:
        return join()
    places = [
        (x.share(px) * SIDE, (1 - y.share(py)) * SIDE) for px, py in series.points
    ]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
    line = tag("path", d=path, class_=f"line {series.kind}")
    if not series.filled:
        return line
    area = f"{path}L{places[-1][0]:.1f} {SIDE:.0f}L{places[0][0]:.1f} {SIDE:.0f}Z"
    return join(tag("path", d=area, class_=f"area {series.kind}"), line)


def _dots(series: Series, x: Axis, y: Axis) -> Html:
    return join(
        *(
            tag(
                "i",
                class_=f"dot {series.kind}",
                style=f"left:{x.share(px):.4%};bottom:{y.share(py):.4%}",
            )
            for px, py in series.points
        )
    )


def _grid_line(share: float) -> Html:
    at = f"{(1 - share) * SIDE:.1f}"
    return tag("line", x1=0, x2=f"{SIDE:.0f}", y1=at, y2=at, class_="grid")


def _mark_line(share: float) -> Html:
    at = f"{share * SIDE:.1f}"
    return tag("line", x1=at, x2=at, y1=0, y2=f"{SIDE:.0f}", class_="mark")


def _mark_label(share: float, text: str) -> Html:
    # Beside the line, to its left where it would run over the edge.
    is_late = share + len(text) * CHARACTER_SHARE > 1
    side = "right" if is_late else "left"
    place = f"{side}:{(1 - share if is_late else share):.4%}"
    return tag("span", text, class_=f"mark-label {side}", style=place)


def _y_tick(share: float, text: str) -> Html:
    return tag("span", text, class_="ytick", style=f"bottom:{share:.4%}")


def _x_tick(share: float, text: str) -> Html:
    return tag("span", text, class_="xtick", style=f"left:{share:.4%}")


def _strips(tips: Sequence[tuple[float, str]], x: Axis) -> Html:
    if not tips:
        return join()
    shares = [x.share(at) for at, _ in tips]
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(shares)), 1.0]
    strips = [
        tag(
            "i",
            title=text,
            style=f"left:{edges[i]:.4%};width:{edges[i + 1] - edges[i]:.4%}",
        )
        for i, (_, text) in enumerate(tips)
    ]
    return tag("div", *strips, class_="strips")


def _legend(series: Sequence[Series]) -> Html | None:
    if len(series) < 2:
        return None
    items = (
        tag("span", tag("i", class_=f"key {s.kind}"), s.name, class_="item")
        for s in series
    )
    return tag("span", *items, class_="legend")
