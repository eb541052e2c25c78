"""The official Python client, unmodified: every builder method it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from postgrest import (
    AsyncPostgrestClient,
    CountMethod,
    ReturnMethod,
    SyncPostgrestClient,
)
from postgrest.exceptions import APIError

from tests.integration.rest.server import PREFIX, RestServer

pytestmark = pytest.mark.conformance

Query = Callable[[Any], Any]


@pytest.fixture
def client(films: RestServer) -> Iterator[SyncPostgrestClient]:
    """Return the blocking client of a signed-in user."""
    headers = {"Authorization": f"Bearer {films.token()}"}
    url = films.url + PREFIX
    with httpx.Client(base_url=url, headers=headers, timeout=20) as http:
        yield SyncPostgrestClient(url, headers=headers, http_client=http)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (lambda q: q.eq("id", 1), [1]),
        (lambda q: q.neq("id", 1), [2, 3, 4, 5]),
        (lambda q: q.gt("id", 3).lte("id", 4), [4]),
        (lambda q: q.gte("year", 1985).lt("year", 1990), [2, 3]),
        (lambda q: q.like("title", "R%"), [3]),
        (lambda q: q.ilike("title", "%RAN%"), [3]),
        (lambda q: q.like_any_of("title", "R%,D%"), [3, 4]),
        (lambda q: q.ilike_all_of("title", "%A%,%N%"), [2, 3, 5]),
        (lambda q: q.is_("year", "null"), [5]),
        (lambda q: q.is_("open", "true"), [1, 4]),
        (lambda q: q.not_.is_("year", "null"), [1, 2, 3, 4]),
        (lambda q: q.not_.in_("id", [1, 2]), [3, 4, 5]),
        (lambda q: q.in_("title", ['Lost, "quoted" and (odd)', "Ran"]), [3, 5]),
        (lambda q: q.in_("id", []), []),
        (lambda q: q.or_("id.eq.1,and(year.eq.1985,feeling.eq.calm)"), [1, 2]),
        (lambda q: q.match({"year": 1985, "feeling": "tense"}), [3]),
        (lambda q: q.contains("tags", ["paris"]), [1]),
        (lambda q: q.contains("details", {"country": "FR"}), [1, 2]),
        (lambda q: q.contained_by("tags", ["paris", "day", "road"]), [1, 2, 4]),
        (lambda q: q.overlaps("tags", ["war", "road"]), [2, 3]),
        (lambda q: q.range_gt("shown", ["1985-06-01", "1986-01-01"]), [4]),
        (lambda q: q.range_lt("shown", ["1980-01-01", "1981-01-01"]), [1]),
        (lambda q: q.range_gte("shown", ["1984-12-31", "1986-01-01"]), [2, 4]),
        (lambda q: q.range_lte("shown", ["1962-01-01", "1986-01-01"]), [1, 2]),
        (lambda q: q.range_adjacent("shown", ["1962-05-31", "1963-01-01"]), [1]),
        (lambda q: q.fts("words", "dream"), [4]),
        (lambda q: q.plfts("words", "dreaming"), [4]),
        (lambda q: q.phfts("words", "quoted and odd"), [5]),
        (lambda q: q.wfts("words", "dream or ran"), [3, 4]),
        (lambda q: q.filter("details->>country", "eq", "JP"), [3]),
        (lambda q: q.filter("year", "not.gt", "1970"), [1]),
    ],
)
def test_filters_choose_rows(
    client: SyncPostgrestClient, query: Query, expected: list[int]
) -> None:
    found = query(client.from_("films").select("id")).order("id").execute().data
    assert [row["id"] for row in found] == expected


def test_modifiers_shape_the_result(client: SyncPostgrestClient) -> None:
    films = client.from_("films")
    ordered = films.select("id").order("year", desc=True, nullsfirst=False).order("id")
    assert [row["id"] for row in ordered.limit(3).execute().data] == [4, 2, 3]
    page = films.select("id", count=CountMethod.exact).order("id").range(1, 2).execute()
    assert ([row["id"] for row in page.data], page.count) == ([2, 3], 5)
    assert films.select("title").eq("id", 3).single().execute().data == {"title": "Ran"}
    assert films.select("title").eq("id", 9).maybe_single().execute() is None
    counted = films.select("*", count=CountMethod.exact, head=True).execute()
    assert (counted.data, counted.count) == ([], 5)
    csv = films.select("id,year").eq("id", 1).csv().execute().data
    assert csv == "id,year\n1,1962"
    plan = films.select("id").explain(format="json").execute()
    assert "Plan" in str(plan)
    estimated = films.select("id", count=CountMethod.estimated).execute()
    assert estimated.count == 5


def test_single_of_many_raises_the_documented_error(
    client: SyncPostgrestClient,
) -> None:
    with pytest.raises(APIError) as caught:
        client.from_("films").select("*").single().execute()
    assert caught.value.code == "PGRST116"
    assert caught.value.details == "The result contains 5 rows"


def test_embedding_and_its_filters(client: SyncPostgrestClient) -> None:
    found = (
        client.from_("directors")
        .select("last_name, films!inner(title, roles(character, actors(name)))")
        .eq("films.year", 1985)
        .order("title", foreign_table="films")
        .limit(1, foreign_table="films")
        .order("id")
        .execute()
    )
    assert [row["last_name"] for row in found.data] == ["Varda", "Kurosawa"]
    assert found.data[1]["films"] == [
        {
            "title": "Ran",
            "roles": [{"character": "Hidetora", "actors": {"name": "Tatsuya Nakadai"}}],
        }
    ]


def test_writes_return_what_they_wrote(client: SyncPostgrestClient) -> None:
    actors = client.from_("actors")
    one = actors.insert({"id": 10, "name": "Ann"}).execute()
    assert one.data == [{"id": 10, "name": "Ann"}]
    many = actors.insert([{"id": 11, "name": "B"}, {"id": 12, "name": "C"}]).execute()
    assert len(many.data) == 2
    silent = actors.insert(
        {"id": 13, "name": "D"}, returning=ReturnMethod.minimal
    ).execute()
    assert silent.data == []
    upserted = actors.upsert([{"id": 10, "name": "Anna"}, {"id": 14, "name": "E"}])
    assert [row["name"] for row in upserted.execute().data] == ["Anna", "E"]
    ignored = actors.upsert({"id": 10, "name": "X"}, ignore_duplicates=True).execute()
    assert ignored.data == []
    defaults = client.from_("actors").insert(
        [{"id": 20, "name": "F"}], default_to_null=False
    )
    assert defaults.execute().data[0]["name"] == "F"
    updated = (
        actors.update({"name": "Z"}, count=CountMethod.exact).gt("id", 10).execute()
    )
    assert (len(updated.data), updated.count) == (5, 5)
    deleted = actors.delete().gte("id", 10).execute()
    assert len(deleted.data) == 6


def test_write_errors_are_postgresql_s(client: SyncPostgrestClient) -> None:
    with pytest.raises(APIError) as caught:
        client.from_("actors").insert({"id": 1, "name": "twice"}).execute()
    assert caught.value.code == "23505"
    assert "duplicate key" in str(caught.value.message)


@pytest.mark.parametrize("get", [True, False])
def test_functions_are_called(client: SyncPostgrestClient, get: bool) -> None:
    def call(name: str, arguments: Any) -> Any:
        return client.rpc(name, arguments, get=get)

    assert call("add", {"a": 1, "b": 2}).execute().data == 3
    assert call("numbers", {"up_to": 3}).execute().data == [1, 2, 3]
    films = call("films_since", {"since": 1985}).select("id").lt("id", 4).order("id")
    assert [row["id"] for row in films.execute().data] == [2, 3]
    counted = client.rpc(
        "films_since", {"since": "1985"}, count=CountMethod.exact, head=True
    )
    assert counted.execute().count == 3


async def test_asynchronous_client_does_the_same(films: RestServer) -> None:
    headers = {"Authorization": f"Bearer {films.token()}"}
    url = films.url + PREFIX
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        client = AsyncPostgrestClient(url, headers=headers, http_client=http)
        found = await client.from_("films").select("id").eq("id", 1).execute()
        assert found.data == [{"id": 1}]
        await client.from_("actors").insert({"id": 30, "name": "x"}).execute()
        gone = await client.from_("actors").delete().eq("id", 30).execute()
        assert gone.data == [{"id": 30, "name": "x"}]
