"""What the services are told of a project's supabase/config.toml."""

from __future__ import annotations

from pathlib import Path

from harness.db.supabase_config import read_config
from harness.servers.project import ProjectSettings
from harness.stack.supabase import service_settings

CONFIG = """
[realtime]
max_header_length = 8192
[storage.s3_protocol]
enabled = false
[storage.image_transformation]
enabled = true
[auth.rate_limit]
token_refresh = 7
"""


def told(folder: Path, text: str) -> ProjectSettings:
    (folder / "config.toml").write_text(text)
    return service_settings(read_config(folder, {}))


def test_what_a_project_sets_reaches_its_services(tmp_path: Path) -> None:
    settings = told(tmp_path, CONFIG)
    assert settings.realtime["max_header_length"] == 8192
    assert settings.storage["s3_protocol_enabled"] is False
    assert settings.storage["image_transformation_enabled"] is True
    assert settings.auth["rate_limit"] == {"token_refresh": 7}


def test_pictures_are_rendered_only_if_a_project_says_so(tmp_path: Path) -> None:
    # As the CLI starts its stack.
    assert told(tmp_path, "").storage["image_transformation_enabled"] is False
