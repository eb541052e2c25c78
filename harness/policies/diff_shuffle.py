"""The shared world with the values of its rows shuffled, the same in both versions.

Each change is tried in BASE with triggers and foreign keys on, so that a row only
takes a state that the schema lets it take, and undone; what the row became is then
stored in both versions as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from harness.clock import seeded
from harness.db.address import Connection
from harness.db.catalog import Relation, quote_identifier
from harness.policies.decisions import row_filter
from harness.policies.diff_world import Pair, Side, match
from harness.policies.population import StoredRow, as_text, patiently, read_table
from harness.policies.shuffled_rows import RowShuffler
from harness.policies.values import literal

__all__ = ["shuffled"]

KEPT_SCHEMAS = ("auth", "realtime", "storage")
MAX_ROWS = 60

SHUFFLE = """
create or replace function harness_probe.try_states(p jsonb) returns jsonb
language plpgsql as $$
declare
  item jsonb;
  command text;
  state jsonb;
  states jsonb[] := '{}';
begin
  for item in select jsonb_array_elements(p) loop
    state := null;
    begin
      for command in select jsonb_array_elements_text(item -> 'commands') loop
        begin
          execute command;
        exception when others then
          -- A state that the schema does not let the row take.
          null;
        end;
      end loop;
      execute item ->> 'read' into state;
      raise sqlstate 'HP000';
    exception when sqlstate 'HP000' then
      null;
    end;
    states := states || coalesce(state, 'null');
  end loop;
  return to_jsonb(states);
end $$;

create or replace function harness_probe.set_states(p text[]) returns boolean[]
language plpgsql as $$
declare
  command text;
  done boolean[] := '{}';
begin
  perform set_config('session_replication_role', 'replica', true);
  foreach command in array p loop
    begin
      execute command;
      done := done || true;
    exception when others then
      done := done || false;
    end;
  end loop;
  return done;
end $$;
"""


@dataclass(frozen=True, slots=True)
class _NewState:
    """What turns a row into another, and back."""

    does: str
    undoes: str


async def shuffled(pair: Pair, tables: Sequence[Relation]) -> Pair | None:
    """Change rows of ``tables`` for good and return what the world is now.

    None if no row could take another state.
    """
    base, head = pair.base.prober.connection, pair.head.prober.connection
    chosen = [r for r in tables if _is_shuffled(r, pair)]
    async with patiently(base), patiently(head):
        await asyncio.gather(base.execute(SHUFFLE), head.execute(SHUFFLE))
        states = await _states(pair, chosen)
        done = await _set(head, [state.does for state in states])
        states = [s for s, ok in zip(states, done, strict=True) if ok]
        done = await _set(base, [state.does for state in states])
        await _set(
            head, [s.undoes for s, ok in zip(states, done, strict=True) if not ok]
        )
        if not any(done):
            return None
        sides = [await _reread(pair, side, chosen) for side in (pair.base, pair.head)]
    changed = replace(
        pair, base=sides[0], head=sides[1], visible={}, undecided={}, rows={}, alike={}
    )
    match(changed)
    changed.undecided.clear()
    return changed


def _is_shuffled(relation: Relation, pair: Pair) -> bool:
    return (
        relation.name.schema not in KEPT_SCHEMAS
        and bool(relation.primary_key)
        and relation.name in pair.common.relations
    )


async def _states(pair: Pair, tables: Sequence[Relation]) -> list[_NewState]:
    connection = pair.base.prober.connection
    shuffler = RowShuffler(
        pair.union.relations,
        {name: tuple(rows.values()) for name, rows in pair.rows.items()},
        pair.mined,
        pair.ownership,
        pair.values,
        seeded(pair.values.random.getrandbits(32)),
        await connection.fetchval("select now()"),
        _text(pair),
    )
    removed: list[_NewState] = []
    asked: list[tuple[Relation, StoredRow]] = []
    items = []
    for relation in tables:
        rows = list(pair.rows.get(relation.name, {}).values())[:MAX_ROWS]
        for place, row in enumerate(rows):
            if shuffler.removed(relation):
                removed.append(_removal(relation, row))
                continue
            where = f"{relation.name.sql} t where {row_filter(relation, row)}"
            commands = [
                _update(relation, row, values)
                for values in shuffler.assignments(
                    pair.union.relations[relation.name], row, place
                )
                if all(map(pair.common.relations[relation.name].has_column, values))
            ]
            if commands:
                asked.append((relation, row))
                read = f"select to_jsonb(t.*) from {where}"
                items.append({"commands": commands, "read": read})
    found = await connection.fetchval(
        "select harness_probe.try_states($1::text::jsonb)", orjson.dumps(items).decode()
    )
    taken = list(_taken(asked, orjson.loads(found)))
    return [*taken, *removed]


def _text(pair: Pair) -> str:
    """Return what both versions' policies and bodies say."""
    catalog = pair.union
    told = [f"{policy.using} {policy.check}" for policy in catalog.policies]
    told += [
        f"{function.source} {function.definition}" for function in catalog.functions
    ]
    return " ".join(told).lower()


def _taken(
    asked: Sequence[tuple[Relation, StoredRow]],
    found: Sequence[Mapping[str, object] | None],
) -> Iterator[_NewState]:
    for (relation, row), state in zip(asked, found, strict=True):
        settable = {c.name for c in relation.columns if not c.generated}
        values = {
            name: as_text(value)
            for name, value in (state or {}).items()
            if name in settable and value != row.values.get(name)
        }
        if values and not set(relation.primary_key) & values.keys():
            before = {name: row.text(name) for name in values}
            yield _NewState(
                _update(relation, row, values), _update(relation, row, before)
            )


def _update(
    relation: Relation, row: StoredRow, values: Mapping[str, str | None]
) -> str:
    changes = ", ".join(
        f"{quote_identifier(name)} = {literal(value)}" for name, value in values.items()
    )
    where = row_filter(relation, row)
    return f"update {relation.name.sql} set {changes} where {where}"


def _removal(relation: Relation, row: StoredRow) -> _NewState:
    values = {
        c.name: row.text(c.name)
        for c in relation.columns
        if not c.generated and c.name in row.values
    }
    listed = ", ".join(quote_identifier(name) for name in values)
    literals = ", ".join(literal(value) for value in values.values())
    where = row_filter(relation, row)
    return _NewState(
        f"delete from {relation.name.sql} where {where}",
        f"insert into {relation.name.sql} ({listed}) overriding system value"
        f" values ({literals})",
    )


async def _set(connection: Connection, commands: Sequence[str]) -> list[bool]:
    if not commands:
        return []
    async with connection.transaction():
        found = await connection.fetchval(
            "select harness_probe.set_states($1::text[])", list(commands)
        )
    return list(found)


async def _reread(pair: Pair, side: Side, tables: Sequence[Relation]) -> Side:
    """Return a side with the rows that its tables hold now."""
    known = dict(side.population.tables)
    subs = {user.id for user in side.population.world.cast.users}
    for relation in tables:
        owned = pair.ownership.of(relation.name)
        clans = {
            row_filter(relation, row): row.clan for row in known.get(relation.name, ())
        }
        rows = []
        for at, values in await read_table(side.prober.connection, relation):
            named = {str(values.get(column)) for column in owned.user_names} & subs
            row = StoredRow(relation.name, at, values, "", frozenset(named))
            clan = clans.get(row_filter(relation, row), "")
            rows.append(replace(row, clan=clan))
        known[relation.name] = tuple(rows)
    return Side(side.catalog, side.prober, replace(side.population, tables=known))
