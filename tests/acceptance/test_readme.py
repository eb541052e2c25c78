"""What the README shows is true: its test files run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
FILE = re.compile(r"^# (\w+\.py)$", re.MULTILINE)
NOTES = """
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid() references auth.users (id),
  body text not null
);
alter table public.notes enable row level security;
create policy "own notes" on public.notes for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
"""


def files_of_readme() -> dict[str, str]:
    """Return the files that the README's block on tests names, by name."""
    (block,) = PYTHON_BLOCK.findall(README.read_text(encoding="utf-8"))
    _, *parts = FILE.split(block)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_test_files_of_the_readme_run_in_a_project_of_the_cli(tmp_path: Path) -> None:
    migrations = tmp_path / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_notes.sql").write_text(NOTES)
    for name, text in files_of_readme().items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout
