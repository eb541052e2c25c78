"""The people of the climber scenarios, for its own suites and for others.

One of each kind that a rule distinguishes.  Roles are granted by the service, profiles
are made by their owners.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from harness.stack.project import Persona, Project
    from scenarios.climber.media import MediaLibrary

__all__ = ["BUCKETS", "Cast", "LibraryOf", "assemble"]

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


async def assemble(project: Project) -> Cast:
    """Create the users of a cast, with profiles and roles.

    ``premium`` and ``rival`` have the role premium_user, ``guest`` signed in
    anonymously.
    """
    cast = Cast(
        ana=await project.create_user("ana@example.test"),
        ben=await project.create_user("ben@example.test"),
        premium=await project.create_user("premium@example.test"),
        rival=await project.create_user("rival@example.test"),
        admin=await project.create_user("admin@example.test"),
        guest=await project.create_user("guest@example.test", is_anonymous=True),
        anon=project.anon,
        service=project.service,
    )
    people = (cast.ana, cast.ben, cast.premium, cast.rival, cast.admin, cast.guest)
    connection = await project.connect()
    try:
        await connection.executemany(
            "insert into public.user_profiles (id, display_name) values ($1, $2)",
            [(who.id, who.email.partition("@")[0]) for who in people],
        )
        await connection.executemany(
            "insert into public.user_roles (user_id, role) values ($1, $2)",
            [
                (cast.premium.id, "premium_user"),
                (cast.rival.id, "premium_user"),
                (cast.admin.id, "admin"),
            ],
        )
    finally:
        await connection.close()
    return cast
