"""Auth by the official JavaScript client, with both kinds of keys."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from harness.protocols.jwt import ProjectKeys
from harness.stack.base import Stack
from harness.stack.project import Project

pytestmark = pytest.mark.conformance

SCRIPT = Path(__file__).parent / "auth.test.mjs"
RunNode = Callable[[Path, dict[str, str]], str]


async def serve_with(stack: Stack, project: Project, keys: ProjectKeys) -> None:
    await stack.control.unregister(project.ref)
    record = {**stack.registered[project.ref], "keys": dataclasses.asdict(keys)}
    await stack.control.register(record)


def environment(project: Project, algorithm: str) -> dict[str, str]:
    return {
        "SUPABASE_URL": project.url,
        "SUPABASE_PUBLISHABLE_KEY": project.publishable_key,
        "SUPABASE_SECRET_KEY": project.secret_key,
        "TOKEN_ALG": algorithm,
    }


async def test_auth_js_with_a_shared_secret(
    project: Project, run_node: RunNode
) -> None:
    run_node(SCRIPT, environment(project, "HS256"))


async def test_auth_js_with_a_signing_key(
    stack: Stack, project: Project, run_node: RunNode
) -> None:
    private = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()))
    key = {**json.loads(private), "kid": str(uuid.uuid4()), "alg": "ES256"}
    await serve_with(stack, project, ProjectKeys(signing_keys=(key,)))
    run_node(SCRIPT, environment(project, "ES256"))
