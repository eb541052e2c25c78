"""Any string in any position is answered or refused, and reaches nothing it may not.

A syntax error of PostgreSQL would mean that text of a client had become SQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.protocols.jwt import mint
from tests.integration.rest.server import PREFIX, RestServer

CHECK = settings(print_blob=True, deadline=None, max_examples=60)

MARKER = "TOP-SECRET-MARKER"
# Codes that no client may bring about: broken SQL, another role's rights, our faults.
NEVER = {"42P02", "08P01", "XX000", "26000", "0A000", "42P18", "34000"}

NASTY = [
    "'",
    '"',
    "\\",
    "\0",
    "--",
    "/*",
    "$$",
    "$1",
    ";",
    "');",
    "id; drop table secrets; --",
    "secrets",
    '"public"."secrets"',
    "marker",
    "(select marker from secrets)",
    "id) or 1=1 --",
    "1 union select marker from secrets",
    "pg_sleep(10)",
    "pg_read_file('/etc/passwd')",
    "current_user",
    "role",
    "service_role",
    "xmin",
    "ctid",
    "tableoid",
    "t0",
    "r",
    "body",
    "\u202e",
    "\ud7ff",
    "\U0010ffff",
    "%",
    "%00",
    "*",
    "{}",
    "{",
    "null",
    "NaN",
    "1e999",
    "99999999999999999999",
    "->",
    "->>'a'",
    "::text",
    "::regclass",
    "count()",
    "x" * 300,
]
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.lists(
        st.one_of(st.sampled_from(NASTY), st.characters(codec="utf-8")), max_size=6
    ).map("".join),
)


@pytest.fixture(scope="module")
def caller(server: RestServer) -> Iterator[httpx.Client]:
    """Return a client of the least role, and see that nothing changed at the end."""
    before = server.sql("select (select count(*) from items), marker from secrets")
    yield server.client()
    after = server.sql("select (select count(*) from items), marker from secrets")
    assert after == before
    assert server.client().get("/rpc/echo?word=x").json() == "x"


def check(response: httpx.Response) -> None:
    assert MARKER not in response.text
    if response.status_code >= 500:
        # Only what PostgreSQL itself refuses to work out is a 5xx.
        told = response.json()
        assert told["code"] in ("54000", "54001", "54011", "57014", "2201B"), told
    if response.status_code >= 400:
        told = response.json()
        assert {"code", "message", "details", "hint"} == set(told)
        assert told["code"] not in NEVER, told
        # A text search has a syntax of its own; PostgreSQL's parser says where.
        assert " at or near " not in told["message"], told
        assert " at end of input" not in told["message"], told
        if told["code"] == "42501":
            assert "secrets" in told["message"] or "row-level" in told["message"], told


def encoded(text: str) -> str:
    return quote(text, safe="")


@pytest.mark.parametrize(
    "template",
    [
        "/{}",
        "/rpc/{}",
        "/items?select={}",
        "/items?select=id,{}",
        "/items?select={}:id",
        "/items?select=id::{}",
        "/items?select=doc->{}",
        "/items?select=doc->>{}",
        '/items?select="{}"',
        "/items?select={}(id)",
        "/items?select=parents!{}(id)",
        "/items?select=parents({})",
        "/items?select=...parents({})",
        "/items?select=whole.{}()",
        "/items?{}=eq.1",
        '/items?"{}"=eq.1',
        "/items?doc->>{}=eq.1",
        "/items?parents.{}=eq.1&select=id,parents(id)",
        "/items?word={}",
        "/items?word=eq.{}",
        "/items?whole=eq.{}",
        "/items?exact=gt.{}",
        "/items?flag=is.{}",
        "/items?day=lt.{}",
        "/items?hue=eq.{}",
        "/items?doc=cs.{}",
        "/items?labels=ov.{}",
        "/items?span=adj.{}",
        "/items?word=in.({})",
        "/items?whole=in.(1,{})",
        "/items?word=like.{}",
        "/items?word=match.{}",
        "/items?word=like(any).{}",
        "/items?word=fts.{}",
        "/items?word=fts({}).a",
        "/items?word=wfts(english).{}",
        "/items?word=not.{}",
        "/items?or=({})",
        "/items?or=(word.eq.{},id.eq.1)",
        '/items?or=(word.eq."{}",id.eq.1)',
        "/items?and=({}.eq.1)",
        "/items?order={}",
        "/items?order=id.{}",
        "/items?order=doc->{}",
        "/items?order=parents({})&select=id,parents(id)",
        "/items?limit={}",
        "/items?offset={}",
        "/items?{}",
        "/rpc/echo?word={}",
        "/rpc/echo?word=a&times={}",
        "/rpc/echo?{}=a",
        "/rpc/rows_of?word={}&select={}",
    ],
)
@CHECK
@given(text=TEXT)
@example(text="")
@example(text="id)")
def test_any_text_in_the_url_of_a_read(
    caller: httpx.Client, template: str, text: str
) -> None:
    check(caller.get(template.replace("{}", encoded(text))))


@pytest.mark.parametrize(
    ("method", "template"),
    [
        ("POST", "/items?columns={}"),
        ("POST", "/items?on_conflict={}"),
        ("POST", "/items?select={}"),
        ("PATCH", "/items?{}=eq.1"),
        ("PATCH", "/items?word=eq.{}"),
        ("DELETE", "/items?word=eq.{}"),
        ("DELETE", "/items?or=({})"),
        ("PUT", "/items?id=eq.{}"),
        ("POST", "/rpc/echo?select={}"),
        ("POST", "/{}"),
        ("OPTIONS", "/{}"),
        ("OPTIONS", "/rpc/{}"),
    ],
)
@CHECK
@given(text=TEXT)
def test_any_text_in_the_url_of_a_write(
    caller: httpx.Client, method: str, template: str, text: str
) -> None:
    prefer = "return=representation,resolution=merge-duplicates,tx=rollback"
    check(
        caller.request(
            method,
            template.replace("{}", encoded(text)),
            json={"id": 1, "word": "x"},
            headers={"Prefer": prefer},
        )
    )


JSON_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        TEXT,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
COLUMNS = st.sampled_from(
    [
        *("id", "owner", "parent_id", "whole", "exact", "word"),
        *("flag", "day", "hue", "labels", "span", "doc"),
    ]
)
ROWS = st.dictionaries(st.one_of(COLUMNS, TEXT), JSON_VALUES, max_size=4)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("missing", ["default", "null"])
@CHECK
@given(body=st.one_of(ROWS, st.lists(ROWS, max_size=3), JSON_VALUES))
def test_any_json_in_the_body_of_a_write(
    caller: httpx.Client, method: str, missing: str, body: Any
) -> None:
    prefer = f"return=representation,missing={missing},tx=rollback"
    headers = {"Prefer": prefer, "Content-Type": "application/json"}
    content = json.dumps(body).encode()
    check(caller.request(method, "/items?id=eq.1", content=content, headers=headers))


@CHECK
@given(body=st.one_of(ROWS, JSON_VALUES))
def test_any_json_in_the_body_of_a_call(caller: httpx.Client, body: Any) -> None:
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    check(caller.post("/rpc/echo", content=content, headers=headers))


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/csv",
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/octet-stream",
    ],
)
@CHECK
@given(body=st.one_of(TEXT.map(str.encode), st.binary(max_size=40)))
@example(body=b'{"word":"a\\u0000b"}')
@example(body=b'{"word":"\\ud800"}')
@example(body=b'[{"word":"x"},')
@example(body=b'word\n"x')
def test_any_bytes_in_a_body(
    caller: httpx.Client, content_type: str, body: bytes
) -> None:
    headers = {"Content-Type": content_type, "Prefer": "tx=rollback"}
    for path in ("/items", "/items?columns=word,doc", "/rpc/echo"):
        check(caller.post(path, content=body, headers=headers))


CONTROLS = bytes([*range(32), 127])  # which no header may hold
HEADER_TEXT = TEXT.map(lambda text: text.encode().translate(None, CONTROLS).strip())


@pytest.mark.parametrize(
    "name",
    [
        "Accept",
        "Prefer",
        "Range",
        "Accept-Profile",
        "Content-Type",
        "Cookie",
        "X-Anything",
    ],
)
@CHECK
@given(value=HEADER_TEXT)
def test_any_text_in_a_header(caller: httpx.Client, name: str, value: bytes) -> None:
    headers = [(name.encode(), value)]
    check(caller.get("/items?limit=1", headers=headers))


@CHECK
@given(value=HEADER_TEXT)
@example(value=b"handling=strict, timezone='; set role postgres; --")
def test_any_text_in_the_preferences_of_a_write(
    caller: httpx.Client, value: bytes
) -> None:
    headers = [(b"Prefer", value), (b"Prefer", b"tx=rollback")]
    check(caller.patch("/items?id=eq.1", json={"word": "x"}, headers=headers))


@CHECK
@given(role=st.one_of(TEXT, JSON_VALUES), claims=ROWS)
def test_any_role_in_a_token_is_refused_or_harmless(
    server: RestServer, caller: httpx.Client, role: Any, claims: dict[str, Any]
) -> None:
    try:
        token = mint({**claims, "role": role}, server.keys.jwt_secret)
    except (ValueError, TypeError):
        return  # no token can say that
    url = f"{server.url}{PREFIX}/secrets"
    response = caller.get(url, headers={"Authorization": f"Bearer {token}"})
    assert MARKER not in response.text
    assert response.status_code in (401, 403, 404)


@CHECK
@given(token=HEADER_TEXT)
def test_any_token_is_refused(caller: httpx.Client, token: bytes) -> None:
    headers = [(b"Authorization", (b"Bearer " + token).strip())]
    response = caller.get("/secrets", headers=headers)
    assert MARKER not in response.text
    assert response.status_code == 401


@pytest.mark.parametrize("count", [1, 1_000, 20_000])
def test_huge_lists_are_one_parameter(server: RestServer, count: int) -> None:
    listed = ",".join(map(str, range(count)))
    client = server.client("service_role")
    if len(listed) < 60_000:
        found = client.get(f"/items?select=id&id=in.({listed})&limit=1000").json()
        assert len(found) == min(count - 1, 60)
    body = {"word": "x"}
    path = f"/items?id=in.({listed[:50_000].rpartition(',')[0] or listed})"
    prefer = {"Prefer": "tx=rollback,return=representation"}
    assert client.patch(path, json=body, headers=prefer).status_code == 200
