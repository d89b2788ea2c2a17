/** One task: icon, title, state, bar, message and details. What only some tasks need is loaded from details.js. */

import { detailsOf, percentOf, stateText, textOf, titleOf } from "../../format.js";
import { isFinal, isRunning, isWaiting } from "../../states.js";
import { make, makeIcon, setIcon, setText } from "./dom.js";

/** Letters that fit into two lines of any card. */
const MAX_SHORT_TITLE = 32;

/** Whether a task has parts beyond those of this file. */
const hasMore = ({ data, state }) => data?.children || data?.stage || data?.stages || (state === "SUCCESS" && (data?.result || data?.url));

export class Card {
  task;
  host;
  /** A sentence about the last action, until the task changes its state. */
  notice;
  /** The cancel that the user has asked for. */
  canceling;

  #titleText;
  #isTitleNew = false;
  #more;
  #isLoading = false;
  #icon = makeIcon("icon");
  #title = make("span", "title", { dir: "auto" });
  #state = make("span", "state");
  #cancel = make("button", "cancel", { type: "button" });
  actions = make("span", "actions");
  #bar = make("progress", "bar", { max: 100 });
  #message = make("span", "message", { dir: "auto" });
  #error = make("span", "error", { dir: "auto" });
  #detail = make("span", "detail");

  /** @param host `texts()`, `now()`, `cancel(card)`, `load()` of the element; `element` itself */
  constructor(host) {
    this.host = host;
    const head = make("div", "head");
    const track = make("div", "track");
    const footer = make("div", "footer");
    const slot = make("slot", "");
    this.more = make("div", "more", { hidden: true });
    const card = make("div", "task", { role: "group", tabIndex: -1 });
    this.node = make("div", "item", { role: "listitem" });
    this.card = card;
    this.actions.append(this.#cancel);
    head.append(this.#icon, this.#title, this.#state, this.actions);
    track.append(this.#bar, make("i", "sweep"));
    footer.append(this.#message, this.#error, this.#detail);
    card.append(head, track, footer, this.more, slot);
    this.node.append(card);
    this.slotNode = slot;
    // After an update of the server its parts have other names; the task is cancelled without an undo then.
    const cancelAtOnce = async () => (await host.cancel(this.task)) || this.setNotice(host.texts().cancelFailed);
    this.#cancel.onclick = () => import("./cancel.js").then((part) => part.toggleCancel(this), cancelAtOnce);
  }

  update(task) {
    const isOther = this.task?.state !== task.state || this.task?.attempt !== task.attempt;
    this.task = task;
    const t = this.host.texts();
    const title = titleOf(task);
    const state = String(task.state);
    if (isOther) this.#updateState(state);
    if (isFinal(task) || task.cancelling) this.canceling?.end();
    if (isOther || task.cancelling) this.notice = undefined;
    const error = this.notice || textOf(task, "error", t);
    const percent = percentOf(task) ?? (isFinal(task) ? 0 : null);
    this.card.ariaLabel = this.#bar.ariaLabel = title;
    this.card.toggleAttribute("data-unknown", percent === null && isRunning(task));
    if (percent === null) this.#bar.removeAttribute("value");
    else if (this.#bar.value !== percent || !this.#bar.hasAttribute("value")) this.#bar.value = percent;
    if (this.#titleText !== title) this.#setTitle(title);
    setText(this.#state, this.canceling ? t.cancelling : stateText(task, t));
    setText(this.#message, error ? "" : textOf(task, "message", t));
    setText(this.#error, error);
    this.tick();
    this.#updateCancel(t, title);
    if (this.#more) this.#more.update(task);
    else if (!this.#isLoading && (hasMore(task) || this.host.wantsMore())) this.#loadMore();
  }

  /** Update the parts that depend on the time. */
  tick() {
    const details = detailsOf(this.task, this.host.texts(), this.host.now());
    const text = details.join(" · ");
    if (this.#detail.textContent === text) return;
    // Each part keeps its direction: "3 / 10" must not become "10 / 3".
    const nodes = details.flatMap((detail, index) => {
      const dir = /\p{L}/u.test(detail) ? "auto" : "ltr";
      const node = Object.assign(document.createElement("bdi"), { textContent: detail, dir });
      return index ? [" · ", node] : [node];
    });
    this.#detail.replaceChildren(...nodes);
  }

  get isTicking() {
    return isWaiting(this.task) || (isRunning(this.task) && this.task.started_at != null);
  }

  /** Fit a long title into its lines, after all cards have changed. */
  async fit() {
    const isDue = this.#isTitleNew && this.#titleText?.length > MAX_SHORT_TITLE;
    this.#isTitleNew = false;
    if (isDue) (await import("./fit.js")).fitTitle(this.#title);
  }

  /** Show a sentence until the task changes its state. */
  setNotice(text) {
    this.notice = text;
    this.update(this.task);
    this.host.announce(`${titleOf(this.task)}: ${text}`);
  }

  remove() {
    this.canceling?.sendNow();
    this.#more?.remove?.();
    this.node.remove();
  }

  #setTitle(title) {
    this.#titleText = this.#title.title = this.#title.textContent = title;
    this.#isTitleNew = true;
  }

  #updateState(state) {
    this.card.dataset.state = state;
    const part = state.toLowerCase();
    for (const node of [this.card, this.#state, this.#bar]) node.part = `${node.part[0]} ${part}`;
    setIcon(this.#icon, state);
  }

  #updateCancel(t, title) {
    const canUndo = this.canceling?.canUndo;
    const isHidden = isFinal(this.task) || this.task.cancelling || (this.canceling && !canUndo);
    // Keep the focus here when its button disappears.
    if (isHidden && this.#cancel.matches(":focus")) this.card.focus();
    setText(this.#cancel, isHidden ? "" : canUndo ? t.undo : t.cancel);
    this.#cancel.ariaLabel = (canUndo ? t.undoCancel : t.cancelTask)(title);
  }

  // ---- Parts that are loaded when used ----

  async #loadMore() {
    this.#isLoading = true;
    const module = await import("./details.js").catch(() => null);
    if (!module) return;
    this.#more = new module.Details(this);
    this.#more.update(this.task);
  }
}
