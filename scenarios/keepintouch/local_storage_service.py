"""Storage in memory and on local disk, for development.

With a backup file, every change is written to it (whole or not at all) and files are
kept in a folder beside it, so that a restart finds both.  Without one, files live in a
temporary folder that goes with the service.  One process at a time; within it, changes
wait for each other.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import uuid
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from scenarios.keepintouch.file_names import (
    FILE_FOLDERS,
    Folder,
    ForeignFileError,
    StoredFile,
    new_file,
)
from scenarios.keepintouch.sessions import SessionToken
from scenarios.keepintouch.storage_service import (
    DuplicateUserError,
    Row,
    StorageService,
    UnknownUserError,
)

__all__ = ["LocalStorageService", "debug_local_storage"]

PREFIX = "keepintouch_"


class LocalStorageService(StorageService):
    """Dictionaries and a folder.

    ``temp_dir`` is where files go; by default a folder beside ``backup_file``, or a new
    temporary one.
    """

    backend = "local"

    def __init__(
        self,
        backup_file: str | os.PathLike[str] | None = None,
        temp_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.users: dict[str, Row] = {}
        self.sessions: dict[str, Row] = {}
        self.documents: dict[str, Row] = {}
        self.backup_file = Path(backup_file) if backup_file else None
        self.temp_dir = self._folder(temp_dir)
        self._lock = asyncio.Lock()
        keeps_files = self.backup_file is not None
        self._cleanup = weakref.finalize(
            self, _remove, None if keeps_files else self.temp_dir
        )
        (self.temp_dir / "sessions" / "temp_uploads").mkdir(parents=True, exist_ok=True)
        if self.backup_file is not None and self.backup_file.exists():
            self._load(self.backup_file)

    async def create_user(self, user_data: Mapping[str, Any]) -> Row:
        """Create a user, with the ``id`` given or a new one."""
        async with self._lock:
            user_id = str(user_data.get("id") or uuid.uuid4())
            email = user_data.get("email")
            taken = email and any(u.get("email") == email for u in self.users.values())
            if user_id in self.users or taken:
                raise DuplicateUserError(user_id)
            self.users[user_id] = {**user_data, "id": user_id, **_stamps()}
            for folder in FILE_FOLDERS:
                place = self.temp_dir / "users" / user_id / folder
                place.mkdir(parents=True, exist_ok=True)
            await self._save()
            return dict(self.users[user_id])

    async def get_user(self, user_id: str) -> Row | None:
        """Return a user, ``None`` when there is no such user."""
        user = self.users.get(user_id)
        return dict(user) if user is not None else None

    async def update_user(self, user_id: str, updates: Mapping[str, Any]) -> bool:
        """Change a user; false when there is no such user."""
        async with self._lock:
            if user_id not in self.users:
                return False
            changes = {k: v for k, v in updates.items() if k != "id"}
            self.users[user_id] |= {**changes, "updated_at": _now()}
            await self._save()
            return True

    async def create_onboarding_session(self, user_id: str | None = None) -> str:
        """Begin a session, anonymous without a user."""
        async with self._lock:
            if user_id is not None and user_id not in self.users:
                raise UnknownUserError(user_id)
            token = SessionToken.new(anonymous=user_id is None)
            self.sessions[token.id] = {
                "id": token.id,
                "user_id": user_id,
                "secret_hash": token.secret_hash,
                "data": {},
                "claimed_at": None,
                **_stamps(),
            }
            await self._save()
            return str(token)

    async def update_onboarding_session(
        self, session: str, data: Mapping[str, Any]
    ) -> bool:
        """Merge ``data`` into a session; false for an unknown session."""
        async with self._lock:
            row = self._session(session)
            if row is None:
                return False
            row["data"] = {**row["data"], **data}
            row["updated_at"] = _now()
            await self._save()
            return True

    async def get_onboarding_session(self, session: str) -> Row | None:
        """Return a session, ``None`` for an unknown one or a wrong secret."""
        row = self._session(session)
        if row is None:
            return None
        return {k: v for k, v in row.items() if k != "secret_hash"}

    async def claim_onboarding_session(self, session: str, user_id: str) -> bool:
        """Give an anonymous session to a user; true for the first claim only."""
        async with self._lock:
            row = self._session(session)
            if row is None or row["user_id"] is not None or user_id not in self.users:
                return False
            row |= {"user_id": user_id, "claimed_at": _now(), "updated_at": _now()}
            await self._save()
            return True

    async def save_file(
        self,
        user_id: str,
        content: bytes,
        filename: str,
        *,
        content_type: str = "text/plain",
        folder: Folder = "documents",
    ) -> str:
        """Store a file and return its path."""
        if user_id not in self.users:
            raise UnknownUserError(user_id)
        stored = new_file(user_id, folder, filename)
        await asyncio.to_thread(_write_whole, self.place(stored), content)
        return stored.path

    async def read_file(self, user_id: str, file_path: str) -> bytes | None:
        """Return the bytes of a user's file, ``None`` when there is no such file."""
        try:
            place = self.place(StoredFile.parse(file_path, user_id=user_id))
            return await asyncio.to_thread(place.read_bytes)
        except (ForeignFileError, FileNotFoundError):
            return None

    async def get_file_url(self, user_id: str, file_path: str) -> str | None:
        """Return a file URL, ``None`` when there is no such file."""
        try:
            place = self.place(StoredFile.parse(file_path, user_id=user_id))
        except ForeignFileError:
            return None
        exists = await asyncio.to_thread(place.is_file)
        return place.as_uri() if exists else None

    async def delete_file(self, user_id: str, file_path: str) -> bool:
        """Delete a user's file; false when there is no such file."""
        try:
            place = self.place(StoredFile.parse(file_path, user_id=user_id))
            await asyncio.to_thread(place.unlink)
        except (ForeignFileError, FileNotFoundError):
            return False
        return True

    async def create_document(self, document_data: Mapping[str, Any]) -> Row:
        """Record a document whose file is stored."""
        async with self._lock:
            user_id, path = document_data["user_id"], document_data["file_path"]
            if user_id not in self.users:
                raise UnknownUserError(user_id)
            StoredFile.parse(path, user_id=user_id)
            document_id = str(document_data.get("id") or uuid.uuid4())
            row = {**document_data, "id": document_id, **_stamps()}
            self.documents[document_id] = row
            await self._save()
            return dict(row)

    async def get_documents_for_user(self, user_id: str) -> list[Row]:
        """Return the documents of a user, oldest first."""
        mine = (d for d in self.documents.values() if d["user_id"] == user_id)
        return sorted((dict(d) for d in mine), key=lambda d: (d["created_at"], d["id"]))

    async def is_reachable(self) -> bool:
        """Tell whether the folder is there."""
        return await asyncio.to_thread(self.temp_dir.is_dir)

    async def close(self) -> None:
        """Remove temporary files, unless a backup keeps them."""
        await asyncio.to_thread(self._cleanup)

    def place(self, stored: StoredFile) -> Path:
        """Return where a file lies on disk."""
        return self.temp_dir / "users" / stored.path

    def _folder(self, asked: str | os.PathLike[str] | None) -> Path:
        if asked:
            folder = Path(asked)
        elif self.backup_file is not None:
            folder = self.backup_file.with_suffix(".files")
        else:
            return Path(tempfile.mkdtemp(prefix=PREFIX))
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def _session(self, text: str) -> Row | None:
        token = SessionToken.parse(text)
        row = self.sessions.get(token.id) if token else None
        if row is None or token is None or not token.opens(row["secret_hash"]):
            return None
        return row

    def _load(self, backup_file: Path) -> None:
        state = json.loads(backup_file.read_text(encoding="utf-8"))
        self.users = state["users"]
        self.sessions = state["sessions"]
        self.documents = state["documents"]

    async def _save(self) -> None:
        """Write the backup, if there is one; callers hold the lock."""
        if self.backup_file is None:
            return
        state = {
            "users": self.users,
            "sessions": self.sessions,
            "documents": self.documents,
        }
        text = json.dumps(state, indent=1)
        await asyncio.to_thread(_write_whole, self.backup_file, text.encode())


def debug_local_storage(storage: LocalStorageService, out: TextIO = sys.stdout) -> None:
    """Say how much a local storage holds."""
    out.write(
        f"Users: {len(storage.users)}\n"
        f"Sessions: {len(storage.sessions)}\n"
        f"Documents: {len(storage.documents)}\n"
        f"Temp dir: {storage.temp_dir}\n"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _stamps() -> dict[str, str]:
    now = _now()
    return {"created_at": now, "updated_at": now}


def _write_whole(place: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as part:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
        Path(name).replace(place)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
