"""The SQL of the visibility check of one row: what most transactions write.

The general check (:mod:`.visibility_sql`) prepares for many rows, columns that may not
be read and policies that raise.  This one does none of it, for two thirds of the price
a set of claims: it returns the positions of the claims that see the row, ``{0}`` when
the row is gone, ``{-1}`` while its transaction is not visible yet, and NULL when the
role may not read the whole table, which is for the general check to look into.

Claims that are alone find the row by its key, through the policies, in one query; where
the comparison of keys is leakproof, so that the index serves behind a policy.  Whether
the row is gone or not theirs to see is the same to them.
"""

from __future__ import annotations

from harness.servers.realtime.tables import Table, quote_identifier, quote_literal
from harness.servers.realtime.visibility_sql import (
    ANY_UNSEEN,
    BEFORE_RUNNING,
    SEPARATOR,
)

__all__ = ["GONE", "UNSEEN_YET", "one_row_function", "one_row_parameters"]

GONE, UNSEEN_YET = 0, -1
LEAKPROOF_KEYS = frozenset({"int2", "int4", "int8", "text", "uuid"})
FUNCTION = """
create function pg_temp.{name}(
    {key_parameters}, _role text, _all_claims text, _all_subs text, _xid bigint
) returns int[] language plpgsql stable as $one$
declare
    _claims text[];
    _subs text[];
    _address tid;
    _seen int[] := '{{}}';
    _ignored text;
begin
    if not {before_running} then
        if {any_unseen} then
            return array[{unseen_yet}];
        end if;
    end if;
    if not (has_table_privilege(_role, {oid}::oid, 'SELECT')
        and has_schema_privilege(_role, {schema}, 'USAGE')
        and pg_has_role('authenticator', _role, 'MEMBER'))
    then
        return null;
    end if;
    {alone}
    select t.ctid into _address from only {table} as t where {one_key};
    if not found then
        return array[{gone}];
    end if;
    _claims := string_to_array(_all_claims, '{separator}');
    _subs := string_to_array(_all_subs, '{separator}');
    -- What is set here ends with the transaction, which is this call.
    _ignored := set_config('role', _role, true);
    for k in 1 .. cardinality(_claims) loop
        _ignored := set_config('request.jwt.claims', _claims[k], true)
            || set_config('request.jwt.claim.sub', _subs[k], true);
        perform from only {table} as t where t.ctid = _address;
        if found then
            _seen := _seen || k;
        end if;
    end loop;
    return _seen;
end
$one$
"""
ALONE = """
    if strpos(_all_claims, '{separator}') = 0 then
        _ignored := set_config('role', _role, true)
            || set_config('request.jwt.claims', _all_claims, true)
            || set_config('request.jwt.claim.sub', _all_subs, true);
        perform from only {table} as t where {one_key};
        if found then
            _seen := array[1];
        end if;
        return _seen;
    end if;
"""


def one_row_function(name: str, table: Table) -> str:
    """Return the statement that creates the check of one row of ``table``."""
    parts = {
        "name": name,
        "table": table.qualified_name,
        "oid": table.relation.oid,
        "schema": quote_literal(table.relation.schema),
        "separator": SEPARATOR,
        "gone": GONE,
        "unseen_yet": UNSEEN_YET,
        "before_running": BEFORE_RUNNING.format(xid="_xid"),
        "any_unseen": ANY_UNSEEN.format(xids="array[_xid]"),
        "key_parameters": ", ".join(f"_k{i} text" for i in range(len(table.key))),
        "one_key": " and ".join(
            f"t.{quote_identifier(column.name)} = _k{i}::{column.sql_type}"
            for i, column in enumerate(table.key)
        ),
    }
    by_key = all(column.comparable in LEAKPROOF_KEYS for column in table.key)
    alone = ALONE.format(**parts) if by_key else ""
    return FUNCTION.format(**parts, alone=alone)


def one_row_parameters(keys: int) -> str:
    """Return the placeholders of a call with ``keys`` key columns."""
    return ", ".join(f"${i + 1}" for i in range(keys + 4))
