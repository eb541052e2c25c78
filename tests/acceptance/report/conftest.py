"""A made-up run with one of everything, for the writers to render."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.events import (
    CheckFinished,
    DecisionCell,
    Event,
    Finding,
    LoadStepFinished,
    PhaseFinished,
    PhaseStarted,
    RequirementShown,
    RunFinished,
    RunStarted,
    StackStarted,
    Undecided,
    Witness,
)
from harness.load.histogram import LatencyHistogram

AVATAR_SQL = """\
begin;
set local role anon;
set local request.jwt.claims = '{"role":"anon"}';
select id, user_id, heart_rate from public.wearable_data;  -- 1 row, expected none
rollback;"""
AVATAR_CURL = """\
curl "$SUPABASE_URL/rest/v1/wearable_data?select=id,user_id,heart_rate" \\
  -H "apikey: $SUPABASE_ANON_KEY"
"""
AVATAR_PYTHON = """\
client = create_client(url, anon_key)
client.table("wearable_data").select("id,user_id,heart_rate").execute().data
"""
TABLES = (
    "user_profiles",
    "training_plans",
    "training_sessions",
    "wearable_data",
    "readiness_scores",
    "video_content",
    "content_analytics",
    "realtime_channels",
)
BUCKETS = ("user-avatars", "training-videos", "mountain-images", "app-assets")
PERSONAS = ("anon", "authenticated", "premium_user", "admin")


@pytest.fixture
def failed_run() -> list[Event]:
    """Return a run that found three faults, left one open, and carried a load."""
    return list(_failed_run())


@pytest.fixture
def passed_run() -> list[Event]:
    """Return a short run in which everything was right."""
    return [
        _started("notes", 7),
        PhaseStarted(at=0.1, phase="policies", title="Policy checks", total=1),
        CheckFinished(
            at=0.4,
            phase="policies",
            check="owner_reads_own_notes",
            outcome="passed",
            took_s=0.3,
            decisions=1200,
        ),
        PhaseFinished(at=0.4, phase="policies", took_s=0.3, summary="1 check"),
        RunFinished(
            at=0.5,
            verdict="pass",
            exit_code=0,
            passed=1,
            failed=0,
            undecided=0,
            skipped=0,
            took_s=0.5,
        ),
    ]


def _started(what: str, seed: int) -> RunStarted:
    return RunStarted(
        what=what,
        seed=seed,
        utc="2026-11-21T14:48:03Z",
        command=f"harness run {what} --seed {seed}",
        environment={
            "python": "3.11.7",
            "processor": "2 cores",
            "system": "Linux 6.18 x86_64",
            "harness": "0.1.0",
        },
    )


def _failed_run() -> Iterator[Event]:
    yield _started("climber-draft", 1764772)
    yield StackStarted(
        at=0.9,
        kind="embedded",
        api_url="http://127.0.0.1:54321",
        postgres="PostgreSQL 15.14",
        took_s=0.87,
    )
    yield PhaseStarted(at=0.9, phase="schema", title="Apply the schema", total=9)
    yield PhaseFinished(
        at=1.5, phase="schema", took_s=0.6, summary="9 files, 412 statements"
    )
    yield PhaseStarted(at=1.5, phase="policies", title="Policy checks", total=44)
    yield from _matrix()
    yield from _findings()
    yield from _checks()
    yield PhaseFinished(
        at=10.3, phase="policies", took_s=8.8, summary="41,230 decisions, 3 findings"
    )
    yield PhaseStarted(at=10.3, phase="uploads", title="Upload flows", total=31)
    yield PhaseFinished(at=14.9, phase="uploads", took_s=4.6, summary="31 flows")
    yield PhaseStarted(at=14.9, phase="load", title="Load", total=None)
    yield from _load()
    yield PhaseFinished(at=38.0, phase="load", took_s=23.1, summary="climber-200")
    yield from _requirements()
    yield RunFinished(
        at=38.2,
        verdict="fail",
        exit_code=1,
        passed=40,
        failed=3,
        undecided=1,
        skipped=1,
        took_s=38.2,
    )


def _matrix() -> Iterator[Event]:
    rng = random.Random(5)
    for table in TABLES:
        for command in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            for persona in PERSONAS:
                for scope in ("own", "other"):
                    if persona == "anon" and scope == "own":
                        continue
                    yield _cell(table, command, persona, scope, rng)
    for bucket in BUCKETS:
        for command in ("list", "read", "upload", "overwrite", "move", "delete"):
            for persona in PERSONAS:
                for scope in ("own", "other"):
                    yield _cell(f"storage {bucket}", command, persona, scope, rng)
    for function in ("get_user_avatar_url", "delete_user_avatar"):
        for persona in PERSONAS:
            yield _cell(f"{function}(uuid)", "EXECUTE", persona, "any", rng)


def _cell(
    relation: str, command: str, persona: str, scope: str, rng: random.Random
) -> DecisionCell:
    reads = command in {"SELECT", "list", "read"}
    total = rng.randrange(20, 400)
    allowed = 0
    if persona == "admin" or scope == "own" or (reads and "video" in relation):
        allowed = total
    if relation == "training_plans" and scope == "other" and reads:
        allowed = total // 3
    judged = "expected"
    if (relation, command, persona, scope) == (
        "wearable_data",
        "SELECT",
        "anon",
        "other",
    ):
        allowed, judged = total, "violation"
    if (relation, command, persona, scope) == (
        "realtime_channels",
        "UPDATE",
        "authenticated",
        "other",
    ):
        allowed, judged = total // 2, "violation"
    if relation == "storage app-assets" and persona == "premium_user":
        judged = "unjudged"
    return DecisionCell(
        relation=relation,
        command=command,
        persona=persona,
        scope=scope,
        allowed=allowed,
        denied=total - allowed,
        judged=judged,  # type: ignore[arg-type]  # one of the literals
    )


def _findings() -> Iterator[Event]:
    yield Finding(
        at=5.0,
        phase="policies",
        check="has_role_is_no_oracle",
        message="any signed-in user learns the role of any other user",
        where="sql/climber/draft/20250101000300_functions.sql:44",
        severity="medium",
        hint="let the function answer for auth.uid() only",
        repeat="harness check sql/climber/draft --only has_role_is_no_oracle --seed 1",
    )
    yield Finding(
        at=4.0,
        phase="policies",
        check="anon_sees_no_private_rows",
        message="anon reads rows of wearable_data that belong to other users",
        where="sql/climber/draft/20250101000100_tables.sql:112",
        severity="critical",
        note="row level security is not enabled on the table",
        hint="alter table public.wearable_data enable row level security",
        repeat=(
            "harness check sql/climber/draft --only anon_sees_no_private_rows --seed 1"
        ),
        witness=Witness(
            sql=AVATAR_SQL,
            curl=AVATAR_CURL,
            python=AVATAR_PYTHON,
            rows=1,
            identities=2,
            statements=1,
        ),
        requirements=("CL-41", "CL-20"),
    )
    yield Finding(
        at=6.0,
        phase="policies",
        check="users_change_own_channels_only",
        message="a signed-in user changes <rows> of realtime_channels & others' names",
        where="public.realtime_channels",
        severity="high",
        witness=Witness(
            sql="update public.realtime_channels set is_active = false;",
            rows=1,
            identities=1,
            statements=1,
        ),
        requirements=("CL-40",),
    )
    yield Undecided(
        at=7.0,
        phase="policies",
        check="premium_may_upload_videos",
        reason="the policy raised 22P02: invalid input syntax for type uuid: 'avatars'",
        where="storage.objects",
    )


def _checks() -> Iterator[Event]:
    failed = {
        "anon_sees_no_private_rows",
        "has_role_is_no_oracle",
        "users_change_own_channels_only",
    }
    names = (
        *sorted(failed),
        "owner_reads_own_rows",
        "premium_may_upload_videos",
        *(f"{table}_owner_only" for table in TABLES),
    )
    for i, name in enumerate(names):
        yield CheckFinished(
            at=7.0 + i / 10,
            phase="policies",
            check=name,
            outcome="failed" if name in failed else "passed",
            took_s=0.2 + i / 50,
            decisions=2400 + 31 * i,
        )
    yield CheckFinished(
        at=9.5,
        phase="uploads",
        check="minio_round_trip",
        outcome="skipped",
        took_s=0.0,
        detail="no S3 server in the embedded stack",
    )


def _load() -> Iterator[Event]:
    rng = random.Random(11)
    for step, rate in enumerate((5000, 10000, 20000, 30000, 36000), start=1):
        slow = 1.0 / max(0.05, 1.0 - rate / 40000)
        histogram = LatencyHistogram()
        histogram.record_many_us(
            int(rng.lognormvariate(6.7, 0.5) * slow) for _ in range(4000)
        )
        count = rate * 4
        yield LoadStepFinished(
            at=16.0 + 4 * step,
            profile="climber-200",
            step=step,
            subscribers=200,
            offered_per_s=float(rate),
            duration_s=4.0,
            sent=count // 200,
            expected=count,
            delivered=count - (12 if step == 5 else 0),
            lost=12 if step == 5 else 0,
            duplicate=0,
            reordered=0,
            wrong_recipient=0,
            stale=0,
            latency=histogram.summary(),
            server_cpu_s=count * 2.9e-6,
            generator_cpu_s=count * 4.1e-6,
            postgres_cpu_s=count * 0.2e-6,
            server_rss_mib=84.0,
            histogram=histogram.encode(),
            timeline=tuple(
                (
                    i / 4,
                    rate // 4 + rng.randrange(-200, 200),
                    slow * (2 + rng.random()),
                )
                for i in range(1, 17)
            ),
        )


def _requirements() -> Iterator[Event]:
    for i in range(1, 50):
        failed = i in {20, 40, 41}
        yield RequirementShown(
            requirement=f"CL-{i:02}",
            title=(
                "bucket user-avatars is public, takes 5,242,880 bytes, jpeg, png, webp"
                if i % 3
                else "avatar SELECT in the own folder only"
            ),
            scenario=f"test_climber_requirement_{i:02}",
            outcome="failed" if failed else "skipped" if i == 36 else "passed",
            reason="no S3 server in the embedded stack" if i == 36 else "",
        )


class Snapshots:
    """Stored outputs beside the test; ``UPDATE_SNAPSHOTS=1`` writes them anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, name: str, text: str) -> None:
        """Compare ``text`` with the stored file ``name``."""
        path = self._folder / name
        if os.environ.get("UPDATE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")


@pytest.fixture
def snapshots() -> Snapshots:
    """Compare with the folder ``snapshots`` beside this file."""
    return Snapshots(Path(__file__).parent / "snapshots")
