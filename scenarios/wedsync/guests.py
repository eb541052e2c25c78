"""The people of the WedSync scenarios, as ``people.sql`` puts them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stack.project import Persona
from scenarios.wedsync.channels import Tenant

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["Guest", "Guests", "guests"]

_ID = "d{kind}000000-0000-4000-8000-{number:012d}"


@dataclass(frozen=True, slots=True)
class Guest:
    """A signed-in user and the tenant they speak for."""

    persona: Persona
    tenant: Tenant

    @property
    def id(self) -> str:
        """The user's id."""
        return self.persona.id

    @property
    def token(self) -> str:
        """The user's token."""
        return self.persona.token


@dataclass(frozen=True, slots=True)
class Guests:
    """``sam`` and ``sue`` are suppliers, ``cleo`` and ``carl`` couples."""

    sam: Guest
    sue: Guest
    cleo: Guest
    carl: Guest
    nobody: Guest

    def named(self, name: str) -> Guest:
        """Return somebody by the name of the field."""
        guest: Guest = getattr(self, name)
        return guest


def guests(project: Project) -> Guests:
    """Return everybody, signed in to ``project``."""

    def guest(number: int, name: str, user_type: str) -> Guest:
        sub = _ID.format(kind=0, number=number)
        email = f"{name}@example.test"
        token = project.token(sub, email=email, session_id="")
        persona = Persona(sub, token, "authenticated", email, {"email": email})
        supplier = (
            _ID.format(kind=1, number=number) if user_type == "supplier" else None
        )
        couple = (
            _ID.format(kind=2, number=number - 2) if user_type == "couple" else None
        )
        return Guest(persona, Tenant(sub, user_type, supplier, couple))

    return Guests(
        sam=guest(1, "sam", "supplier"),
        sue=guest(2, "sue", "supplier"),
        cleo=guest(3, "cleo", "couple"),
        carl=guest(4, "carl", "couple"),
        nobody=guest(5, "nobody", "climber"),
    )
