"""Schema versions by name, a git ref with a path among them (``main:supabase``)."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UsageError
from harness.runner.schemas import SchemaUnderTest, schema_under_test

__all__ = ["version_under_test"]

GIT_TIMEOUT_S = 60


@contextmanager
def version_under_test(name: str) -> Iterator[SchemaUnderTest]:
    """Give the schema that ``name`` names; a checkout of it lasts as long as this."""
    found = schema_under_test(name)
    if found is not None:
        yield found
        return
    ref, colon, path = name.partition(":")
    if not colon or not ref:
        raise UsageError(
            f"no schema {name!r}: neither a folder nor a database URL",
            hint="a version in git is named REF:PATH, such as main:supabase",
        )
    with tempfile.TemporaryDirectory(prefix="harness-diff-") as folder:
        _extract(ref, path, Path(folder))
        checked_out = schema_under_test(folder)
        if checked_out is None:
            raise UsageError(f"no schema in {name!r}")
        yield dataclasses.replace(checked_out, name=name)


def _extract(ref: str, path: str, folder: Path) -> None:
    """Write the tree of ``ref:path`` into ``folder``; the work tree is not touched."""
    tree = f"{ref}:./{path}" if path not in ("", ".") else f"{ref}:./"
    _git(
        "rev-parse",
        "--verify",
        "--quiet",
        f"{ref}^{{commit}}",
        failure=f"no ref {ref!r} in the git repository here",
        hint="git branch --all and git tag list the refs",
    )
    archive = _git(
        "archive",
        "--format=tar",
        tree,
        failure=f"no folder {path!r} in {ref}",
        hint=f"paths count from the current folder: git ls-tree {ref}",
    )
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def _git(*arguments: str, failure: str, hint: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, check=False, timeout=GIT_TIMEOUT_S
        )
    except FileNotFoundError as exc:
        raise UsageError("git is not installed, which reads REF:PATH") from exc
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        outside = told and "not a git repository" in told[0]
        raise UsageError(failure, hint=told[0] if outside else hint)
    return done.stdout
