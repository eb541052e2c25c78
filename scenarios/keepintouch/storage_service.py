"""The contract of KeepInTouch's storage.

Every method about files and documents names the user who asks, because the server-side
key could reach everybody's.  Rows are plain dictionaries with an ``id``.  A session is
known by an opaque text; that of an anonymous session holds a secret.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scenarios.keepintouch.file_names import Folder

__all__ = [
    "DuplicateUserError",
    "FileRejectedError",
    "Row",
    "StorageService",
    "StorageUnavailableError",
    "UnknownUserError",
]

Row = dict[str, Any]
URL_LIFETIME_S = 300


class DuplicateUserError(Exception):
    """There is a user with this id or e-mail address already."""


class UnknownUserError(Exception):
    """There is no user with this id."""


class FileRejectedError(Exception):
    """The file is too large, of a wrong type, or not allowed."""


class StorageUnavailableError(Exception):
    """The storage behind the service cannot be reached."""


class StorageService(ABC):
    """Users, onboarding sessions, files and documents."""

    backend: str

    @abstractmethod
    async def create_user(self, user_data: Mapping[str, Any]) -> Row:
        """Create a user, with the ``id`` given or a new one.

        Raises :class:`DuplicateUserError`.
        """

    @abstractmethod
    async def get_user(self, user_id: str) -> Row | None:
        """Return a user, ``None`` when there is no such user."""

    @abstractmethod
    async def update_user(self, user_id: str, updates: Mapping[str, Any]) -> bool:
        """Change a user; false when there is no such user."""

    @abstractmethod
    async def create_onboarding_session(self, user_id: str | None = None) -> str:
        """Begin a session, anonymous without a user."""

    @abstractmethod
    async def update_onboarding_session(
        self, session: str, data: Mapping[str, Any]
    ) -> bool:
        """Merge ``data`` into a session; false for an unknown session."""

    @abstractmethod
    async def get_onboarding_session(self, session: str) -> Row | None:
        """Return a session, ``None`` for an unknown one or a wrong secret."""

    @abstractmethod
    async def claim_onboarding_session(self, session: str, user_id: str) -> bool:
        """Give an anonymous session to a user; true for the first claim only."""

    @abstractmethod
    async def save_file(
        self,
        user_id: str,
        content: bytes,
        filename: str,
        *,
        content_type: str = "text/plain",
        folder: Folder = "documents",
    ) -> str:
        """Store a file and return its path.

        Raises :class:`FileRejectedError`.
        """

    @abstractmethod
    async def read_file(self, user_id: str, file_path: str) -> bytes | None:
        """Return the bytes of a user's file, ``None`` when there is no such file."""

    @abstractmethod
    async def get_file_url(self, user_id: str, file_path: str) -> str | None:
        """Return a URL of a user's file, ``None`` when there is no such file."""

    @abstractmethod
    async def delete_file(self, user_id: str, file_path: str) -> bool:
        """Delete a user's file; false when there is no such file."""

    @abstractmethod
    async def create_document(self, document_data: Mapping[str, Any]) -> Row:
        """Record a document whose file is stored.

        ``document_data`` has user_id, file_path, filename, content_type, size_bytes.
        """

    @abstractmethod
    async def get_documents_for_user(self, user_id: str) -> Sequence[Row]:
        """Return the documents of a user, oldest first."""

    @abstractmethod
    async def is_reachable(self) -> bool:
        """Tell whether the storage behind the service answers."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of connections and temporary files."""

    async def add_document(
        self, user_id: str, content: bytes, filename: str, content_type: str
    ) -> Row:
        """Store a file and record it, or neither."""
        path = await self.save_file(
            user_id, content, filename, content_type=content_type
        )
        try:
            return await self.create_document(
                {
                    "user_id": user_id,
                    "file_path": path,
                    "filename": filename,
                    "content_type": content_type,
                    "size_bytes": len(content),
                }
            )
        except Exception:
            # Whatever it was: a file without its document would never be found.
            await self.delete_file(user_id, path)
            raise
