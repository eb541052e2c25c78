"""What a subscriber receives, in order, for tests to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from realtime import RealtimePostgresChangesListenEvent

from scenarios.waiting import until

if TYPE_CHECKING:
    from supabase import AsyncClient

__all__ = ["Listener", "listen_to_table"]

Message = Mapping[str, Any]


class Listener:
    """Remembers every message it is called with."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def __call__(self, message: Any) -> None:
        """Take a message, as a callback of the official client."""
        self.messages.append(message)

    async def first(
        self, wanted: Callable[[Message], bool], *, timeout_s: float = 5.0
    ) -> Message:
        """Return the first message that is ``wanted``, waiting for it."""

        def found() -> Message | None:
            return next((m for m in self.messages if wanted(m)), None)

        message: Message = await until(
            found, "a wanted message arrives", timeout_s=timeout_s
        )
        return message

    def rows(self, table: str) -> list[Message]:
        """Return the changes of ``table`` among the messages of postgres_changes."""
        return [m["data"] for m in self.messages if m["data"]["table"] == table]


async def listen_to_table(
    client: AsyncClient, table: str, *, filter_: str | None = None
) -> Listener:
    """Subscribe to the changes of ``table`` and return once they are live."""
    listener = Listener()
    live: list[Any] = []
    channel = client.channel(f"changes-of-{table}")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.All,
        listener,
        table=table,
        filter=filter_,
    )
    channel.on_system(live.append)
    await channel.subscribe()
    await until(lambda: live, f"the subscription to {table} is live", timeout_s=10)
    return listener
