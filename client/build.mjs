/**
 * Build what the gateway serves: `node client/build.mjs [FOLDER]`, by default into jobpush/static/.
 *
 * Every module gets a name with a hash of its content, so that browsers may keep it for ever. `jobpush.js` keeps its
 * name and leads to the newest one, and `manifest.json` names it for `jobpush_tags()`.
 */

import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build, transform } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const target = process.argv[2] ?? join(here, "../jobpush/static");

await mkdir(target, { recursive: true });
for (const name of await readdir(target)) await rm(join(target, name), { recursive: true });

/** Import a style sheet as minified text. */
const cssAsText = {
  name: "css-as-text",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true });
      return { contents: code.trim(), loader: "text" };
    });
  },
};

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: { jobpush: "src/index.js" },
  outdir: target,
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  plugins: [cssAsText],
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  minify: true,
  charset: "utf8",
  metafile: true,
  legalComments: "none",
});

const entry = Object.keys(metafile.outputs).find((path) => metafile.outputs[path].entryPoint === "src/index.js");
const main = basename(entry);
await writeFile(join(target, "jobpush.js"), `export * from "./${main}";\n`);
await writeFile(join(target, "manifest.json"), JSON.stringify({ "jobpush.js": main }) + "\n");
await copyFile(join(here, "src/index.d.ts"), join(target, "jobpush.d.ts"));
