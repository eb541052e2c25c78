"""Properties of what functions leave behind and claim.

Files that they create belong where their owner sees them, keep the limits of their
bucket and have bytes; a function that says it did something has done it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from harness.db.catalog import Bucket
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.effects import did_something
from harness.policies.probing import Attempt
from harness.policies.properties_functions import Called, call_functions
from harness.policies.properties_rows import rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "functions_claim_only_what_they_did",
    "functions_create_what_their_owner_sees",
    "functions_keep_bucket_limits",
    "functions_store_no_row_without_bytes",
]

DOING = re.compile(
    r"^(delete|remove|send|broadcast|publish|notify|create|add|upload|join|leave|"
    r"cancel|revoke|grant|accept|reject|move|rename|archive|restore|invite|book|log)_"
)


def _stored_files(trial: Trial, called: Called) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of storage.objects that a successful call inserted."""
    if called.answer.ok:
        for change in called.changes(trial):
            if change.table == OBJECTS and change.kind == "insert":
                yield change.after or {}


async def functions_store_no_row_without_bytes(trial: Trial) -> Judgement:
    """Functions do not make up files: a row of storage.objects alone has no bytes."""
    judgement = Judgement()
    for called in await call_functions(trial):
        for row in _stored_files(trial, called):
            where = _where(row)
            judgement.violations.append(
                Violation(
                    check="functions_store_no_row_without_bytes",
                    where=called.call.function.signature,
                    fault="row without bytes",
                    message=(
                        f"{called.call.function.name} inserts a row into"
                        f" storage.objects ({row['bucket_id']}/{row['name']}), but no"
                        " bytes reach the Storage API: the download is a 404"
                    ),
                    case=called.case(
                        Expectation(
                            kind="observed",
                            query=f"exists (select from storage.objects where {where})",
                            says="stores a row, and nothing else",
                        )
                    ),
                    severity="high",
                    note=called.note(),
                    hint="upload through the Storage API",
                    rank=rank(called.persona),
                )
            )
    return judgement


async def functions_keep_bucket_limits(trial: Trial) -> Judgement:
    """Files that functions store are of a type that their bucket accepts."""
    judgement = Judgement()
    buckets = {bucket.id: bucket for bucket in trial.catalog.buckets}
    for called in await call_functions(trial):
        for row in _stored_files(trial, called):
            bucket = buckets.get(str(row["bucket_id"]))
            mime = _mime(row)
            if bucket is not None and mime and not _accepts(bucket, mime):
                judgement.violations.append(_oversteps(called, row, bucket, mime))
    return judgement


def _mime(row: Mapping[str, Any]) -> str:
    metadata = row.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    return str(metadata.get("mimetype") or metadata.get("contentType") or "")


def _accepts(bucket: Bucket, mime: str) -> bool:
    allowed = bucket.allowed_mime_types
    family = f"{mime.partition('/')[0]}/*"
    return not allowed or mime in allowed or family in allowed or "*" in allowed


def _oversteps(
    called: Called, row: Mapping[str, Any], bucket: Bucket, mime: str
) -> Violation:
    return Violation(
        check="functions_keep_bucket_limits",
        where=called.call.function.signature,
        fault="mime type",
        message=(
            f"{called.call.function.name} stores {mime} in bucket {bucket.id}, which"
            f" accepts {', '.join(bucket.allowed_mime_types)}"
        ),
        case=called.case(
            Expectation(
                kind="observed",
                query=f"exists (select from storage.objects where {_where(row)})",
                says="must be refused",
            )
        ),
        severity="high",
        note=called.note(),
        hint="check type and size against storage.buckets",
        rank=rank(called.persona),
    )


def _where(row: Mapping[str, Any]) -> str:
    bucket, name = literal(str(row["bucket_id"])), literal(str(row["name"]))
    return f"bucket_id = {bucket} and name = {name}"


async def functions_claim_only_what_they_did(trial: Trial) -> Judgement:
    """Functions that answer true to a command have done something."""
    judgement = Judgement()
    for called in await call_functions(trial):
        function = called.call.function
        commands = function.returns == "boolean" and function.volatility == "v"
        if not (commands and DOING.match(function.name.name) and called.answer.ok):
            continue
        claimed = called.answer.fetched == [{function.name.name: True}]
        if claimed and not did_something(trial, called.answer.seen or {}):
            judgement.violations.append(_empty_claim(called))
    return judgement


def _empty_claim(called: Called) -> Violation:
    function = called.call.function
    return Violation(
        check="functions_claim_only_what_they_did",
        where=function.signature,
        fault="claims success",
        message=f"{function.name} answers true and changes nothing",
        case=called.case(
            Expectation(kind="returns", text="true", says="answers true, does nothing")
        ),
        severity="medium",
        note=called.note(),
        hint="return whether a row was affected or a message sent",
        rank=rank(called.persona),
    )


async def functions_create_what_their_owner_sees(trial: Trial) -> Judgement:
    """Files that a function stores for its caller are visible to the caller."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(OBJECTS)
    for called in await call_functions(trial):
        owns = called.call.scope == "own" and called.persona.user is not None
        if relation is None or not owns or not called.answer.ok:
            continue
        for row in _stored_files(trial, called):
            where = _where(row)
            answer = await trial.prober.attempt(
                Attempt(
                    persona=called.persona,
                    commands=(called.call.step.sql,),
                    fetch="select to_jsonb(count(*)) from storage.objects"
                    f" where {where}",
                    setup=called.repairs.statements,
                    settings=called.repairs.settings,
                )
            )
            if answer.ok and answer.fetched == 0:
                judgement.violations.append(_misplaced(called, row, where))
    return judgement


def _misplaced(called: Called, row: Mapping[str, object], where: str) -> Violation:
    function = called.call.function
    return Violation(
        check="functions_create_what_their_owner_sees",
        where=function.signature,
        fault="misplaced file",
        message=(
            f"{function.name} stores {row['bucket_id']}/{row['name']} for"
            f" {describe(called.persona)}, who can neither see nor delete it"
        ),
        case=Case(
            persona=called.persona,
            steps=(
                called.call.step,
                Step(
                    sql=f"select * from storage.objects where {where}",
                    action="select",
                    target=OBJECTS,
                    filters={
                        "bucket_id": str(row["bucket_id"]),
                        "name": str(row["name"]),
                    },
                ),
            ),
            expectation=Expectation(
                kind="spares", says="must return the file just stored"
            ),
            rows=called.call.about,
            repairs=called.repairs.statements,
            settings=called.repairs.settings,
        ),
        severity="critical",
        note=called.note(),
        hint="store it where the policies of the bucket expect the owner's files",
        rank=rank(called.persona),
    )
