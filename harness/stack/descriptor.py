"""What another process needs to know to use a running stack.

The descriptor is the JSON that ``harness up`` registers, that ``harness run`` hands to
its suites, and that :func:`harness.stack.base.attach` reads back.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.db.address import DatabaseAddress
from harness.errors import StackError
from harness.protocols.jwt import ProjectKeys, S3Keys

__all__ = ["StackDescriptor", "StackKind"]

StackKind = Literal["embedded", "containers", "remote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDescriptor:
    """Where a running stack is and how to speak to it.

    ``postgres`` is how the harness itself reaches the server (superuser
    ``supabase_admin``); ``db_host`` and ``db_port`` are what users are told.
    ``pids`` maps keeper, postgres and server to process ids on this machine, and
    ``log_dir`` is the run folder that the keeper holds.
    A remote project has one ``database_url`` and one ``login`` for everything.
    """

    name: str
    kind: StackKind
    api_url: str
    control_secret: str
    postgres: DatabaseAddress
    postgres_version: str
    db_host: str
    db_port: int
    keys: ProjectKeys = field(default_factory=ProjectKeys)
    pids: dict[str, int] = field(default_factory=dict)
    log_dir: str = ""
    database_url: str = ""
    login: str = ""

    def db_url(self, dbname: str) -> str:
        """Return the database URL of ``dbname`` for users, as role ``postgres``."""
        if self.database_url:
            return self.database_url
        return f"postgresql://postgres:postgres@{self.db_host}:{self.db_port}/{dbname}"

    def to_json(self) -> str:
        """Return the descriptor as JSON text."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StackDescriptor:
        """Read a descriptor back; raises :class:`StackError` on a broken one."""
        try:
            record: dict[str, Any] = json.loads(text)
            keys = record.pop("keys")
            signing = tuple(keys.pop("signing_keys"))
            s3 = S3Keys(**keys.pop("s3"))
            return cls(
                postgres=DatabaseAddress(**record.pop("postgres")),
                keys=ProjectKeys(s3=s3, signing_keys=signing, **keys),
                **record,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise StackError(
                "the stack descriptor is broken",
                hint="run 'harness down' and start anew",
            ) from exc

    @classmethod
    def read(cls, path: Path) -> StackDescriptor:
        """Read the descriptor in the file ``path``."""
        return cls.from_json(path.read_text(encoding="utf-8"))
