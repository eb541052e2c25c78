"""Where a fault strikes: the processes, links and disks of one running system.

Every driver offers a :class:`Site`; the names of services, links and disks are the
driver's own (``postgres``, ``server``, ``gateway``, ``objects``).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from harness.errors import UsageError
from harness.faults.connections import TcpProxy

__all__ = ["LocalSite", "Site"]

T = TypeVar("T")


class Site(Protocol):
    """Finds what a fault names; raises :class:`UsageError` for unknown names."""

    def processes(self, service: str) -> Sequence[int]:
        """Return the process ids of a service, children included."""
        ...

    def link(self, name: str) -> TcpProxy:
        """Return the proxy in front of a service."""
        ...

    def disk(self, name: str) -> Path:
        """Return a folder on the disk."""
        ...


@dataclass(frozen=True, slots=True)
class LocalSite:
    """A site made of what is on this machine, by name."""

    services: Mapping[str, Sequence[int]] = field(default_factory=dict)
    links: Mapping[str, TcpProxy] = field(default_factory=dict)
    disks: Mapping[str, Path] = field(default_factory=dict)

    def processes(self, service: str) -> Sequence[int]:
        """Return the process ids of a service."""
        return _find("service", service, self.services)

    def link(self, name: str) -> TcpProxy:
        """Return the proxy called ``name``."""
        return _find("link", name, self.links)

    def disk(self, name: str) -> Path:
        """Return the disk called ``name``."""
        return _find("disk", name, self.disks)


def _find(kind: str, name: str, known: Mapping[str, T]) -> T:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    names = ", ".join(known) or "none"
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {names}"
    raise UsageError(f"no {kind} {name!r} to break", hint=hint)
