"""StoryMimi: stories whose scenes are illustrated, each picture in Supabase Storage.

:class:`~scenarios.storymimi.story_service.StoryService` makes a story with its pictures
or nothing; :class:`~scenarios.storymimi.image_storage.ImageStorage` keeps the pictures;
:mod:`~scenarios.storymimi.web` is the HTTP interface.
"""

from __future__ import annotations

from pathlib import Path

from harness.resources import sql_root
from harness.scenario import Scenario

__all__ = ["SCENARIO"]

_HERE = Path(__file__).parent

SCENARIO = Scenario(
    name="storymimi",
    title="StoryMimi illustrated stories",
    schema=("storymimi",),
    draft=("storymimi/draft",),
    suite=_HERE,
    rules=sql_root() / "storymimi" / "rules.toml",
)
