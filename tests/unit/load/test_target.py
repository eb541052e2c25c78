"""The target as data: addresses, tokens, and the way through another process."""

import jwt
import pytest

from harness.db.address import DatabaseAddress
from harness.errors import UsageError
from harness.load.target import Target


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:54321", "ws://127.0.0.1:54321/realtime/v1/websocket"),
        ("http://h:1/p/ref", "ws://h:1/p/ref/realtime/v1/websocket"),
        ("https://x.supabase.co", "wss://x.supabase.co/realtime/v1/websocket"),
    ],
)
def test_websocket_url_keeps_scheme_and_prefix(url: str, expected: str) -> None:
    target = Target(url=url, anon_key="KEY")
    assert target.websocket_url() == f"{expected}?apikey=KEY&vsn=2.0.0"


def test_user_token_carries_the_user_and_is_the_same_every_time() -> None:
    secret = "a secret that is long enough for HS256, really"
    target = Target(url="http://h", anon_key="k", jwt_secret=secret)
    claims = jwt.decode(
        target.user_token("u1"), secret, algorithms=["HS256"], audience="authenticated"
    )
    assert (claims["sub"], claims["role"]) == ("u1", "authenticated")
    assert target.user_token("u1") == target.user_token("u1")


def test_user_token_without_the_secret_is_refused_with_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        Target(url="http://h", anon_key="k").user_token("u1")
    assert "broadcast" in (caught.value.hint or "")


def test_target_survives_json_with_its_database() -> None:
    target = Target(
        url="http://h",
        anon_key="k",
        database=DatabaseAddress("/run/pg", 5432, "db", "pw"),
        server_pids=(1, 2),
        postgres_pid=3,
    )
    assert Target.from_json(target.to_json()) == target
