// The team-notes application by the official JavaScript client, over the whole stack.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const { SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, SUPABASE_SECRET_KEY } = process.env;
const PASSWORD = "correct horse battery";
const opened = [];

function client(key = SUPABASE_PUBLISHABLE_KEY) {
  const made = createClient(SUPABASE_URL, key, {
    auth: { autoRefreshToken: false, persistSession: false },
    realtime: { transport: WebSocket },
  });
  opened.push(made);
  return made;
}

async function member(name) {
  const supabase = client();
  const { data, error } = await supabase.auth.signUp({
    email: `${name}@example.test`,
    password: PASSWORD,
    options: { data: { name } },
  });
  assert.equal(error, null);
  await supabase.realtime.setAuth(data.session.access_token);
  return { supabase, id: data.user.id };
}

function good({ data, error }) {
  assert.equal(error, null, JSON.stringify(error));
  return data;
}

function subscribed(channel) {
  return new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === "SUBSCRIBED") resolve(channel);
      if (status === "CHANNEL_ERROR" || status === "TIMED_OUT") {
        reject(error ?? new Error(status));
      }
    });
  });
}

after(() => Promise.all(opened.map((each) => each.realtime.disconnect())));

const ada = await member("ada");
const eve = await member("eve");

test("members see shared notes with the name of who wrote them", async () => {
  const notes = [{ title: "mine" }, { title: "ours", shared: true }];
  good(await ada.supabase.from("notes").insert(notes, { defaultToNull: false }));
  const seen = await eve.supabase.from("notes").select("title, profiles!inner(name)");
  assert.deepEqual(good(seen), [{ title: "ours", profiles: { name: "ada" } }]);
  const { count } = await ada.supabase
    .from("notes")
    .select("*", { count: "exact", head: true })
    .or("title.eq.mine,shared.is.true");
  assert.equal(count, 2);
  assert.deepEqual(good(await client().from("notes").select()), []);
});

test("notes are changed by their owner alone", async () => {
  const changed = await eve.supabase
    .from("notes").update({ title: "hers" }).eq("shared", true).select();
  assert.deepEqual(good(changed), []);
  const forged = await eve.supabase.from("notes").insert({ title: "x", owner: ada.id });
  assert.deepEqual([forged.status, forged.error.code], [403, "42501"]);
  const mine = good(
    await ada.supabase
      .from("notes").update({ title: "done" }).eq("title", "mine").select().single(),
  );
  assert.equal(mine.title, "done");
  const none = await eve.supabase.from("notes").select().eq("title", "done").single();
  assert.deepEqual([none.status, none.error.code], [406, "PGRST116"]);
  const maybe = await eve.supabase.from("notes").select().eq("title", "done").maybeSingle();
  assert.equal(good(maybe), null);
});

test("functions are called with named arguments", async () => {
  assert.equal(good(await ada.supabase.rpc("count_notes", { only_shared: true })), 1);
  const read = await ada.supabase.rpc("count_notes", { only_shared: false }, { get: true });
  assert.equal(good(read), 2);
  const unknown = await ada.supabase.rpc("no_such_function");
  assert.deepEqual([unknown.status, unknown.error.code], [404, "PGRST202"]);
});

test("files belong to their owner and travel by signed links", async () => {
  const path = `${ada.id}/plan (1).txt`;
  const files = ada.supabase.storage.from("attachments");
  const plan = new Blob(["the plan"], { type: "text/plain" });
  assert.equal(good(await files.upload(path, plan)).path, path);
  const again = await files.upload(path, plan);
  assert.equal(again.error.statusCode, "409");
  assert.equal(await good(await files.download(path)).text(), "the plan");
  assert.equal(good(await files.list(ada.id)).length, 1);
  assert.ok((await eve.supabase.storage.from("attachments").download(path)).error);
  const wrongType = new Blob(["%PDF"], { type: "application/pdf" });
  const refused = await files.upload(`${ada.id}/a.pdf`, wrongType);
  assert.equal(refused.error.statusCode, "415");
  const { signedUrl } = good(await files.createSignedUrl(path, 60, { download: true }));
  const fetched = await fetch(signedUrl);
  assert.equal(await fetched.text(), "the plan");
  assert.match(fetched.headers.get("content-disposition"), /^attachment/);
  const ticket = good(await files.createSignedUploadUrl(`${ada.id}/later.txt`));
  const anybody = client().storage.from("attachments");
  good(await anybody.uploadToSignedUrl(ticket.path, ticket.token, plan));
  assert.equal(good(await files.remove([path, ticket.path])).length, 2);
});

test("changes arrive at those who may see them", async () => {
  const heard = [];
  let arrived;
  const done = new Promise((resolve) => (arrived = resolve));
  const channel = eve.supabase
    .channel("notes")
    .on("postgres_changes", { event: "*", schema: "public", table: "notes" }, (change) => {
      heard.push([change.eventType, change.new.title]);
      if (change.new.title === "last") arrived();
    });
  await subscribed(channel);
  const { supabase } = ada;
  good(await supabase.from("notes").insert({ title: "secret" }));
  const shared = { title: "first", shared: true };
  const { id } = good(await supabase.from("notes").insert(shared).select("id").single());
  good(await supabase.from("notes").update({ title: "second" }).eq("id", id));
  good(await supabase.from("notes").insert({ title: "last", shared: true }));
  await done;
  assert.deepEqual(heard, [["INSERT", "first"], ["UPDATE", "second"], ["INSERT", "last"]]);
  await eve.supabase.removeChannel(channel);
});

test("members speak and are present in a private room, others stay out", async () => {
  let greeted;
  let met;
  const heard = new Promise((resolve) => (greeted = resolve));
  const together = new Promise((resolve) => (met = resolve));
  const config = { private: true, presence: { key: "eve" } };
  const room = eve.supabase
    .channel("team", { config })
    .on("broadcast", { event: "hello" }, ({ payload }) => greeted(payload))
    .on("presence", { event: "sync" }, () => {
      const names = Object.keys(room.presenceState()).sort();
      if (names.length === 2) met(names);
    });
  await subscribed(room);
  await room.track({ at: "desk" });
  const hers = ada.supabase
    .channel("team", { config: { private: true, presence: { key: "ada" } } })
    .on("presence", { event: "sync" }, () => {});
  await subscribed(hers);
  await hers.track({ at: "door" });
  assert.deepEqual(await together, ["ada", "eve"]);
  await hers.send({ type: "broadcast", event: "hello", payload: { from: "ada" } });
  assert.deepEqual(await heard, { from: "ada" });
  const stranger = client().channel("team", { config: { private: true } });
  await assert.rejects(subscribed(stranger));
});

test("the secret key sees everything and deletes a member with all they had", async () => {
  const server = client(SUPABASE_SECRET_KEY);
  assert.ok(good(await server.from("notes").select()).length >= 4);
  good(await server.auth.admin.deleteUser(ada.id));
  assert.deepEqual(good(await server.from("notes").select()), []);
  assert.deepEqual(
    good(await server.from("profiles").select("name")), [{ name: "eve" }],
  );
});
