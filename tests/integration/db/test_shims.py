"""Stand-ins for extensions against the real thing or a published vector."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid

import asyncpg
import bcrypt
import jwt
import pytest

from harness.db.address import Connection, DatabaseAddress
from harness.db.migrations import apply_schema
from harness.db.schema_files import Schema, SchemaFile
from harness.db.sessions import rolled_back_as
from harness.db.shims import shim_names, shim_source
from tests.integration.db.conftest import Connect


@pytest.fixture
def texts() -> list[str]:
    return ["", "a", "abc", "é" * 31, "x" * 55, "x" * 56, "x" * 64, "x" * 1000]


@pytest.fixture
async def shimmed(database: DatabaseAddress, connect: Connect) -> Connection:
    """Return a connection to a database with every stand-in in schema ``shim``."""
    connection = await connect(database)
    await connection.execute("create schema shim")
    for name in shim_names():
        source = shim_source(name).replace("@extschema@", "shim")
        await connection.execute(source)
        # Installing again must do no harm.
        await connection.execute(source)
    return connection


@pytest.mark.parametrize(
    "kind", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"]
)
async def test_digest_and_hmac_agree_with_hashlib(
    shimmed: Connection, texts: list[str], kind: str
) -> None:
    for text in texts:
        data = text.encode()
        digest = await shimmed.fetchval("select shim.digest($1::text, $2)", text, kind)
        assert digest == hashlib.new(kind, data).digest()
        for key in ("k", "k" * 200):
            code = await shimmed.fetchval(
                "select shim.hmac($1::text, $2, $3)", text, key, kind
            )
            assert code == hmac.new(key.encode(), data, kind).digest()


async def test_named_uuids_agree_with_rfc_9562(
    shimmed: Connection, texts: list[str]
) -> None:
    for text in texts:
        row = await shimmed.fetchrow(
            "select shim.uuid_generate_v3(shim.uuid_ns_dns(), $1),"
            " shim.uuid_generate_v5(shim.uuid_ns_url(), $1)",
            text,
        )
        assert row[0] == uuid.uuid3(uuid.NAMESPACE_DNS, text)
        assert row[1] == uuid.uuid5(uuid.NAMESPACE_URL, text)


async def test_time_and_random_uuids_have_their_version_and_differ(
    shimmed: Connection,
) -> None:
    for version, function in ((1, "v1"), (1, "v1mc"), (4, "v4")):
        rows = await shimmed.fetch(
            f"select shim.uuid_generate_{function}() from generate_series(1, 50)"
        )
        made = {row[0] for row in rows}
        assert len(made) == 50
        assert {u.version for u in made} == {version}
        assert {u.variant for u in made} == {uuid.RFC_4122}
    now = await shimmed.fetchrow(
        "select shim.uuid_generate_v1(), extract(epoch from clock_timestamp())"
    )
    # 100 ns steps since 1582-10-15.
    seconds = now[0].time / 1e7 - 12219292800
    assert seconds == pytest.approx(float(now[1]), abs=5)
    assert now[0].node & (1 << 40), "a made-up node has the multicast bit"


async def test_random_bytes_have_the_length_and_spread(shimmed: Connection) -> None:
    for size in (1, 14, 15, 1024):
        made = await shimmed.fetchval("select shim.gen_random_bytes($1)", size)
        assert len(made) == size
    assert len(set(made)) > 200
    with pytest.raises(asyncpg.PostgresError, match="Length not in range"):
        await shimmed.fetchval("select shim.gen_random_bytes(0)")


async def test_crypt_agrees_with_bcrypt(shimmed: Connection) -> None:
    for password in ("", "secret", "päss wörd ✓", "x" * 100):
        salt = bcrypt.gensalt(4, prefix=b"2a")
        made = await shimmed.fetchval(
            "select shim.crypt($1, $2)", password, salt.decode()
        )
        assert made.encode() == bcrypt.hashpw(password.encode()[:72], salt)


async def test_gen_salt_and_crypt_verify_each_other(shimmed: Connection) -> None:
    made = await shimmed.fetchval("select shim.crypt('pw', shim.gen_salt('bf', 4))")
    assert re.fullmatch(r"\$2a\$04\$[./A-Za-z0-9]{53}", made)
    assert bcrypt.checkpw(b"pw", made.encode())
    check = "select shim.crypt($1, $2) = $2"
    assert await shimmed.fetchval(check, "pw", made) is True
    assert await shimmed.fetchval(check, "other", made) is False


@pytest.mark.parametrize(
    "call",
    [
        "shim.crypt('x', '$1$abcdefgh')",
        "shim.gen_salt('md5')",
        "shim.pgp_sym_encrypt('x', 'y')",
    ],
)
async def test_what_has_no_stand_in_says_so(shimmed: Connection, call: str) -> None:
    with pytest.raises(asyncpg.FeatureNotSupportedError) as caught:
        await shimmed.fetchval(f"select {call}")
    assert "pgcrypto" in (caught.value.hint or "")


async def test_tokens_of_pgjwt_are_tokens(shimmed: Connection) -> None:
    payload, secret = '{"sub": "ü", "exp": 4102444800}', "secret" * 12
    for algorithm in ("HS256", "HS384", "HS512"):
        token = await shimmed.fetchval(
            "select shim.sign($1::json, $2, $3)", payload, secret, algorithm
        )
        claims = jwt.decode(token, secret, algorithms=[algorithm])
        assert claims["sub"] == "ü"
        verify = "select payload ->> 'sub', valid from shim.verify($1, $2, $3)"
        row = await shimmed.fetchrow(verify, token, secret, algorithm)
        assert tuple(row) == ("ü", True)
        row = await shimmed.fetchrow(verify, token, "other", algorithm)
        assert tuple(row) == ("ü", False)
    expired = jwt.encode({"exp": 1}, secret, algorithm="HS256")
    valid = "select valid from shim.verify($1, $2)"
    assert await shimmed.fetchval(valid, expired, secret) is False


async def test_requests_of_pg_net_are_queued(shimmed: Connection) -> None:
    async with rolled_back_as(shimmed, "authenticated"):
        made = await shimmed.fetchval(
            "select net.http_post('http://x/y', '{\"a\": 1}', '{\"q\": \"z\"}')"
        )
        await shimmed.execute("reset role")
        row = await shimmed.fetchrow(
            "select method, url, convert_from(body, 'UTF8')"
            " from net.http_request_queue where id = $1",
            made,
        )
    assert tuple(row) == ("POST", "http://x/y?q=z", '{"a": 1}')


async def test_jobs_of_pg_cron_are_listed(shimmed: Connection) -> None:
    async with rolled_back_as(shimmed, "postgres"):
        schedule = "select cron.schedule('nightly', $1, 'select 1')"
        first = await shimmed.fetchval(schedule, "0 3 * * *")
        assert await shimmed.fetchval(schedule, "0 4 * * *") == first
        rows = await shimmed.fetch("select jobname, schedule, username from cron.job")
        assert [tuple(row) for row in rows] == [("nightly", "0 4 * * *", "postgres")]
        assert await shimmed.fetchval("select cron.unschedule('nightly')") is True
        with pytest.raises(asyncpg.RaiseError, match="could not find valid entry"):
            await shimmed.fetchval("select cron.unschedule('nightly')")


async def test_head_of_a_pulled_schema_applies(admin: Connection) -> None:
    """What `supabase db pull` writes first into every project's first migration."""
    text = """
        create extension if not exists "pg_net" with schema "extensions";
        create extension if not exists "pg_graphql" with schema "graphql";
        create extension if not exists "pg_stat_statements" with schema "extensions";
        create extension if not exists "pgcrypto" with schema "extensions";
        create extension if not exists "pgjwt" with schema "extensions";
        create extension if not exists "supabase_vault" with schema "vault";
        create extension if not exists "uuid-ossp" with schema "extensions";
    """
    await apply_schema(admin, Schema((SchemaFile("1_a.sql", "1", "a", text),)))
    await apply_schema(admin, Schema((SchemaFile("1_a.sql", "1", "a", text),)))
