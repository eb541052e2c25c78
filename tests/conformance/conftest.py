"""Node.js with the official clients, installed from their registry once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
INSTALL_TIMEOUT_S = 300.0
SCRIPT_TIMEOUT_S = 120.0
RunNode = Callable[[Path, dict[str, str]], str]


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Return the folder of packages that ``package.json`` names.

    They are kept in the user's cache by the hash of that file.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js and npm")
    wanted = HERE / "package.json"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    installed = cache / "supabase-harness" / f"npm-{digest}"
    if not installed.exists():
        _install(wanted, installed)
    return installed / "node_modules"


@pytest.fixture
def run_node(node_modules: Path, tmp_path: Path) -> RunNode:
    """Give a function that runs the tests of a script and returns what they print."""
    (tmp_path / "node_modules").symlink_to(node_modules)

    def run(script: Path, environment: dict[str, str]) -> str:
        # Imports are looked up from where a script is.
        copy = shutil.copy(script, tmp_path)
        done = subprocess.run(
            # Clients keep connections and timers; the results are in by then.
            ["node", "--test", "--test-force-exit", "--test-reporter=spec", copy],
            env={**os.environ, **environment},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SCRIPT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


def _install(wanted: Path, installed: Path) -> None:
    installed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=installed.parent) as folder:
        shutil.copy(wanted, folder)
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        # Whole or not at all; another worker may have been first.
        try:
            Path(folder).rename(installed)
        except OSError:
            if not installed.exists():
                raise
        else:
            Path(folder).mkdir()  # for the context manager to remove
