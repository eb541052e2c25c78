"""Move local audio to Supabase Storage.

By default it only tells what it would do; ``--execute`` does it, and ``--delete-after``
removes local files once their copies are verified and in use.  It may be interrupted
and started again at any time.  Exit codes: 0 all well, 1 something failed, 2 usage.

    python -m scenarios.audiobook.migrate_audio --execute --report migration.json
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from supabase import AsyncClient, create_async_client

from scenarios.audiobook.audio_store import LocalAudioStore, SupabaseAudioStore
from scenarios.audiobook.migration import Migration, MigrationReport, Result
from scenarios.audiobook.records import AudioRecords
from scenarios.audiobook.settings import Settings, SettingsError

__all__ = ["main", "migrate"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = _parse(argv)
    console = Console(stderr=True)
    try:
        settings = Settings.from_environment(os.environ)
        settings.require_supabase()
    except SettingsError as exc:
        console.print(f"migrate_audio: {exc}")
        return 2
    report = asyncio.run(_with_client(settings, arguments, console))
    _tell(report, execute=arguments.execute, console=Console())
    if arguments.report:
        arguments.report.write_text(report.to_json(), encoding="utf-8")
    return 1 if report.failures else 0


async def migrate(
    service: AsyncClient,
    audio_dir: Path,
    *,
    execute: bool,
    delete_after: bool = False,
    console: Console | None = None,
) -> MigrationReport:
    """Plan or run the migration, with a progress bar where there is a terminal."""
    migration = Migration(
        AudioRecords(service),
        LocalAudioStore(audio_dir),
        SupabaseAudioStore(service.storage),
    )
    if not execute:
        return await migration.plan()
    with Progress(
        console=console, disable=console is None or not console.is_terminal
    ) as (progress):
        bar = progress.add_task("migrating", total=await migration.count())

        def advance(result: Result) -> None:
            progress.update(bar, advance=1, description=Path(result.path).name)

        return await migration.run(delete_after=delete_after, on_result=advance)


async def _with_client(
    settings: Settings, arguments: argparse.Namespace, console: Console
) -> MigrationReport:
    service = await create_async_client(settings.supabase_url, settings.service_key)
    try:
        return await migrate(
            service,
            arguments.audio_dir or settings.audio_dir,
            execute=arguments.execute,
            delete_after=arguments.delete_after,
            console=console,
        )
    finally:
        await close(service)


async def close(client: AsyncClient) -> None:
    """Close the connections of a client that used tables and Storage."""
    await client.postgrest.aclose()
    await client.storage.session.aclose()
    await client.auth.close()


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="migrate_audio", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--execute", action="store_true", help="upload and point over")
    parser.add_argument(
        "--delete-after",
        action="store_true",
        help="delete local files that are verified and in use (needs --execute)",
    )
    parser.add_argument("--audio-dir", type=Path, help="where local audio is")
    parser.add_argument("--report", type=Path, help="write the results as JSON")
    arguments = parser.parse_args(argv)
    if arguments.delete_after and not arguments.execute:
        parser.error("--delete-after needs --execute")
    return arguments


def _tell(report: MigrationReport, *, execute: bool, console: Console) -> None:
    total_bytes = sum(result.size_bytes for result in report.results)
    console.print(
        f"{len(report.results)} sections with local audio, {total_bytes:,} bytes"
        + ("" if execute else " (dry run, nothing was changed)")
    )
    for outcome, count in Counter(r.outcome for r in report.results).items():
        console.print(f"  {outcome}: {count}")
    for failure in report.failures:
        console.print(f"  {failure.path}: {failure.outcome}: {failure.detail}")
    if report.deleted:
        console.print(f"  local files deleted: {len(report.deleted)}")


if __name__ == "__main__":
    sys.exit(main())
