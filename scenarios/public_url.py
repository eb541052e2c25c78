"""Telling the database under which URL its project is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["set_public_url"]


async def set_public_url(project: Project) -> None:
    """Set ``app.settings.public_url``, from which ``storage_public_url`` builds URLs.

    The setting holds for connections opened from now on.
    """
    connection = await project.connect()
    try:
        statement = await connection.fetchval(
            "select format('alter database %I set app.settings.public_url = %L',"
            " current_database(), $1::text)",
            project.url,
        )
        await connection.execute(statement)
    finally:
        await connection.close()
