"""Questions asked together: the same answers as one by one, and none is in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from harness.db.address import DatabaseAddress
from harness.policies.grid import Ask, Grid, install_grid
from harness.policies.personas import Persona
from harness.policies.probing import Answer, Prober
from harness.policies.scratch import scratch_prober

SCHEMA = """
create table public.notes (id int primary key, owner text not null, body text);
alter table public.notes enable row level security;
grant all on public.notes to authenticated;
create policy own on public.notes for all to authenticated
  using (owner = auth.jwt() ->> 'name') with check (owner = auth.jwt() ->> 'name');
insert into public.notes select n, (array['ann', 'ben'])[n % 2 + 1], 'x'
  from generate_series(1, 8) n;
create function public.slow() returns int language sql volatile
  as $$ select 1 from pg_sleep(30) $$;
"""
PEOPLE = tuple(
    Persona(
        name=name,
        role=role,
        kind="plain",
        claims={"role": role, "name": name},
    )
    for name, role in (
        ("ann", "authenticated"),
        ("ben", "authenticated"),
        ("cleo", "authenticated"),
        ("visitor", "anon"),
        ("backend", "service_role"),
    )
)
LEFT = "select coalesce(jsonb_agg(t.id order by t.id), '[]') from public.notes t"


def asks() -> list[Ask]:
    """Ask everybody for everything, often enough to be prepared."""
    found = []
    for person in PEOPLE:
        found.append(Ask(persona=person, fetch=LEFT))
        found.append(
            Ask(persona=person, commands=("delete from public.notes",), observe=LEFT)
        )
        for number, owner in ((9, "ann"), (10, "ben"), (1, "ann"), (11, "o'k")):
            quoted = owner.replace("'", "''")
            found.append(
                Ask(
                    persona=person,
                    commands=(
                        "insert into public.notes (id, owner)"
                        f" values ('{number}', '{quoted}')",
                    ),
                    shape="insert into public.notes (id, owner) values ($1, $2)",
                    arguments=(f"'{number}'", f"'{quoted}'"),
                    aside=("delete from public.notes where id = 10",),
                )
            )
        found.append(Ask(persona=person, commands=("select * from public.nothing",)))
        found.append(
            Ask(
                persona=person,
                commands=("update public.notes set body = current_setting('app.x')",),
                settings={"app.x": person.name},
            )
        )
    return found


@pytest.fixture
def ask_prober(
    database: DatabaseAddress,
) -> Callable[[Callable[[Prober], Awaitable[None]]], None]:
    """Run something on a prober of a database with notes in it."""

    def run(body: Callable[[Prober], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with scratch_prober(database, statement_timeout_ms=300) as prober:
                await prober.connection.execute(SCHEMA)
                await install_grid(prober.connection)
                await body(prober)

        asyncio.run(connected())

    return run


def told(answer: Answer) -> tuple[object, ...]:
    """Return what counts of an answer."""
    return answer.counts[-1:], answer.fetched, answer.seen, answer.sqlstate


def test_answers_are_those_of_single_attempts(
    ask_prober: Callable[[Callable[[Prober], Awaitable[None]]], None],
) -> None:
    async def compare(prober: Prober) -> None:
        await prober.connection.execute("set statement_timeout = '10s'")
        together = await Grid(prober).ask(asks())
        alone = [await prober.attempt(ask.attempt) for ask in asks()]
        assert [told(a) for a in together] == [told(a) for a in alone]
        states = {answer.sqlstate for answer in together}
        assert {"", "42501", "23505", "42P01"} <= states
        assert await prober.connection.fetchval(
            "select count(*) = 8 and bool_and(body = 'x') from public.notes"
        )

    ask_prober(compare)


def test_question_without_end_is_given_up_and_the_others_are_answered(
    ask_prober: Callable[[Callable[[Prober], Awaitable[None]]], None],
) -> None:
    async def contain(prober: Prober) -> None:
        listing = Ask(persona=PEOPLE[0], fetch=LEFT)
        endless = Ask(persona=PEOPLE[0], commands=("select public.slow()",))
        grid = Grid(prober)
        answers = await grid.ask([*[listing] * 9, endless, *[listing] * 9])
        assert [a.timed_out for a in answers] == [False] * 9 + [True] + [False] * 9
        assert answers[0].fetched == answers[-1].fetched != []

    ask_prober(contain)
