/**
 * Build the client.
 *
 *     node build.mjs [FOLDER]    what the gateway serves, by default into jobpush/static/
 *     node build.mjs --package   what the npm package contains, into client/dist/
 *
 * What the gateway serves is minified, and every module has a name with a hash of its content, so that browsers may keep
 * it for ever. `jobpush.js` keeps its name and leads to the newest one; `manifest.json` names it for `jobpush_tags()`.
 */

import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build, transform } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));

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

const common = {
  absWorkingDir: here,
  plugins: [cssAsText],
  bundle: true,
  splitting: true,
  format: "esm",
  target: ["es2022"],
  charset: "utf8",
  legalComments: "none",
};

async function emptied(folder) {
  await mkdir(folder, { recursive: true });
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true });
  return folder;
}

async function buildStatic(folder) {
  const outdir = await emptied(folder);
  const { metafile } = await build({
    ...common,
    entryPoints: { jobpush: "src/index.js" },
    outdir,
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    minify: true,
    metafile: true,
  });
  const entry = Object.keys(metafile.outputs).find((path) => metafile.outputs[path].entryPoint === "src/index.js");
  const main = basename(entry);
  await writeFile(join(outdir, "jobpush.js"), `export * from "./${main}";\n`);
  await writeFile(join(outdir, "manifest.json"), `${JSON.stringify({ "jobpush.js": main })}\n`);
  await copyFile(join(here, "src/index.d.ts"), join(outdir, "jobpush.d.ts"));
}

async function buildPackage() {
  const outdir = await emptied(join(here, "dist"));
  await build({
    ...common,
    entryPoints: ["src/index.js", "src/react.js", "src/vue.js"],
    outdir,
    chunkNames: "[name]-[hash]",
    external: ["react", "vue"],
  });
  for (const name of ["index.d.ts", "react.d.ts", "vue.d.ts", "custom-elements.json"]) {
    await copyFile(join(here, "src", name), join(outdir, name));
  }
}

const [argument] = process.argv.slice(2);
if (argument === "--package") await buildPackage();
else await buildStatic(argument ?? join(here, "../jobpush/static"));
