// @supabase/storage-js, unmodified: buckets, objects, signed URLs, listing, policies.
import assert from "node:assert/strict";
import { StorageClient } from "@supabase/storage-js";

const { URL_, SERVICE, ALICE, ALICE_ID, BOB } = process.env;
const client = (token) =>
  new StorageClient(URL_, { Authorization: `Bearer ${token}`, apikey: token });
const admin = client(SERVICE);
const alice = client(ALICE).from("docs");
const bob = client(BOB).from("docs");

async function ok(call) {
  const { data, error } = await call;
  assert.equal(error, null);
  return data;
}
async function refused(call, message) {
  const { error } = await call;
  assert.ok(error, `not refused: ${message}`);
  assert.match(error.message, message);
  return error;
}
const text = async (blob) => Buffer.from(await blob.arrayBuffer()).toString();

assert.deepEqual(
  await ok(admin.createBucket("docs", { fileSizeLimit: "1MB" })), { name: "docs" });
await ok(admin.createBucket("open", { public: true, allowedMimeTypes: ["image/*"] }));
assert.deepEqual((await ok(admin.listBuckets())).map((b) => b.id).sort(), ["docs", "open"]);
assert.equal((await ok(admin.getBucket("docs"))).file_size_limit, 1000000);
await ok(admin.updateBucket("docs", { public: false, fileSizeLimit: null }));
await refused(admin.getBucket("none"), /Bucket not found/);

const file = `${ALICE_ID}/dir/a b.txt`;
const uploaded = await ok(alice.upload(file, new Blob(["hello"], { type: "text/plain" }),
  { cacheControl: "60", metadata: { color: "blue" } }));
assert.equal(uploaded.path, file);
assert.equal(uploaded.fullPath, `docs/${file}`);
assert.equal(await text(await ok(alice.download(file))), "hello");
await refused(alice.upload(file, "again"), /already exists/);
await ok(alice.update(file, Buffer.from("hello again"), { contentType: "text/plain" }));
await ok(alice.upload(file, "third", { upsert: true }));
const info = await ok(alice.info(file));
assert.equal(info.size, 5);
assert.equal(await ok(alice.exists(file)), true);
assert.equal((await alice.exists(`${ALICE_ID}/none`)).data, false);

await ok(alice.copy(file, `${ALICE_ID}/copy.txt`));
await ok(alice.move(`${ALICE_ID}/copy.txt`, `${ALICE_ID}/moved.txt`));
const listed = await ok(alice.list(ALICE_ID, { sortBy: { column: "name", order: "desc" } }));
assert.deepEqual(listed.map((e) => e.name), ["moved.txt", "dir"]);
assert.equal(listed[1].id, null);
const page = await ok(alice.listV2({ prefix: `${ALICE_ID}/`, with_delimiter: true }));
assert.deepEqual(page.folders.map((f) => f.name), [`${ALICE_ID}/dir/`]);

await refused(bob.download(file), /./);
await refused(bob.upload(`${ALICE_ID}/planted`, "x"), /row-level security/);
assert.deepEqual(await ok(bob.list(ALICE_ID)), []);
assert.deepEqual(await ok(bob.remove([file])), []);

const signed = await ok(alice.createSignedUrl(file, 60, { download: "n.txt" }));
const answer = await fetch(signed.signedUrl);
assert.equal(await answer.text(), "third");
assert.match(answer.headers.get("content-disposition"), /filename=n.txt/);
const many = await ok(alice.createSignedUrls([file, "none"], 60));
assert.equal(many[0].error, null);
assert.equal(await (await fetch(many[0].signedUrl)).text(), "third");
assert.match(many[1].error, /does not exist/);
const ticket = await ok(alice.createSignedUploadUrl(`${ALICE_ID}/ticket`));
await ok(client(BOB).from("docs").uploadToSignedUrl(ticket.path, ticket.token, "by ticket"));
assert.equal(await text(await ok(alice.download(`${ALICE_ID}/ticket`))), "by ticket");

await refused(admin.from("open").upload("a.txt", "x", { contentType: "text/plain" }),
  /mime type text\/plain is not supported/);
await ok(admin.from("open").upload("a.png", "png", { contentType: "image/png" }));
const url = admin.from("open").getPublicUrl("a.png").data.publicUrl;
assert.equal(await (await fetch(url)).text(), "png");

const removed = await ok(alice.remove([file, `${ALICE_ID}/none`]));
assert.deepEqual(removed.map((row) => row.name), [file]);
await refused(admin.deleteBucket("docs"), /not empty/);
await ok(admin.emptyBucket("docs"));
await ok(admin.deleteBucket("docs"));
