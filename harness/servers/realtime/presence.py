"""Who is present on one topic: keys, their metas, and the differences to announce.

The state is ``{key: {"metas": [{"phx_ref", ["phx_ref_prev"], ...payload}]}}``, oldest
meta first.  One channel contributes at most one meta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.protocols.phoenix import encode_json

__all__ = ["Meta", "Presence"]


class Meta:
    """What one channel tracks: its key, payload and reference."""

    __slots__ = ("key", "payload", "previous_ref", "ref")

    def __init__(
        self, key: str, payload: dict[str, Any], ref: str, previous_ref: str | None
    ) -> None:
        self.key = key
        self.payload = payload
        self.ref = ref
        self.previous_ref = previous_ref

    def as_map(self) -> dict[str, Any]:
        """Return the meta as clients see it; references cannot be overridden."""
        references = {"phx_ref": self.ref}
        if self.previous_ref is not None:
            references["phx_ref_prev"] = self.previous_ref
        return {**self.payload, **references}


class Presence:
    """The presences of one topic; ``next_ref`` makes a reference never used before."""

    __slots__ = ("_entries", "_next_ref")

    def __init__(self, next_ref: Callable[[], str]) -> None:
        self._next_ref = next_ref
        self._entries: dict[str, list[Meta]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def track(
        self, current: Meta | None, key: str, payload: dict[str, Any]
    ) -> tuple[Meta, bytes | None]:
        """Put ``payload`` in the place of ``current``.

        Returns the meta that now stands and the difference as JSON, ``None`` when
        nothing changed.
        """
        if current is not None and current.payload == payload:
            return current, None
        meta = Meta(key, payload, self._next_ref(), current.ref if current else None)
        if current is not None:
            self._remove(current)
        self._entries.setdefault(key, []).append(meta)
        return meta, _difference(joins=meta, leaves=current)

    def untrack(self, meta: Meta) -> bytes:
        """Take ``meta`` away and return the difference as JSON."""
        self._remove(meta)
        return _difference(joins=None, leaves=meta)

    def state(self) -> bytes:
        """Return the whole state as JSON."""
        return encode_json(
            {
                key: {"metas": [meta.as_map() for meta in metas]}
                for key, metas in self._entries.items()
            }
        )

    def _remove(self, meta: Meta) -> None:
        metas = self._entries[meta.key]
        metas.remove(meta)
        if not metas:
            del self._entries[meta.key]


def _difference(*, joins: Meta | None, leaves: Meta | None) -> bytes:
    return encode_json({"joins": _entry(joins), "leaves": _entry(leaves)})


def _entry(meta: Meta | None) -> dict[str, Any]:
    return {} if meta is None else {meta.key: {"metas": [meta.as_map()]}}
