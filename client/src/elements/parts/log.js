/** The log of a task: replayed, followed live, filtered, searched, copied and downloaded. Only visible lines are nodes. */

import css from "./log.css";
import { titleOf } from "../../format.js";
import { make, setText } from "./dom.js";
import { addStyle } from "./style.js";

const LINE_HEIGHT = 20;
/** Lines rendered beyond the edges of the view. */
const OVERSCAN = 10;
const MAX_LINES = 50_000;
const MAX_LINE_LENGTH = 2000;
/** Requests until the end of a log is reached. */
const MAX_PAGES = 500;
const COPIED_MS = 2000;

const LEVELS = ["debug", "info", "warning", "error", "critical"];
const levelOf = ({ level }) => Math.max(0, LEVELS.indexOf(String(level ?? "info").toLowerCase()));

/** Control characters and marks that reorder text are shown as escapes. */
const UNPRINTABLE = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const escapeOf = (letter) => (letter === "\n" ? "↵" : `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
const printable = (text) => String(text ?? "").slice(0, MAX_LINE_LENGTH).replace(UNPRINTABLE, escapeOf);

/** Whether the stream id `a` ("milliseconds-number") is after `b`. */
function isAfter(a, b) {
  const [aTime, aNumber = 0] = String(a).split("-").map(Number);
  const [bTime, bNumber = 0] = String(b).split("-").map(Number);
  return aTime > bTime || (aTime === bTime && aNumber > bNumber);
}

/** Copy a text; return whether it was allowed. Without TLS browsers have no `navigator.clipboard`. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

export class LogView {
  #host;
  #task;
  #connection;
  #offs;
  #lines = [];
  #shown = [];
  #lost = 0;
  #waiting = [];
  #isLoading = false;
  #isFollowing = true;
  #isScheduled = false;
  #level = make("select", "log-level");
  #search = make("input", "log-search", { type: "search" });
  #follow = make("button", "log-follow", { type: "button" });
  #copy = make("button", "log-copy", { type: "button" });
  #download = make("button", "log-download", { type: "button" });
  #note = make("div", "log-note", { hidden: true });
  #view = make("div", "log", { tabIndex: 0, dir: "ltr" });
  #space = make("div", "log-space");
  #window = make("div", "log-window");

  /** @param box the node to fill */
  constructor(box, host, task) {
    this.#host = host;
    this.#task = task;
    this.#connection = host.element.connection;
    addStyle(host.element.shadowRoot, css);
    this.#build(box);
    const channel = this.#connection.subscribe(`private-task-${task.task_id}`);
    this.#offs = [
      channel.unsubscribe,
      this.#connection.on("jobpush:log", (line) => this.#receive(line)),
      this.#connection.on("jobpush:state", (state) => state === "connected" && this.#load()),
    ];
    this.#load();
  }

  stop() {
    for (const off of this.#offs.splice(0)) off();
  }

  #build(box) {
    const t = this.#host.texts();
    const tools = make("div", "log-tools");
    this.#level.append(...LEVELS.slice(0, 4).map((level, index) => new Option(level, String(index))));
    this.#level.ariaLabel = t.logLevel;
    this.#search.placeholder = this.#search.ariaLabel = t.logSearch;
    this.#follow.textContent = t.logFollow;
    this.#copy.textContent = t.copy;
    this.#download.textContent = t.download;
    this.#view.role = "log";
    this.#view.ariaLive = "off";
    this.#view.ariaLabel = t.logOf(titleOf(this.#task));
    tools.append(this.#level, this.#search, this.#follow, this.#copy, this.#download);
    this.#view.append(this.#space);
    this.#space.append(this.#window);
    box.replaceChildren(tools, this.#note, this.#view);
    this.#level.onchange = this.#search.oninput = () => this.#filter();
    this.#follow.onclick = () => this.#setFollowing(!this.#isFollowing);
    this.#view.onscroll = () => this.#onScroll();
    this.#copy.onclick = () => this.#copyLines();
    this.#download.onclick = () => this.#save();
    this.#setFollowing(true);
    this.#render();
  }

  // ---- Lines ----

  /** Load what is missing: all at first, and what followed the last line after a lost connection. */
  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const path = `tasks/${encodeURIComponent(this.#task.task_id)}/log`;
    let hasFailed = false;
    for (let page = 0; page < MAX_PAGES; page++) {
      const since = this.#lines.at(-1)?.id;
      const { data } = await this.#connection.request(since ? `${path}?since=${encodeURIComponent(since)}` : path);
      hasFailed = !data;
      this.#lost = Math.max(this.#lost, data?.lost ?? 0);
      if (!this.#add(data?.lines ?? [])) break;
    }
    this.#isLoading = false;
    this.#add(this.#waiting.splice(0));
    this.#showNote(hasFailed);
  }

  #receive(line) {
    if (line?.task_id !== this.#task.task_id) return;
    const lines = Array.isArray(line.lines) ? line.lines : [line];
    if (this.#isLoading) this.#waiting.push(...lines);
    else this.#add(lines);
  }

  /** Add lines that are newer than the last one; return how many were. */
  #add(lines) {
    const before = this.#lines.length;
    for (const line of lines) {
      const last = this.#lines.at(-1);
      if (!line?.id || (last && !isAfter(line.id, last.id))) continue;
      this.#lines.push(line);
      if (this.#isShown(line)) this.#shown.push(line);
    }
    const added = this.#lines.length - before;
    if (this.#lines.length > MAX_LINES) {
      this.#lost += this.#lines.length - MAX_LINES;
      this.#lines = this.#lines.slice(-MAX_LINES);
      this.#filter();
      this.#showNote(false);
    } else if (added) this.#schedule();
    return added;
  }

  #isShown(line) {
    const text = this.#search.value.toLowerCase();
    return levelOf(line) >= Number(this.#level.value) && (!text || String(line.message ?? "").toLowerCase().includes(text));
  }

  #filter() {
    this.#shown = this.#lines.filter((line) => this.#isShown(line));
    this.#schedule();
  }

  #showNote(hasFailed) {
    const t = this.#host.texts();
    const texts = [hasFailed && t.logFailed, this.#lost > 0 && t.logLost(this.#lost), !hasFailed && !this.#lines.length && t.logEmpty];
    setText(this.#note, texts.filter(Boolean).join(". "));
  }

  // ---- Rendering ----

  #schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#render();
      if (this.#lines.length && !this.#lost) this.#note.hidden = true;
    });
  }

  #render() {
    const height = this.#shown.length * LINE_HEIGHT;
    this.#space.style.height = `${height}px`;
    this.#view.classList.toggle("empty", !this.#shown.length);
    if (this.#isFollowing) this.#view.scrollTop = height;
    const first = Math.max(0, Math.floor(this.#view.scrollTop / LINE_HEIGHT) - OVERSCAN);
    const count = Math.ceil((this.#view.clientHeight || 320) / LINE_HEIGHT) + 2 * OVERSCAN;
    this.#window.style.transform = `translateY(${first * LINE_HEIGHT}px)`;
    this.#window.replaceChildren(...this.#shown.slice(first, first + count).map((line) => this.#lineNode(line)));
  }

  #lineNode(line) {
    const node = make("div", `log-line ${LEVELS[levelOf(line)]}`);
    const time = make("span", "log-time", { textContent: line.at ? new Date(line.at * 1000).toLocaleTimeString() : "" });
    node.append(time, make("span", "log-text", { textContent: printable(line.message) }));
    return node;
  }

  #onScroll() {
    const isAtEnd = this.#view.scrollTop + this.#view.clientHeight >= this.#view.scrollHeight - LINE_HEIGHT;
    if (isAtEnd !== this.#isFollowing) this.#setFollowing(isAtEnd);
    this.#schedule();
  }

  #setFollowing(isFollowing) {
    this.#isFollowing = isFollowing;
    this.#follow.ariaPressed = String(isFollowing);
    if (isFollowing) this.#schedule();
  }

  // ---- Copy and download ----

  #text() {
    const time = ({ at }) => (at ? `${new Date(at * 1000).toISOString()} ` : "");
    return this.#shown.map((line) => `${time(line)}${LEVELS[levelOf(line)].toUpperCase()} ${line.message}\n`).join("");
  }

  async #copyLines() {
    const t = this.#host.texts();
    if (!(await copyText(this.#text()))) return this.#save();
    this.#copy.focus();
    this.#copy.textContent = t.copied;
    setTimeout(() => (this.#copy.textContent = t.copy), COPIED_MS);
  }

  #save() {
    const url = URL.createObjectURL(new Blob([this.#text()], { type: "text/plain" }));
    Object.assign(document.createElement("a"), { href: url, download: `${this.#task.task_id}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(url), COPIED_MS);
  }
}
