"""The REST service: routes a request, verifies its token, answers every error.

Behaves as PostgREST v14 behind the local gateway.
"""

from __future__ import annotations

from aiohttp import web

from harness.db.pipeline import (
    ConnectionLostError,
    PipelinePool,
    PoolTimeoutError,
    StatementError,
)
from harness.protocols.jwt import BadTokenError
from harness.protocols.postgrest import parse_query
from harness.protocols.postgrest_errors import RestError
from harness.servers.caller import ANON_ROLE
from harness.servers.project import ERROR_CODE, Caller, ServedProject, bearer_token
from harness.servers.rest.actions import Action
from harness.servers.rest.cache import SchemaHolder
from harness.servers.rest.calling import call_function, check_method
from harness.servers.rest.failures import (
    connection_failure,
    issued_in_future,
    statement_failure,
    token_failure,
)
from harness.servers.rest.information import options
from harness.servers.rest.openapi import describe
from harness.servers.rest.reading import ReadCache, read_table
from harness.servers.rest.request import RequestReader
from harness.servers.rest.responses import error_response
from harness.servers.rest.settings import RestSettings
from harness.servers.rest.timezones import TimeZones
from harness.servers.rest.transaction import Transactions
from harness.servers.rest.writing import write_table

__all__ = ["RestService"]

LOGIN = "authenticator"
LEEWAY_S = 30.0  # PostgREST's, for the clocks of whoever signs tokens
# What a stale schema cache or a statement prepared before a change can look like.
STALE_CODES = frozenset(
    {"PGRST200", "PGRST202", "PGRST204", "PGRST205", "42703", "42704", "42883", "42P01"}
)


class RestService:
    """Serves ``/rest/v1`` of one project."""

    def __init__(self, project: ServedProject) -> None:
        self._project = project
        settings = RestSettings.from_mapping(project.settings.rest)
        conninfo = f"{project.database.dsn(LOGIN)} application_name=postgrest"
        self._pool = PipelinePool(conninfo, max_size=settings.db_pool)
        self._schema = SchemaHolder(self._pool, conninfo, settings)
        self._transactions = Transactions(self._pool)
        self._time_zones = TimeZones(self._pool)
        self._reads = ReadCache()
        self._requests = RequestReader()

    async def start(self) -> None:
        """Get ready; connections and the schema cache wait for the first request."""

    async def stop(self) -> None:
        """Close every connection."""
        self._schema.close()
        self._pool.close()

    async def handle(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        """Answer ``request``; ``path`` is what follows ``/rest/v1``."""
        caller: Caller | None = None
        try:
            caller = self._caller(request)
            return await self._answer(request, path, caller)
        except RestError as error:
            failure = error
        except StatementError as error:
            anonymous = caller is None or caller.role == ANON_ROLE
            failure = statement_failure(error, anonymous=anonymous)
        except (ConnectionLostError, PoolTimeoutError) as error:
            failure = connection_failure(error)
        request[ERROR_CODE] = failure.code
        return error_response(failure)

    def _caller(self, request: web.BaseRequest) -> Caller:
        token = bearer_token(request)
        try:
            caller = self._project.callers.resolve(token, leeway_s=LEEWAY_S)
        except BadTokenError as error:
            raise token_failure(error, token) from error
        issued = caller.claims.get("iat")
        if issued and issued > self._project.clock.now().timestamp() + LEEWAY_S:
            raise issued_in_future()
        return caller

    async def _answer(
        self, http: web.BaseRequest, path: str, caller: Caller
    ) -> web.Response:
        cache = await self._schema.current()
        body = await http.read() if http.body_exists else b""
        while True:
            settings = self._schema.settings
            request = self._requests.read(http, path, caller, settings.db_schemas)
            action = Action(
                http, request, cache, settings, self._transactions, self._time_zones
            )
            try:
                return await self._act(action, body)
            except (RestError, StatementError) as error:
                code = error.code if isinstance(error, RestError) else error.sqlstate
                if code not in STALE_CODES:
                    raise
                newer = await self._schema.refresh_if_changed(cache)
                if newer is None:
                    raise
                cache = newer

    async def _act(self, action: Action, body: bytes) -> web.Response:
        request = action.request
        if request.method == "OPTIONS":
            return options(action)
        if request.kind == "root":
            return await describe(action)
        if request.kind == "function":
            check_method(request.method)
            action.query = parse_query(
                action.raw_query, arguments_allowed=request.reading
            )
            return await call_function(action, body)
        if request.reading:
            return await read_table(action, self._reads)
        action.query = parse_query(action.raw_query)
        return await write_table(action, body)
