// tus-js-client, unmodified: chunks, pause and resume, signed uploads, refusals.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import * as tus from "tus-js-client";

const { URL_, ALICE, ALICE_ID, BOB } = process.env;
const data = randomBytes(3_000_000);

function upload(name, { token = ALICE, headers = {}, path = "", ...options } = {}) {
  return new Promise((resolve, reject) => {
    const running = new tus.Upload(data, {
      endpoint: `${URL_}/upload/resumable${path}`,
      headers: { ...(token ? { authorization: `Bearer ${token}` } : {}), ...headers },
      chunkSize: 1_000_000,
      retryDelays: null,
      metadata: {
        bucketName: "docs",
        objectName: name,
        contentType: "application/zip",
        cacheControl: "3600",
        metadata: JSON.stringify({ color: "blue" }),
      },
      onError: reject,
      onSuccess: () => resolve(running),
      ...options,
    });
    running.start();
  });
}
const download = async (name) => {
  const answer = await fetch(`${URL_}/object/authenticated/docs/${name}`, {
    headers: { authorization: `Bearer ${ALICE}` },
  });
  assert.equal(answer.status, 200);
  return Buffer.from(await answer.arrayBuffer());
};
const status = (error) => error.originalResponse?.getStatus();

await upload(`${ALICE_ID}/one.zip`);
assert.ok(data.equals(await download(`${ALICE_ID}/one.zip`)));

await upload(`${ALICE_ID}/deferred.zip`, { uploadLengthDeferred: true });
assert.ok(data.equals(await download(`${ALICE_ID}/deferred.zip`)));

await upload(`${ALICE_ID}/with-creation.zip`, { uploadDataDuringCreation: true });
assert.ok(data.equals(await download(`${ALICE_ID}/with-creation.zip`)));

// Abort after the first chunk, then go on from the URL.
let url;
await new Promise((resolve, reject) => {
  const first = new tus.Upload(data, {
    endpoint: `${URL_}/upload/resumable`,
    headers: { authorization: `Bearer ${ALICE}` },
    chunkSize: 1_000_000,
    metadata: { bucketName: "docs", objectName: `${ALICE_ID}/aborted.zip` },
    onChunkComplete: async () => {
      await first.abort();
      url = first.url;
      resolve();
    },
    onError: reject,
  });
  first.start();
});
await upload(`${ALICE_ID}/aborted.zip`, { uploadUrl: url });
assert.ok(data.equals(await download(`${ALICE_ID}/aborted.zip`)));

await assert.rejects(upload(`${ALICE_ID}/one.zip`), (e) => status(e) === 409);
await upload(`${ALICE_ID}/one.zip`, { headers: { "x-upsert": "true" } });
await assert.rejects(upload(`${ALICE_ID}/x`, { token: BOB }), (e) => status(e) === 403);
await assert.rejects(upload("a/b", { token: null }), (e) => status(e) === 400);

const ticket = await (await fetch(`${URL_}/object/upload/sign/docs/${ALICE_ID}/signed.zip`, {
  method: "POST",
  headers: { authorization: `Bearer ${ALICE}` },
})).json();
await upload(`${ALICE_ID}/signed.zip`, {
  token: null,
  path: "/sign",
  headers: { "x-signature": ticket.token },
});
assert.ok(data.equals(await download(`${ALICE_ID}/signed.zip`)));

const ended = new tus.Upload(data, {});
assert.ok(ended);
await new Promise((resolve, reject) => {
  const doomed = new tus.Upload(data, {
    endpoint: `${URL_}/upload/resumable`,
    headers: { authorization: `Bearer ${ALICE}` },
    chunkSize: 1_000_000,
    metadata: { bucketName: "docs", objectName: `${ALICE_ID}/doomed.zip` },
    onChunkComplete: () => doomed.abort(true).then(resolve, reject),
    onError: reject,
  });
  doomed.start();
});
