"""Buttons that show some items of the list that follows them and hide the others.

The script of the page reads ``data-show`` of a button and ``data-key`` of an item.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.report.html.markup import Html, tag

__all__ = ["filters"]


def filters(counts: Mapping[str, int]) -> Html:
    """Return a button for all and one for each key, with its count."""
    buttons = [_button("all", sum(counts.values()), is_pressed=True)]
    buttons += [_button(key, count) for key, count in counts.items()]
    return tag("div", *buttons, class_="filters", role="group", aria_label="Show")


def _button(key: str, count: int, *, is_pressed: bool = False) -> Html:
    return tag(
        "button",
        f"{key} ",
        tag("b", f"{count:,}"),
        type="button",
        data_show=key,
        aria_pressed="true" if is_pressed else "false",
    )
