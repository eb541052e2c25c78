"""The official JavaScript clients, unmodified, against our Storage API.

They are installed from their registry, once, into the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest

from harness.servers.storage.standalone import StandaloneStorage

HERE = Path(__file__).parent / "js"
ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
INSTALL_TIMEOUT_S = 300.0
SCRIPT_TIMEOUT_S = 120.0

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="session")
def packages() -> Path:
    """Return a folder with the clients installed."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs Node.js and npm")
    digest = hashlib.sha256((HERE / "package.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    installed = cache / "supabase-harness" / f"npm-{digest}"
    if not installed.exists():
        install(installed)
    return installed


def install(installed: Path) -> None:
    installed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=installed.parent) as building:
        folder = Path(building) / "packages"
        folder.mkdir()
        shutil.copy(HERE / "package.json", folder)
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout
        try:
            folder.rename(installed)
        except OSError:
            # Whole or not at all; another worker may have been first.
            if not installed.exists():
                raise


@pytest.mark.parametrize("script", ["storage_js", "tus_js", "uppy", "aws_s3"])
def test_client(
    storage: StandaloneStorage, packages: Path, tmp_path: Path, script: str
) -> None:
    if script in ("tus_js", "uppy"):
        httpx.post(
            f"{storage.url}/bucket",
            json={"name": "docs"},
            headers={"Authorization": f"Bearer {storage.service_key}"},
        ).raise_for_status()
    # Node.js looks for packages beside the script.
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    copied = shutil.copy(HERE / f"{script}.mjs", tmp_path)
    keys = storage.keys
    done = subprocess.run(
        ["node", copied],
        env={
            "PATH": os.environ["PATH"],
            "URL_": storage.url,
            "SERVICE": storage.service_key,
            "ANON": keys.anon_key,
            "ALICE": storage.token(ALICE),
            "ALICE_ID": ALICE,
            "BOB": storage.token(BOB),
            "KEY": keys.s3.access_key_id,
            "SECRET": keys.s3.secret_access_key,
            "REGION": keys.s3.region,
            "PROJECT": "default",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SCRIPT_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout
