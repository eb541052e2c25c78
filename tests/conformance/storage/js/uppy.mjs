// @uppy/core with @uppy/tus, unmodified, as the Supabase documentation wires them.
import assert from "node:assert/strict";
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";

const { URL_, ALICE, ALICE_ID } = process.env;
const body = "uppy ".repeat(200_000);
const uppy = new Uppy({ autoProceed: false }).use(Tus, {
  endpoint: `${URL_}/upload/resumable`,
  headers: { authorization: `Bearer ${ALICE}` },
  chunkSize: 600_000,
  retryDelays: [],
  allowedMetaFields: ["bucketName", "objectName", "contentType", "cacheControl"],
});
uppy.on("file-added", (file) => {
  file.meta = {
    ...file.meta,
    bucketName: "docs",
    objectName: `${ALICE_ID}/${file.name}`,
    contentType: file.type,
  };
});
const data = Buffer.from(body);
uppy.addFile({ name: "uppy.txt", type: "text/plain", data, size: data.length });
const result = await uppy.upload();
assert.deepEqual(result.failed, []);
assert.equal(result.successful.length, 1);
const answer = await fetch(`${URL_}/object/authenticated/docs/${ALICE_ID}/uppy.txt`, {
  headers: { authorization: `Bearer ${ALICE}` },
});
assert.equal(answer.headers.get("content-type"), "text/plain");
assert.equal(await answer.text(), body);
uppy.destroy();
