/** The header of a list: summary, overall bar, filter, "clear finished"; groups, and "show more". */

import "../../locales/en-more.js";
import { percentOf, summaryText, textOf } from "../../format.js";
import { isFinal, isWaiting } from "../../states.js";
import css from "./tools.css";
import { make, setText } from "./dom.js";
import { addStyle } from "./style.js";

/** Fewer tasks need no filter. */
const MIN_FILTERED = 6;
const PAGE = 20;

const groupOf = (task) => (isFinal(task) ? "finished" : isWaiting(task) ? "waiting" : "running");

export class Tools {
  #element;
  #header = make("div", "header", { hidden: true });
  #summary = make("span", "summary");
  #bar = make("progress", "overall", { max: 100 });
  #filter = make("input", "filter", { type: "search" });
  #clear = make("button", "clear", { type: "button" });
  #more = make("button", "show-more", { type: "button", hidden: true });
  /** What the user has chosen. */
  #text = "";
  #extra = 0;
  #dismissed = new Set();
  #hidden = 0;
  /** The group under which each task is shown; it stays while the order is held. */
  #groups = new Map();

  constructor(element) {
    this.#element = element;
    addStyle(element.shadowRoot, css);
    const row = make("div", "header-row");
    row.append(this.#summary, this.#filter, this.#clear);
    this.#header.append(row, this.#bar);
    element._list.before(this.#header);
    element._list.after(this.#more);
    element.dismiss = (id) => this.#dismiss([id]);
    this.#filter.oninput = () => {
      this.#text = this.#filter.value.trim().toLowerCase();
      element._refresh();
    };
    this.#clear.onclick = () => this.#dismiss(element._tasks().filter(isFinal).map(({ task_id }) => task_id));
    this.#more.onclick = () => {
      this.#extra += PAGE;
      element._refresh();
    };
    this.translate();
  }

  translate() {
    const t = this.#element.texts();
    this.#bar.ariaLabel = t.overall;
    this.#filter.placeholder = this.#filter.ariaLabel = t.filter;
    this.#clear.textContent = t.clearFinished;
    this.#element._list.ariaLabel = t.tasks;
  }

  /** Update the header, and return the tasks to show, in order. */
  choose(tasks) {
    const kept = tasks.filter(({ task_id }) => !this.#dismissed.has(task_id));
    const chosen = this.#text ? kept.filter((task) => this.#matches(task)) : kept;
    const shown = chosen.slice(0, this.#element.limit + this.#extra);
    this.#hidden = chosen.length - shown.length;
    this.#updateHeader(kept);
    return shown;
  }

  #updateHeader(kept) {
    const t = this.#element.texts();
    this.#header.hidden = !this.#element.hasAttribute("header") || !kept.length;
    setText(this.#summary, summaryText(kept, t));
    this.#bar.hidden = kept.every(isFinal);
    const sum = kept.reduce((total, task) => total + (isFinal(task) ? 100 : (percentOf(task) ?? 0)), 0);
    const value = Math.round((10 * sum) / (kept.length || 1)) / 10;
    if (this.#bar.value !== value) this.#bar.value = value;
    this.#filter.hidden = kept.length < MIN_FILTERED && !this.#text;
    this.#clear.hidden = !kept.some(isFinal);
    setText(this.#more, this.#hidden > 0 ? t.more(Math.min(PAGE, this.#hidden)) : "");
  }

  #matches(task) {
    const t = this.#element.texts();
    const values = [task.title, task.name, textOf(task, "message", t), textOf(task, "error", t)];
    return values.some((value) => String(value ?? "").toLowerCase().includes(this.#text));
  }

  /** Let each task have the group of its state again. */
  regroup() {
    this.#groups.clear();
  }

  /** Mark the first card of each group. */
  mark(shown) {
    const cards = this.#element._cards();
    const isGrouped = this.#element.hasAttribute("group");
    const t = this.#element.texts();
    let before;
    for (const task of shown) {
      const node = cards.get(task.task_id)?.node;
      const group = this.#groups.get(task.task_id) ?? groupOf(task);
      this.#groups.set(task.task_id, group);
      const text = isGrouped && group !== before ? t.groups[group] : undefined;
      if (node && node.dataset.group !== text) {
        if (text) node.dataset.group = text;
        else delete node.dataset.group;
      }
      before = group;
    }
  }

  #dismiss(ids) {
    for (const id of ids) this.#dismissed.add(id);
    this.#element._refresh();
  }
}
