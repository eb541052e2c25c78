"""Audiobook narration: audio of sections on local disk or in Supabase Storage.

:class:`~scenarios.audiobook.audio_service.AudioService` keeps audio behind one contract
(:class:`~scenarios.audiobook.audio_store.AudioStore`), :mod:`~scenarios.audiobook.web`
signs URLs, and :mod:`~scenarios.audiobook.migrate_audio` moves local files over.
"""

from __future__ import annotations

from pathlib import Path

from harness.resources import sql_root
from harness.scenario import Scenario

__all__ = ["SCENARIO"]

_HERE = Path(__file__).parent

SCENARIO = Scenario(
    name="audiobook",
    title="Audiobook narration",
    schema=("audiobook",),
    draft=("audiobook/draft",),
    suite=_HERE,
    rules=sql_root() / "audiobook" / "rules.toml",
)
