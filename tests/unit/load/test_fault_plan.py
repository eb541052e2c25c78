"""Which faults a load can have; refused before anything is started."""

from __future__ import annotations

import os

import pytest

from harness.errors import UsageError
from harness.faults import parse_timed_fault
from harness.load.fault_plan import FaultPlan
from harness.load.profiles import find_profile
from harness.load.target import Target

LOCAL = Target(
    url="http://127.0.0.1:54321/p/one", anon_key="k", server_pids=(os.getpid(),)
)
REMOTE = Target(url="https://project.example.test", anon_key="k")


def plan(fault: str, target: Target) -> FaultPlan:
    profile = find_profile("smoke")
    return FaultPlan([parse_timed_fault(fault)], profile, target, phase="load", seed=1)


@pytest.mark.parametrize(
    ("fault", "target", "message", "hint"),
    [
        ("pause:server@2s", LOCAL, "would come after the load", "last 2 s"),
        ("kill:server@1s", LOCAL, "nobody starts server again", "pause:server"),
        ("pause:sever@1s", LOCAL, "no service 'sever'", "did you mean 'server'"),
        ("pause:postgres@1s", LOCAL, "no service 'postgres'", "there are: server"),
        ("pause:server@1s", REMOTE, "no service 'server'", "there are: none"),
        ("disk-full:objects@1s", LOCAL, "no disk 'objects'", "none"),
        ("cut:server@1s", LOCAL, "no link 'server'", "the link is 'clients'"),
        ("cut:clients@1s", REMOTE, "a link with TLS", ""),
    ],
)
def test_what_cannot_be_done_is_told_at_once(
    fault: str, target: Target, message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan(fault, target)
    assert hint in (caught.value.hint or "")


async def test_only_a_fault_of_the_link_puts_a_proxy_before_the_subscribers() -> None:
    async with plan("pause:server@1s", LOCAL) as paused:
        assert paused.target == LOCAL
    async with plan("latency:clients:5ms@1s", LOCAL) as delayed:
        near = delayed.target.websocket_url(for_subscribers=True)
        assert near.startswith("ws://127.0.0.1:")
        assert "/p/one/realtime/v1/websocket" in near
        assert ":54321" not in near
        assert delayed.target.websocket_url() == LOCAL.websocket_url()
