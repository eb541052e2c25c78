"""Who wants which changes: bindings read from joins, checked once, matched by table.

A binding names an event, a schema and table (``*`` for any), filters, and the columns
wanted.  What it asks for is checked against the database when it is made; the texts of
refusals are those of the hosted service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from harness.errors import RemoteProtocolError
from harness.protocols.phoenix import Serializer, encode_json
from harness.protocols.realtime_filters import (
    Filter,
    FilterSyntaxError,
    parse_filters,
)
from harness.servers.realtime.join_request import Binding

if TYPE_CHECKING:
    from harness.servers.realtime.tokens import Identity

__all__ = [
    "ANY",
    "END_OF_LOG",
    "EXTENSION",
    "SUBSCRIBED",
    "Subscription",
    "SubscriptionError",
    "Watch",
    "check_watches",
    "read_watches",
]

ANY = "*"
END_OF_LOG = 2**64
MAX_WATCHES = 1000
EXTENSION = "postgres_changes"
SUBSCRIBED = "Subscribed to PostgreSQL"
EVENTS = ("INSERT", "UPDATE", "DELETE")
UNABLE = "Unable to subscribe to changes with given parameters."
NOT_PUBLISHED = "Please check Realtime is enabled for the given connect parameters:"
EXCEPTION = "An exception happened so please check your connect parameters:"
NO_WILDCARD_COLUMNS = (
    "Column selection is not supported for wildcard subscriptions."
    " Provide an explicit schema and table name."
)
NO_PARAMS = (
    "No subscription params provided. Please provide at least a `schema` or `table`"
    " to subscribe to: "
)

TABLES_SQL = """
select c.oid, format('%I.%I', t.schemaname, t.tablename) as name
from pg_publication_tables t
join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
where t.pubname = $1 and ($2 = '*' or t.schemaname = $2)
    and ($3 = '*' or t.tablename = $3)
"""
CHECK_SQL = """
select realtime.check_filters($1::oid::regclass, $2, (
    select array_agg((f.column_name, f.op, f.value, f.negate)
        ::realtime.user_defined_filter)
    from unnest($3::text[], $4::text[], $5::text[], $6::boolean[])
        as f (column_name, op, value, negate)))
"""
ROLE_SQL = "select pg_has_role('authenticator', $1, 'MEMBER')"
COLUMNS_SQL = """
select count(*) from pg_attribute
where attrelid = $1 and attnum > 0 and not attisdropped and attname = any($2)
    and has_column_privilege($3, attrelid, attnum, 'SELECT')
"""


class SubscriptionError(RemoteProtocolError):
    """A binding that cannot be subscribed; the message is what the client hears."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One binding, understood: what it matches and what it shows.

    ``columns`` is ``None`` for all.
    """

    id: int
    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...]
    columns: tuple[str, ...] | None

    def covers(self, schema: str, table: str) -> bool:
        """Tell whether changes of a table may match."""
        return self.schema in (ANY, schema) and self.table in (ANY, table)

    def __str__(self) -> str:
        """Return the parameters as error messages of the service show them."""
        filters = ", ".join(str(condition) for condition in self.filters)
        columns = "nil"
        if self.columns is not None:
            columns = encode_json(list(self.columns)).decode().replace('","', '", "')
        return (
            f"[event: {self.event}, schema: {self.schema}, table: {self.table},"
            f" filters: [{filters}], select: {columns}]"
        )


class ListeningSocket(Protocol):
    """The connection below a listener."""

    @property
    def serializer(self) -> Serializer:
        """How its messages are encoded."""
        ...

    def send(self, frames: bytes) -> None:
        """Send whole frames."""
        ...


class Listener(Protocol):
    """The channel as a subscription sees it: whom it serves and how it is told."""

    topic: str
    legacy: bool
    identity: Identity
    subscription: Subscription | None

    @property
    def socket(self) -> ListeningSocket:
        """The connection of the channel."""
        ...

    def system(self, status: str, extension: str, message: str) -> None:
        """Push a system message."""
        ...


class Subscription:
    """The live watches of one channel.

    ``identity`` is who is judged; ``is_live`` turns false when the channel leaves.  It
    covers what is committed from ``since_lsn`` on and before ``until_lsn``: positions
    of the log are those of the next record, a commit's is that of its own.
    """

    __slots__ = ("channel", "identity", "is_live", "since_lsn", "until_lsn", "watches")

    def __init__(
        self,
        channel: Listener,
        identity: Identity,
        watches: tuple[Watch, ...],
        since_lsn: int,
    ) -> None:
        self.channel = channel
        self.identity = identity
        self.watches = watches
        self.since_lsn = since_lsn
        self.until_lsn = END_OF_LOG
        self.is_live = True


def read_watches(bindings: Iterable[Binding]) -> tuple[Watch, ...]:
    """Return what ``bindings`` ask for, or raise :class:`SubscriptionError`."""
    bindings = tuple(bindings)
    if len(bindings) > MAX_WATCHES:
        raise SubscriptionError(
            f"{UNABLE} A channel may have {MAX_WATCHES} subscriptions at most."
        )
    return tuple(_read_watch(binding) for binding in bindings)


def _read_watch(binding: Binding) -> Watch:
    params = binding.params
    schema, table = params.get("schema"), params.get("table")
    if not isinstance(schema, str | None) or not isinstance(table, str | None):
        raise SubscriptionError(NO_PARAMS + _elixir_map(params))
    if schema is None and table is None:
        raise SubscriptionError(NO_PARAMS + _elixir_map(params))
    text = params.get("filter", "")
    if not isinstance(text, str):
        raise SubscriptionError(f"{UNABLE} filter must be a string")
    try:
        filters = parse_filters(text)
    except FilterSyntaxError as exc:
        raise SubscriptionError(str(exc)) from exc
    event = str(params.get("event", ANY)).upper()
    watch = Watch(
        id=binding.id,
        event=event if event in EVENTS else ANY,
        schema=schema or "public",
        table=table or ANY,
        filters=filters,
        columns=_columns(params.get("select")),
    )
    if watch.columns is not None and ANY in (watch.schema, watch.table):
        raise SubscriptionError(NO_WILDCARD_COLUMNS)
    if "\0" in "".join((watch.schema, watch.table, text, *(watch.columns or ()))):
        # PostgreSQL has no such text: nothing is named so.
        raise SubscriptionError(f"{UNABLE} {NOT_PUBLISHED} {watch}")
    return watch


def _columns(select: Any) -> tuple[str, ...] | None:
    if select is None:
        return None
    if not isinstance(select, list) or not all(isinstance(c, str) for c in select):
        raise SubscriptionError(f"{UNABLE} select must be a list of column names")
    return tuple(select)


def _elixir_map(params: Mapping[str, Any]) -> str:
    pairs = (
        f"{encode_json(str(name)).decode()} => {encode_json(value).decode()}"
        for name, value in params.items()
    )
    return "%{" + ", ".join(pairs) + "}"


async def check_watches(
    connection: asyncpg.Connection[asyncpg.Record],
    publication: str,
    watches: Sequence[Watch],
    role: str,
) -> None:
    """Let PostgreSQL refuse what cannot be subscribed by ``role``.

    Raises :class:`SubscriptionError` for the first watch that matches no published
    table, or whose filters or columns do not fit one.
    """
    await _check_role(connection, watches, role)
    for watch in watches:
        tables = await connection.fetch(
            TABLES_SQL, publication, watch.schema, watch.table
        )
        if not tables:
            raise SubscriptionError(f"{UNABLE} {NOT_PUBLISHED} {watch}")
        for table in tables:
            await _check_watch(connection, watch, table["oid"], role)


async def _check_role(
    connection: asyncpg.Connection[asyncpg.Record], watches: Sequence[Watch], role: str
) -> None:
    """Refuse a role that is none of those that a token may name."""
    if not watches:
        return
    try:
        may_be_named = await connection.fetchval(ROLE_SQL, role)
    except asyncpg.UndefinedObjectError as exc:
        raise SubscriptionError(_exception_text(watches[0], exc)) from exc
    if not may_be_named:
        denied = asyncpg.InsufficientPrivilegeError(
            f'permission denied to set role "{role}"'
        )
        raise SubscriptionError(_exception_text(watches[0], denied))


async def _check_watch(
    connection: asyncpg.Connection[asyncpg.Record], watch: Watch, oid: int, role: str
) -> None:
    if watch.filters:
        try:
            await connection.execute(
                CHECK_SQL,
                oid,
                role,
                [f.column for f in watch.filters],
                [f.op for f in watch.filters],
                [f.value for f in watch.filters],
                [f.negate for f in watch.filters],
            )
        except asyncpg.PostgresError as exc:
            raise SubscriptionError(_exception_text(watch, exc)) from exc
    if watch.columns is not None:
        wanted = list(set(watch.columns))
        readable = await connection.fetchval(COLUMNS_SQL, oid, wanted, role)
        if readable != len(wanted):
            raise SubscriptionError(f"{UNABLE} {NOT_PUBLISHED} {watch}")


def _exception_text(watch: Watch, error: asyncpg.PostgresError) -> str:
    code = error.sqlstate or "XX000"
    name = CONDITIONS.get(code, "error")
    return (
        f"{UNABLE} {EXCEPTION} {watch}."
        f" Exception: ERROR {code} ({name}) {error.args[0]}"
    )


# The conditions that filters can raise, as PostgreSQL names them (appendix A).
CONDITIONS: Mapping[str, str] = {
    "22P02": "invalid_text_representation",
    "22003": "numeric_value_out_of_range",
    "22007": "invalid_datetime_format",
    "22008": "datetime_field_overflow",
    "2201B": "invalid_regular_expression",
    "42501": "insufficient_privilege",
    "42704": "undefined_object",
    "42883": "undefined_function",
    "42846": "cannot_coerce",
    "P0001": "raise_exception",
}
