"""Moving local audio over: dry run, execute, delete, and a crash at every step."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import allure
import pytest

from harness.stack.project import Project
from scenarios.agreement import assert_rows_and_bytes_agree
from scenarios.audiobook.audio_service import AudioService
from scenarios.audiobook.audio_store import LocalAudioStore, SupabaseAudioStore
from scenarios.audiobook.migration import Migration, MigrationReport, Outcome
from scenarios.audiobook.narrators import Narrator
from scenarios.audiobook.records import AudioRecord, AudioRecords
from scenarios.fixtures import AsPersona, Sql

pytestmark = allure.feature("audiobook: migration")

CONTENTS = (b"ID3 one", b"ID3 two", b"ID3 three")


class CrashError(Exception):
    """The process dies here."""


@pytest.fixture
async def legacy(
    nora: Narrator, records: AudioRecords, local: LocalAudioStore
) -> tuple[AudioRecord, ...]:
    """Return the local audio of three sections, as the old application left it."""
    saved = []
    for number, content in enumerate(CONTENTS):
        record = AudioRecord(
            section_id=nora.sections[number],
            storage_backend="local",
            path=f"narration/take-{number}.mp3",
            size_bytes=len(content),
            mime_type="audio/mpeg",
            sha256=hashlib.sha256(content).hexdigest(),
        )
        await local.upload(record.path, content, record.mime_type)
        await records.save(record)
        saved.append(record)
    return tuple(saved)


@pytest.fixture
async def bucket(project: Project, as_persona: AsPersona) -> SupabaseAudioStore:
    """Return the bucket as the service reaches it."""
    return SupabaseAudioStore((await as_persona(project.service)).storage)


Migrate = Callable[..., Migration]


@pytest.fixture
def migration(
    records: AudioRecords, local: LocalAudioStore, bucket: SupabaseAudioStore
) -> Migrate:
    """Return a function that makes a migration."""

    def make(checkpoint: Callable[[str], None] = lambda step: None) -> Migration:
        return Migration(records, local, bucket, checkpoint=checkpoint)

    return make


async def state(sql: Sql, local: LocalAudioStore) -> tuple[object, ...]:
    """Return everything a migration may change."""
    rows = await sql.fetch("select * from public.section_audio order by section_id")
    objects = await sql.fetch("select name, metadata from storage.objects order by 1")
    files = {
        str(p.relative_to(local.root)): p.read_bytes()
        for p in sorted(local.root.rglob("*"))
        if p.is_file()
    }
    return rows, objects, files


@pytest.mark.requirement("AU-20", "AU-03")
async def test_a_dry_run_changes_nothing_and_counts_everything(
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    sql: Sql,
    local: LocalAudioStore,
) -> None:
    before = await state(sql, local)
    report = await migration().plan()
    assert await state(sql, local) == before
    assert [r.outcome for r in report.results] == [Outcome.PLANNED] * 3
    assert sum(r.size_bytes for r in report.results) == sum(map(len, CONTENTS))


@pytest.mark.requirement("AU-21", "AU-03", "AU-10")
async def test_executing_moves_every_section_and_keeps_local_files(
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    audio: AudioService,
    nora: Narrator,
    local: LocalAudioStore,
    sql: Sql,
    project: Project,
) -> None:
    report = await migration().run()
    assert [r.outcome for r in report.results] == [Outcome.MIGRATED] * 3
    for number, content in enumerate(CONTENTS):
        record = await audio.audio(nora.sections[number])
        assert record.storage_backend == "supabase"
        assert record.path == nora.place(number).file(f"take-{number}.mp3")
        assert await audio.listen(nora.sections[number]) == content
        assert await local.exists(legacy[number].path)
    used = await sql.fetchval("select storage_used_bytes from public.user_credits")
    assert used == sum(map(len, CONTENTS))
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("AU-22", "AU-24")
async def test_deleting_after_leaves_no_local_file_and_a_rerun_finds_nothing(
    migration: Migrate, legacy: tuple[AudioRecord, ...], local: LocalAudioStore
) -> None:
    report = await migration().run(delete_after=True)
    assert set(report.deleted) == {record.path for record in legacy}
    assert not any([await local.exists(record.path) for record in legacy])
    again = await migration().run(delete_after=True)
    assert again == MigrationReport((), ())


@pytest.mark.requirement("AU-22", "AU-24")
@pytest.mark.parametrize("crash_at", range(15))
async def test_a_crash_at_any_step_and_a_rerun_lose_and_double_nothing(
    crash_at: int,
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    audio: AudioService,
    nora: Narrator,
    local: LocalAudioStore,
    sql: Sql,
    project: Project,
) -> None:
    steps: list[str] = []

    def crash(step: str) -> None:
        steps.append(step)
        if len(steps) > crash_at:
            raise CrashError(step)

    # Three sections have four steps each, and three files are deleted at the end.
    with pytest.raises(CrashError):
        await migration(crash).run(delete_after=True)
    for number, content in enumerate(CONTENTS):
        assert await audio.listen(nora.sections[number]) == content
    await migration().run(delete_after=True)
    for number, content in enumerate(CONTENTS):
        assert await audio.listen(nora.sections[number]) == content
        assert not await local.exists(legacy[number].path)
    assert await sql.fetchval("select count(*) from storage.objects") == 3
    await assert_rows_and_bytes_agree(project)


@pytest.mark.requirement("AU-24")
async def test_each_kind_of_trouble_is_reported_and_stops_nothing_else(
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    local: LocalAudioStore,
    nora: Narrator,
    sql: Sql,
) -> None:
    first, second, _ = legacy
    local.place(first.path).unlink()
    local.place(second.path).write_bytes(b"")
    report = await migration().run(delete_after=True)
    outcomes = {r.section_id: r.outcome for r in report.results}
    assert outcomes == {
        nora.sections[0]: Outcome.MISSING,
        nora.sections[1]: Outcome.EMPTY,
        nora.sections[2]: Outcome.MIGRATED,
    }
    assert len(report.failures) == 2
    still_local = await sql.fetchval(
        "select count(*) from public.section_audio where storage_backend = 'local'"
    )
    assert still_local == 2


@pytest.mark.requirement("AU-24")
async def test_a_file_that_is_not_as_recorded_is_not_migrated(
    migration: Migrate, legacy: tuple[AudioRecord, ...], local: LocalAudioStore
) -> None:
    local.place(legacy[0].path).write_bytes(b"truncated")
    report = await migration().run(delete_after=True)
    assert report.results[0].outcome is Outcome.CHANGED
    assert await local.exists(legacy[0].path)


@pytest.mark.requirement("AU-24")
async def test_an_unsupported_type_is_not_migrated(
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    local: LocalAudioStore,
    sql: Sql,
) -> None:
    await local.upload("narration/take.ogg", CONTENTS[0], "audio/mpeg")
    await sql.execute(
        "update public.section_audio set path = 'narration/take.ogg' where path = $1",
        legacy[0].path,
    )
    report = await migration().run()
    assert report.results[0].outcome is Outcome.UNSUPPORTED


@pytest.mark.requirement("AU-24", "AU-11")
async def test_audio_over_the_quota_stays_local(
    migration: Migrate,
    legacy: tuple[AudioRecord, ...],
    local: LocalAudioStore,
    nora: Narrator,
    sql: Sql,
) -> None:
    await sql.execute(
        "insert into public.user_credits (user_id, storage_used_bytes)"
        " values ($1::text::uuid, 524288000 - 10)",
        nora.id,
    )
    report = await migration().run(delete_after=True)
    assert [r.outcome for r in report.results].count(Outcome.REFUSED) == 2
    kept = [record for record in legacy if await local.exists(record.path)]
    assert len(kept) == 2


@pytest.mark.requirement("AU-24")
async def test_the_same_file_name_in_two_sections_stays_two_files(
    records: AudioRecords,
    local: LocalAudioStore,
    migration: Migrate,
    audio: AudioService,
    nora: Narrator,
) -> None:
    for number, content in enumerate((b"one", b"two")):
        record = AudioRecord(
            nora.sections[number],
            "local",
            f"disc{number}/take.mp3",
            len(content),
            "audio/mpeg",
            hashlib.sha256(content).hexdigest(),
        )
        await local.upload(record.path, content, record.mime_type)
        await records.save(record)
    await migration().run(delete_after=True)
    assert await audio.listen(nora.sections[0]) == b"one"
    assert await audio.listen(nora.sections[1]) == b"two"


@pytest.mark.requirement("AU-24")
async def test_a_section_that_changes_meanwhile_keeps_the_newer_audio(
    legacy: tuple[AudioRecord, ...],
    records: AudioRecords,
    local: LocalAudioStore,
    bucket: SupabaseAudioStore,
    audio: AudioService,
    nora: Narrator,
) -> None:
    pending: list[asyncio.Task[object]] = []

    class Busy(AudioRecords):
        async def point_over(self, old: AudioRecord, new: AudioRecord) -> bool:
            if not pending:
                newer = nora.recording(b"newer", title="retake")
                pending.append(asyncio.create_task(audio.save(newer)))
                await pending[0]
            return await super().point_over(old, new)

    busy = Busy(records.service)
    report = await Migration(busy, local, bucket).run(delete_after=True)
    assert report.results[0].outcome is Outcome.OVERTAKEN
    assert await audio.listen(nora.sections[0]) == b"newer"


@pytest.mark.requirement("AU-20", "AU-21", "AU-22", "AU-23", "AU-24")
async def test_the_command_line_plans_executes_and_reports(
    project: Project,
    legacy: tuple[AudioRecord, ...],
    local: LocalAudioStore,
    tmp_path: Path,
) -> None:
    refused = await _command(project, local, "--delete-after")
    assert refused[0] == 2
    assert "--delete-after needs --execute" in refused[1]
    code, output = await _command(project, local)
    assert (code, "dry run" in output) == (0, True)
    assert "3 sections with local audio, 23 bytes" in output
    local.place(legacy[0].path).unlink()
    report = tmp_path / "report.json"
    code, output = await _command(
        project, local, "--execute", "--delete-after", "--report", str(report)
    )
    assert (code, "missing: 1" in output, "migrated: 2" in output) == (1, True, True)
    assert len(json.loads(report.read_text())["deleted"]) == 2


async def _command(
    project: Project, local: LocalAudioStore, *arguments: str
) -> tuple[int | None, str]:
    """Run the tool as its users do; return exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scenarios.audiobook.migrate_audio",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": "/usr/bin:/bin",
            "STORAGE_BACKEND": "supabase",
            "SUPABASE_URL": project.url,
            "SUPABASE_ANON_KEY": project.anon_key,
            "SUPABASE_SERVICE_ROLE_KEY": project.service_role_key,
            "LOCAL_AUDIO_DIR": str(local.root),
        },
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()
