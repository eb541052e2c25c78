"""The REST API, ``/rest/v1``: tables, views and functions as PostgREST serves them.

:mod:`~harness.servers.rest.service` takes a request; the grammar is in
:mod:`harness.protocols.postgrest`; what exists is in
:mod:`~harness.servers.rest.schema`; ``*_sql`` modules write parameterised statements;
:mod:`~harness.servers.rest.transaction` runs them as the caller.
"""

from harness.servers.rest.service import RestService

__all__ = ["RestService"]
