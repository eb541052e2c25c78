"""A project folder of the Supabase CLI is served and checked as it is."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

CONFIG = """
project_id = "notes"
[api]
max_rows = 2
[auth]
jwt_secret = "env(NOTES_JWT_SECRET)"
minimum_password_length = 10
[auth.hook.custom_access_token]
enabled = true
uri = "pg-functions://postgres/public/add_claims"
[auth.hook.send_email]
enabled = true
uri = "https://example.test/mail"
[storage.s3_protocol]
enabled = false
[storage.buckets.pictures]
public = true
allowed_mime_types = ["image/png"]
objects_path = "./pictures"
"""
NOTES = """
create table public.notes (
  id bigint generated always as identity primary key,
  user_id uuid not null default auth.uid() references auth.users on delete cascade,
  body text not null);
alter table public.notes enable row level security;
create policy own on public.notes for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create function public.add_claims(event jsonb) returns jsonb language sql stable
  as $$ select jsonb_set(event, '{claims,plan}', '"paid"') $$;
revoke execute on function public.add_claims from public, anon, authenticated;
grant execute on function public.add_claims to supabase_auth_admin;
"""
SEED = """
insert into auth.users (id, email) values
  ('11111111-1111-4111-8111-111111111111', 'ana@example.test');
insert into public.notes (user_id, body)
select '11111111-1111-4111-8111-111111111111', 'note ' || n
from generate_series(1, 5) n;
"""
SECRET = "a-secret-of-our-own-that-is-long-enough"


def claims(token: str) -> dict[str, object]:
    """Return what a token says."""
    told: dict[str, object] = json.loads(
        base64.urlsafe_b64decode(token.split(".")[1] + "==")
    )
    return told


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    supabase = tmp_path / "app" / "supabase"
    (supabase / "migrations").mkdir(parents=True)
    (supabase / "pictures").mkdir()
    (supabase / "config.toml").write_text(CONFIG)
    (supabase / ".env").write_text(f"NOTES_JWT_SECRET={SECRET}\n")
    (supabase / "migrations" / "20260101000000_notes.sql").write_text(NOTES)
    (supabase / "seed.sql").write_text(SEED)
    (supabase / "pictures" / "peak.png").write_bytes(b"picture")
    return tmp_path / "app"


def test_up_serves_schema_seed_buckets_and_settings(harness, folder: Path) -> None:
    started = harness("up", "--detach", "--json", "--project", str(folder))
    told = json.loads(started.stdout)
    try:
        api, key = told["API_URL"], told["SERVICE_ROLE_KEY"]
        assert told["JWT_SECRET"] == SECRET
        rows = httpx.get(f"{api}/rest/v1/notes?select=body", headers={"apikey": key})
        assert rows.json() == [{"body": "note 1"}, {"body": "note 2"}]  # max_rows
        picture = httpx.get(f"{api}/storage/v1/object/public/pictures/peak.png")
        assert (picture.content, picture.headers["content-type"]) == (
            b"picture",
            "image/png",
        )
        short = httpx.post(
            f"{api}/auth/v1/signup",
            headers={"apikey": told["ANON_KEY"]},
            json={"email": "ben@example.test", "password": "too-short"},
        )
        assert short.json()["error_code"] == "weak_password"
        session = httpx.post(
            f"{api}/auth/v1/signup",
            headers={"apikey": told["ANON_KEY"]},
            json={"email": "ben@example.test", "password": "long-enough"},
        ).json()
        assert claims(session["access_token"])["plan"] == "paid"
        assert "auth.hook.send_email is not called" in started.stderr
        assert httpx.get(f"{api}/storage/v1/s3").status_code == 404
        listed = json.loads(harness("status", "--json").stdout)
        assert listed[0]["ANON_KEY"] == told["ANON_KEY"]
    finally:
        harness("down")


def test_check_takes_the_folder(harness, folder: Path) -> None:
    result = harness("check", str(folder), "--seed", "1", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdict"] == "pass"
