"""The people of the climber scenarios, for its own suites and for others.

One of each kind that a rule distinguishes; ``people.sql`` puts them into the template
that projects are cloned from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.stack.project import Persona

if TYPE_CHECKING:
    from harness.stack.project import Project
    from scenarios.climber.media import MediaLibrary

__all__ = ["BUCKETS", "PEOPLE_SQL", "Cast", "LibraryOf", "assemble"]

LibraryOf: TypeAlias = "Callable[[Persona], Awaitable[MediaLibrary]]"

# bucket -> (public, size limit in bytes, accepted types)
BUCKETS: dict[str, tuple[bool, int, tuple[str, ...]]] = {
    "user-avatars": (True, 5_242_880, ("image/jpeg", "image/png", "image/webp")),
    "training-videos": (
        False,
        104_857_600,
        ("video/mp4", "video/webm", "video/quicktime"),
    ),
    "mountain-images": (True, 10_485_760, ("image/jpeg", "image/png", "image/webp")),
    "app-assets": (
        True,
        5_242_880,
        ("image/jpeg", "image/png", "image/webp", "image/svg+xml"),
    ),
}


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: ``ana`` and ``ben`` are climbers without a role."""

    ana: Persona
    ben: Persona
    premium: Persona
    rival: Persona
    admin: Persona
    guest: Persona
    anon: Persona
    service: Persona

    def named(self, name: str) -> Persona:
        """Return a person by the name of the field."""
        persona: Persona = getattr(self, name)
        return persona


PEOPLE_SQL = Path(__file__).with_name("people.sql")
_ID = "a0000000-0000-4000-8000-{:012d}"


def assemble(project: Project) -> Cast:
    """Return the cast of a project whose template holds ``people.sql``.

    ``premium`` and ``rival`` have the role premium_user, ``guest`` signed in
    anonymously.
    """

    def user(number: int, name: str, *, is_anonymous: bool = False) -> Persona:
        email = f"{name}@example.test"
        claims: dict[str, Any] = {"email": email, "is_anonymous": is_anonymous}
        sub = _ID.format(number)
        token = project.token(sub, **claims)
        return Persona(sub, token, "authenticated", email, claims)

    return Cast(
        ana=user(1, "ana"),
        ben=user(2, "ben"),
        premium=user(3, "premium"),
        rival=user(4, "rival"),
        admin=user(5, "admin"),
        guest=user(6, "guest", is_anonymous=True),
        anon=project.anon,
        service=project.service,
    )
