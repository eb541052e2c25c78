"""Make a data directory with ``initdb``.

Differences from a plain one: the superuser is ``supabase_admin``, the database
``postgres`` is renamed to ``_supabase`` (as maintenance database, so that ``postgres``
can be a project), local connections are trusted (the socket folder is private) and TCP
asks for a password.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from harness.db.account import Account
from harness.db.discovery import PostgresInstallation
from harness.errors import StackError

__all__ = ["MAINTENANCE_DB", "SUPERUSER", "initdb", "initdb_options"]

SUPERUSER = "supabase_admin"
MAINTENANCE_DB = "_supabase"
ON_LINUX = platform.system() == "Linux"
INITDB_TIMEOUT_S = 120.0

HBA = """\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


def initdb(
    data_dir: Path, installation: PostgresInstallation, account: Account | None
) -> None:
    """Initialise ``data_dir`` (existing, empty, owned by ``account`` if given)."""
    program = str(installation.program("initdb"))
    _run(
        [program, *initdb_options(installation), "-D", str(data_dir)], data_dir, account
    )
    rename = f"alter database postgres rename to {MAINTENANCE_DB};\n"
    server = str(installation.program("postgres"))
    single = [server, "--single", "-F", "-D", str(data_dir), "template1"]
    _run(single, data_dir, account, stdin=rename)
    (data_dir / "pg_hba.conf").write_text(HBA)


def initdb_options(installation: PostgresInstallation) -> tuple[str, ...]:
    """Return the options that shape the data directory."""
    options = [
        f"--username={SUPERUSER}",
        "--auth=trust",
        "--encoding=UTF8",
        *_locale(installation),
        "--no-sync",
        "--no-instructions",
    ]
    if installation.major >= 18:
        # On by default from 18; a throw-away cluster does not need them.
        options.append("--no-data-checksums")
    return tuple(options)


def _locale(installation: PostgresInstallation) -> tuple[str, ...]:
    """Return the options for code point order with Unicode case rules."""
    if ON_LINUX:
        return ("--locale=C.UTF-8",)
    if installation.major >= 17:
        return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return ("--locale=en_US.UTF-8", "--lc-collate=C")


def _run(
    command: list[str], cwd: Path, account: Account | None, stdin: str = ""
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise StackError(f"{command[0]} failed: {exc}", service="postgres") from exc
    if done.returncode or "FATAL" in done.stderr or "ERROR" in done.stderr:
        raise StackError(
            f"{command[0]} failed with status {done.returncode}",
            service="postgres",
            log_tail=done.stdout + done.stderr,
        )
