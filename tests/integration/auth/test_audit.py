"""The audit log: an entry for whatever changes who may come in."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.auth.conftest import PASSWORD

NOBODY = "00000000-0000-0000-0000-000000000000"


async def entries(auth: Any) -> list[dict[str, Any]]:
    rows = await auth.sql(
        "select instance_id::text, payload::text, ip_address "
        "from auth.audit_log_entries order by created_at, id"
    )
    assert {(row["instance_id"], row["ip_address"]) for row in rows} <= {(NOBODY, "")}
    return [json.loads(row["payload"]) for row in rows]


async def test_what_a_user_does_is_written_down(auth: Any) -> None:
    session = await auth.sign_up(data={"full_name": "Ada"})
    user, email = session["user"], session["user"]["email"]
    assert (await auth.sign_in(email)).status_code == 200
    renewed = (await auth.refresh(session["refresh_token"])).json()
    token = renewed["access_token"]
    changed = await auth.call("PUT", "/user", {"password": PASSWORD + "!"}, token=token)
    assert changed.status_code == 200
    assert (await auth.call("POST", "/logout", token=token)).status_code == 204
    written = await entries(auth)
    assert sorted(entry["action"] for entry in written) == [
        "login",
        "login",
        "logout",
        "token_refreshed",
        "token_revoked",
        "user_modified",
        "user_signedup",
        "user_updated_password",
    ]
    assert {(e["actor_id"], e["actor_username"], e["actor_name"]) for e in written} == {
        (user["id"], email, "Ada")
    }
    [signed_up] = [e for e in written if e["action"] == "user_signedup"]
    assert signed_up["traits"] == {"provider": "email"}
    assert (signed_up["log_type"], signed_up["actor_via_sso"]) == ("team", False)


async def test_what_the_service_role_does_tells_whom_it_concerns(auth: Any) -> None:
    body = {"email": "eve@example.test", "password": PASSWORD}
    user = (await auth.admin("POST", "/users", body)).json()
    path = f"/users/{user['id']}"
    assert (await auth.admin("PUT", path, {"ban_duration": "1h"})).status_code == 200
    assert (await auth.admin("DELETE", path)).status_code == 200
    written = await entries(auth)
    assert [(entry["action"], entry["log_type"]) for entry in written] == [
        ("user_signedup", "team"),
        ("user_modified", "user"),
        ("user_deleted", "team"),
    ]
    about = {"user_id": user["id"], "user_email": "eve@example.test", "user_phone": ""}
    assert written[0]["traits"] == {**about, "provider": "email"}
    assert written[2]["traits"] == about
    assert {(e["actor_id"], e["actor_username"]) for e in written} == {
        (NOBODY, "service_role")
    }


async def test_what_is_refused_leaves_no_entry(auth: Any) -> None:
    session = await auth.sign_up()
    before = await entries(auth)
    assert (await auth.sign_in(session["user"]["email"], "wrong")).status_code == 400
    assert (await auth.refresh("nothing")).status_code == 400
    assert (await auth.admin("DELETE", f"/users/{NOBODY}")).status_code == 404
    assert await entries(auth) == before
