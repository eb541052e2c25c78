"""The narrators of the audiobook scenarios, as ``people.sql`` puts them there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.stack.project import Persona
from scenarios.audiobook.audio_service import Recording
from scenarios.audiobook.records import Place

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["Narrator", "narrator"]

_REST = "000000-0000-4000-8000-{:012d}"


@dataclass(frozen=True, slots=True)
class Narrator:
    """A signed-in user with one project, one chapter and three sections."""

    persona: Persona
    project_id: str
    chapter_id: str
    sections: tuple[str, str, str]

    @property
    def id(self) -> str:
        """The user's id."""
        return self.persona.id

    def place(self, number: int = 0) -> Place:
        """Return the place of a section."""
        section = self.sections[number]
        return Place(self.id, self.project_id, self.chapter_id, section)

    def recording(
        self,
        content: bytes = b"ID3 audio",
        *,
        number: int = 0,
        title: str = "take",
        mime_type: str = "audio/mpeg",
    ) -> Recording:
        """Return a recording of a section."""
        return Recording(self.sections[number], title, content, mime_type)


def narrator(project: Project, number: int, name: str) -> Narrator:
    """Return a narrator, signed in to ``project``."""
    ids = [f"b{kind}{_REST.format(number)}" for kind in range(6)]
    email = f"{name}@example.test"
    token = project.token(ids[0], email=email, session_id="")
    persona = Persona(ids[0], token, "authenticated", email, {"email": email})
    return Narrator(persona, ids[1], ids[2], (ids[3], ids[4], ids[5]))
