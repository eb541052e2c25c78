"""Exit codes, as pytest's."""

from __future__ import annotations

from enum import IntEnum

from harness.events import Verdict

__all__ = ["ExitCode", "exit_code_of"]


class ExitCode(IntEnum):
    """What the process returns."""

    PASSED = 0
    FINDINGS = 1
    INTERRUPTED = 2
    HARNESS_ERROR = 3
    USAGE = 4
    NOTHING_RAN = 5


def exit_code_of(verdict: Verdict, *, ran: int) -> ExitCode:
    """Map a verdict to an exit code; ``unknown`` is never a pass."""
    if ran == 0:
        return ExitCode.NOTHING_RAN
    return ExitCode.PASSED if verdict == "pass" else ExitCode.FINDINGS
