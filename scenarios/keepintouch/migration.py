"""Moving local data to Supabase: users, sessions, documents with their files.

Ids stay the same, and every step can be repeated, so a rerun after a crash goes on
where the last one ended.  Local data is never changed, which makes going back a matter
of removing what was made (:meth:`LocalToSupabase.roll_back`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from postgrest.exceptions import APIError

from scenarios.keepintouch.file_names import StoredFile
from scenarios.keepintouch.storage_service import DuplicateUserError, FileRejectedError

if TYPE_CHECKING:
    from scenarios.keepintouch.local_storage_service import LocalStorageService
    from scenarios.keepintouch.storage_service import Row
    from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService

__all__ = ["IntegrityReport", "LocalToSupabase", "MigrationResult"]

UNIQUE_VIOLATION = "23505"
Checkpoint = Callable[[str], None]


@dataclass(slots=True)
class MigrationResult:
    """What a run did; ``failures`` says for which id and why."""

    users: int = 0
    sessions: int = 0
    documents: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """Ids whose copies are missing or different."""

    users: tuple[str, ...]
    sessions: tuple[str, ...]
    documents: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything arrived as it was."""
        return not (self.users or self.sessions or self.documents)


class LocalToSupabase:
    """A migration; ``checkpoint`` is called with each step before it happens."""

    def __init__(
        self,
        source: LocalStorageService,
        target: SupabaseStorageService,
        *,
        checkpoint: Checkpoint = lambda step: None,
    ) -> None:
        self._source = source
        self._target = target
        self._checkpoint = checkpoint

    async def run(self) -> MigrationResult:
        """Copy everything that is not there yet."""
        result = MigrationResult()
        for user in self._source.users.values():
            self._checkpoint("user")
            if await self._copy_user(user, result):
                result.users += 1
        for session in self._source.sessions.values():
            self._checkpoint("session")
            result.sessions += await self._copy_session(session)
        for document in self._source.documents.values():
            if await self._copy_document(document, result):
                result.documents += 1
        return result

    async def verify(self) -> IntegrityReport:
        """Compare every user, session and document with its copy, files by checksum."""
        users = [
            u for u in self._source.users if await self._target.get_user(u) is None
        ]
        sessions = [
            s["id"] for s in self._source.sessions.values() if await self._differs(s)
        ]
        documents = [
            d["id"]
            for d in self._source.documents.values()
            if not await self._arrived(d)
        ]
        return IntegrityReport(tuple(users), tuple(sessions), tuple(documents))

    async def roll_back(self) -> int:
        """Remove every copy: files, then accounts with all that hangs on them."""
        removed = 0
        for document in self._source.documents.values():
            await self._target.delete_file(document["user_id"], document["file_path"])
        for session in self._source.sessions.values():
            sessions = self._target.client.table("onboarding_sessions")
            await sessions.delete().eq("id", session["id"]).execute()
        for user_id in self._source.users:
            if await self._target.get_user(user_id) is not None:
                await self._target.client.auth.admin.delete_user(user_id)
                removed += 1
        return removed

    async def _copy_user(self, user: Row, result: MigrationResult) -> bool:
        if await self._target.get_user(user["id"]) is not None:
            return False
        try:
            await self._target.create_user(user)
        except DuplicateUserError as exc:
            result.failures.append((user["id"], str(exc)))
            return False
        return True

    async def _copy_session(self, session: Row) -> bool:
        row = {
            name: session[name]
            for name in ("id", "user_id", "secret_hash", "data", "claimed_at")
        }
        try:
            await self._target.onboarding_repo.insert(row)
        except APIError as exc:
            if exc.code != UNIQUE_VIOLATION:
                raise
            return False
        return True

    async def _copy_document(self, document: Row, result: MigrationResult) -> bool:
        """Copy the file, then its document: no document is ever without its file."""
        user_id, path = document["user_id"], document["file_path"]
        content = await self._source.read_file(user_id, path)
        if content is None:
            result.failures.append((document["id"], "the local file is missing"))
            return False
        stored = StoredFile.parse(path, user_id=user_id)
        self._checkpoint("file")
        try:
            await self._target.put_file(stored, content, document["content_type"])
        except FileRejectedError as exc:
            result.failures.append((document["id"], str(exc)))
            return False
        self._checkpoint("document")
        try:
            await self._target.create_document(document)
        except APIError as exc:
            if exc.code != UNIQUE_VIOLATION:
                raise
            return False
        return True

    async def _differs(self, session: Row) -> bool:
        found = await self._target.onboarding_repo.find(
            session["id"], session["secret_hash"]
        )
        return found is None or found["data"] != session["data"]

    async def _arrived(self, document: Row) -> bool:
        user_id, path = document["user_id"], document["file_path"]
        copies = await self._target.get_documents_for_user(user_id)
        if not any(
            c["id"] == document["id"] and c["file_path"] == path for c in copies
        ):
            return False
        here = await self._source.read_file(user_id, path)
        there = await self._target.read_file(user_id, path)
        return here is not None and there is not None and _same(here, there)


def _same(one: bytes, other: bytes) -> bool:
    return hashlib.sha256(one).digest() == hashlib.sha256(other).digest()
