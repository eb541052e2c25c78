"""Stand-ins for what a schema forgot, so that the fault behind a fault shows.

A function that calls ``storage.url()``, which nobody defined, always fails, and would
hide that it also writes to other people's rows.  Inside a probe, the missing piece is
made up; the witness says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.db.catalog import Function
from harness.policies.probing import Answer, Attempt, Prober

__all__ = ["Repairs", "attempt_repaired"]

MAX_REPAIRS = 3
MISSING_FUNCTION = re.compile(r'function ([\w.$"]+)\((.*)\) does not exist', re.DOTALL)
PROTECTED = "Direct deletion from storage tables is not allowed"
AMBIGUOUS = "42702"
UNDEFINED_FUNCTION = "42883"


@dataclass(frozen=True, slots=True)
class Repairs:
    """DDL that runs before the statements, and settings in force during them."""

    statements: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.statements or self.settings)

    def extended(self, answer: Answer, function: Function | None) -> Repairs | None:
        """Return these repairs and one more that ``answer`` calls for, or None.

        ``function`` is the one that was called.
        """
        if answer.sqlstate == UNDEFINED_FUNCTION:
            match = MISSING_FUNCTION.search(answer.message)
            if match:
                stand_in = _stand_in(match.group(1), match.group(2))
                if stand_in and stand_in not in self.statements:
                    return Repairs((*self.statements, stand_in), self.settings)
        if answer.sqlstate == AMBIGUOUS and function is not None:
            resolved = _resolved(function)
            if resolved and resolved not in self.statements:
                return Repairs((*self.statements, resolved), self.settings)
        if answer.denied and answer.message.startswith(PROTECTED):
            name = "storage.allow_delete_query"
            if name not in self.settings:
                return Repairs(self.statements, {**self.settings, name: "true"})
        return None


def _resolved(function: Function) -> str:
    """Return the function with its ambiguous names read as columns."""
    if function.language != "plpgsql" or "$function$" not in function.definition:
        return ""
    head, mark, body = function.definition.partition("$function$")
    return f"{head}{mark}\n#variable_conflict use_column\n{body.strip()}"


def _stand_in(name: str, types: str) -> str:
    """Return a function of that name that joins its arguments with slashes."""
    listed = [t.strip() for t in types.split(",")] if types.strip() else []
    if any(not re.fullmatch(r"[\w .\[\]]+", t) for t in listed):
        return ""
    parameters = ", ".join("text" if t == "unknown" else t for t in listed)
    joined = ", ".join(f"${i}::text" for i in range(1, len(listed) + 1)) or "''"
    qualified = name if "." in name else f"public.{name}"
    return (
        f"create function {qualified}({parameters}) returns text language sql"
        f" as 'select concat_ws(''/'', {joined})'"
    )


async def attempt_repaired(
    prober: Prober, attempt: Attempt, function: Function | None = None
) -> tuple[Answer, Answer, Repairs]:
    """Return the plain answer, the answer after repairs, and what was repaired."""
    first = answer = await prober.attempt(attempt)
    repairs = Repairs()
    for _ in range(MAX_REPAIRS):
        extended = repairs.extended(answer, function)
        if extended is None:
            break
        repairs = extended
        answer = await prober.attempt(
            Attempt(
                persona=attempt.persona,
                commands=attempt.commands,
                fetch=attempt.fetch,
                observe=attempt.observe,
                setup=(*repairs.statements, *attempt.setup),
                settings={**attempt.settings, **repairs.settings},
            )
        )
    return first, answer, repairs
