"""Which of a batch of changed rows each subscriber may see, decided by PostgreSQL.

One call of a generated function (:mod:`.visibility_sql`) judges a batch for all who
share a role; those with equal claims share one judgement.  A policy that raises costs
the rows for which it raises and nothing else; one that takes too long costs those whose
claims make it slow.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from harness.db.address import DatabaseAddress
from harness.servers.realtime.database import DatabaseUnavailableError
from harness.servers.realtime.judging import JudgingConnection, Kind
from harness.servers.realtime.tables import Table
from harness.servers.realtime.visibility_one_sql import GONE, UNSEEN_YET
from harness.servers.realtime.visibility_sql import (
    ALL_ROWS,
    FAILED,
    NOT_YET,
    SEPARATOR,
)

__all__ = [
    "MANY_CLAIMS",
    "Claims",
    "Failure",
    "Question",
    "Verdict",
    "VisibilityChecker",
]

RETRY_S = 0.001
MANY_CLAIMS = 32  # judging more than so many takes longer than asking twice
ONLY_ROW = frozenset({0})
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

    @property
    def is_single(self) -> bool:
        """Whether it is about one row that may still be there."""
        return len(self.rows) == 1 and not self.is_old and not self.table.is_partitioned


class VisibilityChecker:
    """Judges batches on connections of its own, opened when first needed.

    Where many claims are to be judged they are shared out to two connections.
    """

    def __init__(self, address: DatabaseAddress, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._main = JudgingConnection(address, timeout_ms)
        self._helper = JudgingConnection(address, timeout_ms)
        self.checks = 0
        self.waited_for_commit = 0

    async def check(self, question: Question, claims: Sequence[Claims]) -> Verdict:
        """Judge the rows in question for each set of claims.

        Raises :class:`~.database.DatabaseUnavailableError`; the connection is then
        opened anew the next time.
        """
        verdict = Verdict()
        share = _Share(self._main, claims, 0)
        if len(claims) < MANY_CLAIMS or not await self._has_helper():
            await self._check_share(question, share, verdict)
            return verdict
        mine, rest = share.cut(len(claims) // 2)
        results = await asyncio.gather(
            self._check_share(question, mine, verdict),
            self._check_share(
                question, rest._replace(connection=self._helper), verdict
            ),
            return_exceptions=True,
        )
        for result in results:
            if result is not None:
                raise result
        return verdict

    async def prepare(self, table: Table | None, role: str, *, many: bool) -> None:
        """Open connections, and make the function that judges a row of ``table``.

        ``many`` tells that a change will be judged for many claims.  Raises what the
        first check would.
        """
        for connection in (self._main, self._helper) if many else (self._main,):
            if table is None or not table.key or table.is_partitioned:
                await connection.connection()
            else:
                await connection.prepare("one", table, role)

    async def connection(self) -> Connection:
        """Return the checker's connection; raises when there can be none."""
        return await self._main.connection()

    @property
    def is_connected(self) -> bool:
        """Whether the checker's connection is open."""
        return self._main.is_open

    async def close(self) -> None:
        """Disconnect."""
        await self._main.close()
        await self._helper.close()

    async def _has_helper(self) -> bool:
        try:
            await self._helper.connection()
        except DatabaseUnavailableError as exc:
            log.info("one connection judges alone: %s", exc)
            return False
        return True

    async def _check_share(
        self, question: Question, share: _Share, verdict: Verdict
    ) -> None:
        try:
            if question.is_single and await self._judge_one(question, share, verdict):
                return
        except asyncpg.QueryCanceledError:
            pass  # which claims it takes too long for is found out below
        except asyncpg.PostgresError as exc:
            log.info("a policy of %s failed: %s", question.table.qualified_name, exc)
        if not await self._judge(question, share, verdict):
            await self._judge_apart(question, share, verdict)

    async def _judge_one(
        self, question: Question, share: _Share, verdict: Verdict
    ) -> bool:
        """Judge a single row; returns whether that was enough."""
        claims = share.claims
        asking: Sequence[int] = range(share.first, share.first + len(claims))
        if claims[0].members is not None:
            asking = [
                number for number in asking if claims[number - share.first].members
            ]
            claims = [claims[number - share.first] for number in asking]
            if not claims:
                return True
        arguments = [
            *question.rows[0],
            question.role,
            *_joined(claims),
            question.xids[0] if question.xids else None,
        ]
        while True:
            rows = await share.connection.fetch(
                "one", question.table, question.role, arguments
            )
            seen = rows[0][0]
            if seen != [UNSEEN_YET]:
                break
            await self._wait_for_commit()
        if seen is None:
            return False
        self.checks += len(claims)
        if seen != [GONE]:
            verdict.present = ONLY_ROW
            for place in seen:
                verdict.visible[asking[place - 1]] = ONLY_ROW
        return True

    async def _judge(self, question: Question, share: _Share, verdict: Verdict) -> bool:
        """Add the verdict on the share; returns whether PostgreSQL had the time."""
        claims = share.claims
        try:
            answer = await self._ask(question, share)
        except asyncpg.QueryCanceledError:
            return False
        except asyncpg.PostgresError as exc:
            _fail_all(verdict, claims, share.first, len(question.rows), str(exc))
            return True
        if claims[0].members is None:
            self.checks += len(question.rows) * len(claims)
        else:
            self.checks += sum(len(one.members or ()) for one in claims)
        _read(verdict, answer, share.first)
        return True

    async def _judge_apart(
        self, question: Question, share: _Share, verdict: Verdict
    ) -> None:
        """Find the claims for which PostgreSQL takes too long, by halves."""
        deadline_s = time.monotonic() + self._timeout_ms / 1000
        pending = [share]
        while pending:
            part = pending.pop()
            count = len(part.claims)
            if count == 1 or time.monotonic() > deadline_s:
                rows = len(question.rows)
                _fail_all(verdict, part.claims, part.first, rows, CANCELED)
                continue
            middle = count // 2
            for half in part.cut(middle):
                if not await self._judge(question, half, verdict):
                    pending += [half]

    async def _ask(self, question: Question, share: _Share) -> list[asyncpg.Record]:
        kind: Kind = "old rows" if question.is_old else "rows"
        try:
            return await self._fetch(kind, question, share)
        except asyncpg.QueryCanceledError:
            raise
        except asyncpg.PostgresError as exc:
            log.info("a policy of %s failed: %s", question.table.qualified_name, exc)
            kind = "old rows, with care" if question.is_old else "rows, with care"
            return await self._fetch(kind, question, share)

    async def _fetch(
        self, kind: Kind, question: Question, share: _Share
    ) -> list[asyncpg.Record]:
        arguments = _arguments(question, share.claims)
        while True:
            rows = await share.connection.fetch(
                kind, question.table, question.role, arguments
            )
            if rows[0]["who"] != NOT_YET:
                return rows
            await self._wait_for_commit()

    async def _wait_for_commit(self) -> None:
        self.waited_for_commit += 1
        await asyncio.sleep(RETRY_S)


class _Share(NamedTuple):
    """Claims that one connection judges; the first of them is known as ``first``."""

    connection: JudgingConnection
    claims: Sequence[Claims]
    first: int

    def cut(self, middle: int) -> tuple[_Share, _Share]:
        """Return the claims before ``middle`` and the rest."""
        rest = self._replace(claims=self.claims[middle:], first=self.first + middle)
        return self._replace(claims=self.claims[:middle]), rest


def _arguments(question: Question, claims: Sequence[Claims]) -> list[Any]:
    rows = question.rows
    columns = [[row[i] for row in rows] for i in range(question.key_columns)]
    return [
        *columns,
        question.role,
        *_joined(claims),
        *_subsets(claims),
        list(question.xids),
    ]


def _joined(claims: Sequence[Claims]) -> tuple[str, str]:
    """Return the claims, and the subjects, as one text each."""
    return (
        SEPARATOR.join([one.json for one in claims]),
        # A sub with a separator is read from the claims instead.
        SEPARATOR.join(["" if SEPARATOR in one.sub else one.sub for one in claims]),
    )


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
            verdict.present |= frozenset(
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
