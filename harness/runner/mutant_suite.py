"""A user's own suite as the judge of mutants: a shell command on a project of each.

The project is a clone of the schema with the mutant applied.  Exit code 0 means that
the suite saw nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.policies.mutant import Mutant
from harness.policies.mutation_judging import Judged, apply_mutant
from harness.runner.schemas import SchemaUnderTest
from harness.stack.base import Stack
from harness.stack.project import Project

__all__ = ["SuiteJudge", "suite_environment"]

LOG_TAIL_LINES = 20


@dataclass
class SuiteJudge:
    """Runs ``command`` in a shell on a project of each mutant."""

    stack: Stack
    schema: SchemaUnderTest
    command: str
    folder: Path

    async def prepare(self) -> None:
        """Run the suite on the schema as it is; raises UsageError unless it passes."""
        code = await self._run(None)
        if code:
            raise UsageError(
                f"the suite ends with {code} on the schema as it is:\n{self._tail()}",
                hint="only a suite that passes can tell a mutant from the original",
            )

    async def judge(self, mutant: Mutant) -> Judged:
        """Run the suite on the mutant."""
        code = await self._run(mutant)
        return Judged("killed", f"exit code {code}") if code else Judged("survived")

    async def _run(self, mutant: Mutant | None) -> int:
        project = await self.stack.create_project(await self.schema.sources())
        try:
            if mutant is not None:
                await apply_mutant(project.database, mutant)
            return await self._shell(suite_environment(os.environ, project))
        finally:
            await project.drop()

    async def _shell(self, environment: Mapping[str, str]) -> int:
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_shell(
                self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(environment),
                start_new_session=True,
            )
            try:
                return await process.wait()
            finally:
                if process.returncode is None:
                    # What the shell started is in its process group.
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()

    @property
    def _log(self) -> Path:
        return self.folder / "suite.log"

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def suite_environment(environ: Mapping[str, str], project: Project) -> dict[str, str]:
    """Return ``environ`` pointed at ``project``."""
    url = urlsplit(project.db_url)
    return {
        **environ,
        "DATABASE_URL": project.db_url,
        "SUPABASE_DB_URL": project.db_url,
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port or 5432),
        "PGUSER": url.username or "",
        "PGPASSWORD": url.password or "",
        "PGDATABASE": url.path.lstrip("/"),
        "SUPABASE_URL": project.url,
        "SUPABASE_KEY": project.anon_key,
        "SUPABASE_ANON_KEY": project.anon_key,
        "SUPABASE_SERVICE_ROLE_KEY": project.service_role_key,
        "SUPABASE_PUBLISHABLE_KEY": project.publishable_key,
        "SUPABASE_SECRET_KEY": project.secret_key,
        "SUPABASE_JWT_SECRET": project.keys.jwt_secret,
    }
