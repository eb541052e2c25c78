"""The SQL of the visibility check: a function for one table, generated from its key.

It finds the rows by primary key, then for each distinct set of claims selects them
through the policies as the role.  Rows are selected by their physical address, found in
the same snapshot: an index is of no use behind a policy when its comparison is not
leakproof, an address always is, and it costs half as much.  A role that holds SELECT on
some columns only cannot ask for addresses; it, and partitioned tables, go by key.

Result rows: ``who`` is :data:`ALL_ROWS` (first: addresses of all rows, columns that the
role may read), :data:`NOT_YET` (a transaction is not visible yet: ask again),
:data:`FAILED` (``subject``, ``members``, ``failure``), or the position of the claims in
question, with the rows they see; empty addresses mean all that were asked for.

:func:`old_rows_function` judges rows that were deleted or changed since: it applies the
text of the policies to the values that the log still holds.
"""

from __future__ import annotations

from harness.servers.realtime.tables import (
    Table,
    quote_identifier,
    quote_literal,
)

__all__ = [
    "ALL_ROWS",
    "FAILED",
    "NOT_YET",
    "check_function",
    "old_rows_function",
    "parameters",
]

ALL_ROWS, NOT_YET, FAILED = 0, -1, -2
SEPARATOR = "\x01"  # JSON does not hold it unescaped

# Rows are always found by key, however small the planner thinks the table is.
FIND = """
create function pg_temp.{name}_find({key_parameters}) returns tid[]
language plpgsql stable
set enable_hashjoin = off set enable_mergejoin = off
as $find$
declare
    _found tid[];
begin
    select array_agg(t.ctid order by p.i) into _found
    from unnest({key_arrays}) with ordinality as p ({key_aliases}, i)
    left join {rows} as t on {key_join};
    return _found;
end
$find$;
"""
DECLARATIONS = """
create function pg_temp.{name}(
    {key_parameters}, _role text, _all_claims text, _all_subs text, _ends int[],
    _members int[], _xids bigint[]
) returns table (who int, addresses tid[], members int[], columns text[], subject int,
    failure text)
language plpgsql stable as $check$
declare
    -- One text is taken in much faster than an array of many.
    _claims constant text[] := string_to_array(_all_claims, '{separator}');
    _subs constant text[] := string_to_array(_all_subs, '{separator}');
    _all tid[];
    _set tid[];
    _some int[];
    _found int[];
    _starts int[];
    _stops int[];
    _start int;
    _stop int;
    _present int;
    _first int := 1;
    _by_address boolean;
    _old {table}[];
    _ignored text;
begin
"""
# The stream names transactions by the low half of their id: whether one is before every
# running transaction, and so visible, and whether any of some is not visible yet.
BEFORE_RUNNING = """
((txid_snapshot_xmin(txid_current_snapshot()) - {xid}) & 4294967295)
    between 1 and 2147483648
"""
ANY_UNSEEN = """
exists (
    select from unnest({xids}) as x, (
        select pg_snapshot_xmax(pg_current_snapshot())::text::bigint
    ) as s (high)
    where not pg_visible_in_snapshot(
        ((high & ~4294967295) + x + case
            when x - (high & 4294967295) > 2147483648 then -4294967296
            when (high & 4294967295) - x > 2147483648 then 4294967296
            else 0
        end)::text::xid8, pg_current_snapshot())
)
"""
FIND_BY_KEY = """
    if cardinality(_xids) > 0 and (
        _xids[cardinality(_xids)] - _xids[1] > 2147483648
        or not {before_running}
    ) then
        if {any_unseen} then
            who := {not_yet};
            return next;
            return;
        end if;
    end if;
    if {key_count} = 1 then
        select array[t.ctid] into _all from {rows} as t where {one_key};
        _all := coalesce(_all, array[null]::tid[]);
    else
        _all := pg_temp.{name}_find({key_names_in});
    end if;
    who := {all_rows};
    addresses := _all;
    -- A role may lose its way into the schema, or be taken from those that tokens may
    -- name, while it watches: then it reads nothing.
    _by_address := has_table_privilege(_role, {oid}::oid, 'SELECT')
        and has_schema_privilege(_role, {schema}, 'USAGE')
        and pg_has_role('authenticator', _role, 'MEMBER');
    if not _by_address then
        columns := array(
            select a.attname from pg_catalog.pg_attribute a
            where a.attrelid = {oid} and a.attnum > 0 and not a.attisdropped
                and has_column_privilege(_role, {oid}::oid, a.attnum, 'SELECT')
                and has_schema_privilege(_role, {schema}, 'USAGE')
                and pg_has_role('authenticator', _role, 'MEMBER'));
    end if;
    return next;
    if not _by_address and not columns @> {key_names} then
        return;
    end if;
    _by_address := _by_address and {may_use_address};
    _present := cardinality(array_remove(_all, null));
    columns := null;
    addresses := null;
"""
# Rows that are gone are judged by the text of the policies, as PostgreSQL prints it.
FIND_OLD_ROWS = """
    select array_agg(jsonb_populate_record(null::{table}, p.k0::jsonb) order by p.i)
    into _old from unnest(_k0) with ordinality as p (k0, i);
    who := {all_rows};
    return next;
    _by_address := false;
"""
LOOP_HEAD = """
    _ignored := set_config('role', _role, true);
    for k in 1 .. cardinality(_claims) loop
        _ignored := set_config('request.jwt.claims', _claims[k], true);
        _ignored := set_config('request.jwt.claim.sub', _subs[k], true);
        _some := null;
        if _ends is not null then
            _some := _members[_first : _ends[k]];
            _first := _ends[k] + 1;
        end if;
"""
SELECT_BY_ADDRESS = """
select array_agg(n.ctid) into addresses from {rows} n where n.ctid = any(_set);
"""
SELECT_BY_KEY = """
select array_agg(p.i) into members
from unnest({key_arrays}) with ordinality as p ({key_aliases}, i)
join {rows} as t on {key_join}
where _some is null or p.i = any(_some);
"""
# A policy names what it uses by identity, so its roles need no USAGE of the schemas:
# the condition is read once, here, by the superuser, and only evaluated as the role.
# Nobody is to be kept from dropping what it refers to, so no dependency is recorded.
HOLDS = """
create function pg_temp.{name}_holds({table}[], int[]) returns int[]
language sql stable begin atomic
    select array_agg(place.{position})
    from unnest(coalesce($2, array(select generate_subscripts($1, 1))))
        as place ({position}),
        lateral unnest(array[$1[place.{position}]]) as {alias}
    where ({condition});
end;
grant execute on function pg_temp.{name}_holds to public;
delete from pg_catalog.pg_depend
where classid = 'pg_catalog.pg_proc'::regclass
    and objid = 'pg_temp.{name}_holds'::regproc
    and refclassid <> 'pg_catalog.pg_namespace'::regclass;
"""
SELECT_OLD_ROWS = """
members := pg_temp.{name}_holds(_old, _some);
"""
FAST_LOOP = """
        if _by_address then
            if _some is null then
                _set := _all;
            else
                _set := array(select _all[x] from unnest(_some) as x);
            end if;
            {select_by_address}
            if _some is null and cardinality(addresses) = _present then
                addresses := '{{}}';
            end if;
        else
            {select_by_key}
        end if;
        if addresses is not null or members is not null then
            who := k;
            return next;
            addresses := null;
            members := null;
        end if;
    end loop;
    _ignored := set_config('role', 'none', true);
end
$check$
"""
# Halves what fails until single rows are left: those alone are lost.
CAREFUL_LOOP = """
        _found := coalesce(_some, array(select generate_series(1, {key_count})));
        _starts := array[1];
        _stops := array[cardinality(_found)];
        while cardinality(_starts) > 0 loop
            _start := _starts[cardinality(_starts)];
            _stop := _stops[cardinality(_stops)];
            _starts := _starts[: cardinality(_starts) - 1];
            _stops := _stops[: cardinality(_stops) - 1];
            continue when _start > _stop;
            begin
                _some := _found[_start : _stop];
                if _by_address then
                    _set := array(select _all[x] from unnest(_some) as x);
                    {select_by_address}
                else
                    {select_by_key}
                end if;
                if addresses is not null or members is not null then
                    who := k;
                    return next;
                end if;
            exception when others then
                if _start = _stop then
                    who := {failed};
                    subject := k;
                    members := array[_found[_start]];
                    failure := sqlerrm;
                    return next;
                    failure := null;
                else
                    _starts := _starts || array[(_start + _stop) / 2 + 1, _start];
                    _stops := _stops || array[_stop, (_start + _stop) / 2];
                end if;
            end;
            addresses := null;
            members := null;
        end loop;
    end loop;
    _ignored := set_config('role', 'none', true);
end
$check$
"""


def check_function(name: str, table: Table, *, careful: bool) -> str:
    """Return the statement that creates the check of ``table``.

    The careful form survives policies that raise, at the price of a subtransaction per
    set of claims.
    """
    aliases = [f"k{i}" for i in range(len(table.key))]
    parts = {
        "name": name,
        "table": table.qualified_name,
        # A child table's rows are not the table's, and have addresses of their own.
        "rows": f"{'' if table.is_partitioned else 'only '}{table.qualified_name}",
        "oid": str(table.relation.oid),
        "schema": quote_literal(table.relation.schema),
        "one_key": " and ".join(
            f"t.{quote_identifier(column.name)} = _{alias}[1]::{column.sql_type}"
            for alias, column in zip(aliases, table.key, strict=True)
        ),
        "key_names_in": ", ".join(f"_{alias}" for alias in aliases),
        "may_use_address": str(not table.is_partitioned).lower(),
        "key_parameters": ", ".join(f"_{alias} text[]" for alias in aliases),
        "key_arrays": ", ".join(
            f"_{alias}::{column.sql_type}[]"
            for alias, column in zip(aliases, table.key, strict=True)
        ),
        "key_aliases": ", ".join(aliases),
        "key_count": f"cardinality(_{aliases[0]})",
        "key_join": " and ".join(
            f"t.{quote_identifier(column.name)} = p.{alias}"
            for alias, column in zip(aliases, table.key, strict=True)
        ),
        "key_names": _text_array([column.name for column in table.key]),
        "separator": SEPARATOR,
        "before_running": BEFORE_RUNNING.format(xid="_xids[cardinality(_xids)]"),
        "any_unseen": ANY_UNSEEN.format(xids="_xids"),
        "not_yet": str(NOT_YET),
        "all_rows": str(ALL_ROWS),
        "failed": str(FAILED),
    }
    parts["select_by_address"] = SELECT_BY_ADDRESS.format(**parts)
    parts["select_by_key"] = SELECT_BY_KEY.format(**parts)
    loop = CAREFUL_LOOP if careful else FAST_LOOP
    return (FIND + DECLARATIONS + FIND_BY_KEY + LOOP_HEAD + loop).format(**parts)


def old_rows_function(name: str, table: Table, condition: str, *, careful: bool) -> str:
    """Return the statement that creates the check of rows that are no more.

    ``condition`` is what the policies demand, over the table's own column names.  The
    rows are given as JSON objects in place of a key.
    """
    parts = {
        "name": name,
        "table": table.qualified_name,
        "key_parameters": "_k0 text[]",
        "key_count": "cardinality(_k0)",
        "alias": quote_identifier(table.relation.name),
        "position": '"position of the old row"',
        "condition": condition,
        "select_by_address": "",
        "separator": SEPARATOR,
        "all_rows": str(ALL_ROWS),
        "failed": str(FAILED),
    }
    parts["select_by_key"] = SELECT_OLD_ROWS.format(**parts)
    loop = CAREFUL_LOOP if careful else FAST_LOOP
    body = DECLARATIONS + FIND_OLD_ROWS + LOOP_HEAD + loop
    return HOLDS.format(**parts) + body.format(**parts)


def parameters(keys: int) -> str:
    """Return the placeholders of a call with ``keys`` key columns."""
    return ", ".join(f"${i + 1}" for i in range(keys + 6))


def _text_array(names: list[str]) -> str:
    return f"array[{', '.join(map(quote_literal, names))}]::text[]"
