"""Whether rows and bytes agree: every object has its bytes, after any history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from scenarios.browsing import browser

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
    headers = {"Authorization": f"Bearer {project.service_role_key}"}
    found = []
    async with browser(headers=headers) as http:
        for bucket, name, size in rows:
            path = f"{bucket}/{quote(name)}"
            answer = await http.get(f"{project.url}/storage/v1/object/{path}")
            if answer.status_code != 200:
                found.append(Disagreement(bucket, name, answer.text))
            elif len(answer.content) != size:
                problem = f"the row says {size} bytes, not {len(answer.content)}"
                found.append(Disagreement(bucket, name, problem))
    return found


async def assert_rows_and_bytes_agree(project: Project) -> None:
    """Fail with the list of objects whose row and bytes disagree."""
    assert await disagreements(project) == []
