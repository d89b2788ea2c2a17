/** `<jobpush-notifications>` and `<jobpush-badge>`: the stored notifications of a user, the same in all tabs and on all devices. */

import "./locales/en-more.js";
import { sharedConnection } from "./client.js";
import { addStyle } from "./elements/parts/style.js";
import { make, setText } from "./elements/parts/dom.js";
import { safeUrl } from "./elements/parts/result.js";
import css from "./inbox.css";
import { loadTexts, textsOf } from "./locales/index.js";

const MAX_BADGE = 99;
const BELL = "M8 1.75a4 4 0 0 0-4 4c0 4-1.75 5-1.75 5h11.5S12 9.75 12 5.75a4 4 0 0 0-4-4M6.75 13.25a1.4 1.4 0 0 0 2.5 0";

const isUnread = ({ read }) => !read;
const isUnseen = ({ seen, read }) => !seen && !read;

const LOAD_INTERVAL_MS = 500;

/** Pixels between the panel and the edges of the window. */
const EDGE = 8;

/** The items of one connection, shared by all elements of the page. */
class Inbox {
  items = [];
  hasFailed = false;
  isLoaded = false;
  #connection;
  #isLoading = false;
  #isStale = false;
  #hasDroppedAnswer = false;
  #marks = 0;
  #pendingMarks = 0;
  #listeners = new Set();
  #offs = [];

  constructor(connection) {
    this.#connection = connection;
  }

  get unread() {
    return this.items.filter(isUnread).length;
  }

  listen(listener) {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#open();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size) return;
      for (const off of this.#offs.splice(0)) off();
      this.#connection.close(this);
    };
  }

  /** Mark items as seen or read; without ids all of them. */
  async mark(state, ids) {
    this.#pendingMarks += 1;
    const chosen = this.items.filter(({ id }) => !ids || ids.includes(id));
    for (const item of chosen) Object.assign(item, { seen: true, ...(state === "read" && { read: true }) });
    this.#emit();
    const body = new URLSearchParams({ state, ...(ids && { ids: ids.join(",") }) });
    const { ok } = await this.#connection.request("inbox/read", { method: "POST", body });
    this.#marks += 1;
    this.#pendingMarks -= 1;
    if (!ok || this.#hasDroppedAnswer) this.#load();
  }

  #open() {
    this.#connection.open(this);
    this.#offs = [
      this.#connection.on("jobpush:inbox", () => this.#load()),
      this.#connection.on("jobpush:state", (state) => state === "connected" && this.#load()),
    ];
    this.#load();
  }

  /** Load the items; changes that come meanwhile are loaded together, a while later. */
  async #load() {
    this.#isStale = true;
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#isStale) {
      this.#isStale = false;
      const marks = this.#marks;
      const { data } = await this.#connection.request("inbox");
      this.hasFailed = !data;
      // An answer may be older than a mark. While one is on its way, its end loads the items again.
      this.#hasDroppedAnswer = this.#pendingMarks > 0;
      if (marks !== this.#marks) this.#isStale = true;
      else if (data && !this.#hasDroppedAnswer) Object.assign(this, { items: data.items ?? [], isLoaded: true });
      this.#emit();
      if (this.#isStale) await new Promise((resolve) => setTimeout(resolve, LOAD_INTERVAL_MS));
    }
    this.#isLoading = false;
  }

  #emit() {
    for (const listener of this.#listeners) listener();
  }
}

const inboxes = new WeakMap();

function inboxOf(connection) {
  if (!inboxes.has(connection)) inboxes.set(connection, new Inbox(connection));
  return inboxes.get(connection);
}

class View {
  #element;
  #inbox;
  #off;
  #isBadge;
  #badge = make("span", "badge", { hidden: true });
  #bell = make("button", "bell", { type: "button", ariaHasPopup: "dialog", ariaExpanded: "false" });
  #panel = make("div", "panel", { hidden: true });
  #title = make("span", "panel-title");
  #markAll = make("button", "mark-all", { type: "button" });
  #items = make("ul", "items");
  #nodes = new Map();
  #note = make("div", "note", { hidden: true });

  constructor(element, isBadge) {
    this.#element = element;
    this.#isBadge = isBadge;
    const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
    addStyle(root, css);
    root.replaceChildren(...(isBadge ? [this.#badge] : [this.#bell, this.#panel]));
    if (!isBadge) this.#build(root);
    this.#inbox = inboxOf(element.connection ?? sharedConnection());
    this.#off = this.#inbox.listen(() => this.#render());
    this.#translate();
  }

  stop() {
    this.#off();
    removeEventListener("pointerdown", this.#onOutside);
    removeEventListener("resize", this.#fit);
  }

  async #translate() {
    const lang = this.#element.closest("[lang]")?.lang || "en";
    await loadTexts(lang);
    this.texts = () => textsOf(lang);
    this.#render();
  }

  texts() {
    return textsOf("en");
  }

  #build() {
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    icon.setAttribute("viewBox", "0 0 16 16");
    icon.setAttribute("aria-hidden", "true");
    path.setAttribute("d", BELL);
    icon.append(path);
    this.#bell.append(icon, this.#badge);
    const head = make("div", "panel-head");
    head.append(this.#title, this.#markAll);
    this.#panel.role = "dialog";
    this.#panel.append(head, this.#items, this.#note);
    this.#bell.onclick = () => this.#toggle(this.#panel.hidden);
    this.#markAll.onclick = () => this.#inbox.mark("read");
    this.#panel.onkeydown = this.#bell.onkeydown = ({ key }) => {
      if (key !== "Escape" || this.#panel.hidden) return;
      this.#toggle(false);
      this.#bell.focus();
    };
    for (const type of ["pointerleave", "focusout"]) this.#items.addEventListener(type, () => setTimeout(() => this.#render(), 0));
    addEventListener("pointerdown", this.#onOutside);
    addEventListener("resize", this.#fit);
  }

  #onOutside = (event) => {
    if (!this.#panel.hidden && !event.composedPath().includes(this.#element)) this.#toggle(false);
  };

  /** Keep the panel inside the window, wherever the bell is. */
  #fit = () => {
    this.#panel.style.translate = "";
    const { left, right } = this.#panel.getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const shift = left < EDGE ? EDGE - left : Math.min(0, width - EDGE - right);
    if (shift) this.#panel.style.translate = `${shift}px`;
  };

  #toggle(isOpen) {
    this.#panel.hidden = !isOpen;
    this.#bell.ariaExpanded = String(isOpen);
    this.#fit();
    if (isOpen && this.#inbox.items.some(isUnseen)) this.#inbox.mark("seen");
  }

  #render() {
    const t = this.texts();
    const count = this.#isBadge ? this.#inbox.unread : this.#inbox.items.filter(isUnseen).length;
    setText(this.#badge, count ? (count > MAX_BADGE ? `${MAX_BADGE}+` : t.number(count)) : "");
    if (this.#isBadge) {
      this.#badge.role = "img";
      this.#badge.ariaLabel = t.unread(count);
      return;
    }
    this.#bell.ariaLabel = count ? `${t.inbox}: ${this.#badge.textContent}` : t.inbox;
    this.#panel.ariaLabel = this.#title.textContent = t.inbox;
    setText(this.#markAll, this.#inbox.unread ? t.markAllRead : "");
    const { items, hasFailed, isLoaded } = this.#inbox;
    setText(this.#note, hasFailed ? t.inboxFailed : isLoaded && !items.length ? t.inboxEmpty : "");
    // Keep the focus when its item is rendered again.
    const focused = this.#element.shadowRoot.activeElement?.closest?.("[data-id]")?.dataset.id;
    const { children } = this.#items;
    const nodes = this.#ordered(items).map((item) => this.#nodeOf(item, t));
    for (const node of [...children]) if (!nodes.includes(node)) node.remove();
    nodes.forEach((node, index) => node === children[index] || this.#items.insertBefore(node, children[index] ?? null));
    const again = nodes.find(({ dataset }) => dataset.id === focused);
    if (again && !again.contains(this.#element.shadowRoot.activeElement)) again.querySelector("a, button")?.focus();
  }

  /** Nothing moves under the pointer or the focus: known items keep their places, and new ones come last. */
  #ordered(items) {
    if (!this.#items.matches(":hover, :focus-within")) return items;
    const shown = [...this.#items.children].map(({ dataset }) => dataset.id);
    const isNew = ({ id }) => !shown.includes(id);
    const known = items.filter((item) => !isNew(item)).sort((a, b) => shown.indexOf(a.id) - shown.indexOf(b.id));
    return [...known, ...items.filter(isNew)];
  }

  /** Return the node of an item; another one if the item or the language has changed. */
  #nodeOf(item, t) {
    const signature = JSON.stringify([item, t.lang]);
    let node = this.#nodes.get(item.id);
    if (node?.signature !== signature) {
      node = Object.assign(this.#item(item, t), { signature });
      this.#nodes.set(item.id, node);
    }
    return node;
  }

  #item(item, t) {
    const node = make("li", isUnread(item) ? "item unread" : "item");
    node.dataset.id = item.id;
    const url = safeUrl(item.url);
    const text = item.title || item.event || "";
    const title = make(url ? "a" : "span", "item-title", { textContent: text, dir: "auto", ...(url && { href: url }) });
    if (url) title.onclick = () => this.#inbox.mark("read", [item.id]);
    const message = typeof item.data?.message === "string" ? item.data.message : "";
    const foot = make("div", "item-foot");
    const date = new Date((item.at ?? 0) * 1000);
    foot.append(make("time", "item-time", { textContent: item.at ? date.toLocaleString(t.lang, { dateStyle: "medium", timeStyle: "short" }) : "" }));
    if (isUnread(item)) {
      const mark = make("button", "mark", { type: "button", textContent: t.markRead, ariaLabel: `${t.markRead}: ${text}` });
      mark.onclick = () => this.#inbox.mark("read", [item.id]);
      foot.append(mark);
    }
    node.append(title, ...(message ? [make("span", "item-text", { textContent: message, dir: "auto" })] : []), foot);
    return node;
  }
}

/** Fill an element; return the function that ends it. */
export function start(element) {
  const view = new View(element, element.localName === "jobpush-badge");
  return () => view.stop();
}
