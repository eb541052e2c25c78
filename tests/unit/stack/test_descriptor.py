"""Descriptors travel as JSON; the registry finds the stacks that still live."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from harness.db.address import DatabaseAddress
from harness.db.rundir import RunDir
from harness.errors import StackError
from harness.protocols.jwt import ProjectKeys, S3Keys
from harness.stack.descriptor import StackDescriptor
from harness.stack.registry import StackRegistry

SIGNING_KEY = ECAlgorithm.to_jwk(
    ec.generate_private_key(ec.SECP256R1()), as_dict=True
) | {"kid": "a", "alg": "ES256"}
DESCRIPTOR = StackDescriptor(
    name="one",
    kind="embedded",
    api_url="http://127.0.0.1:54321",
    control_secret="secret",
    postgres=DatabaseAddress("/run/socket", 54322, "_supabase"),
    postgres_version="15.18",
    db_host="127.0.0.1",
    db_port=54322,
    keys=ProjectKeys(
        jwt_secret="x" * 40, s3=S3Keys(region="here"), signing_keys=(SIGNING_KEY,)
    ),
    pids={"keeper": os.getpid()},
)


def test_descriptor_survives_json() -> None:
    assert StackDescriptor.from_json(DESCRIPTOR.to_json()) == DESCRIPTOR


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "one"}', "null"])
def test_broken_descriptor_is_a_stack_error(text: str) -> None:
    with pytest.raises(StackError, match="descriptor is broken"):
        StackDescriptor.from_json(text)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    """Return a run folder that this process holds."""
    held = RunDir.create(tmp_path)
    yield held
    held.remove()


def test_registry_lists_living_stacks_by_name(tmp_path: Path, run_dir: RunDir) -> None:
    registry = StackRegistry(tmp_path)
    for name in ("two", "one"):
        registry.add(replace(DESCRIPTOR, name=name, log_dir=str(run_dir.path)))
    assert [d.name for d in registry.running()] == ["one", "two"]
    registry.remove("one")
    assert [d.name for d in registry.running()] == ["two"]


def test_registry_forgets_stacks_whose_keeper_is_gone(
    tmp_path: Path, run_dir: RunDir
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    registry = StackRegistry(tmp_path)
    path = registry.add(
        replace(DESCRIPTOR, pids={"keeper": ended.pid}, log_dir=str(run_dir.path))
    )
    assert registry.running() == []
    assert not path.exists()


def test_registry_does_not_take_another_process_with_the_same_id_for_a_keeper(
    tmp_path: Path, run_dir: RunDir
) -> None:
    registry = StackRegistry(tmp_path)
    registry.add(replace(DESCRIPTOR, name="kept", log_dir=str(run_dir.path)))
    nobody = RunDir.create(tmp_path)
    nobody.release()
    registry.add(replace(DESCRIPTOR, name="left", log_dir=str(nobody.path)))
    registry.add(replace(DESCRIPTOR, name="gone", log_dir=str(tmp_path / "gone")))
    assert [d.name for d in registry.running()] == ["kept"]


def test_registry_keeps_secrets_from_others(tmp_path: Path) -> None:
    path = StackRegistry(tmp_path).add(DESCRIPTOR)
    assert path.stat().st_mode & 0o077 == 0
