/** What a screen reader announces: at most one text in five seconds, and failures with their reason. */

import "../../locales/en-more.js";
import { announcement, summaryText } from "../../format.js";
import { hasFailed } from "../../states.js";

const INTERVAL_MS = 5000;
const MAX_FAILURES = 3;

export class Announcer {
  #live;
  #texts;
  #notes = new Set();
  #tasks = new Map();
  #timer;

  /** @param texts returns the texts of the language */
  constructor(live, texts) {
    this.#live = live;
    this.#texts = texts;
  }

  /** Announce a sentence, for example that the connection is lost. */
  note(text) {
    if (!text) return;
    this.#notes.add(text);
    this.#schedule();
  }

  /** Announce a change of a task, if it is significant. */
  change(before, task) {
    const t = this.#texts();
    if (!before || announcement(before, t) === announcement(task, t)) return;
    this.#tasks.set(task.task_id, task);
    this.#schedule();
  }

  stop() {
    this.#timer = clearTimeout(this.#timer);
    this.#tasks.clear();
    this.#notes.clear();
  }

  #schedule() {
    if (!this.#timer) this.#flush();
  }

  #flush() {
    this.#timer = undefined;
    const text = this.#summarize();
    if (!text) return;
    this.#live.textContent = text;
    this.#timer = setTimeout(() => this.#flush(), INTERVAL_MS);
  }

  #summarize() {
    const t = this.#texts();
    const tasks = [...this.#tasks.values()];
    const failures = tasks.filter(hasFailed);
    const others = tasks.filter((task) => !hasFailed(task));
    const sentences = [...this.#notes, ...failures.slice(0, MAX_FAILURES).map((task) => announcement(task, t))];
    if (failures.length > MAX_FAILURES) sentences.push(t.summary.failed(failures.length));
    if (others.length === 1) sentences.push(announcement(others[0], t));
    else if (others.length) sentences.push(summaryText(others, t));
    this.#tasks.clear();
    this.#notes.clear();
    return sentences.join(". ");
  }
}
