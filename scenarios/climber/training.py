"""Live training data of a climber.

The database feeds private topics: ``user_<id>`` with the changes of all rows of the
user, ``training_<id>`` with plans, sessions and announcements, ``video_content`` with
published videos.  What a channel carries is decided by ``realtime_channels``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from realtime import RealtimeSubscribeStates

if TYPE_CHECKING:
    from realtime import AsyncRealtimeChannel
    from supabase import AsyncClient

__all__ = ["SubscriptionRefusedError", "TrainingFeed"]

VIDEO_TOPIC = "video_content"
OnMessage = Callable[[Any], None]


class SubscriptionRefusedError(Exception):
    """The server did not let the user join ``topic``."""

    def __init__(self, topic: str, detail: str) -> None:
        super().__init__(f"cannot join {topic}: {detail}")
        self.topic = topic
        self.detail = detail


class TrainingFeed:
    """The channels of one signed-in user."""

    def __init__(self, client: AsyncClient, user_id: str) -> None:
        self._client = client
        self._user_id = user_id

    async def follow_own_rows(self, on_message: OnMessage) -> str:
        """Receive every change of the user's rows; return the channel's name."""
        name = await self._channel_name("subscribe_to_user_channel")
        await self.join(name, on_message)
        return name

    async def follow_training(self, on_message: OnMessage) -> str:
        """Receive changes of plans and sessions, and announcements."""
        name = await self._channel_name("subscribe_to_training_updates")
        await self.join(name, on_message)
        return name

    async def follow_videos(self, on_message: OnMessage) -> str:
        """Receive changes of published videos."""
        await self.join(VIDEO_TOPIC, on_message)
        return VIDEO_TOPIC

    async def announce(self, session_id: str, update_type: str) -> bool:
        """Tell the user's devices about a session; false when nothing was sent."""
        answer = await self._client.rpc(
            "broadcast_training_update",
            {
                "p_user_id": self._user_id,
                "p_session_id": session_id,
                "p_update_type": update_type,
            },
        ).execute()
        return bool(answer.data)

    async def join(self, topic: str, on_message: OnMessage) -> AsyncRealtimeChannel:
        """Join a private topic, or raise :class:`SubscriptionRefusedError`."""
        channel = self._client.channel(
            topic, {"config": {"private": True, "broadcast": None, "presence": None}}
        )
        channel.on_broadcast("*", on_message)
        answers: list[tuple[RealtimeSubscribeStates, Exception | None]] = []
        await channel.subscribe(lambda state, error: answers.append((state, error)))
        state, error = answers[0]
        if state is not RealtimeSubscribeStates.SUBSCRIBED:
            await self._client.remove_channel(channel)
            raise SubscriptionRefusedError(topic, str(error or state.value))
        return channel

    async def _channel_name(self, function: str) -> str:
        answer = await self._client.rpc(function, {"user_id": self._user_id}).execute()
        return cast("str", answer.data)
