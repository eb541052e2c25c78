"""Properties of buckets that need no declaration.

Policies open the buckets they name and no other; who stores a file can read it back; a
bucket whose files some may see and others not is not public.
"""

from __future__ import annotations

import re

from harness.db.catalog import Bucket, Relation
from harness.policies.candidates import own_candidates, row_owners
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import Col, Const
from harness.policies.mining import BUCKET
from harness.policies.personas import Persona
from harness.policies.population import insert_statement
from harness.policies.private_tables import PRIVATE_BUCKET
from harness.policies.probing import Attempt
from harness.policies.properties_rows import rank
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = [
    "buckets_are_closed_until_a_policy_names_them",
    "private_sharing_is_not_public",
    "stored_files_can_be_read_back",
]

PUBLIC_BUCKET = re.compile(
    r"(^|[_-])(public|avatars?|banners?|logos?|covers?|images?|photos?|pictures?|media|"
    r"thumbnails?|posters?|icons?|assets|backgrounds?|profile)([_-]|$)"
)
NEW_BUCKET = "another-app"
MAKE_BUCKET = (
    "insert into storage.buckets (id, name, public)"
    f" values ('{NEW_BUCKET}', '{NEW_BUCKET}', false)"
)


async def buckets_are_closed_until_a_policy_names_them(trial: Trial) -> Judgement:
    """No policy lets users write to buckets that it knows nothing of."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(OBJECTS)
    for name in ("anon", "bob"):
        persona = trial.population.world.cast.persona(name)
        if relation is None or not relation.may(persona.role, "INSERT"):
            continue
        for path in (f"{persona.sub or 'public'}/new.png", "new.png"):
            values = {"bucket_id": NEW_BUCKET, "name": path, **row_owners(persona)}
            step = trial.insert_step(relation, values)
            answer = await trial.prober.attempt(
                Attempt(persona=persona, commands=(step.sql,), setup=(MAKE_BUCKET,))
            )
            if answer.ok:
                judgement.violations.append(_opened(persona, step))
                break
    return judgement


def _opened(persona: Persona, step: Step) -> Violation:
    return Violation(
        check="buckets_are_closed_until_a_policy_names_them",
        where="storage.objects",
        fault="INSERT into any bucket",
        message=(
            f"{describe(persona)} can store files in a bucket that no policy names:"
            " an INSERT policy does not ask for bucket_id"
        ),
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(kind="succeeds", says="must be refused"),
            repairs=(MAKE_BUCKET,),
        ),
        severity="high",
        hint="add bucket_id = '...' to the policy",
        rank=rank(persona),
    )


async def stored_files_can_be_read_back(trial: Trial) -> Judgement:
    """Whoever may store a file in a private bucket may read it afterwards."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(OBJECTS)
    for bucket in trial.catalog.buckets:
        if bucket.public or relation is None or _is_listed(trial):
            continue
        violation = await _unreadable(trial, relation, bucket)
        if violation is not None:
            judgement.violations.append(violation)
    return judgement


def _is_listed(trial: Trial) -> bool:
    """Say whether files are read by way of rows that name them, stored afterwards."""
    return any(
        Col(OBJECTS, "name") in pair and any(col.table != OBJECTS for col in pair)
        for pair in trial.mined.equal_columns
    )


async def _unreadable(
    trial: Trial, relation: Relation, bucket: Bucket
) -> Violation | None:
    """Return a violation if some can store and none of them can read."""
    shown: Violation | None = None
    for persona in trial.personas:
        if persona.kind in ("service", "anon"):
            continue
        for candidate in own_candidates(trial, persona, relation):
            if candidate.values.get("bucket_id") != bucket.id:
                continue
            stored = insert_statement(OBJECTS, candidate.values)
            where = (
                f"bucket_id = {literal(bucket.id)}"
                f" and name = {literal(candidate.values['name'])}"
            )
            answer = await trial.prober.attempt(
                Attempt(
                    persona=persona,
                    commands=(stored,),
                    fetch="select to_jsonb(count(*)) from storage.objects"
                    f" where {where}",
                )
            )
            if answer.ok and answer.fetched:
                return None
            if answer.ok and shown is None:
                step = trial.insert_step(relation, candidate.values)
                shown = _lost(persona, bucket, step, where)
    return shown


def _lost(persona: Persona, bucket: Bucket, step: Step, where: str) -> Violation:
    look = Step(
        sql=f"select * from storage.objects where {where}",
        action="select",
        target=OBJECTS,
        filters={"bucket_id": bucket.id, "name": step.values["name"]},
    )
    return Violation(
        check="stored_files_can_be_read_back",
        where="storage.objects",
        fault=f"no SELECT in {bucket.id}",
        message=(
            f"{describe(persona)} can store files in the private bucket {bucket.id},"
            " but nobody who stores one there can read, replace or delete it"
        ),
        case=Case(
            persona=persona,
            steps=(step, look),
            expectation=Expectation(kind="spares", says="must return the file"),
        ),
        severity="high",
        hint=f"add SELECT, UPDATE and DELETE policies for bucket {bucket.id}",
        rank=rank(persona),
    )


async def private_sharing_is_not_public(trial: Trial) -> Judgement:
    """Buckets whose files are shared by membership are not public to the world."""
    judgement = Judgement()
    bob = trial.population.world.cast.persona("bob")
    for bucket in trial.catalog.buckets:
        if not bucket.public or not _is_shared(trial, bucket):
            continue
        hidden = [
            row
            for row in trial.foreign_rows(bob, OBJECTS)
            if row.text("bucket_id") == bucket.id
            and not trial.decisions.may(bob, "SELECT", row)
        ]
        if not hidden:
            continue
        # What GET /object/public asks, as the service, before it sends the bytes.
        served = (
            "select b.public from storage.objects o join storage.buckets b"
            f" on b.id = o.bucket_id where o.bucket_id = {literal(bucket.id)}"
            f" and o.name = {literal(hidden[0].text('name'))} and b.public"
        )
        service = trial.population.world.cast.persona("service_role")
        judgement.violations.append(
            Violation(
                check="private_sharing_is_not_public",
                where=f"bucket {bucket.id}",
                fault="public bucket",
                message=(
                    f"bucket {bucket.id} is public: anybody with the URL reads files"
                    " that policies share with some users only"
                ),
                case=Case(
                    persona=service,
                    steps=(Step(sql=served, action="sql"),),
                    expectation=Expectation(
                        kind="affects",
                        says="GET /storage/v1/object/public serves it to everybody",
                    ),
                    rows=(hidden[0],),
                ),
                severity="high",
                hint=f"update storage.buckets set public = false where id ="
                f" '{bucket.id}'; hand out signed URLs",
            )
        )
    return judgement


def _is_shared(trial: Trial, bucket: Bucket) -> bool:
    """Say whether files are for some only: by the bucket's name, or by a policy."""
    if PRIVATE_BUCKET.search(bucket.id):
        return True
    return not PUBLIC_BUCKET.search(bucket.id) and _shares(trial, bucket)


def _shares(trial: Trial, bucket: Bucket) -> bool:
    """Say whether a SELECT policy of the bucket looks up who may see a file.

    One that is for private buckets too says who may list them all: that the bucket
    is public beside them is meant.
    """
    private = {other.id for other in trial.catalog.buckets if not other.public}
    for (table, name), reading in trial.mined.policy_readings.items():
        if table != OBJECTS:
            continue
        policy = next(
            p for p in trial.catalog.relations[OBJECTS].policies if p.name == name
        )
        buckets = {
            value
            for comparison in reading.comparisons
            for left, right in comparison.pairs()
            if left == BUCKET and isinstance(right, Const)
            for value in right.values
        }
        looks_up = any(
            isinstance(column, Col) and column.table != OBJECTS
            for column in reading.columns
        )
        named = bucket.id in buckets and not buckets & private
        if policy.command in ("SELECT", "ALL") and named and looks_up:
            return True
    return False
