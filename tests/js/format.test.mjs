import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import { announcement, summaryText, textOf } from "../../client/src/format.js";
import "../../client/src/locales/en-more.js";
import { strings as en } from "../../client/src/locales/en.js";
import { texts as ar } from "../../client/src/locales/ar.js";
import { texts as de } from "../../client/src/locales/de.js";

/** Return all text codes in the sources of the package. */
async function codesOfTexts() {
  const root = new URL("../../jobpush/", import.meta.url);
  const names = (await readdir(root, { recursive: true })).filter((name) => /\.(py|lua)$/.test(name));
  const sources = await Promise.all(names.map((name) => readFile(new URL(name, root), "utf8")));
  const codes = sources.flatMap((source) => [...source.matchAll(/CodedText\([^)]*?, f?"([a-z_]+)[":]|error_code\W+([a-z_]+)\\/g)]);
  return new Set(codes.map(([, inPython, inLua]) => inPython ?? inLua));
}

test("every text of the gateway has a translation in German and Arabic", async () => {
  const codes = [...(await codesOfTexts())].sort();

  assert.ok(codes.includes("no_worker") && codes.includes("progress_lost"), String(codes));
  for (const texts of [de, ar]) {
    for (const code of codes) assert.ok(texts.reason(`${code}:scans`).length > 10, code);
  }
});

test("a text with a code is translated, with its value", () => {
  const task = { message: "No worker is running for the queue a:b", message_code: "no_worker:a:b" };

  assert.equal(textOf(task, "message", de), "Für die Warteschlange a:b läuft kein Worker");
  assert.equal(textOf(task, "message", en), task.message);
});

test("a text without a code, or with an unknown one, stays as it is", () => {
  for (const error_code of [undefined, null, "", ":", "unknown", "no_worker\n:x", "constructor", "toString:x"]) {
    assert.equal(textOf({ error: "The disk is full", error_code }, "error", de), "The disk is full");
  }
  assert.equal(textOf({ error: null, error_code: "expired" }, "error", de), null);
});

test("a failure is announced in the language of the page", () => {
  const task = { task_id: "a", state: "FAILURE", error: "The task took too long", error_code: "too_long" };

  assert.equal(announcement(task, de), "a: Fehlgeschlagen: Die Aufgabe dauerte zu lange und wurde angehalten");
});

test("durations are rounded to the nearest unit in every language", () => {
  assert.deepEqual([10.4, 10.6, 89, 3600].map(en.duration), ["10 s", "11 s", "1 min", "1 h"]);
  assert.deepEqual([10.4, 10.6, 89, 3600].map(de.duration), ["10 s", "11 s", "1 min", "1 h"]);
  assert.equal(ar.duration(10.4), ar.duration(10));
});

test("an Arabic summary has Arabic commas", () => {
  const tasks = [{ state: "PROGRESS" }, { state: "PENDING" }];

  assert.equal(summaryText(tasks, en), "1 running, 1 waiting");
  assert.equal(summaryText(tasks, { ...en, ...ar }).split("، ").length, 2);
});
