"""Evidence that rows are not meant for everybody, although a condition lets them out.

``using (true)`` is right for articles and wrong for invoices.  A table is taken for
private if it holds secrets or bank data, if its name says what nobody publishes, or if
it hangs on rows of which a stranger sees none.
"""

from __future__ import annotations

import re

from harness.db.catalog import Column, Name, Relation
from harness.policies.comparisons import UID
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.public_marks import marks_of
from harness.policies.storage_paths import OBJECTS
from harness.policies.table_order import BARRING_NAME
from harness.policies.trial import Trial
from harness.policies.values import TEXT_TYPES

__all__ = ["is_drawn", "is_secret", "why_private", "why_secret"]

SECRET_COLUMN = re.compile(
    r"(^|_)(token|secret|password|passwd|passcode|pwd|api_?key|private_key|access_key|"
    r"bank_account|account_number|routing_number|sort_code|cvv|cvc|"
    r"key_hash|otp|totp|iban|ssn|card_number|recovery|(invite|invitation|join|access|"
    r"verification|reset|login|magic|auth)_code)s?(_hash|_digest|_encrypted)?$"
)
RANDOM_DEFAULT = re.compile(r"\brandom\(|gen_random_bytes|gen_salt")
SHOWN_COLUMN = re.compile(
    r"slug|short|share|public|handle|name|colou?r|avatar|number|reference|^id$|_id$|seed"
)
PRIVATE_COLUMN = re.compile(
    r"(^|_)(balance|salary|wage|income|diagnos[ie]s|tax_id|date_of_birth|birth_?date|"
    r"passport|medical|allerg(y|ies)|account_number)s?(_|$)"
)
PRIVATE_TABLE = re.compile(
    r"(^|_)(private|direct_messages?|dms?|inbox|inboxes|notifications?|invoices?|"
    r"payments?|payouts?|wallets?|transactions?|transfers?|orders?|carts?|secrets?|"
    r"credentials?|tokens?|api_?keys?|medical|patients?|prescriptions?|diagnos[ei]s|"
    r"health|salar(y|ies)|payroll|bank|billing|invites?|invitations?|drafts?|"
    r"preferences|push_subscriptions?|passwords?|audits?|audit_logs?|journals?|"
    r"diar(y|ies)|bookings?|reservations?|appointments?|tickets?|subscribers?|leads?|"
    r"waitlists?|kyc|grades?|absences?|complaints?|receipts?|payslips?|contracts?)(_|$)"
)


CLOSED_COLUMN = re.compile(r"private|visib|privacy|secret|confidential|audience")
PRIVATE_BUCKET = re.compile(
    r"(^|[_-])(private|dms?|messages?|drafts?|kyc|ids?|identity|passports?|invoices?|"
    r"receipts?|contracts?|payslips?|scans?|medical|health|records?|prescriptions?|"
    r"statements?|tax|legal|docs|documents?|licen[cs]es?|proofs?|verifications?|"
    r"confidential|secrets?|internal|backups?|resumes?|cvs?)"
    r"([_-]|$)"
)


def why_secret(trial: Trial, persona: Persona, relation: Relation) -> str:
    """Say which secret the rows show ``persona``, whatever state they are in."""
    return next(
        (
            f"shows the secret {column.name}"
            for column in relation.columns
            if is_secret(column) and relation.may(persona.role, "SELECT", column.name)
        ),
        "",
    )


def is_secret(column: Column) -> bool:
    """Say whether a column holds what only its holder may know: a token, a code."""
    named = SECRET_COLUMN.search(column.name) or is_drawn(column)
    return bool(named) and column.base_type in (*TEXT_TYPES, "uuid", "bytea")


def is_drawn(column: Column) -> bool:
    """Say whether a text is drawn at random, as a code is that nobody may guess."""
    drawn = RANDOM_DEFAULT.search(column.default or "")
    texts = column.base_type in TEXT_TYPES
    return bool(drawn) and texts and not SHOWN_COLUMN.search(column.name)


def why_private(
    trial: Trial,
    persona: Persona,
    relation: Relation,
    row: StoredRow,
    *,
    stated: bool = False,
) -> str:
    """Say why rows that nothing selects should not be open to ``persona``.

    ``stated``: a policy's name says that they are meant to be, whatever they hang on.
    """
    column = next(
        (c.name for c in relation.columns if PRIVATE_COLUMN.search(c.name)), ""
    )
    if column:
        return f"holds {column}"
    if relation.name == OBJECTS and _kept_apart(trial, relation, row):
        return "has folders of their own in this private bucket"
    if relation.name == OBJECTS and _is_private_bucket(trial, row):
        return f"are private in bucket {row.text('bucket_id')}, by its name"
    if _pairs_barred(trial, relation):
        return "says who shuts whom out"
    if PRIVATE_TABLE.search(relation.name.name):
        return "is private by its name"
    if stated:
        return ""
    closed = _closed_parent(trial, persona, relation, row)
    if closed:
        return f"hangs on a row of {closed} that is closed to them"
    hidden = _hidden_parent(trial, persona, relation)
    return f"hangs on {hidden}, of which they see nothing" if hidden else ""


def _is_private_bucket(trial: Trial, row: StoredRow) -> bool:
    """Say whether a file lies in a private bucket with a name for private files."""
    return any(
        bucket.id == row.text("bucket_id")
        and not bucket.public
        and PRIVATE_BUCKET.search(bucket.id)
        for bucket in trial.catalog.buckets
    )


def _pairs_barred(trial: Trial, relation: Relation) -> bool:
    """Say whether rows say who has blocked whom."""
    owned = trial.ownership.of(relation.name)
    return len(owned.users) > 1 and bool(BARRING_NAME.search(relation.name.name))


def _closed_parent(
    trial: Trial, persona: Persona, relation: Relation, row: StoredRow
) -> str:
    """Return the table of a parent that its own policy keeps from strangers."""
    for parent in trial.ownership.of(relation.name).parents:
        wanted = [row.text(column) for column in parent.columns]
        for above in trial.foreign_rows(persona, parent.target):
            same = wanted == [above.text(c) for c in parent.target_columns]
            closed = same and not trial.decisions.may(persona, "SELECT", above)
            if closed and _is_marked_private(trial, parent.target):
                return str(parent.target)
    return ""


def _is_marked_private(trial: Trial, table: Name) -> bool:
    """Say whether policies of a table tell its private rows from the others."""
    return any(
        CLOSED_COLUMN.search(mark.column.column) and mark.column.table == table
        for (name, _), reading in trial.mined.policy_readings.items()
        if name == table
        for mark in marks_of(reading)
    )


def _kept_apart(trial: Trial, relation: Relation, row: StoredRow) -> bool:
    """Say whether a private bucket takes files only into the folders they belong to."""
    bucket = row.text("bucket_id")
    private = any(b.id == bucket and not b.public for b in trial.catalog.buckets)
    return private and any(
        bucket in use.buckets and use.command == "INSERT" and use.term != UID
        for use in trial.mined.folders
    )


def _hidden_parent(trial: Trial, persona: Persona, relation: Relation) -> str:
    """Return the parent of rows whose every parent is out of the persona's sight."""
    owned = trial.ownership.of(relation.name)
    foreign = {
        parent.target: trial.foreign_rows(persona, parent.target)
        for parent in owned.parents
        if parent.target != relation.name
    }
    rooted = {target: rows for target, rows in foreign.items() if rows}
    seen = any(
        trial.decisions.may(persona, "SELECT", row)
        for rows in rooted.values()
        for row in rows
    )
    return "" if seen or not rooted else str(next(iter(rooted)))
