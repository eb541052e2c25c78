"""The profile picture: asked for by SQL, stored by the service.

``upload_user_avatar`` and ``delete_user_avatar`` run in the caller's transaction and
leave work in ``avatar_outbox``; :class:`AvatarOutbox` carries it out through the
Storage API, so that a row in ``storage.objects`` always has its bytes.  A trigger keeps
``profile_image_url`` at the newest picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supabase import AsyncClient

__all__ = ["AvatarOutbox", "Avatars"]

AVATARS = "user-avatars"
BATCH = 20


class Avatars:
    """The picture of one signed-in user."""

    def __init__(self, client: AsyncClient, user_id: str) -> None:
        self._client = client
        self._user_id = user_id

    async def upload(self, file_name: str, content: bytes, content_type: str) -> str:
        """Ask for a new picture and return the URL that will serve it."""
        answer = await self._client.rpc(
            "upload_user_avatar",
            {
                "p_user_id": self._user_id,
                "p_file_data": as_bytea(content),
                "p_file_name": file_name,
                "p_content_type": content_type,
            },
        ).execute()
        return cast("str", answer.data)

    async def delete(self) -> bool:
        """Ask for every picture to go; false when there is none."""
        answer = await self._client.rpc(
            "delete_user_avatar", {"p_user_id": self._user_id}
        ).execute()
        return bool(answer.data)

    async def url(self) -> str | None:
        """Return the URL of the current picture."""
        answer = await self._client.rpc(
            "get_user_avatar_url", {"user_id": self._user_id}
        ).execute()
        return cast("str | None", answer.data)


class AvatarOutbox:
    """Carries out what users asked for; speaks with the service key.

    Work is deleted after it is done, and doing it twice ends the same, so a crash
    between the two loses nothing.
    """

    def __init__(self, service: AsyncClient) -> None:
        self._service = service

    async def drain(self) -> int:
        """Do all waiting work in the order it was asked for; return how much it was."""
        done = 0
        while work := await self._waiting():
            for entry in work:
                await self._carry_out(entry)
                await (
                    self._service.table("avatar_outbox")
                    .delete()
                    .eq("id", entry["id"])
                    .execute()
                )
            done += len(work)
        return done

    async def _waiting(self) -> list[Mapping[str, Any]]:
        answer = await (
            self._service.table("avatar_outbox")
            .select("id, action, object_name, content_type, content")
            .order("id")
            .limit(BATCH)
            .execute()
        )
        return cast("list[Mapping[str, Any]]", answer.data)

    async def _carry_out(self, entry: Mapping[str, Any]) -> None:
        bucket = self._service.storage.from_(AVATARS)
        if entry["action"] == "delete":
            await bucket.remove([entry["object_name"]])
            return
        await bucket.upload(
            entry["object_name"],
            from_bytea(entry["content"]),
            {"content-type": entry["content_type"], "upsert": "true"},
        )


def as_bytea(content: bytes) -> str:
    """Return bytes in PostgreSQL's hex notation, as JSON carries them."""
    return "\\x" + content.hex()


def from_bytea(text: str) -> bytes:
    """Return the bytes that PostgreSQL's hex notation stands for."""
    return bytes.fromhex(text.removeprefix("\\x"))
