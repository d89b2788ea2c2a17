/**
 * Attention for the end of a task: a toast, the tab's title, a desktop notification.
 *
 * One end gets exactly one toast or notification, in whichever tab is in front. `attention="toast title desktop"` on a
 * list chooses the kinds.
 */

import "./locales/en-more.js";
import { percentOf, stateText, textOf, titleOf } from "./format.js";
import css from "./attention.css";
import { make, makeIcon, setIcon } from "./elements/parts/dom.js";
import { applyStyle, addStyle } from "./elements/parts/style.js";
import { hasFailed, isFinal } from "./states.js";

const TOAST_MS = 6000;
const MAX_TOASTS = 3;
const HELD = ":hover, :focus-within";
/** Tabs that are not in front leave the claim to the one that is. */
const BACKGROUND_DELAY_MS = 400;
/** Long enough for all tabs to have seen the end. */
const CLAIM_MS = 60_000;

const END_EVENTS = ["success", "failure", "revoked"].map((name) => `jobpush-progress-${name}`);

/** Return whether this is the one tab that shows the end of a task. */
async function claims(task) {
  if (document.hidden || !document.hasFocus()) await new Promise((resolve) => setTimeout(resolve, BACKGROUND_DELAY_MS));
  const { locks } = navigator;
  if (!locks) return true;
  return new Promise((resolve) => {
    const request = locks.request(`jobpush end ${task.task_id} ${task.attempt} ${task.state}`, { ifAvailable: true }, (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise((release) => setTimeout(release, CLAIM_MS));
    });
    request.catch(() => resolve(true)); // a page in a sandbox may not use locks
  });
}

class Toasts {
  #host = document.createElement("div");
  #list = make("div", "toasts", { role: "list" });

  constructor() {
    const root = this.#host.attachShadow({ mode: "open" });
    applyStyle(root);
    addStyle(root, css);
    root.append(this.#list);
  }

  show(task, t, direction) {
    if (!this.#host.isConnected) document.body.append(this.#host);
    this.#list.dir = direction;
    Object.assign(this.#host, { role: "region", ariaLabel: t.inbox });
    const node = make("div", `toast ${task.state.toLowerCase()}`, { role: "listitem" });
    const icon = makeIcon("icon");
    setIcon(icon, task.state);
    const text = make("div", "toast-text");
    const reason = hasFailed(task) && task.error ? `: ${textOf(task, "error", t)}` : "";
    text.append(make("div", "title", { textContent: titleOf(task), dir: "auto" }), make("div", "toast-state", { textContent: stateText(task, t) + reason }));
    const close = make("button", "toast-close", { type: "button", textContent: "×", ariaLabel: t.close });
    close.onclick = () => node.remove();
    node.append(icon, text, close);
    this.#add(node);
    this.#hideLater(node);
  }

  /** The list grows upwards: a toast at its top moves no other. */
  #add(node) {
    const { firstChild, childElementCount } = this.#list;
    const isFull = childElementCount >= MAX_TOASTS;
    if (!this.#isHeld) {
      if (isFull) firstChild.remove();
      this.#list.append(node);
    } else if (!isFull) this.#list.prepend(node);
    else if (!firstChild.matches(HELD)) firstChild.replaceWith(node);
  }

  /** Nothing moves or disappears under the pointer or the focus. */
  get #isHeld() {
    return this.#list.matches(HELD);
  }

  #hideLater(node) {
    setTimeout(() => (this.#isHeld ? this.#hideLater(node) : node.remove()), TOAST_MS);
  }
}

let toasts;
let title;

/** Show the progress of all running tasks in the tab's title. */
function updateTitle(tasks) {
  const running = tasks.filter((task) => !isFinal(task));
  const percents = running.map((task) => percentOf(task) ?? 0);
  const percent = Math.floor(percents.reduce((sum, value) => sum + value, 0) / (running.length || 1));
  const shown = /^\(\d+ %\) /;
  if (!shown.test(document.title)) title = document.title;
  const next = running.length ? `(${percent} %) ${title}` : title;
  if (document.title !== next) document.title = next;
}

/** Ask for permission; call it from a click. */
export const requestDesktop = () => Notification.requestPermission();

/** Return whether the browser shows it: on phones only service workers may create notifications. */
function showDesktop(task, t) {
  try {
    new Notification(titleOf(task), { body: [stateText(task, t), textOf(task, "error", t)].filter(Boolean).join(": "), tag: task.task_id });
    return true;
  } catch {
    return false;
  }
}

/** Serve the ends of the tasks of a list. */
export function attend(element) {
  const wants = (kind) => (element.getAttribute("attention") ?? "").split(/\s+/).includes(kind);
  const onEnd = async ({ detail: task }) => {
    if (task.replayed || !(await claims(task))) return;
    const t = element.texts();
    const isBehind = document.hidden || !document.hasFocus();
    const isAllowed = globalThis.Notification?.permission === "granted";
    const isShown = wants("desktop") && isBehind && isAllowed && showDesktop(task, t);
    if (!isShown && wants("toast")) (toasts ??= new Toasts()).show(task, t, getComputedStyle(element).direction);
  };
  for (const name of END_EVENTS) element.addEventListener(name, onEnd);
  element.addEventListener("jobpush-progress-update", () => wants("title") && queueMicrotask(() => updateTitle(element._tasks())));
}
