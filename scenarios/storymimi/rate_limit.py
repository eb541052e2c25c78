"""How often a user may ask for a story: decided by the database, for all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supabase import AsyncClient

__all__ = ["StoryRateLimiter"]

STORIES_PER_WINDOW = 5
WINDOW_MS = 60_000


class StoryRateLimiter:
    """Counts with ``check_rate_limit``, which only the service may call."""

    def __init__(
        self,
        service: AsyncClient,
        *,
        stories: int = STORIES_PER_WINDOW,
        window_ms: int = WINDOW_MS,
    ) -> None:
        self._service = service
        self._stories = stories
        self._window_ms = window_ms

    async def allows(self, user_id: str) -> bool:
        """Count a request; false when it is one too many."""
        answer = await self._service.rpc(
            "check_rate_limit",
            {
                "p_key": f"stories:{user_id}",
                "p_max": self._stories,
                "p_window_ms": self._window_ms,
            },
        ).execute()
        return bool(answer.data)
