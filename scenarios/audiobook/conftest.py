"""Fixtures of the audiobook suites: two narrators and their audio services."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scenarios.audiobook import SCENARIO
from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import LocalAudioStore, SupabaseAudioStore
from scenarios.audiobook.narrators import Narrator, narrator
from scenarios.audiobook.records import AudioRecords
from scenarios.fixtures import AsPersona, sql
from scenarios.schemas import schema_folders

if TYPE_CHECKING:
    from harness.stack.project import Project

__all__ = ["harness_schema", "sql"]


@pytest.fixture(scope="session")
def harness_schema() -> tuple[Path, ...]:
    """Run on the audiobook schema, or on its draft, with its narrators."""
    return (*schema_folders(SCENARIO), Path(__file__).with_name("people.sql"))


@pytest.fixture
def nora(project: Project) -> Narrator:
    """Return a narrator."""
    return narrator(project, 1, "nora")


@pytest.fixture
def omar(project: Project) -> Narrator:
    """Return another narrator."""
    return narrator(project, 2, "omar")


@pytest.fixture
def local(tmp_path: Path) -> LocalAudioStore:
    """Return a local store."""
    return LocalAudioStore(tmp_path / "uploads")


@pytest.fixture
async def records(project: Project, as_persona: AsPersona) -> AudioRecords:
    """Return the records, with the service key."""
    return AudioRecords(await as_persona(project.service))


@pytest.fixture
async def remote(nora: Narrator, as_persona: AsPersona) -> SupabaseAudioStore:
    """Return the bucket as nora reaches it."""
    return SupabaseAudioStore((await as_persona(nora.persona)).storage)


@pytest.fixture
def audio(
    nora: Narrator,
    records: AudioRecords,
    local: LocalAudioStore,
    remote: SupabaseAudioStore,
) -> AudioService:
    """Return the audio of nora, kept in Supabase."""
    return AudioService(nora.id, records, local, remote)
