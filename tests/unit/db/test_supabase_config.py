"""Reading supabase/config.toml."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.db.supabase_config import (
    BucketConfig,
    SupabaseConfig,
    parse_size,
    read_config,
)
from harness.errors import ConfigError

EXAMPLE = """
project_id = "demo"
[api]
port = 55321
schemas = ["public", "api"]
max_rows = 50
auto_expose_new_tables = false
[db]
major_version = 15
[db.migrations]
enabled = false
[db.seed]
sql_paths = ["./seeds/*.sql"]
[db.settings]
work_mem = "8MB"
[db.vault]
key = "env(VAULT_KEY)"
[realtime]
max_header_length = 8192
[storage]
file_size_limit = "5MiB"
[storage.buckets.images]
public = true
file_size_limit = "1KB"
allowed_mime_types = ["image/png"]
objects_path = "./images"
[storage.buckets.files]
[auth]
site_url = "env(SITE)"
jwt_expiry = 60
minimum_password_length = 9
enable_anonymous_sign_ins = true
signing_keys_path = "keys.json"
[auth.email]
enable_confirmations = true
[auth.rate_limit]
email_sent = 7
[auth.hook.custom_access_token]
enabled = true
uri = "pg-functions://postgres/public/hook"
[auth.external.apple]
secret = "env(NOT_ASKED)"
[unknown.section]
anything = 1
"""


def read(tmp_path: Path, text: str, **environ: str) -> SupabaseConfig:
    (tmp_path / "config.toml").write_text(text)
    return read_config(tmp_path, environ)


def test_every_key_that_matters_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, EXAMPLE, VAULT_KEY="s3cret")
    assert config.project_id == "demo"
    assert (config.api.port, config.api.max_rows) == (55321, 50)
    assert config.api.schemas == ("public", "api")
    assert config.api.auto_expose_new_tables is False
    assert config.db.major_version == 15
    assert config.db.migrations_enabled is False
    assert config.db.seed.sql_paths == ("./seeds/*.sql",)
    assert config.db.settings == {"work_mem": "8MB"}
    assert config.db.vault == {"key": "s3cret"}
    assert config.realtime.max_header_length == 8192
    assert config.storage.file_size_limit == 5 << 20
    assert config.storage.buckets == (
        BucketConfig("images", True, 1024, ("image/png",), tmp_path / "images"),
        BucketConfig("files"),
    )
    assert config.auth.jwt_expiry_s == 60
    assert config.auth.minimum_password_length == 9
    assert config.auth.enable_anonymous_sign_ins is True
    assert config.auth.signing_keys_path == tmp_path / "keys.json"
    assert config.auth.email.enable_confirmations is True
    assert config.auth.rate_limit == {"email_sent": 7}
    assert config.auth.hooks[0].uri == "pg-functions://postgres/public/hook"


def test_unset_variable_is_reported_and_left_as_written(tmp_path: Path) -> None:
    config = read(tmp_path, EXAMPLE)
    assert config.unset == ("VAULT_KEY", "SITE")
    assert config.auth.site_url == "env(SITE)"


def test_environment_overrides_a_key(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        EXAMPLE,
        SITE="x",
        SUPABASE_AUTH_SITE_URL="https://example.com",
        SUPABASE_API_PORT="99",
        SUPABASE_AUTH_ENABLE_SIGNUP="false",
        SUPABASE_API_SCHEMAS="a, b",
    )
    assert config.auth.site_url == "https://example.com"
    assert config.api.port == 99
    assert config.auth.enable_signup is False
    assert config.api.schemas == ("a", "b")


def test_missing_file_means_the_defaults_of_the_cli(tmp_path: Path) -> None:
    folder = tmp_path / "app" / "supabase"
    folder.mkdir(parents=True)
    config = read_config(folder, {})
    assert config.project_id == "app"
    assert (config.api.port, config.db.port) == (54321, 54322)
    assert config.api.auto_expose_new_tables is None
    assert config.storage.file_size_limit == 52428800
    assert config.auth.jwt_secret.startswith("super-secret-jwt-token")


def test_json_is_read_where_there_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"api": {"port": 7}}')
    assert read_config(tmp_path, {}).api.port == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[api]\nport = 'x'", "api.port must be a whole number"),
        ("[api]\nport = true", "api.port must be a whole number"),
        ("[api]\nschemas = 3", "api.schemas must be a list of strings"),
        ("[api]\nschemas = [1]", "api.schemas must be a list of strings"),
        ("api = 1", "api must be a table"),
        ("project_id = 1", "project_id must be a string"),
        ("[db]\nmajor_version = 12", "db.major_version must be one of"),
        ("[auth]\nenable_signup = 'maybe'", "auth.enable_signup must be true or"),
        ("[auth]\njwt_secret = 'short'", "auth.jwt_secret must be at least 16"),
        ("[storage]\nfile_size_limit = 'big'", "storage.file_size_limit must be a s"),
        ("[storage.buckets]\nx = 1", "storage.buckets.x must be a table"),
        ("[api\nport = 1", "config.toml"),
    ],
)
def test_wrong_value_is_named_with_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert "config.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50MiB", 52428800), ("50MB", 52428800), ("1kb", 1024), ("7", 7), (7, 7),
        ("1.5 GiB", 1610612736), ("2b", 2), ("1T", 1 << 40),
    ],
)  # fmt: skip
def test_size_units_are_powers_of_1024(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@given(st.integers(0, 10**12), st.sampled_from(["", "k", "M", "GiB", " mib"]))
def test_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    factor = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    assert parse_size(f"{number}{unit}") == number * factor[unit.strip().lower()[:1]]
