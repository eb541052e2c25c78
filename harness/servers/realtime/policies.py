"""What the policies of a table demand of a row that no longer exists, as one condition.

PostgreSQL's own rule: permissive policies for SELECT that name the role are OR-ed,
restrictive ones AND-ed; without a permissive one nothing is visible.
"""

from __future__ import annotations

import asyncpg

from harness.servers.realtime.tables import Table

__all__ = ["policy_condition"]

SECURITY_SQL = """
select c.relrowsecurity and not (r.rolsuper or r.rolbypassrls
    or (pg_has_role(r.oid, c.relowner, 'USAGE') and not c.relforcerowsecurity))
from pg_class c, pg_roles r where c.oid = $1 and r.rolname = $2
"""
POLICIES_SQL = """
select p.polpermissive, pg_get_expr(p.polqual, p.polrelid) as condition
from pg_policy p
where p.polrelid = $1 and p.polcmd in ('*', 'r') and (
    0 = any(p.polroles)
    or exists (select from unnest(p.polroles) r where pg_has_role($2, r, 'USAGE')))
"""


async def policy_condition(
    connection: asyncpg.Connection[asyncpg.Record], table: Table, role: str
) -> str:
    """Return the SQL condition under which ``role`` sees a row of ``table``."""
    if not await connection.fetchval(SECURITY_SQL, table.relation.oid, role):
        return "true"
    policies = await connection.fetch(POLICIES_SQL, table.relation.oid, role)
    permissive = [p["condition"] or "true" for p in policies if p["polpermissive"]]
    restrictive = [p["condition"] or "true" for p in policies if not p["polpermissive"]]
    if not permissive:
        return "false"
    allowed = " or ".join(f"({condition})" for condition in permissive)
    return " and ".join([f"({allowed})", *(f"({c})" for c in restrictive)])
