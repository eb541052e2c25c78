// @aws-sdk/client-s3, unmodified: objects, checksums in trailers, multipart, listing.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";

const { URL_, KEY, SECRET, REGION, ANON, ALICE, ALICE_ID, PROJECT } = process.env;
const client = (credentials) =>
  new S3Client({
    endpoint: `${URL_}/s3`,
    region: REGION,
    forcePathStyle: true,
    credentials,
    maxAttempts: 1,
  });
const s3 = client({ accessKeyId: KEY, secretAccessKey: SECRET });
const where = { Bucket: "files" };
const get = async (Key, c = s3) =>
  Buffer.from(await (await c.send(new GetObjectCommand({ ...where, Key }))).Body.transformToByteArray());

await s3.send(new CreateBucketCommand(where));
await s3.send(new PutObjectCommand({
  ...where, Key: "dir/a b.txt", Body: "hello", ContentType: "text/plain", Metadata: { k: "v" },
}));
assert.equal((await get("dir/a b.txt")).toString(), "hello");
const head = await s3.send(new HeadObjectCommand({ ...where, Key: "dir/a b.txt" }));
assert.deepEqual(head.Metadata, { k: "v" });

// A stream of known length goes out in signed or unsigned chunks with a trailer.
const data = randomBytes(300_000);
for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"]) {
  await s3.send(new PutObjectCommand({
    ...where, Key: ChecksumAlgorithm, Body: Readable.from([data]), ContentLength: data.length,
    ChecksumAlgorithm,
  }));
  assert.ok(data.equals(await get(ChecksumAlgorithm)));
}

const big = randomBytes(11 * 1024 * 1024);
await new Upload({ client: s3, params: { ...where, Key: "big", Body: Readable.from([big]) } }).done();
assert.ok(big.equals(await get("big")));

await s3.send(new CopyObjectCommand({ ...where, Key: "copy", CopySource: "files/dir/a%20b.txt" }));
const listed = await s3.send(new ListObjectsV2Command({ ...where, Delimiter: "/" }));
assert.deepEqual(listed.CommonPrefixes.map((p) => p.Prefix), ["dir/"]);
assert.ok(listed.Contents.some((o) => o.Key === "copy"));
const gone = await s3.send(new DeleteObjectsCommand({
  ...where, Delete: { Objects: [{ Key: "copy" }, { Key: "big" }] },
}));
assert.equal(gone.Deleted.length, 2);
await assert.rejects(get("copy"), { name: "NoSuchKey" });

const alice = client({ accessKeyId: PROJECT, secretAccessKey: ANON, sessionToken: ALICE });
await alice.send(new PutObjectCommand({ ...where, Key: `${ALICE_ID}/own`, Body: "own" }));
assert.equal((await get(`${ALICE_ID}/own`, alice)).toString(), "own");
await assert.rejects(
  alice.send(new PutObjectCommand({ ...where, Key: "other/x", Body: "x" })),
  { name: "AccessDenied" });
