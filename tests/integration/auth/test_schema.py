"""The auth schema, used directly by SQL: seeds, foreign keys, policies, other roles."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from harness.db.address import DatabaseAddress

Connection = psycopg.Connection[Any]


@pytest.fixture
def postgres_login(database: DatabaseAddress) -> Iterator[Connection]:
    """Connect as the role that migrations and seeds run as."""
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        yield connection


def test_a_seed_inserts_users_with_all_the_usual_columns(
    postgres_login: Connection,
) -> None:
    user = uuid.uuid4()
    postgres_login.execute(
        """
        insert into auth.users (
            instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
            recovery_sent_at, last_sign_in_at, raw_app_meta_data, raw_user_meta_data,
            created_at, updated_at, confirmation_token, email_change,
            email_change_token_new, recovery_token
        ) values (
            '00000000-0000-0000-0000-000000000000', %s, 'authenticated',
            'authenticated', 'seed@example.test',
            extensions.crypt('password', extensions.gen_salt('bf')), now(), now(),
            now(), '{"provider":"email","providers":["email"]}', '{"name":"Seed"}',
            now(), now(), '', '', '', ''
        )
        """,
        [user],
    )
    postgres_login.execute(
        "insert into auth.identities (id, user_id, provider_id, identity_data,"
        " provider, last_sign_in_at, created_at, updated_at)"
        " values (gen_random_uuid(), %s, %s,"
        " jsonb_build_object('sub', %s::text, 'email', 'Seed@Example.test'), 'email',"
        " now(), now(), now())",
        [user, str(user), str(user)],
    )
    row = postgres_login.execute(
        "select u.confirmed_at = u.email_confirmed_at, u.phone, u.is_anonymous,"
        " u.is_sso_user, u.phone_change, u.email_change_confirm_status, i.email"
        " from auth.users u join auth.identities i on i.user_id = u.id"
    ).fetchone()
    assert row == (True, None, False, False, "", 0, "seed@example.test")


def test_many_users_without_tokens_or_phones_do_not_collide(
    postgres_login: Connection,
) -> None:
    for number in range(3):
        postgres_login.execute(
            "insert into auth.users (id, email, confirmation_token, recovery_token,"
            " email_change_token_new) values (gen_random_uuid(), %s, '', '', '')",
            [f"u{number}@example.test"],
        )
    with pytest.raises(psycopg.errors.UniqueViolation):
        postgres_login.execute(
            "insert into auth.users (id, email) values (gen_random_uuid(), %s)",
            ["u1@example.test"],
        )
    # Single sign-on accounts may share an address with others.
    postgres_login.execute(
        "insert into auth.users (id, email, is_sso_user)"
        " values (gen_random_uuid(), 'u1@example.test', true)"
    )


def test_application_tables_refer_to_users_and_follow_their_deletion(
    postgres_login: Connection,
) -> None:
    postgres_login.execute(
        "create table public.profiles (id uuid primary key references auth.users (id)"
        " on delete cascade);"
        "create table public.posts (author uuid references auth.users);"
        "insert into auth.users (id) values (gen_random_uuid()), (gen_random_uuid());"
        "insert into public.profiles select id from auth.users;"
        "insert into public.posts select id from auth.users limit 1"
    )
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        postgres_login.execute("delete from auth.users")
    postgres_login.execute("truncate public.posts")
    assert postgres_login.execute("delete from auth.users").rowcount == 2
    left = postgres_login.execute("select count(*) from public.profiles").fetchone()
    assert left == (0,)


def test_postgres_puts_triggers_on_users(postgres_login: Connection) -> None:
    postgres_login.execute(
        "create table public.welcomes (id uuid);"
        "create function public.welcome() returns trigger language plpgsql"
        " security definer set search_path = '' as $$ begin"
        " insert into public.welcomes values (new.id); return new; end $$;"
        "create trigger welcome after insert on auth.users"
        " for each row execute function public.welcome();"
        "insert into auth.users (id) values (gen_random_uuid())"
    )
    row = postgres_login.execute("select count(*) from public.welcomes").fetchone()
    assert row == (1,)


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
@pytest.mark.parametrize(
    "table",
    ["users", "identities", "sessions", "refresh_tokens", "mfa_factors",
     "audit_log_entries", "one_time_tokens", "schema_migrations"],
)  # fmt: skip
def test_api_roles_read_no_table_of_auth(
    postgres_login: Connection, role: str, table: str
) -> None:
    with postgres_login.transaction():
        postgres_login.execute(
            sql.SQL("set local role {}").format(sql.Identifier(role))
        )
        query = sql.SQL("select 1 from auth.{}").format(sql.Identifier(table))
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            postgres_login.transaction(),
        ):
            postgres_login.execute(query)


USER = "85727489-3c2f-4def-b39f-b83d40c8a4de"


@pytest.mark.parametrize(
    ("settings", "uid", "role", "email"),
    [
        ({}, None, None, None),
        ({"request.jwt.claims": ""}, None, None, None),
        ({"request.jwt.claims": "{}"}, None, None, None),
        (
            {"request.jwt.claims": json.dumps({"sub": USER, "role": "authenticated",
                                               "email": "a@b.test"})},
            USER, "authenticated", "a@b.test",
        ),
        (
            {"request.jwt.claim.sub": USER, "request.jwt.claim.role": "anon",
             "request.jwt.claim.email": "c@d.test"},
            USER, "anon", "c@d.test",
        ),
    ],
)  # fmt: skip
def test_functions_tell_who_is_asking(
    postgres_login: Connection,
    settings: dict[str, str],
    uid: str | None,
    role: str | None,
    email: str | None,
) -> None:
    with postgres_login.transaction():
        for name, value in settings.items():
            postgres_login.execute("select set_config(%s, %s, true)", [name, value])
        postgres_login.execute("set local role anon")
        row = postgres_login.execute(
            "select auth.uid()::text, auth.role(), auth.email(), auth.jwt()"
        ).fetchone()
    claims = settings.get("request.jwt.claims")
    wanted = json.loads(claims) if claims else None
    assert row == (uid, role, email, wanted)


def test_a_policy_calls_the_functions_once_a_statement(
    postgres_login: Connection,
) -> None:
    # As a subquery, which is how policies are advised to write it.
    postgres_login.execute(
        "create table public.notes (owner uuid);"
        "insert into public.notes select gen_random_uuid() from generate_series(1, 9)"
    )
    plan = postgres_login.execute(
        "explain (verbose) select * from public.notes where owner = (select auth.uid())"
    ).fetchall()
    assert any("InitPlan" in line for (line,) in plan)
    # Written in SQL, they are folded into the statement.
    assert any("current_setting" in line for (line,) in plan)
