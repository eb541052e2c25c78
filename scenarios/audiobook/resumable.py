"""Uploading in pieces with progress, by the tus protocol (1.0.0).

A broken upload goes on from where the server says it got to.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import httpx

__all__ = ["ResumableUpload"]

PIECE_BYTES = 6 * 1024 * 1024
VERSION = {"Tus-Resumable": "1.0.0"}


class ResumableUpload:
    """One upload into ``bucket`` at ``path`` as whoever ``token`` says."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        supabase_url: str,
        token: str,
        *,
        bucket: str,
        path: str,
        mime_type: str,
        piece_bytes: int = PIECE_BYTES,
    ) -> None:
        self._http = http
        self._endpoint = f"{supabase_url}/storage/v1/upload/resumable"
        self._headers = {**VERSION, "Authorization": f"Bearer {token}"}
        self._metadata = {
            "bucketName": bucket,
            "objectName": path,
            "contentType": mime_type,
        }
        self._piece_bytes = piece_bytes
        self._location = ""

    async def begin(self, size_bytes: int) -> None:
        """Announce the upload; raises :class:`httpx.HTTPStatusError` when refused."""
        pairs = (
            f"{key} {base64.b64encode(value.encode()).decode()}"
            for key, value in self._metadata.items()
        )
        answer = await self._http.post(
            self._endpoint,
            headers={
                **self._headers,
                "Upload-Length": str(size_bytes),
                "Upload-Metadata": ",".join(pairs),
            },
        )
        answer.raise_for_status()
        self._location = answer.headers["Location"]

    async def offset(self) -> int:
        """Ask the server how much it has."""
        answer = await self._http.head(self._location, headers=self._headers)
        answer.raise_for_status()
        return int(answer.headers["Upload-Offset"])

    async def send(self, content: bytes) -> AsyncIterator[int]:
        """Send what the server does not have yet; yield percents as it grows."""
        offset = await self.offset()
        while offset < len(content):
            piece = content[offset : offset + self._piece_bytes]
            answer = await self._http.patch(
                self._location,
                content=piece,
                headers={
                    **self._headers,
                    "Upload-Offset": str(offset),
                    "Content-Type": "application/offset+octet-stream",
                },
            )
            answer.raise_for_status()
            offset = int(answer.headers["Upload-Offset"])
            yield 100 * offset // len(content)
