"""The official command line client, installed from its registry once."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.db.address import DatabaseAddress

HERE = Path(__file__).parent
INSTALL_TIMEOUT_S = 300.0
COMMAND_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; ``said`` is what it wrote to both streams."""

    status: int
    said: str


RunCli = Callable[..., Ran]


@pytest.fixture(scope="session")
def supabase_program() -> Path:
    """Return the path of the ``supabase`` program."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js and npm")
    wanted = HERE / "package.json"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    installed = cache / "supabase-harness" / f"npm-{digest}"
    if not installed.exists():
        _install(wanted, installed)
    return installed / "node_modules" / ".bin" / "supabase"


@pytest.fixture
def cli(supabase_program: Path, project: Path) -> RunCli:
    """Give a function that runs a command of the CLI on a database."""

    def run(*command: str, database: DatabaseAddress) -> Ran:
        url = (
            f"postgresql://postgres:postgres@127.0.0.1:{database.port}"
            f"/{database.dbname}"
        )
        done = subprocess.run(
            [supabase_program, *command, "--db-url", url, "--yes"],
            cwd=project,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(project),
                "DO_NOT_TRACK": "1",
                "NO_COLOR": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        return Ran(done.returncode, done.stdout)

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a project with what applications usually have.

    Its role gets a name of its own: roles outlive the databases of other tests.
    """
    shutil.copytree(HERE / "project", tmp_path, dirs_exist_ok=True)
    role = f"conformance_reader_{secrets.token_hex(4)}"
    for path in tmp_path.rglob("*.sql"):
        path.write_text(path.read_text().replace("conformance_reader", role))
    return tmp_path


def _install(wanted: Path, installed: Path) -> None:
    installed.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=installed.parent))
    try:
        shutil.copy(wanted, building)
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=building,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        building.rename(installed)
    except OSError:
        # Whole or not at all; another worker may have been first.
        if not installed.exists():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
