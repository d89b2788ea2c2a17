import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { before, test } from "node:test";
import { fileURLToPath } from "node:url";

const CLIENT = fileURLToPath(new URL("..", import.meta.url));
const MAX_BYTES = 64 * 1024;

const run = (command, ...args) => execFileSync(command, args, { cwd: CLIENT, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

before(() => run(process.execPath, "build.mjs", "--package"));

test("the package contains the built modules, types and documentation, and nothing else", () => {
  const [{ files, size }] = JSON.parse(run("npm", "pack", "--dry-run", "--json", "--ignore-scripts"));
  const names = files.map(({ path }) => path);

  for (const name of names) assert.match(name, /^(package\.json|README\.md|LICENSE|dist\/[\w-]+\.(js|d\.ts|json))$/);
  for (const name of ["index.js", "index.d.ts", "react.js", "react.d.ts", "vue.js", "vue.d.ts", "custom-elements.json"]) {
    assert.ok(names.includes(`dist/${name}`), name);
  }
  assert.ok(size < MAX_BYTES, `${size} bytes`);
});

test("the package can be imported without a browser", () => {
  const script = `
    import { connect, fold } from "jobpush";
    import { useTasks } from "jobpush/react";
    import * as vue from "jobpush/vue";
    console.log(typeof connect, typeof fold, typeof useTasks, typeof vue.useTasks);`;

  assert.equal(run(process.execPath, "--input-type=module", "-e", script).trim(), "function function function function");
});
