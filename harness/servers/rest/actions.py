"""What reads, writes and calls share: the request, the schema, and running as a caller.

An :class:`Action` is one request against one state of the schema cache.  The modules
:mod:`~harness.servers.rest.reading`, :mod:`~harness.servers.rest.writing` and
:mod:`~harness.servers.rest.calling` make the statements and the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import orjson
from aiohttp import web
from multidict import CIMultiDict
from psycopg import pq

from harness.db.pipeline import Statement
from harness.protocols.postgrest import Query, RowRange
from harness.protocols.postgrest_errors import (
    RestError,
    preferences_invalid,
    range_unsatisfiable,
)
from harness.protocols.postgrest_media import PLAN, MediaType
from harness.protocols.postgrest_preferences import NO_PREFERENCES
from harness.servers.project import request_headers, request_headers_json
from harness.servers.rest.request import RestRequest
from harness.servers.rest.responses import (
    content_range,
    error_response,
    overridden,
    range_status,
)
from harness.servers.rest.schema import SchemaCache, quote_identifier
from harness.servers.rest.settings import RestSettings
from harness.servers.rest.timezones import TimeZones
from harness.servers.rest.transaction import Check, Context, Transactions

__all__ = ["RESPONSE_SETTINGS", "Action", "count_of", "explained_rows"]

NO_SETTINGS: Mapping[str, str] = {}
# Read after everything else, because what runs before may set them.
RESPONSE_SETTINGS = (
    "nullif(current_setting('response.headers', true), ''), "
    "nullif(current_setting('response.status', true), '')"
)


@dataclass(slots=True)
class Action:
    """One request, ready to be carried out; ``query`` is set once it is read."""

    http: web.BaseRequest
    request: RestRequest
    cache: SchemaCache
    settings: RestSettings
    transactions: Transactions
    time_zones: TimeZones
    query: Query = field(init=False)

    async def run(
        self,
        statements: Sequence[Statement],
        *,
        read_only: bool,
        check: Check | None = None,
        settings: Mapping[str, str] | None = None,
        isolation: str | None = None,
    ) -> list[pq.abc.PGresult]:
        """Run ``statements`` as the caller, in one transaction."""
        request = self.request
        context = Context(
            caller=request.caller,
            method=request.method,
            path=request.path,
            headers=request_headers_json(self.http),
            cookie=_cookie(self.http),
            search_path=self.search_path,
            read_only=read_only,
            settings=await self._settings(settings),
            pre_request=self.settings.pre_request,
            isolation=isolation,
        )
        keep = read_only or not self.rolls_back
        return await self.transactions.run(context, statements, check=check, keep=keep)

    @property
    def raw_query(self) -> str:
        """The query string, still percent-encoded."""
        return self.http.raw_path.partition("?")[2]

    @property
    def search_path(self) -> str:
        """The schemas in which the request's names are looked up."""
        return _search_path(self.request.schema, self.settings.db_extra_search_path)

    @property
    def rolls_back(self) -> bool:
        """Whether the transaction is undone at its end, as for tests."""
        end = self.settings.db_tx_end
        asked = self.request.preferences.transaction
        if end.endswith("allow-override") and asked is not None:
            return asked == "rollback"
        return end.startswith("rollback")

    async def _settings(self, more: Mapping[str, str] | None) -> Mapping[str, str]:
        settings = self.cache.role_settings.get(self.request.caller.role, NO_SETTINGS)
        zone = self.request.preferences.timezone
        if not more and zone is None:
            return settings
        merged = {**settings, **(more or {})}
        if zone is not None and await self.time_zones.knows(zone):
            merged["timezone"] = zone
        return merged

    async def check_preferences(self) -> None:
        """Raise for unknown preferences if the client wants to hear of them."""
        preferences = self.request.preferences
        if not preferences.strict:
            return
        invalid = list(preferences.invalid)
        zone = preferences.timezone
        if zone is not None and not await self.time_zones.knows(zone):
            invalid.append(f"timezone={zone}")
        if invalid:
            raise preferences_invalid(invalid)

    def headers(
        self, media: MediaType | None, preferences: Sequence[str]
    ) -> CIMultiDict[str]:
        """Return the headers that every successful answer of a kind has.

        ``preferences`` names those that ``Preference-Applied`` may tell of.
        """
        request = self.request
        headers: CIMultiDict[str] = CIMultiDict()
        if media is not None:
            headers["Content-Type"] = media.content_type
            if request.profile is not None:
                headers["Content-Profile"] = request.profile
        if request.preferences is not NO_PREFERENCES:
            if not self.settings.db_tx_end.endswith("allow-override"):
                preferences = [name for name in preferences if name != "tx"]
            zone = request.preferences.timezone
            if zone is not None and not self.time_zones.listed(zone):
                preferences = [name for name in preferences if name != "timezone"]
            applied = request.preferences.applied(*preferences)
            if applied:
                headers["Preference-Applied"] = applied
        return headers

    def respond(
        self,
        status: int,
        headers: CIMultiDict[str],
        body: bytes,
        told_headers: bytes | None = None,
        told_status: bytes | None = None,
    ) -> web.Response:
        """Return the answer after what the database set of it."""
        if told_headers or told_status:
            status, headers = overridden(status, headers, told_headers, told_status)
        if status == 204 or self.request.bodiless:
            body = b""
        return web.Response(status=status, headers=headers, body=body)

    def respond_rows(
        self,
        media: MediaType,
        result: pq.abc.PGresult,
        rows: RowRange,
        total: int | None,
        preferences: Sequence[str],
        *,
        content_location: str | None = None,
    ) -> web.Response:
        """Answer with rows out of a range; columns are count, body, told settings."""
        value = result.get_value
        found = int(value(0, 0) or b"0")
        headers = self.headers(media, preferences)
        last = rows.offset + found - 1
        headers["Content-Range"] = content_range(rows.offset, last, total)
        status = range_status(rows, found, total)
        if status == 416:
            refusal = error_response(_past_end(rows.offset, total))
            refusal.headers["Content-Range"] = headers["Content-Range"]
            return refusal
        if content_location is not None:
            headers["Content-Location"] = content_location
        body = value(0, 1) or b""
        return self.respond(status, headers, body, value(0, 2), value(0, 3))

    def respond_plan(self, media: MediaType, result: pq.abc.PGresult) -> web.Response:
        """Answer with an execution plan."""
        lines = [result.get_value(i, 0) or b"" for i in range(result.ntuples)]
        return self.respond(200, self.headers(media, ()), b"\n".join(lines))


@lru_cache(maxsize=256)
def _search_path(schema: str, extra: tuple[str, ...]) -> str:
    return ", ".join(map(quote_identifier, dict.fromkeys((schema, *extra))))


def _cookie(http: web.BaseRequest) -> str:
    if "Cookie" not in http.headers:
        return ""
    return request_headers(http)["cookie"]


def _past_end(offset: int, total: int | None) -> RestError:
    return range_unsatisfiable(
        f"An offset of {offset} was requested, but there are only {total or 0} rows."
    )


def count_of(result: pq.abc.PGresult) -> int:
    """Return the number in the first column of the first row."""
    return int(result.get_value(0, 0) or b"0")


def explained_rows(result: pq.abc.PGresult) -> int:
    """Return how many rows the planner expects, from an EXPLAIN in JSON."""
    plans = orjson.loads(result.get_value(0, 0) or b"[]")
    return int(plans[0]["Plan"]["Plan Rows"])


def is_plan(media: MediaType) -> bool:
    """Tell whether the client wants the plan instead of the result."""
    return media.name == PLAN
