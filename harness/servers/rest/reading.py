"""GET and HEAD on a table or view.

Working out the SQL of a query costs more than running it, so it is kept for the query's
shape: the next request that differs in values only sends them along.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from aiohttp import web
from psycopg import pq

from harness.db.pipeline import Statement
from harness.protocols.postgrest import (
    RowRange,
    canonical_query,
    parse_shape,
    query_shape,
)
from harness.protocols.postgrest_errors import not_singular
from harness.protocols.postgrest_media import SINGULAR, MediaType
from harness.servers.rest.actions import (
    RESPONSE_SETTINGS,
    Action,
    count_of,
    explained_rows,
    is_plan,
)
from harness.servers.rest.filter_sql import Params, encoded
from harness.servers.rest.media import NOTHING, body_sql, negotiate, plan_prefix
from harness.servers.rest.plan import ReadNode, find_table, plan_read
from harness.servers.rest.read_sql import ReadWriter
from harness.servers.rest.request import whole_range
from harness.servers.rest.schema import QualifiedName, SchemaCache

__all__ = ["ReadCache", "limit_rows", "read_table", "read_total", "total_sql"]

CACHED_READS = 1000  # shapes of queries that are not worked out again
PREFERENCES = ("count", "tx", "handling", "timezone", "max-affected")


class _Prepared(NamedTuple):
    """A statement with the places of its parameters that a request's values take."""

    sql: str
    values: Sequence[bytes | None]
    slots: Mapping[int, int]

    def filled(self, values: Sequence[bytes]) -> Statement:
        """Return the statement with ``values`` in its slots."""
        if not self.slots:
            return Statement(self.sql, self.values)
        params = list(self.values)
        for index, slot in self.slots.items():
            params[index] = values[slot]
        return Statement(self.sql, params)


class _Read(NamedTuple):
    """A read, planned and written as SQL, for every request of its shape."""

    statements: Sequence[_Prepared]
    media: MediaType
    rows: RowRange
    location: str


class ReadCache:
    """The reads worked out against one state of the schema, by shape."""

    def __init__(self, size: int = CACHED_READS) -> None:
        self._size = size
        self._reads: dict[Hashable, _Read] = {}
        self._schema: SchemaCache | None = None

    def find(self, schema: SchemaCache, key: Hashable) -> _Read | None:
        """Return the read of ``key``, if it was made against ``schema``."""
        if schema is not self._schema:
            self._reads.clear()
            self._schema = schema
        return self._reads.get(key)

    def keep(self, key: Hashable, read: _Read) -> None:
        """Remember a read; the oldest half goes when there are too many."""
        if len(self._reads) >= self._size:
            for old in list(self._reads)[: self._size // 2]:
                del self._reads[old]
        self._reads[key] = read


async def read_table(action: Action, reads: ReadCache) -> web.Response:
    """Answer with the rows of a table as the query asks."""
    request = action.request
    raw_query = action.raw_query
    shape = query_shape(raw_query)
    key = (
        request.schema,
        request.resource,
        shape.parts,
        request.bodiless,
        request.accept_header,
        request.header_range,
        request.preferences.count,
    )
    read = reads.find(action.cache, key)
    if read is None:
        action.query = parse_shape(shape)
        read = _prepare(action)
        reads.keep(key, read)
    await action.check_preferences()
    values = [encoded(value) for value in shape.values]
    statements = [statement.filled(values) for statement in read.statements]
    results = await action.run(statements, read_only=True)
    media, rows = read.media, read.rows
    if is_plan(media):
        return action.respond_plan(media, results[0])
    if media.name == SINGULAR and (found := count_of(results[0])) != 1:
        raise not_singular(found)
    total = read_total(action, results[0], results[1:])
    query = canonical_query(raw_query)
    location = f"{read.location}?{query}" if query else read.location
    return action.respond_rows(
        media, results[0], rows, total, PREFERENCES, content_location=location
    )


def _prepare(action: Action) -> _Read:
    request, settings = action.request, action.settings
    table = find_table(action.cache, QualifiedName(request.schema, request.resource))
    root = plan_read(
        action.cache,
        table,
        action.query,
        aggregates=settings.db_aggregates_enabled,
    )
    rows = whole_range(request, action.query.ranges.get(()))
    root.rows = rows
    limit_rows(root, settings.db_max_rows)
    media = negotiate(request, plan_enabled=settings.db_plan_enabled)
    location = f"/{quote(request.resource)}"
    return _Read(_statements(action, root, media), media, rows, location)


def limit_rows(root: ReadNode, max_rows: int | None) -> None:
    """Cap what a node and its embedded resources return."""
    if max_rows is None:
        return
    limit = root.rows.limit
    if limit is None or limit > max_rows:
        root.rows = RowRange(root.rows.offset, max_rows)
    for child in root.children:
        limit_rows(child, max_rows)


def total_sql(
    action: Action, writer: ReadWriter, root: ReadNode, source: str | None = None
) -> str:
    """Return the expression that counts all rows, as far as that was preferred."""
    kind = action.request.preferences.count
    if kind is None or (kind == "planned" and source is None):
        return "NULL"
    matching = writer.matching(root, source)
    max_rows = action.settings.db_max_rows
    if kind == "estimated" and source is None and max_rows is not None:
        # Counting on would tell no more than that the estimate is wanted.
        return f"(SELECT count(*) FROM (SELECT 1 {matching} LIMIT {max_rows + 1}) AS c)"
    return f"(SELECT count(*) {matching})"


def read_total(
    action: Action, result: pq.abc.PGresult, estimates: Sequence[pq.abc.PGresult]
) -> int | None:
    """Return the total out of the fifth column and the planner's estimate."""
    value = result.get_value(0, 4)
    exact = None if value is None else int(value)
    if not estimates:
        return exact
    planned = explained_rows(estimates[0])
    if exact is None:
        return planned
    max_rows = action.settings.db_max_rows
    return max(exact, planned) if max_rows is None or exact > max_rows else exact


def _statements(action: Action, root: ReadNode, media: MediaType) -> list[_Prepared]:
    bodiless = action.request.bodiless and not is_plan(media)
    params = Params()
    writer = ReadWriter(action.cache, params)
    inner = writer.rows(root)
    body = NOTHING if bodiless else body_sql(media)
    total = total_sql(action, writer, root)
    sql = f"SELECT count(*), {body}, {RESPONSE_SETTINGS}, {total} FROM ({inner}) AS r"
    prepared = [_Prepared(plan_prefix(media) + sql, params.values, params.slots)]
    if action.request.preferences.count in ("planned", "estimated"):
        params = Params()
        matching = ReadWriter(action.cache, params).matching(root)
        explain = f"EXPLAIN (FORMAT JSON) SELECT 1 {matching}"
        prepared.append(_Prepared(explain, params.values, params.slots))
    return prepared
