"""HTML as values: text is escaped unless it is :class:`Html` already.

``tag("a", "text", href="#x")`` builds an element; attribute names may end in an
underscore where Python keeps the word (``class_``) and write ``_`` for ``-``.
"""

from __future__ import annotations

from html import escape

__all__ = ["Html", "join", "raw", "tag"]

VOID = frozenset({"input", "meta", "br"})
SVG_EMPTY = frozenset({"line", "path"})  # in SVG an element without end must say so


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


Node = str | Html | None
Attribute = str | int | float | bool | None


def tag(name: str, /, *children: Node, **attributes: Attribute) -> Html:
    """Return an element; ``None`` children and attributes are left out."""
    opening = name + "".join(_attribute(k, v) for k, v in attributes.items())
    if name in VOID:
        return Html(f"<{opening}>")
    if name in SVG_EMPTY:
        return Html(f"<{opening}/>")
    return Html(f"<{opening}>{join(*children)}</{name}>")


def join(*nodes: Node) -> Html:
    """Return ``nodes`` one after the other."""
    return Html("".join(_text(node) for node in nodes if node is not None))


def raw(text: str) -> Html:
    """Return ``text`` as markup; for text of our own only."""
    return Html(text)


def _text(node: str) -> str:
    return node if isinstance(node, Html) else escape(node, quote=False)


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(str(value), quote=True)}"'
