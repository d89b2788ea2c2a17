import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

test("the whole widget is less than 8 KB on the wire", () => {
  const source = readFileSync(new URL("../../jobpush/static/jobpush.js", import.meta.url));

  const { length } = gzipSync(source, { level: 9 });

  assert.ok(length < 8192, `${length} bytes`);
});

test("nothing is loaded from elsewhere", () => {
  const source = readFileSync(new URL("../../jobpush/static/jobpush.js", import.meta.url), "utf8");

  assert.doesNotMatch(source, /^\s*import[\s{"']|import\(["'](?!\.\/jobpush\.d\.ts)|https?:/m);
});
