/**
 * The JavaScript of the documentation: every block parses, Vue components compile, and the typed ones pass `tsc --strict`,
 * together with the documented imports, for most of the time goes into the libraries that they share.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { transformSync } from "esbuild";
import { compileScript, compileTemplate, parse } from "vue/compiler-sfc";

const CLIENT = fileURLToPath(new URL("..", import.meta.url));
const DOCS = fileURLToPath(new URL("../../docs", import.meta.url));
const TYPED = `${CLIENT}/build/docs`;

const blocks = handwrittenPages().flatMap((page) =>
  [...readFileSync(page, "utf8").matchAll(/^```(js|jsx|ts|tsx|vue|html)\b.*\n([^]*?)^```$/gm)].map(([, language, text]) => ({ page, language, text })),
);

/** Return the pages that are written by hand; the others show declarations. */
function handwrittenPages() {
  return readdirSync(DOCS, { recursive: true }).filter((name) => name.endsWith(".md") && !name.includes("reference")).map((name) => `${DOCS}/${name}`);
}

/** Compile a component, and return its script. */
function compile(source) {
  const { descriptor, errors } = parse(source);
  assert.deepEqual(errors, []);
  const { code } = compileTemplate({ id: "x", filename: "x.vue", source: descriptor.template.content });
  assert.ok(code);
  return [compileScript(descriptor, { id: "x" }).content, descriptor.scriptSetup];
}

test("every block of JavaScript parses", () => {
  assert.ok(blocks.length > 10);
  for (const { page, language, text } of blocks) {
    const sources = language === "html" ? [...text.matchAll(/<script type="module">([^]*?)<\/script>/g)].map(([, script]) => script) : [text];
    for (const source of sources) {
      const code = language === "vue" ? compile(source)[0] : source;
      const loader = { vue: "ts", html: "js" }[language] ?? language;
      assert.doesNotThrow(() => transformSync(code, { loader, logLevel: "silent" }), `${page}\n${text}`);
    }
  }
});

test("the documented imports, and the examples for React and Vue, pass tsc --strict", () => {
  rmSync(TYPED, { recursive: true, force: true });
  mkdirSync(TYPED, { recursive: true });
  const typed = blocks.filter(({ page, language }) => page.endsWith("react-and-vue.md") && ["tsx", "vue"].includes(language));
  const files = typed.map(({ language, text }, index) => {
    const file = `${index}.tsx`;
    const script = language === "vue" ? `import { defineProps } from "vue";\n${compile(text)[1].content}\nexport const used = [tasks, task, state];` : text;
    writeFileSync(`${TYPED}/${file}`, `${script}\nexport {};\n`);
    return file;
  });
  writeFileSync(`${TYPED}/tsconfig.json`, JSON.stringify({ extends: "../../tsconfig.json", files: ["../../test/types.tsx", ...files] }));

  assert.ok(files.length >= 4);
  execFileSync(process.execPath, [`${CLIENT}/node_modules/typescript/bin/tsc`, "-p", TYPED], { cwd: CLIENT, encoding: "utf8" });
});
