"""The SQL of the visibility check of one row: what most transactions write.

The general check (:mod:`.visibility_sql`) prepares for many rows, columns that may not
be read and policies that raise.  This one does none of it, for two thirds of the price
a set of claims: it returns the positions of the claims that see the row, ``{0}`` when
the row is gone, ``{-1}`` while its transaction is not visible yet, and NULL when the
role may not read the whole table, which is for the general check to look into.
"""

from __future__ import annotations

from harness.servers.realtime.tables import Table, quote_identifier, quote_literal
from harness.servers.realtime.visibility_sql import SEPARATOR

__all__ = ["GONE", "UNSEEN_YET", "one_row_function", "one_row_parameters"]

GONE, UNSEEN_YET = 0, -1
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
    -- The stream names a transaction by the low half of its id; those before every
    -- running one are visible.
    if ((txid_snapshot_xmin(txid_current_snapshot()) - _xid) & 4294967295)
        not between 1 and 2147483648
    then
        if exists (
            select from (
                select pg_snapshot_xmax(pg_current_snapshot())::text::bigint
            ) as s (high)
            where not pg_visible_in_snapshot(
                ((high & ~4294967295) + _xid + case
                    when _xid - (high & 4294967295) > 2147483648 then -4294967296
                    when (high & 4294967295) - _xid > 2147483648 then 4294967296
                    else 0
                end)::text::xid8, pg_current_snapshot())
        ) then
            return array[{unseen_yet}];
        end if;
    end if;
    if not (has_table_privilege(_role, {oid}::oid, 'SELECT')
        and has_schema_privilege(_role, {schema}, 'USAGE')
        and pg_has_role('authenticator', _role, 'MEMBER'))
    then
        return null;
    end if;
    select t.ctid into _address from only {table} as t where {one_key};
    if not found then
        return array[{gone}];
    end if;
    _claims := string_to_array(_all_claims, '{separator}');
    _subs := string_to_array(_all_subs, '{separator}');
    _ignored := set_config('role', _role, true);
    for k in 1 .. cardinality(_claims) loop
        _ignored := set_config('request.jwt.claims', _claims[k], true)
            || set_config('request.jwt.claim.sub', _subs[k], true);
        perform from only {table} as t where t.ctid = _address;
        if found then
            _seen := _seen || k;
        end if;
    end loop;
    _ignored := set_config('role', 'none', true);
    return _seen;
end
$one$
"""


def one_row_function(name: str, table: Table) -> str:
    """Return the statement that creates the check of one row of ``table``."""
    return FUNCTION.format(
        name=name,
        table=table.qualified_name,
        oid=table.relation.oid,
        schema=quote_literal(table.relation.schema),
        separator=SEPARATOR,
        gone=GONE,
        unseen_yet=UNSEEN_YET,
        key_parameters=", ".join(f"_k{i} text" for i in range(len(table.key))),
        one_key=" and ".join(
            f"t.{quote_identifier(column.name)} = _k{i}::{column.sql_type}"
            for i, column in enumerate(table.key)
        ),
    )


def one_row_parameters(keys: int) -> str:
    """Return the placeholders of a call with ``keys`` key columns."""
    return ", ".join(f"${i + 1}" for i in range(keys + 4))
