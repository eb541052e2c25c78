"""Rules files: what is read, and how mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.db.catalog import Name
from harness.errors import ConfigError
from harness.policies.rules import read_rules

GOOD = """
[who]
premium = "exists (select from public.user_roles r where r.user_id = me)"

[[allow]]
who = "premium"
may = ["SELECT", "update"]
on = "notes"
rows = "user_id = me"

[ownership]
"public.notes.editor_id" = "reference"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text)
    return path


def test_rules_are_read_with_defaults(tmp_path: Path) -> None:
    rules = read_rules(write(tmp_path, GOOD))
    (allow,) = rules.allows
    assert allow.on == Name("public", "notes")
    assert allow.may == ("select", "update")
    assert set(rules.who) == {"anyone", "signed_in", "premium"}
    assert rules.ownership == {"public.notes.editor_id": "reference"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[whom]\n", "unknown key 'whom'"),
        ('[[allow]]\nwho = "nobody"\nmay = ["select"]\non = "t"\n', "names 'nobody'"),
        ('[[allow]]\nwho = "anyone"\nmay = ["drop"]\non = "t"\n', "'drop' is not one"),
        ('[[allow]]\nwho = "anyone"\nmay = ["select"]\n', "needs 'on'"),
        ('[[allow]]\nwho = "anyone"\nmay = []\non = "t"\ncol = []\n', "key 'col'"),
        ("not toml", "rules.toml"),
    ],
)
def test_mistake_in_rules_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_rules(write(tmp_path, text))


def test_missing_rules_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        read_rules(tmp_path / "nowhere.toml")
