/** The texts of each language. English is part of the core; the others are loaded when used. */

import { strings } from "./en.js";

const loaders = {
  de: () => import("./de.js"),
  ar: () => import("./ar.js"),
};
const loaded = new Map([["en", strings]]);
const additions = new Map();

/** Add a language, or replace single texts of one. Elements that show already take it with their next change. */
export function addLanguage(lang, texts) {
  additions.set(lang, { ...additions.get(lang), ...texts });
  Object.assign(loaded.get(lang) ?? {}, texts);
}

/** Add texts of a part that is loaded when used, where a page or a language has not set them. */
export function addTexts(texts) {
  for (const known of loaded.values()) for (const [key, text] of Object.entries(texts)) known[key] ??= text;
}

const baseOf = (lang) => lang.toLowerCase().split("-")[0];

/** Return the texts of a language if they are loaded, else English. */
export const textsOf = (lang) => loaded.get(lang) ?? loaded.get(baseOf(lang)) ?? strings;

/** Load the texts of a language. */
export async function loadTexts(lang) {
  const base = baseOf(lang);
  if (!loaded.has(base) && (loaders[base] || additions.has(base))) {
    const module = await loaders[base]?.().catch(() => null);
    loaded.set(base, { ...strings, lang: base, ...module?.texts, ...additions.get(base) });
  }
  return textsOf(base);
}
