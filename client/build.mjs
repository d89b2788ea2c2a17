/**
 * Build the client.
 *
 *     node build.mjs [FOLDER]    what the gateway serves, by default into jobpush/static/
 *     node build.mjs --package   what the npm package contains, into client/dist/
 *
 * What the gateway serves is one minified core, and a file for each part that is loaded when used. All names carry a hash
 * of the sources, so that browsers may keep them for ever. `jobpush.js` keeps its name and leads to the core;
 * `manifest.json` names the core for `jobpush_tags()`.
 */

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { build, transform } from "esbuild";
import { minify } from "terser";

const here = fileURLToPath(new URL(".", import.meta.url));
const source = join(here, "src");

/** Modules of the core that have a state; parts use the core's, and have copies of the others. */
const SHARED_MODULES = ["client.js", "elements/parts/style.js", "locales/en.js", "locales/index.js"];

/** Import a style sheet as minified text. */
const cssAsText = {
  name: "css-as-text",
  setup({ onLoad }) {
    onLoad({ filter: /\.css$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, "utf8"), { loader: "css", minify: true });
      // esbuild keeps the whitespace around the values of custom properties.
      const contents = code.trim().replace(/(--[\w-]+): /g, "$1:").replaceAll(" }", "}");
      return { contents, loader: "text" };
    });
  },
};

const common = {
  absWorkingDir: here,
  bundle: true,
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

/** Return eight letters that change with any of the sources, or with what builds them. */
async function hashOfSources() {
  const hash = createHash("sha256");
  const names = (await readdir(source, { recursive: true })).filter((name) => /\.(js|css)$/.test(name)).sort();
  for (const path of [...names.map((name) => join(source, name)), join(here, "build.mjs")]) hash.update(await readFile(path));
  return hash.digest("hex").slice(0, 8).toUpperCase();
}

/** Leave imports of parts, and in parts those of the core, to the browser. */
function splitAt(version, parts, isPart) {
  return {
    name: "split",
    setup({ onResolve }) {
      onResolve({ filter: /^\.\.?\// }, ({ kind, path, resolveDir }) => {
        const file = join(resolveDir, path);
        if (kind === "dynamic-import") {
          parts.add(file);
          return { path: `./${basename(file, ".js")}-${version}.js`, external: true };
        }
        const isShared = isPart && SHARED_MODULES.includes(relative(source, file));
        return isShared ? { path: `./jobpush-${version}.js`, external: true } : undefined;
      });
    },
  };
}

async function buildStatic(folder) {
  const outdir = await emptied(folder);
  const version = await hashOfSources();
  const parts = new Set();
  const built = new Set();
  const buildModule = async (name, entry, isPart) => {
    const plugins = [cssAsText, splitAt(version, parts, isPart)];
    const options = { ...common, plugins, entryPoints: [entry], minify: true, write: false };
    const { outputFiles } = await build(options);
    const { code } = await minify(outputFiles[0].text, { module: true, ecma: 2022, compress: { passes: 3, unsafe_arrows: true } });
    await writeFile(join(outdir, `${name}-${version}.js`), `${code}\n`);
  };
  await buildModule("jobpush", join(source, "index.js"), false);
  for (let waiting = [...parts]; waiting.length; waiting = [...parts].filter((part) => !built.has(part))) {
    for (const part of waiting) {
      built.add(part);
      await buildModule(basename(part, ".js"), part, true);
    }
  }
  const main = `jobpush-${version}.js`;
  await writeFile(join(outdir, "jobpush.js"), `export * from "./${main}";\n`);
  await writeFile(join(outdir, "manifest.json"), `${JSON.stringify({ "jobpush.js": main })}\n`);
  await copyFile(join(source, "index.d.ts"), join(outdir, "jobpush.d.ts"));
}

async function buildPackage() {
  const outdir = await emptied(join(here, "dist"));
  await build({
    ...common,
    plugins: [cssAsText],
    splitting: true,
    entryPoints: ["src/index.js", "src/react.js", "src/vue.js"],
    outdir,
    chunkNames: "[name]-[hash]",
    external: ["react", "vue"],
  });
  for (const name of ["index.d.ts", "react.d.ts", "vue.d.ts", "custom-elements.json"]) {
    await copyFile(join(source, name), join(outdir, name));
  }
}

const [argument] = process.argv.slice(2);
if (argument === "--package") await buildPackage();
else await buildStatic(argument ?? join(here, "../jobpush/static"));
