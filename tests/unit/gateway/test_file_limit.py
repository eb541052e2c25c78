"""A server takes as many connections as the system lets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from harness.servers.file_limit import raise_file_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
raise_file_limit()
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_the_limit_of_open_files_is_raised_to_what_is_allowed() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)
