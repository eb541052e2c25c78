"""Settings: where they come from, which one wins, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import Config, load_config
from harness.errors import ConfigError

HOME = {"HOME": "/home/ana"}


def test_defaults_follow_the_xdg_rules(tmp_path: Path) -> None:
    config = load_config(tmp_path, HOME)
    assert config.cache_dir == Path("/home/ana/.cache/harness")
    assert config.state_dir == Path("/home/ana/.local/state/harness")
    moved = load_config(tmp_path, {**HOME, "XDG_CACHE_HOME": "/c"})
    assert moved.cache_dir == Path("/c/harness")


def test_later_sources_win(tmp_path: Path) -> None:
    pyproject = '[tool.harness]\napi-port = 1\ndb-port = 1\nstack = "containers"\n'
    (tmp_path / "pyproject.toml").write_text(pyproject)
    (tmp_path / "harness.toml").write_text("api_port = 2\ndb_port = 2\n")
    config = load_config(tmp_path, {**HOME, "HARNESS_API_PORT": "3"})
    assert (config.stack, config.db_port, config.api_port) == ("containers", 2, 3)
    assert config.replace(api_port=4, db_port=None).api_port == 4
    assert config.replace(db_port=None) == config


def test_variables_that_hand_on_a_stack_are_no_settings(tmp_path: Path) -> None:
    assert load_config(tmp_path, {**HOME, "HARNESS_STACK": "file"}) == load_config(
        tmp_path, HOME
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("api_prot = 1", "unknown setting 'api_prot'"),
        ('api_port = "many"', "api_port wants int"),
        ("stack = 3", "stack wants a string"),
        ("api_port = [", "cannot be read"),
        ("db_port = 99999", "db_port must be 0 to 65535"),
        ('durability = "none"', "durability must be fast or full"),
        ("ready_timeout_s = 0", "ready_timeout_s must be more than 0"),
    ],
)
def test_nonsense_is_refused_with_its_name(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "harness.toml").write_text(text)
    with pytest.raises(ConfigError, match=complaint.replace("'", ".")):
        load_config(tmp_path, HOME)


def test_unknown_setting_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "harness.toml").write_text("api_prot = 1")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, HOME)
    assert caught.value.hint == "did you mean 'api_port'?"


def test_default_folders_are_absolute() -> None:
    assert Config().cache_dir.is_absolute()
    assert Config().state_dir.is_absolute()
