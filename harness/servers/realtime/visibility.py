"""Which of a batch of changed rows each subscriber may see, decided by PostgreSQL.

One call of a generated function (:mod:`.visibility_sql`) judges a batch for all who
share a role; those with equal claims share one judgement.  A policy that raises costs
the rows for which it raises and nothing else; one that takes too long costs those whose
claims make it slow.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from harness.db.address import DatabaseAddress
from harness.servers.realtime.database import (
    CONNECT_ERRORS,
    LOGIN,
    unavailable,
)
from harness.servers.realtime.policies import policy_condition
from harness.servers.realtime.tables import Table
from harness.servers.realtime.visibility_sql import (
    ALL_ROWS,
    FAILED,
    NOT_YET,
    SEPARATOR,
    check_function,
    old_rows_function,
    parameters,
)

__all__ = ["Claims", "Failure", "Question", "Verdict", "VisibilityChecker"]

RETRY_S = 0.001
CANCELED = "Query was cancelled, please try again"
log = logging.getLogger(__name__)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Claims(NamedTuple):
    """Claims to judge by; ``members`` are the rows in question, ``None`` for all.

    Of claims that are judged together, either all have members or none has.
    """

    json: str
    sub: str
    members: tuple[int, ...] | None = None


class Failure(NamedTuple):
    """Rows that could not be judged for some claims, and what PostgreSQL said."""

    claims: int
    rows: tuple[int, ...]
    text: str


@dataclass(slots=True)
class Verdict:
    """What a batch of rows is to each set of claims.

    ``visible`` holds row positions by the position of the claims, ``None`` for all
    rows that still exist (``present``); ``columns`` are those the role may read,
    ``None`` for all.
    """

    columns: frozenset[str] | None = None
    present: frozenset[int] = frozenset()
    visible: dict[int, frozenset[int]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def renumbered(self, names: Sequence[int]) -> Verdict:
        """Return the verdict with the row at position ``i`` called ``names[i]``."""
        if all(i == name for i, name in enumerate(names)):
            return self
        renamed: dict[frozenset[int], frozenset[int]] = {}
        for rows in self.visible.values():
            if rows not in renamed:
                renamed[rows] = frozenset(names[row] for row in rows)
        return Verdict(
            columns=self.columns,
            present=frozenset(names[row] for row in self.present),
            visible={who: renamed[rows] for who, rows in self.visible.items()},
            failures=[
                failure._replace(rows=tuple(names[row] for row in failure.rows))
                for failure in self.failures
            ],
        )


class Question(NamedTuple):
    """Rows of a table to judge for one role.

    ``rows`` are primary keys or, with ``is_old``, single JSON objects of old values.
    ``xids`` are the transactions that must be visible first.
    """

    table: Table
    role: str
    rows: Sequence[tuple[str, ...]]
    xids: Sequence[int]
    is_old: bool = False

    @property
    def key_columns(self) -> int:
        """How many arrays name the rows."""
        return 1 if self.is_old else len(self.table.key)


class VisibilityChecker:
    """Judges batches on one connection of its own, opened when first asked."""

    def __init__(self, address: DatabaseAddress, timeout_ms: int) -> None:
        self._address = address
        self._timeout_ms = timeout_ms
        self._connection: Connection | None = None
        self._functions: dict[tuple[int, str, bool, bool], _Function] = {}
        self._numbers = itertools.count(1)
        self.checks = 0
        self.waited_for_commit = 0

    async def check(self, question: Question, claims: Sequence[Claims]) -> Verdict:
        """Judge the rows in question for each set of claims.

        Raises :class:`~.database.DatabaseUnavailableError`; the connection is then
        opened anew the next time.
        """
        verdict = Verdict()
        if not await self._judge(question, claims, 0, verdict):
            await self._judge_apart(question, claims, verdict)
        return verdict

    async def _judge(
        self, question: Question, claims: Sequence[Claims], first: int, verdict: Verdict
    ) -> bool:
        """Add the verdict on ``claims``, the first of which is known as ``first``.

        Returns whether PostgreSQL had the time to decide.
        """
        try:
            answer = await self._call(question, claims)
        except asyncpg.QueryCanceledError:
            return False
        except asyncpg.PostgresError as exc:
            _fail_all(verdict, claims, first, len(question.rows), str(exc))
            return True
        if claims[0].members is None:
            self.checks += len(question.rows) * len(claims)
        else:
            self.checks += sum(len(one.members or ()) for one in claims)
        _read(verdict, answer, first)
        return True

    async def _judge_apart(
        self, question: Question, claims: Sequence[Claims], verdict: Verdict
    ) -> None:
        """Find the claims for which PostgreSQL takes too long, by halves."""
        deadline_s = time.monotonic() + self._timeout_ms / 1000
        pending = [(0, len(claims))]
        while pending:
            start, stop = pending.pop()
            if stop - start == 1 or time.monotonic() > deadline_s:
                part = claims[start:stop]
                _fail_all(verdict, part, start, len(question.rows), CANCELED)
                continue
            middle = (start + stop) // 2
            for low, high in ((start, middle), (middle, stop)):
                if not await self._judge(question, claims[low:high], low, verdict):
                    pending.append((low, high))

    async def connection(self) -> Connection:
        """Return the checker's connection; raises when there can be none."""
        if self._connection is None or self._connection.is_closed():
            self._functions.clear()
            try:
                self._connection = await asyncpg.connect(
                    **self._address.connect_args(LOGIN),
                    server_settings={
                        "application_name": "realtime_visibility",
                        "search_path": "public, extensions",
                        "statement_timeout": str(self._timeout_ms),
                        # One plan per function: planning costs more than the check.
                        "plan_cache_mode": "force_generic_plan",
                        # A plan made while a table was empty must not read all of
                        # it row by row once it is not.
                        "enable_seqscan": "off",
                        "jit": "off",
                    },
                )
            except (*CONNECT_ERRORS, asyncpg.PostgresError) as exc:
                raise unavailable(exc) from exc
        return self._connection

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _call(
        self, question: Question, claims: Sequence[Claims]
    ) -> list[asyncpg.Record]:
        arguments = _arguments(question, claims)
        try:
            return await self._fetch(question, arguments, careful=False)
        except asyncpg.QueryCanceledError:
            raise
        except asyncpg.PostgresError as exc:
            log.info("a policy of %s failed: %s", question.table.qualified_name, exc)
            return await self._fetch(question, arguments, careful=True)

    async def _fetch(
        self, question: Question, arguments: list[Any], *, careful: bool
    ) -> list[asyncpg.Record]:
        connection = await self.connection()
        try:
            function = await self._function(connection, question, careful=careful)
            while True:
                rows: list[asyncpg.Record] = await function.call.fetch(*arguments)
                if rows[0]["who"] != NOT_YET:
                    return rows
                self.waited_for_commit += 1
                await asyncio.sleep(RETRY_S)
        except CONNECT_ERRORS as exc:
            connection.terminate()
            raise unavailable(exc) from exc
        except asyncpg.PostgresError as exc:
            if connection.is_closed():
                raise unavailable(exc) from exc
            raise

    async def _function(
        self, connection: Connection, question: Question, *, careful: bool
    ) -> _Function:
        table, role, _, _, is_old = question
        key = table.relation.oid, role, is_old, careful
        known = self._functions.get(key)
        if known is not None and known.table is table:
            return known
        if known is not None:
            del self._functions[key]
            await _drop(connection, known.name)
        # One function a role: PostgreSQL plans anew whenever a plan's role changes.
        name = f"visible_{table.relation.oid}_{next(self._numbers)}"
        if is_old:
            condition = await policy_condition(connection, table, role)
            sql = old_rows_function(name, table, condition, careful=careful)
        else:
            sql = check_function(name, table, careful=careful)
        await connection.execute(sql)
        placeholders = parameters(question.key_columns)
        call = await connection.prepare(f"select * from pg_temp.{name}({placeholders})")
        made = self._functions[key] = _Function(table, name, call)
        return made


class _Function(NamedTuple):
    """A generated function and its prepared call."""

    table: Table
    name: str
    call: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]


async def _drop(connection: Connection, name: str) -> None:
    for function in (name, f"{name}_find", f"{name}_holds"):
        await connection.execute(f"drop function if exists pg_temp.{function}")


def _arguments(question: Question, claims: Sequence[Claims]) -> list[Any]:
    rows = question.rows
    columns = [[row[i] for row in rows] for i in range(question.key_columns)]
    return [
        *columns,
        question.role,
        SEPARATOR.join([one.json for one in claims]),
        # A sub with a separator is read from the claims instead.
        SEPARATOR.join(["" if SEPARATOR in one.sub else one.sub for one in claims]),
        *_subsets(claims),
        list(question.xids),
    ]


def _subsets(claims: Sequence[Claims]) -> tuple[list[int] | None, list[int]]:
    """Return where each one's rows end, and the rows; no ends when all ask for all."""
    if claims[0].members is None:
        return None, []
    members: list[int] = []
    ends: list[int] = []
    for one in claims:
        members.extend(position + 1 for position in one.members or ())
        ends.append(len(members))
    return ends, members


def _read(verdict: Verdict, rows: list[asyncpg.Record], first: int) -> None:
    position_of: dict[tuple[int, int], list[int]] = {}
    for who, addresses, members, columns, subject, failure in rows:
        if who == ALL_ROWS:
            verdict.columns = None if columns is None else frozenset(columns)
            for position, address in enumerate(addresses or ()):
                if address is not None:
                    position_of.setdefault(address, []).append(position)
            verdict.present = frozenset(
                position for positions in position_of.values() for position in positions
            )
        elif who == FAILED:
            lost = tuple(member - 1 for member in members)
            verdict.failures.append(Failure(first + subject - 1, lost, failure))
        else:
            seen = _positions(verdict, position_of, addresses, members)
            claims = first + who - 1
            verdict.visible[claims] = verdict.visible.get(claims, frozenset()) | seen


def _positions(
    verdict: Verdict,
    position_of: dict[tuple[int, int], list[int]],
    addresses: list[tuple[int, int]] | None,
    members: list[int] | None,
) -> frozenset[int]:
    if members is not None:
        return frozenset(member - 1 for member in members)
    if not addresses:
        return verdict.present
    return frozenset(
        position for address in addresses for position in position_of[address]
    )


def _fail_all(
    verdict: Verdict, claims: Sequence[Claims], first: int, count: int, text: str
) -> None:
    for position, one in enumerate(claims, first):
        rows = tuple(range(count)) if one.members is None else one.members
        verdict.failures.append(Failure(position, rows, text))
