"""Where a section's audio lies: ``<user>/<project>/<chapter>/<section>/<file>``."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["EXTENSIONS", "AudioPath", "BadAudioPathError", "file_name_for"]

EXTENSIONS = {
    "audio/mpeg": ".mp3",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
}
DEPTH = 5
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.(mp3|wav)")


class BadAudioPathError(ValueError):
    """A path that no section's audio can have."""


@dataclass(frozen=True, slots=True)
class AudioPath:
    """A path by its parts; the four ids are uuids as text."""

    user_id: str
    project_id: str
    chapter_id: str
    section_id: str
    file_name: str

    def __post_init__(self) -> None:
        """Raise :class:`BadAudioPathError` for a file name that cannot be."""
        if not FILE_NAME.fullmatch(self.file_name):
            raise BadAudioPathError(f"bad audio file name: {self.file_name!r}")

    @classmethod
    def parse(cls, path: str) -> AudioPath:
        """Read a path; raises :class:`BadAudioPathError` for another depth."""
        parts = path.split("/")
        if len(parts) != DEPTH or not all(parts):
            raise BadAudioPathError(f"not a path of {DEPTH} parts: {path!r}")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(
            (
                self.user_id,
                self.project_id,
                self.chapter_id,
                self.section_id,
                self.file_name,
            )
        )


def file_name_for(stem: str, mime_type: str) -> str:
    """Return ``stem`` as a safe file name with the extension of its type."""
    extension = EXTENSIONS.get(mime_type)
    if extension is None:
        raise BadAudioPathError(f"not an audio type: {mime_type!r}")
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "audio"
    return safe[:90] + extension
