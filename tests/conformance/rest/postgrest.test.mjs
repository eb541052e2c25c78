// Tables, views and functions by the official JavaScript client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PostgrestClient } from "@supabase/postgrest-js";

const { REST_URL, TOKEN } = process.env;
const headers = { Authorization: `Bearer ${TOKEN}` };
const client = new PostgrestClient(REST_URL, { headers });

const ids = (answer) => {
  assert.equal(answer.error, null);
  return answer.data.map((row) => row.id);
};

const filters = [
  [(q) => q.eq("id", 1), [1]],
  [(q) => q.neq("id", 1), [2, 3, 4, 5]],
  [(q) => q.gt("id", 1).gte("id", 3).lt("id", 5).lte("id", 4), [3, 4]],
  [(q) => q.like("title", "R%"), [3]],
  [(q) => q.ilike("title", "%RAN%"), [3]],
  [(q) => q.likeAnyOf("title", ["R%", "D%"]), [3, 4]],
  [(q) => q.ilikeAllOf("title", ["%A%", "%N%"]), [2, 3, 5]],
  [(q) => q.is("year", null), [5]],
  [(q) => q.is("open", true), [1, 4]],
  [(q) => q.in("title", ["Cleo from 5 to 7", "Ran", "a,b(c)"]), [1, 3]],
  // The client does not escape quotes; what PostgREST makes of them is no match.
  [(q) => q.in("title", ['Lost, "quoted" and (odd)', "Ran"]), []],
  [(q) => q.in("id", []), []],
  [(q) => q.not("id", "in", "(1,2)"), [3, 4, 5]],
  [(q) => q.not("year", "is", null), [1, 2, 3, 4]],
  [(q) => q.or("id.eq.1,and(year.eq.1985,feeling.eq.calm)"), [1, 2]],
  [(q) => q.match({ year: 1985, feeling: "tense" }), [3]],
  [(q) => q.contains("tags", ["paris"]), [1]],
  [(q) => q.contains("details", { country: "FR" }), [1, 2]],
  [(q) => q.containedBy("tags", ["paris", "day", "road"]), [1, 2, 4]],
  [(q) => q.overlaps("tags", ["war", "road"]), [2, 3]],
  [(q) => q.rangeGt("shown", "[1985-06-01,1986-01-01)"), [4]],
  [(q) => q.rangeLt("shown", "[1980-01-01,1981-01-01)"), [1]],
  [(q) => q.rangeGte("shown", "[1985-01-01,1986-01-01)"), [2, 4]],
  [(q) => q.rangeLte("shown", "[1962-01-01,1986-01-01)"), [1, 2]],
  [(q) => q.rangeAdjacent("shown", "[1962-06-01,1963-01-01)"), [1]],
  [(q) => q.overlaps("shown", "[1985-01-01,1985-02-01)"), [2]],
  [(q) => q.textSearch("words", "dream"), [4]],
  [(q) => q.textSearch("title", "dreaming", { type: "plain", config: "english" }), [4]],
  [(q) => q.textSearch("words", "dream or ran", { type: "websearch" }), [3, 4]],
  [(q) => q.filter("details->>country", "eq", "JP"), [3]],
];

for (const [query, expected] of filters) {
  test(`filter ${query}`, async () => {
    assert.deepEqual(ids(await query(client.from("films").select("id")).order("id")), expected);
  });
}

test("modifiers shape the result", async () => {
  const films = () => client.from("films");
  const page = await films().select("id", { count: "exact" }).order("id").range(1, 2);
  assert.deepEqual([ids(page), page.count, page.status], [[2, 3], 5, 206]);
  const one = await films().select("title").eq("id", 3).single();
  assert.deepEqual(one.data, { title: "Ran" });
  const none = await films().select("title").eq("id", 9).maybeSingle();
  assert.deepEqual([none.data, none.error], [null, null]);
  const many = await films().select("title").single();
  assert.equal(many.error.code, "PGRST116");
  assert.equal(many.status, 406);
  const head = await films().select("*", { count: "exact", head: true });
  assert.deepEqual([head.data, head.count], [null, 5]);
  const csv = await films().select("id,year").eq("id", 1).csv();
  assert.equal(csv.data, "id,year\n1,1962");
  const plan = await films().select("id").explain({ format: "json", analyze: true });
  assert.ok(plan.data[0].Plan);
  const ordered = await films()
    .select("id")
    .order("year", { ascending: false, nullsFirst: false })
    .order("id")
    .limit(3);
  assert.deepEqual(ids(ordered), [4, 2, 3]);
});

test("embedding, hints, renames and related filters", async () => {
  const answer = await client
    .from("directors")
    .select("name:last_name, films!inner(title, roles(character, actors(name)))")
    .eq("films.year", 1985)
    .order("title", { referencedTable: "films" })
    .limit(1, { referencedTable: "films" })
    .or("year.eq.1985,year.is.null", { referencedTable: "films" })
    .order("id");
  assert.equal(answer.error, null);
  assert.deepEqual(answer.data.map((row) => row.name), ["Varda", "Kurosawa"]);
  assert.equal(answer.data[1].films[0].roles[0].actors.name, "Tatsuya Nakadai");
  const counted = await client.from("directors").select("id, films(count)").order("id");
  assert.deepEqual(counted.data[2], { id: 3, films: [{ count: 0 }] });
  const hinted = await client
    .from("orders")
    .select("bill:addresses!billing(street), ship:addresses!shipping(street)")
    .eq("id", 1)
    .single();
  assert.deepEqual(hinted.data, { bill: { street: "Rue A" }, ship: { street: "Rue B" } });
  const spread = await client
    .from("films")
    .select("id, ...directors(director:last_name)")
    .order("directors(last_name)", { ascending: false })
    .order("id")
    .limit(1);
  assert.ok("director" in spread.data[0]);
});

test("writes, upserts and their errors", async () => {
  const actors = () => client.from("actors");
  const created = await actors().insert({ id: 10, name: "Ann" });
  assert.deepEqual([created.status, created.data], [201, null]);
  const several = await actors()
    .insert([{ id: 11, name: "B" }, { id: 12, name: "C" }], { count: "exact" })
    .select("name");
  assert.deepEqual([several.count, several.data], [2, [{ name: "B" }, { name: "C" }]]);
  const merged = await actors()
    .upsert([{ id: 10, name: "Anna" }, { id: 13, name: "D" }], { onConflict: "id" })
    .select();
  assert.deepEqual(merged.data.map((row) => row.name), ["Anna", "D"]);
  const ignored = await actors().upsert({ id: 10, name: "X" }, { ignoreDuplicates: true }).select();
  assert.deepEqual(ignored.data, []);
  const defaults = await actors().insert([{ id: 14, name: "E" }], { defaultToNull: false }).select();
  assert.equal(defaults.error, null);
  const single = await actors().update({ name: "Z" }).eq("id", 10).select().single();
  assert.deepEqual(single.data, { id: 10, name: "Z" });
  const limited = await actors().update({ name: "W" }).gte("id", 10).maxAffected(2);
  assert.equal(limited.error.code, "PGRST124");
  const twice = await actors().insert({ id: 10, name: "twice" });
  assert.deepEqual([twice.status, twice.error.code], [409, "23505"]);
  const deleted = await actors().delete({ count: "exact" }).gte("id", 10);
  assert.deepEqual([deleted.status, deleted.count], [204, 5]);
});

test("functions by POST, GET and HEAD", async () => {
  for (const options of [{}, { get: true }]) {
    const sum = await client.rpc("add", { a: 1, b: 2 }, options);
    assert.equal(sum.data, 3);
    const films = await client
      .rpc("films_since", { since: 1985 }, options)
      .select("id, directors(last_name)")
      .lt("id", 4)
      .order("id");
    assert.deepEqual(ids(films), [2, 3]);
  }
  const total = await client.rpc("total", { numbers: [1, 2, 3] });
  assert.equal(total.data, 6);
  const counted = await client.rpc("films_since", { since: 1985 }, { head: true, count: "exact" });
  assert.equal(counted.count, 3);
  const nothing = await client.rpc("nothing");
  assert.deepEqual([nothing.status, nothing.data], [204, null]);
  const unknown = await client.rpc("nope", { a: 1 });
  assert.deepEqual([unknown.status, unknown.error.code], [404, "PGRST202"]);
});

test("schemas and aborted requests", async () => {
  const hidden = await client.schema("auth").from("users").select("*");
  assert.deepEqual([hidden.status, hidden.error.code], [406, "PGRST106"]);
  const unknown = await client.from("nope").select("*");
  assert.deepEqual([unknown.status, unknown.error.code], [404, "PGRST205"]);
  const stopped = await client
    .from("films")
    .select("*")
    .abortSignal(AbortSignal.timeout(0));
  assert.notEqual(stopped.error, null);
  await assert.rejects(async () => client.from("nope").select("*").throwOnError());
});
