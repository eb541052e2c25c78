"""As whom the server process runs: PostgreSQL refuses to run as root.

Root drops to an existing unprivileged account for the server process alone, and only
folders of ours change owner.  Everybody else runs the server as themselves.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StackError

__all__ = ["Account", "give", "server_account"]

# In order: the packaged server's own account, then one that owns nothing.
CANDIDATES = ("postgres", "nobody", "daemon")


@dataclass(frozen=True, slots=True)
class Account:
    """An operating system account."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """Return the account to drop to, or ``None`` when the caller will do."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise StackError(
        "PostgreSQL does not run as root and there is no account to run it as",
        service="postgres",
        hint="add one: useradd --system postgres",
    )


def give(path: Path, account: Account | None) -> None:
    """Make ``account`` the owner of a folder of ours, not of what is in it."""
    if account is not None:
        os.chown(path, account.uid, account.gid)
