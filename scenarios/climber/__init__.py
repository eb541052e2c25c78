"""Mountain climber training: avatars, videos, images, assets, and live training data.

An application in three parts, each for one signed-in user and built on the official
client: :class:`~scenarios.climber.media.MediaLibrary` (files),
:class:`~scenarios.climber.avatars.Avatars` (the profile picture) and
:class:`~scenarios.climber.training.TrainingFeed` (channels and broadcasts).
"""

from __future__ import annotations

from pathlib import Path

from harness.resources import sql_root
from harness.scenario import Scenario

__all__ = ["SCENARIO"]

_HERE = Path(__file__).parent

SCENARIO = Scenario(
    name="climber",
    title="Mountain climber training app",
    schema=("climber",),
    draft=("climber/draft",),
    suite=_HERE,
    rules=sql_root() / "climber" / "rules.toml",
    load="climber-200",
)
