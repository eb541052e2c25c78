"""One call or query of one persona that both versions are asked."""

from __future__ import annotations

from dataclasses import dataclass

from harness.policies.cases import Step
from harness.policies.grid import Ask
from harness.policies.personas import Persona
from harness.policies.population import StoredRow

__all__ = ["Asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question; ``object`` and ``command`` are what a change is told under."""

    persona: Persona
    object: str
    command: str
    step: Step
    ask: Ask
    scope: str = "any"
    rows: tuple[StoredRow, ...] = ()
