/** What all elements with tasks have in common. */

import { sharedConnection } from "../client.js";
import { reasonText } from "../format.js";
import { loadTexts, textsOf } from "../locales/index.js";
import { endEventOf, isFinal } from "../states.js";
import { Card } from "./parts/card.js";
import { make, setText } from "./parts/dom.js";
import { applyStyle } from "./parts/style.js";
import { setTicking } from "./parts/ticker.js";

/** Delay before a lost connection is shown. */
const NOTE_DELAY_MS = 1500;
/** A hidden tab has no frames. */
const HIDDEN_FRAME_MS = 250;

/** States of the connection in which the tasks are current. */
const IS_CURRENT = /connected|polling/;

export class TaskElement extends (globalThis.HTMLElement ?? Object) {
  #connection;
  #offs = [];
  /** The tasks of the last rendering. */
  #known;
  #cards = new Map();
  #isScheduled = false;
  #noteTimer;
  #note = make("div", "connection");
  #empty = make("slot", "empty", { name: "empty" });
  #live = make("div", "live", { role: "status" });
  #announcer;
  _list = make("div", "list", { role: "list" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    applyStyle(root);
    root.append(this.#note, this._list, this.#empty, this.#live);
  }

  get connection() {
    return this.#connection;
  }

  set connection(connection) {
    this.disconnectedCallback();
    this.#connection = connection;
    if (this.isConnected) this.connectedCallback();
  }

  /** The texts of the element's language. */
  texts() {
    return textsOf(this._lang ?? "en");
  }

  /** The gateway's time in Unix seconds. */
  now() {
    return this.#connection.time();
  }

  connectedCallback() {
    this.#connection = (this.#connection ?? sharedConnection()).open(this);
    this.#offs = [
      this.#connection.on("jobpush:state", () => this.#watchState()),
      this.#connection.on("jobpush:change", () => this._refresh()),
      ...this._listen(),
    ];
    this.#loadLanguage();
    this.#watchState();
  }

  /** Show the cards again: they depend on attributes, and on the language. */
  attributeChangedCallback() {
    if (this.hasAttribute("density")) import("./parts/density.js").then((module) => module.default(this.shadowRoot));
    for (const card of this.#cards.values()) card.update(card.task);
    this._refresh();
  }

  disconnectedCallback() {
    if (!this.#offs.length) return;
    for (const card of this.#cards.values()) card.canceling?.sendNow();
    for (const off of this.#offs.splice(0)) off();
    clearTimeout(this.#noteTimer);
    this.#announcer?.then((announcer) => announcer.stop());
    setTicking(this.#tick, false);
    this.#connection.close(this);
  }

  async #loadLanguage() {
    this._lang = this.closest("[lang]")?.lang || "en";
    const texts = await loadTexts(this._lang);
    this._list.ariaLabel = texts.tasks ?? null;
    this.#empty.textContent = texts.empty;
    this.attributeChangedCallback();
    this._onTexts?.();
    this.#showNote();
  }

  // ---- The connection ----

  #watchState() {
    const { state, reason } = this.#connection;
    clearTimeout(this.#noteTimer);
    if (reason || IS_CURRENT.test(state)) this.#showNote();
    else this.#noteTimer = setTimeout(() => this.#showNote(), NOTE_DELAY_MS);
    this._refresh();
  }

  #showNote() {
    if (!this.#connection) return;
    const { state, reason, isLoaded } = this.#connection;
    const t = this.texts();
    const before = this.dataset.connection;
    this.dataset.connection = state;
    this.toggleAttribute("data-stale", !IS_CURRENT.test(state));
    const text = reason ? reasonText(reason, t) : state === "connected" ? "" : t[state];
    setText(this.#note, text);
    if (before !== undefined && before !== state && text) this.#announce((announcer) => announcer.note(text));
    // Where nobody is signed in, the gateway gives the reason.
    if (state === "connected" && !isLoaded) this.#noteTimer = setTimeout(() => this.#connection.isLoaded || this.#connection.explain(), NOTE_DELAY_MS);
  }

  // ---- Rendering ----

  _refresh() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const render = () => {
      const isDue = this.#isScheduled && this.isConnected;
      this.#isScheduled = false;
      if (isDue) this._render();
    };
    requestAnimationFrame(render);
    setTimeout(render, HIDDEN_FRAME_MS);
  }

  _render() {
    const tasks = this._tasks();
    this.#dispatchChanges(tasks);
    this.#empty.hidden = tasks.length > 0 || !this.#connection.isLoaded;
    this._show(tasks);
    for (const card of this.#cards.values()) card.fit();
  }

  /** Show exactly these tasks in the list, in this order. */
  _setCards(tasks) {
    const ids = new Set(tasks.map(({ task_id }) => task_id));
    for (const [id, card] of this.#cards) {
      if (ids.has(id)) continue;
      this.#cards.delete(id);
      card.remove();
    }
    let place = this._list.firstElementChild;
    while (place && place.part[0] !== "item") place = place.nextElementSibling;
    for (const task of tasks) {
      const card = this.#cardOf(task.task_id);
      if (card.node === place) place = place.nextElementSibling;
      else this._list.insertBefore(card.node, place?.parentNode === this._list ? place : null);
      if (card.task !== task) card.update(task);
    }
    setTicking(this.#tick, [...this.#cards.values()].some(({ isTicking }) => isTicking));
  }

  _cards() {
    return this.#cards;
  }

  #cardOf(id) {
    let card = this.#cards.get(id);
    if (!card) {
      card = new Card({
        element: this,
        texts: () => this.texts(),
        now: () => this.now(),
        cancel: (task) => this.#cancel(task),
        announce: (text) => this.#announce((announcer) => announcer.note(text)),
        wantsMore: () => this.getAttribute("density") === "detailed" || this.hasAttribute("rerun") || this.hasAttribute("dismiss"),
      });
      card.slotNode.name = `task-${id}`;
      this.#cards.set(id, card);
    }
    return card;
  }

  #tick = () => {
    for (const card of this.#cards.values()) if (card.isTicking) card.tick();
  };

  // ---- Events ----

  #dispatchChanges(tasks) {
    const before = this.#known;
    this.#known = new Map(tasks.map((task) => [task.task_id, task]));
    for (const task of tasks) {
      const known = before?.get(task.task_id);
      if (known === task) continue;
      // What an element shows first has happened before.
      const detail = before ? task : { ...task, replayed: true };
      this._dispatch("update", detail);
      if (isFinal(task) && (known?.state !== task.state || known.attempt !== task.attempt)) {
        this._dispatch(endEventOf(task), detail);
      }
      if (known) this.#announce((announcer) => announcer.change(known, task));
    }
  }

  /** The part that announces is loaded with the first change. */
  #announce(run) {
    this.#announcer ??= import("./parts/announcer.js").then(({ Announcer }) => new Announcer(this.#live, () => this.texts()));
    this.#announcer.then(run, () => (this.#announcer = null));
  }

  _dispatch(name, detail) {
    const init = { detail, bubbles: true, composed: true, cancelable: true };
    return this.dispatchEvent(new CustomEvent(`jobpush-progress-${name}`, init));
  }

  async #cancel(task) {
    // The page handles local tasks itself.
    return !this._dispatch("cancel", task) || this.#connection.cancel(task.task_id);
  }
}
