import css from "./style.css";

let sheet;
try {
  // Strict content security policies refuse style tags, but not constructed sheets.
  sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
} catch {
  sheet = null; // an old browser, or a server
}

/** Style a shadow root. */
export function applyStyle(root) {
  if (sheet && root.adoptedStyleSheets) root.adoptedStyleSheets = [sheet];
  else root.append(Object.assign(document.createElement("style"), { textContent: css }));
  if (!globalThis.CSS?.supports("color", "light-dark(#000, #fff)")) import("./palette.js").then((module) => addStyle(root, module.default));
}

const added = new WeakMap();

/** Add the style of a part that is loaded when used, once per shadow root. */
export function addStyle(root, text) {
  const texts = added.get(root) ?? new Set();
  if (texts.has(text)) return;
  added.set(root, texts.add(text));
  if (!sheet || !root.adoptedStyleSheets) {
    root.append(Object.assign(document.createElement("style"), { textContent: text }));
    return;
  }
  const more = new CSSStyleSheet();
  more.replaceSync(text);
  root.adoptedStyleSheets = [...root.adoptedStyleSheets, more];
}
