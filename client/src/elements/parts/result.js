/** The result of a task: a link, a file, an image or a small table. */

import { make } from "./dom.js";

const MAX_ROWS = 20;
const MAX_COLUMNS = 8;

/** Return an address that is safe to link to: http(s), or relative to the page; else `undefined`. */
export function safeUrl(url) {
  if (typeof url !== "string" || !/^(https?:\/\/|\.{0,2}\/|[?#])/i.test(url)) return undefined;
  try {
    const { protocol, href } = new URL(url, document.baseURI);
    return /^https?:$/.test(protocol) ? href : undefined;
  } catch {
    return undefined;
  }
}

function link(url, text, label) {
  return make("a", "result-link", { href: url, textContent: text, ariaLabel: label });
}

function table(rows) {
  const body = make("table", "result-table");
  for (const row of rows.slice(0, MAX_ROWS)) {
    const line = body.insertRow();
    for (const cell of (Array.isArray(row) ? row : [row]).slice(0, MAX_COLUMNS)) {
      const text = cell !== null && typeof cell === "object" ? JSON.stringify(cell) : String(cell ?? "");
      Object.assign(line.insertCell(), { textContent: text, dir: "auto" });
    }
  }
  return body;
}

/** Return the nodes of a result; none where it cannot be shown. */
export function showResult({ result, url }, title, t) {
  const { type, label, rows } = result && typeof result === "object" ? result : {};
  if (type === "table" && Array.isArray(rows) && rows.length) return [table(rows)];
  const address = safeUrl(type ? result.url : url);
  if (!address) return [];
  const text = typeof label === "string" && label ? label : type === "file" ? t.download : t.open;
  const node = link(address, text, `${text}: ${title}`);
  if (type === "file") node.download = "";
  if (type === "image") {
    const image = make("img", "result-image", { src: address, alt: text, loading: "lazy" });
    node.replaceChildren(image);
  }
  return [node];
}
