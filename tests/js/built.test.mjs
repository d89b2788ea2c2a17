import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const STATIC = fileURLToPath(new URL("../../jobpush/static/", import.meta.url));
const BUILD = fileURLToPath(new URL("../../client/build.mjs", import.meta.url));
const MAX_BYTES = 10 * 1024;

const read = (name, folder = STATIC) => readFileSync(join(folder, name), "utf8");
const manifest = JSON.parse(read("manifest.json"));

/** Return the module and all its static imports, recursively; dynamic imports are left out. */
function staticImports(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  for (const [, imported] of read(name).matchAll(/(?:from|import)"\.\/([^"]+)"/g)) staticImports(imported, found);
  return found;
}

test("the checked-in files are what the sources build", () => {
  const folder = mkdtempSync(join(tmpdir(), "jobpush-build-"));
  try {
    execFileSync(process.execPath, [BUILD, folder], { stdio: "pipe" });

    assert.deepEqual(readdirSync(STATIC).sort(), readdirSync(folder).sort(), "run: node client/build.mjs");
    for (const name of readdirSync(folder)) assert.equal(read(name), read(name, folder), `${name}: run node client/build.mjs`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a page with bars alone downloads less than 10 KB", () => {
  const names = [...staticImports(manifest["jobpush.js"])];

  const bytes = names.reduce((sum, name) => sum + gzipSync(read(name), { level: 9 }).length, 0);

  assert.ok(bytes < MAX_BYTES, `${bytes} bytes in ${names}`);
});

test("jobpush.js re-exports the hashed module", () => {
  assert.equal(read("jobpush.js"), `export * from "./${manifest["jobpush.js"]}";\n`);
});

test("nothing is loaded from other origins", () => {
  for (const name of readdirSync(STATIC)) {
    if (name.endsWith(".js")) assert.doesNotMatch(read(name), /(?:from|import\()\s*["'](?!\.\/)|https?:\/\/(?!www\.w3\.org\/2000\/svg)/, name);
  }
});
