"""Storage in Supabase: nine tables and the private bucket ``user-documents``.

Runs on the server with the service key, which row level security does not bind;
therefore every path is checked against the user who asks.
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions
from supabase_auth.errors import AuthApiError

from scenarios.keepintouch.file_names import (
    Folder,
    ForeignFileError,
    StoredFile,
    new_file,
)
from scenarios.keepintouch.repositories import (
    DocumentRepository,
    OnboardingRepository,
    UserRepository,
)
from scenarios.keepintouch.sessions import SessionToken
from scenarios.keepintouch.storage_service import (
    URL_LIFETIME_S,
    DuplicateUserError,
    FileRejectedError,
    Row,
    StorageService,
    StorageUnavailableError,
    UnknownUserError,
)

__all__ = ["SupabaseStorageService"]

MAX_CONNECTIONS = 10
TIMEOUT_S = 30.0
USER_COLUMNS = frozenset({"email", "name", "phone", "profile"})
FOREIGN_KEY_VIOLATION = "23503"


class SupabaseStorageService(StorageService):
    """The tables and files of a Supabase project."""

    backend = "supabase"

    def __init__(self, supabase_url: str, supabase_key: str) -> None:
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        self._http = httpx.AsyncClient(
            verify=_trusted_certificates(), limits=limits, timeout=TIMEOUT_S
        )
        options = AsyncClientOptions(httpx_client=self._http)
        self.client = AsyncClient(supabase_url, supabase_key, options)
        self.storage_bucket = "user-documents"
        self.user_repo = UserRepository(self.client)
        self.onboarding_repo = OnboardingRepository(self.client)
        self.document_repo = DocumentRepository(self.client)

    async def create_user(self, user_data: Mapping[str, Any]) -> Row:
        """Create an account and its user, with the ``id`` given or a new one."""
        account: dict[str, Any] = {"email": user_data["email"], "email_confirm": True}
        if user_data.get("id"):
            account["id"] = str(user_data["id"])
        try:
            made = await self.client.auth.admin.create_user(account)  # type: ignore[arg-type]  # a TypedDict of many optional keys
        except AuthApiError as exc:
            raise DuplicateUserError(str(exc)) from exc
        row = {k: v for k, v in user_data.items() if k in USER_COLUMNS}
        try:
            return await self.user_repo.insert({**row, "id": made.user.id})
        except (APIError, httpx.HTTPError):
            # An account without its user could never be created again.
            await self.client.auth.admin.delete_user(made.user.id)
            raise

    async def get_user(self, user_id: str) -> Row | None:
        """Return a user, ``None`` when there is no such user."""
        return await self.user_repo.find(user_id)

    async def update_user(self, user_id: str, updates: Mapping[str, Any]) -> bool:
        """Change a user; false when there is no such user."""
        changes = {k: v for k, v in updates.items() if k in USER_COLUMNS}
        if not changes:
            return await self.get_user(user_id) is not None
        return await self.user_repo.update(user_id, changes)

    async def create_onboarding_session(self, user_id: str | None = None) -> str:
        """Begin a session, anonymous without a user."""
        token = SessionToken.new(anonymous=user_id is None)
        row = {"id": token.id, "user_id": user_id, "secret_hash": token.secret_hash}
        try:
            await self.onboarding_repo.insert(row)
        except APIError as exc:
            raise _meaning(exc, user_id) from exc
        return str(token)

    async def update_onboarding_session(
        self, session: str, data: Mapping[str, Any]
    ) -> bool:
        """Merge ``data`` into a session; false for an unknown session."""
        token = SessionToken.parse(session)
        row = await self.get_onboarding_session(session)
        if row is None or token is None:
            return False
        merged = {**row["data"], **data}
        return await self.onboarding_repo.update(token.id, token.secret_hash, merged)

    async def get_onboarding_session(self, session: str) -> Row | None:
        """Return a session, ``None`` for an unknown one or a wrong secret."""
        token = SessionToken.parse(session)
        if token is None:
            return None
        return await self.onboarding_repo.find(token.id, token.secret_hash)

    async def claim_onboarding_session(self, session: str, user_id: str) -> bool:
        """Give an anonymous session to a user; true for the first claim only."""
        token = SessionToken.parse(session)
        if token is None or token.secret_hash is None:
            return False
        now = datetime.now(UTC).isoformat()
        try:
            return await self.onboarding_repo.claim(
                token.id, token.secret_hash, user_id, now
            )
        except APIError as exc:
            if exc.code == FOREIGN_KEY_VIOLATION:
                return False
            raise

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
        if await self.get_user(user_id) is None:
            raise UnknownUserError(user_id)
        stored = new_file(user_id, folder, filename)
        await self.put_file(stored, content, content_type)
        return stored.path

    async def put_file(
        self, stored: StoredFile, content: bytes, content_type: str
    ) -> None:
        """Store a file in its place; the same file again changes nothing."""
        try:
            await self._files.upload(
                stored.path, content, {"content-type": content_type, "upsert": "true"}
            )
        except StorageApiError as exc:
            if str(exc.status).startswith("5"):
                raise StorageUnavailableError(exc.message) from exc
            raise FileRejectedError(exc.message) from exc
        except httpx.TransportError as exc:
            raise StorageUnavailableError(str(exc)) from exc

    async def read_file(self, user_id: str, file_path: str) -> bytes | None:
        """Return the bytes of a user's file, ``None`` when there is no such file."""
        try:
            stored = StoredFile.parse(file_path, user_id=user_id)
            content: bytes = await self._files.download(stored.path)
        except ForeignFileError:
            return None
        except StorageApiError as exc:
            _pass_missing(exc)
            return None
        return content

    async def get_file_url(self, user_id: str, file_path: str) -> str | None:
        """Return a signed URL, ``None`` when there is no such file."""
        try:
            stored = StoredFile.parse(file_path, user_id=user_id)
            signed = await self._files.create_signed_url(stored.path, URL_LIFETIME_S)
        except ForeignFileError:
            return None
        except StorageApiError as exc:
            _pass_missing(exc)
            return None
        return str(signed["signedURL"])

    async def delete_file(self, user_id: str, file_path: str) -> bool:
        """Delete a user's file; false when there is no such file."""
        try:
            stored = StoredFile.parse(file_path, user_id=user_id)
        except ForeignFileError:
            return False
        return bool(await self._files.remove([stored.path]))

    async def create_document(self, document_data: Mapping[str, Any]) -> Row:
        """Record a document whose file is stored."""
        rows = await self.create_documents([document_data])
        return rows[0]

    async def create_documents(self, documents: list[Mapping[str, Any]]) -> list[Row]:
        """Record documents, all or none."""
        rows = [_document_row(document) for document in documents]
        try:
            return await self.document_repo.insert(rows)
        except APIError as exc:
            raise _meaning(exc, str(rows[0]["user_id"])) from exc

    async def get_documents_for_user(self, user_id: str) -> list[Row]:
        """Return the documents of a user, oldest first."""
        return await self.document_repo.of_user(user_id)

    async def is_reachable(self) -> bool:
        """Tell whether database and Storage answer."""
        try:
            await self.client.table("users").select("id").limit(1).execute()
            await self._files.list("", {"limit": 1})
        except (APIError, StorageApiError, httpx.HTTPError):
            return False
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def _files(self) -> Any:
        return self.client.storage.from_(self.storage_bucket)


@functools.cache
def _trusted_certificates() -> ssl.SSLContext:
    """Load the certificates once for all services of the process."""
    return ssl.create_default_context()


def _document_row(document: Mapping[str, Any]) -> Row:
    """Return the columns of a document; its path is made of them by the database."""
    user_id = str(document["user_id"])
    stored = StoredFile.parse(str(document["file_path"]), user_id=user_id)
    optional = {k: document[k] for k in ("id", "created_at") if document.get(k)}
    return {
        "user_id": user_id,
        "folder": stored.folder,
        "stored_name": stored.stored_name,
        "filename": document["filename"],
        "content_type": document["content_type"],
        "size_bytes": document["size_bytes"],
        **optional,
    }


def _meaning(exc: APIError, user_id: str | None) -> Exception:
    """Return what a refusal of the database means to the caller."""
    if exc.code == FOREIGN_KEY_VIOLATION:
        return UnknownUserError(user_id)
    return exc


def _pass_missing(exc: StorageApiError) -> None:
    """Let a missing file pass; raise anything else."""
    if str(exc.status) != "404":
        raise exc
