import { isFinal } from "../../states.js";
/** The cancel of a task: it can be undone for a moment, is pending until the gateway confirms it, and times out. */


const UNDO_MS = 2500;
/** Time in which the gateway confirms a cancel that it has accepted. */
const CONFIRM_MS = 10_000;

class Cancel {
  canUndo = true;
  #card;
  #timer;

  constructor(card) {
    this.#card = card;
    this.#timer = setTimeout(() => this.#send(), UNDO_MS);
  }

  end() {
    clearTimeout(this.#timer);
    this.#card.canceling = undefined;
  }

  /** Send it before its time, for example since the element is removed. */
  sendNow() {
    if (this.canUndo) this.#send();
    clearTimeout(this.#timer);
  }

  async #send() {
    const card = this.#card;
    this.canUndo = false;
    if (isFinal(card.task)) return this.end();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(), CONFIRM_MS);
    card.update(card.task);
    if (!(await card.host.cancel(card.task))) this.#fail();
  }

  #fail() {
    if (this.#card.canceling !== this) return;
    this.end();
    this.#card.setNotice(this.#card.host.texts().cancelFailed);
  }
}

/** Begin to cancel the task of a card, or undo it. */
export function toggleCancel(card) {
  if (card.canceling) card.canceling.end();
  else {
    card.notice = undefined;
    card.canceling = new Cancel(card);
  }
  card.update(card.task);
}
