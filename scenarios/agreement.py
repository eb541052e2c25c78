"""Whether rows and bytes agree: every object has its bytes, after any history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["Disagreement", "assert_rows_and_bytes_agree", "disagreements"]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An object whose row and bytes do not tell the same."""

    bucket: str
    name: str
    problem: str


async def disagreements(project: Project) -> list[Disagreement]:
    """Download every object of ``storage.objects`` and compare it with its row."""
    connection = await project.connect()
    try:
        rows = await connection.fetch(
            "select bucket_id, name, (metadata ->> 'size')::bigint as size"
            " from storage.objects order by bucket_id, name"
        )
    finally:
        await connection.close()
    client = await project.client(project.service)
    found = []
    for row in rows:
        content = await client.storage.from_(row["bucket_id"]).download(row["name"])
        if len(content) != row["size"]:
            problem = f"row says {row['size']} bytes, download has {len(content)}"
            found.append(Disagreement(row["bucket_id"], row["name"], problem))
    return found


async def assert_rows_and_bytes_agree(project: Project) -> None:
    """Fail with the list of objects whose row and bytes disagree."""
    assert await disagreements(project) == []
