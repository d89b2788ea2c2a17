/** `<jobpush-tasks>`: all tasks of the user, those that run first, then the newest first. */

import { isFinal, isWaiting } from "../states.js";
import { TaskElement } from "./task-element.js";

/** Longer lists are virtual. */
const MAX_RENDERED = 60;

const rank = (task) => (isFinal(task) ? 2 : isWaiting(task) ? 1 : 0);

export class JobpushTasks extends TaskElement {
  static observedAttributes = ["limit", "group", "header", "attention", "density", "rerun", "dismiss"];
  /** What short lists do without: see parts/list.js. */
  #parts;
  #isLoading = false;

  constructor() {
    super();
    for (const type of ["pointerenter", "focusin"]) this.addEventListener(type, () => this.#loadParts());
  }

  get limit() {
    return Number(this.getAttribute("limit")) || Infinity;
  }

  set limit(value) {
    this.setAttribute("limit", value);
  }

  _listen() {
    return [];
  }

  _tasks() {
    return [...this.connection.tasks.values()];
  }

  _show(tasks) {
    const isLong = tasks.length > Math.min(this.limit, MAX_RENDERED);
    if (isLong || ["header", "group", "attention", "dismiss"].some((name) => this.hasAttribute(name))) this.#loadParts();
    const sorted = () => tasks.sort((a, b) => rank(a) - rank(b)); // stable: newest first within a rank
    if (this.#parts) this.#parts.show(tasks, sorted, MAX_RENDERED);
    else this._setCards(sorted().slice(0, Math.min(this.limit, MAX_RENDERED)));
  }

  _onTexts() {
    this.#parts?.translate();
  }

  async #loadParts() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    const { ListParts } = await import("./parts/list.js");
    this.#parts = new ListParts(this);
    this.attributeChangedCallback();
  }
}
