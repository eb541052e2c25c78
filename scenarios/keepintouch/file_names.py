"""Names under which files are stored, the same on local disk and in Supabase.

``<user>/<folder>/<uuid>_<name>``: the uuid keeps two files of one name apart, and the
name is reduced to what the Storage API accepts in a key.  The name that the user gave
is kept with the document.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import Literal

__all__ = ["FILE_FOLDERS", "Folder", "ForeignFileError", "StoredFile", "new_file"]

Folder = Literal["documents", "profile"]
FILE_FOLDERS: tuple[Folder, ...] = ("documents", "profile")
MAX_NAME = 80
NOT_ALLOWED = re.compile(r"[^A-Za-z0-9!'() &$@;:+,._-]+")
DEPTH = 3


class ForeignFileError(Exception):
    """A path that is not a file of the user who asks."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Where a file is stored, by its parts."""

    user_id: str
    folder: Folder
    stored_name: str

    @property
    def path(self) -> str:
        """The path, which is also the key in the bucket."""
        return f"{self.user_id}/{self.folder}/{self.stored_name}"

    @classmethod
    def parse(cls, path: str, *, user_id: str) -> StoredFile:
        """Read a path of ``user_id``; raises :class:`ForeignFileError` for others."""
        parts = path.split("/")
        if len(parts) != DEPTH or parts[0] != user_id or parts[2] in ("", ".", ".."):
            raise ForeignFileError(path)
        for folder in FILE_FOLDERS:
            if parts[1] == folder:
                return cls(user_id, folder, parts[2])
        raise ForeignFileError(path)


def new_file(user_id: str, folder: Folder, file_name: str) -> StoredFile:
    """Return where a new file goes."""
    return StoredFile(user_id, folder, f"{uuid.uuid4()}_{safe_name(file_name)}")


def safe_name(file_name: str) -> str:
    """Reduce any name to one path segment that the Storage API accepts."""
    base = re.split(r"[/\\]", file_name)[-1]
    plain = unicodedata.normalize("NFKD", base).encode("ascii", "ignore").decode()
    kept = NOT_ALLOWED.sub("-", plain).strip(" .-")
    stem, dot, extension = kept.rpartition(".")
    if not dot or len(extension) > MAX_NAME // 4:
        return kept[:MAX_NAME] or "file"
    return f"{stem[: MAX_NAME - len(extension) - 1] or 'file'}.{extension}"
