// Two people in two browsers: one signs up, uploads and writes, the other sees it arrive.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium } from "playwright-core";

const { CHROMIUM, PAGE_URL, SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY } = process.env;
const DEADLINE_MS = 30_000;

async function join(browser, name) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (line) => {
    if (line.type() === "error") page.complaints.push(line.text());
  });
  const query = new URLSearchParams({ url: SUPABASE_URL, key: SUPABASE_PUBLISHABLE_KEY });
  await page.goto(`${PAGE_URL}/index.html?${query}`);
  await page.fill("#join [name=name]", name);
  await page.fill("#join [name=password]", "correct horse battery");
  await page.click("#join button");
  await page.getByText(`listening as ${name}`).waitFor();
  return page;
}

test("a note with a file, written in one browser, arrives in the other", async () => {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    // The sandbox of the browser does not work as root, as which CI runs.
    args: ["--no-sandbox"],
  });
  try {
    const [ada, eve] = await Promise.all([join(browser, "ada"), join(browser, "eve")]);
    await ada.fill("#write [name=title]", "Welcome");
    await ada.setInputFiles("#write [name=file]", {
      name: "hello.txt",
      mimeType: "text/plain",
      buffer: Buffer.from("hello from a page"),
    });
    await ada.click("#write button");
    for (const page of [eve, ada]) {
      const note = page.locator("#notes li").first();
      await note.waitFor();
      assert.match(await note.textContent(), /^Welcome \([0-9a-f-]{36}\/hello\.txt\)$/);
      assert.deepEqual(await page.locator("#errors li").allTextContents(), []);
      assert.deepEqual(page.complaints, []);
    }
    await eve.reload();
    await eve.fill("#join [name=name]", "ada");
    await eve.fill("#join [name=password]", "correct horse battery");
    await eve.click("#join button");
    await eve.locator("#errors li").first().waitFor();
    const errors = await eve.locator("#errors li").allTextContents();
    assert.deepEqual(errors, ["User already registered"]);
  } finally {
    await browser.close();
  }
});
