"""Many at once: who signs up twice, and how many requests Auth stands."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any


async def test_of_many_sign_ups_with_one_address_one_wins(auth: Any) -> None:
    body = {"email": "ada@example.test", "password": "correct horse"}
    responses = await asyncio.gather(
        *(auth.call("POST", "/signup", body) for _ in range(12))
    )
    codes = Counter(each.json().get("code") for each in responses)
    assert codes == {None: 1, "user_already_exists": 11}
    assert len(await auth.sql("select id from auth.users")) == 1
    assert len(await auth.sql("select id from auth.identities")) == 1
    assert len(await auth.sql("select id from auth.sessions")) == 1


async def test_of_many_admins_who_create_one_address_one_wins(auth: Any) -> None:
    body = {"email": "ada@example.test", "password": "correct horse"}
    responses = await asyncio.gather(
        *(auth.admin("POST", "/users", body) for _ in range(8))
    )
    codes = Counter(each.json().get("code") for each in responses)
    assert codes == {None: 1, "email_exists": 7}


async def test_of_many_users_who_take_one_address_one_wins(auth: Any) -> None:
    sessions = await asyncio.gather(*(auth.sign_up() for _ in range(6)))
    responses = await asyncio.gather(
        *(
            auth.call(
                "PUT",
                "/user",
                {"email": "ada@example.test"},
                token=session["access_token"],
            )
            for session in sessions
        )
    )
    codes = Counter(each.json().get("code") for each in responses)
    assert codes == {None: 1, "email_exists": 5}


async def test_of_many_changes_of_metadata_none_is_lost(auth: Any) -> None:
    session = await auth.sign_up()
    token, path = session["access_token"], f"/users/{session['user']['id']}"
    await asyncio.gather(
        *(
            auth.call("PUT", "/user", {"data": {f"own{n}": n}}, token=token)
            for n in range(6)
        ),
        *(
            auth.admin("PUT", path, {"user_metadata": {f"admins{n}": n}})
            for n in range(6)
        ),
    )
    user = (await auth.call("GET", "/user", token=token)).json()
    wanted = {f"{who}{n}" for who in ("own", "admins") for n in range(6)}
    assert wanted <= user["user_metadata"].keys()


async def test_a_user_deleted_while_they_change_is_told(auth: Any) -> None:
    session = await auth.sign_up()
    token, path = session["access_token"], f"/users/{session['user']['id']}"
    change = {"data": {"colour": "green"}}
    responses = await asyncio.gather(
        *(auth.call("PUT", "/user", change, token=token) for _ in range(6)),
        auth.admin("DELETE", path),
        *(auth.call("PUT", "/user", change, token=token) for _ in range(6)),
    )
    assert {each.status_code for each in responses} <= {200, 403}


async def test_a_user_deleted_while_they_sign_in_is_told(auth: Any) -> None:
    email = (await auth.sign_up())["user"]["email"]
    await auth.sql(
        "create function public.too_late() returns trigger language plpgsql as $$ "
        "begin delete from auth.users where id = new.user_id; return new; end $$"
    )
    await auth.sql(
        "create trigger too_late before insert on auth.sessions "
        "for each row execute function public.too_late()"
    )
    await auth.sql("grant delete on auth.users to supabase_auth_admin")
    response = await auth.sign_in(email)
    assert (response.status_code, response.json()["code"]) == (404, "user_not_found")


async def test_a_user_deleted_while_they_refresh_is_gone(auth: Any) -> None:
    session = await auth.sign_up()
    path = f"/users/{session['user']['id']}"
    responses = await asyncio.gather(
        *(auth.refresh(session["refresh_token"]) for _ in range(6)),
        auth.admin("DELETE", path),
        *(auth.refresh(session["refresh_token"]) for _ in range(6)),
    )
    assert {each.status_code for each in responses} <= {200, 400}
    assert await auth.sql("select id from auth.refresh_tokens") == []
    assert (await auth.refresh(session["refresh_token"])).status_code == 400


async def test_more_requests_than_connections_are_all_answered(auth: Any) -> None:
    responses = await asyncio.gather(
        *(auth.call("POST", "/signup", {}) for _ in range(120))
    )
    assert {each.status_code for each in responses} == {200}
    assert len(await auth.sql("select id from auth.users")) == 120
