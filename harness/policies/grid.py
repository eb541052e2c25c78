"""Many short statements of many personas in one round trip, planned once a shape.

What :class:`~harness.policies.probing.Prober` does for one attempt, done for a list: a
statement that comes often is prepared, and its plan serves every persona of the same
role, since claims are settings and no part of a plan.  Each question is undone before
the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import asyncpg
import orjson

from harness.db.address import Connection
from harness.db.catalog import Relation, quote_identifier
from harness.policies.personas import Persona
from harness.policies.population import StoredRow
from harness.policies.probing import STATEMENT_TIMEOUT, Answer, Attempt, Prober
from harness.policies.values import literal

__all__ = ["Ask", "Grid", "install_grid", "row_shape"]

BATCH = 1_000
WORTH_PREPARING = 3
MAX_TIMEOUTS = 6
MAX_ALL_TIMEOUTS = 24
PARTS = 8

GRID = """
create or replace function harness_probe.grid(p jsonb) returns jsonb
language plpgsql as $$
declare
  entry record;
  block jsonb;
  speaker jsonb;
  item jsonb;
  command text;
  affected bigint;
  fetched jsonb;
  seen jsonb;
  state text;
  told text;
  context text;
  answers jsonb[] := '{}';
begin
  execute 'deallocate all';
  -- One plan for all personas; what differs between them are settings.
  perform set_config('plan_cache_mode', 'force_generic_plan', true);
  for entry in select key, value from jsonb_each_text(p -> 'prepared') loop
    execute format('prepare %I as %s', entry.key, entry.value);
  end loop;
  for block in select jsonb_array_elements(p -> 'blocks') loop
    begin
      for command in select jsonb_array_elements_text(block -> 'aside') loop
        execute command;
      end loop;
      for speaker in select jsonb_array_elements(block -> 'speakers') loop
        begin
          for entry in
            select key, value from jsonb_each_text(speaker -> 'settings')
          loop
            perform set_config(entry.key, entry.value, true);
          end loop;
          perform set_config('role', speaker ->> 'role', true);
          for item in select jsonb_array_elements(speaker -> 'items') loop
            state := null;
            fetched := null;
            seen := null;
            affected := null;
            begin
              if item ? 'mark' then
                perform set_config('role', 'none', true);
                perform harness_probe.mark();
                perform set_config('role', speaker ->> 'role', true);
              end if;
              if item ? 'before' then
                for command in select jsonb_array_elements_text(item -> 'before') loop
                  execute command;
                end loop;
              end if;
              if item ? 'command' then
                execute item ->> 'command';
                get diagnostics affected = row_count;
              end if;
              if item ? 'fetch' then
                execute item ->> 'fetch' into fetched;
              end if;
              if item ? 'observe' then
                perform set_config('role', 'none', true);
                execute item ->> 'observe' into seen;
              end if;
              raise sqlstate 'HP000';
            exception
              when sqlstate 'HP000' then
                null;
              when others then
                state := sqlstate;
                told := sqlerrm;
                if state <> '42501' then
                  get stacked diagnostics context = pg_exception_context;
                else
                  context := null;
                end if;
            end;
            answers := answers || case when state is null
              then jsonb_build_object('counts', affected, 'fetched', fetched,
                'seen', seen)
              else jsonb_build_object('sqlstate', state, 'message', told,
                'context', context)
            end;
          end loop;
          raise sqlstate 'HP000';
        exception when sqlstate 'HP000' then
          null;
        end;
      end loop;
      raise sqlstate 'HP000';
    exception when sqlstate 'HP000' then
      null;
    end;
  end loop;
  execute 'deallocate all';
  return to_jsonb(answers);
end $$;
"""


async def install_grid(connection: Connection) -> None:
    """Create the function that asks, beside the other probes."""
    await connection.execute(GRID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What ``persona`` does, and what to look at afterwards.

    ``shape`` and ``arguments`` (SQL literals) say the last of ``commands`` again, with
    parameters.  ``aside`` runs before, as superuser; neighbours that have the same one
    share it.  ``weight`` is how many decisions the answer tells.
    """

    persona: Persona
    commands: tuple[str, ...] = ()
    shape: str = ""
    arguments: tuple[str, ...] = ()
    fetch: str = ""
    observe: str = ""
    mark: bool = False
    aside: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    weight: int = 1

    @property
    def attempt(self) -> Attempt:
        """The same as an attempt of its own."""
        return Attempt(
            persona=self.persona,
            commands=self.commands,
            fetch=self.fetch,
            observe=self.observe,
            setup=self.aside,
            settings=self.settings,
        )

    @property
    def texts(self) -> Iterator[str]:
        """The statements that could be prepared."""
        yield from self.commands[:-1] if self.shape else self.commands
        yield from filter(None, (self.shape, self.fetch, self.observe))


def row_shape(
    statement: str, relation: Relation, row: StoredRow, given: int = 0
) -> tuple[str, tuple[str, ...]]:
    """Return ``statement`` for the row with a certain key, ``given`` parameters in."""
    names = relation.primary_key
    values = [row.text(name) for name in names]
    if not names or None in values:
        return "", ()
    where = " and ".join(
        f"{quote_identifier(name)} = ${number}"
        for number, name in enumerate(names, given + 1)
    )
    return f"{statement} where {where}", tuple(map(literal, values))


@dataclass
class Grid:
    """Asks one database; what runs into the time limit again and again is given up.

    That holds until the next :meth:`begin`, and for good after ``MAX_ALL_TIMEOUTS``.
    """

    prober: Prober
    batch: int = BATCH
    timeouts: int = 0
    all_timeouts: int = 0

    def begin(self) -> None:
        """Turn to something else, which may well be quick."""
        self.batch, self.timeouts = BATCH, 0

    @property
    def exhausted(self) -> bool:
        """Whether too much ran into the time limit to go on asking."""
        spent = self.all_timeouts >= MAX_ALL_TIMEOUTS
        return spent or self.timeouts >= MAX_TIMEOUTS

    def _late(self) -> None:
        self.timeouts += 1
        self.all_timeouts += 1

    async def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Return the answers in the order of ``asks``."""
        answers: list[Answer] = []
        while len(answers) < len(asks):
            start = len(answers)
            answers += await self._some(list(asks[start : start + self.batch]))
        return answers

    async def _some(self, asks: list[Ask]) -> list[Answer]:
        if self.exhausted:
            given_up = Answer(sqlstate=STATEMENT_TIMEOUT, message="not asked any more")
            return [given_up] * len(asks)
        if len(asks) == 1:
            answer = await self.prober.attempt(asks[0].attempt)
            if answer.timed_out:
                self._late()
            return [answer]
        answers = await self._together(asks)
        if answers is None:
            # Something that PL/pgSQL could not contain: look for it in parts.
            size = -(-len(asks) // PARTS)
            parts = [asks[i : i + size] for i in range(0, len(asks), size)]
            return [answer for part in parts for answer in await self._some(part)]
        self.prober.decisions += sum(ask.weight for ask in asks)
        return answers

    async def _together(self, asks: list[Ask]) -> list[Answer] | None:
        plan = _Plan(asks)
        try:
            found = await self.prober.connection.fetchval(
                "select harness_probe.grid($1::text::jsonb)",
                orjson.dumps(plan.payload()).decode(),
            )
        except asyncpg.QueryCanceledError:
            # The limit holds for a whole batch: slow schemas get smaller ones.
            self._late()
            self.batch = max(PARTS, self.batch // PARTS)
            return None
        except asyncpg.PostgresError:
            return None
        answers = [Answer()] * len(asks)
        for index, answer in zip(plan.order, orjson.loads(found), strict=True):
            answers[index] = _answer(answer)
        return answers


def _answer(found: Mapping[str, Any]) -> Answer:
    counts = found.get("counts")
    return Answer(
        counts=() if counts is None else (counts,),
        fetched=found.get("fetched"),
        seen=found.get("seen"),
        sqlstate=found.get("sqlstate") or "",
        message=found.get("message") or "",
        context=found.get("context") or "",
    )


def _counted(text: str) -> str:
    """Make a prepared statement say how many rows it reached.

    EXECUTE tells only how many come back.  A constant reads no column and so asks no
    SELECT policy, which PostgREST relies on as well.
    """
    writes = text.startswith(("insert ", "update ", "delete "))
    return f"{text} returning 1" if writes and " returning " not in text else text


class _Plan:
    """The order in which to ask, and which statements are worth preparing."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        counted = Counter(text for ask in asks for text in ask.texts)
        self.names = {
            text: f"harness_{number}"
            for number, (text, count) in enumerate(counted.items())
            if count >= WORTH_PREPARING
        }
        # By role: a change of role makes plans that row level security shaped stale.
        self.order = sorted(range(len(asks)), key=self._place)

    def payload(self) -> dict[str, Any]:
        """Return the argument of ``harness_probe.grid``."""
        blocks = [
            {"aside": aside, "speakers": list(self._speakers(list(members)))}
            for aside, members in groupby(self.order, key=lambda i: self.asks[i].aside)
        ]
        prepared = {name: _counted(text) for text, name in self.names.items()}
        return {"prepared": prepared, "blocks": blocks}

    def _place(self, index: int) -> tuple[Any, ...]:
        ask = self.asks[index]
        who = (ask.persona.role, ask.persona.name)
        return ask.aside, *who, sorted(ask.settings.items())

    def _speakers(self, members: Sequence[int]) -> Iterator[dict[str, Any]]:
        for _, group in groupby(members, key=self._place):
            indices = list(group)
            settings = self.asks[indices[0]].attempt.payload()["settings"]
            yield {
                "role": settings["role"],
                "settings": {k: v for k, v in settings.items() if k != "role"},
                "items": [self._item(self.asks[i]) for i in indices],
            }

    def _item(self, ask: Ask) -> dict[str, Any]:
        commands = [self._named(command) for command in ask.commands]
        if ask.shape in self.names:
            listed = f"({', '.join(ask.arguments)})" if ask.arguments else ""
            commands[-1] = f"execute {self.names[ask.shape]}{listed}"
        item: dict[str, Any] = {}
        if commands[:-1]:
            item["before"] = commands[:-1]
        if commands:
            item["command"] = commands[-1]
        if ask.fetch:
            item["fetch"] = self._named(ask.fetch)
        if ask.observe:
            item["observe"] = self._named(ask.observe)
        if ask.mark:
            item["mark"] = True
        return item

    def _named(self, text: str) -> str:
        return f"execute {self.names[text]}" if text in self.names else text
