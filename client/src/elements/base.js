import { connect } from "../client.js";
import { announcement, isFinal, isWaiting, titleOf } from "../format.js";
import { strings } from "../locales/en.js";
import { Card } from "./card.js";
import { make, setText } from "./dom.js";
import { sheet } from "./style.js";

const NOTE_DELAY_MS = 1500;

export class TaskElement extends (globalThis.HTMLElement ?? Object) {
  #connection;
  #offs = [];
  #cards = new Map();
  #isScheduled = false;
  #noteTimer;
  #ticker;
  #note = make("div", "connection");
  #list = make("div", "list");
  #empty = make("slot", "empty", { name: "empty", textContent: strings.empty });
  #live = make("div", "live", { role: "status" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#note, this.#list, this.#empty, this.#live);
  }

  get connection() {
    return this.#connection;
  }

  set connection(connection) {
    this.disconnectedCallback();
    this.#connection = connection;
    if (this.isConnected) this.connectedCallback();
  }

  connectedCallback() {
    this.#connection = this.#connection?.open() ?? connect();
    this.#offs = [
      this.#connection.on("jobpush:state", () => this.#watchState()),
      this.#connection.on("jobpush:tasks", () => this._refresh()),
      ...this._listen(),
    ];
    this.#watchState();
  }

  disconnectedCallback() {
    if (!this.#offs.length) return;
    this.#offs.splice(0).forEach((off) => off());
    clearTimeout(this.#noteTimer);
    this.#connection.close();
  }

  #watchState() {
    const { state, reason } = this.#connection;
    const show = () => {
      this.dataset.connection = state;
      setText(this.#note, reason?.message ?? strings[state]);
      if (state === "connected" && !this.#connection.isLoaded) this.#noteTimer = setTimeout(() => this.#connection.explain?.(), NOTE_DELAY_MS);
    };
    clearTimeout(this.#noteTimer);
    this.#noteTimer = setTimeout(show, state === "connected" || reason ? 0 : NOTE_DELAY_MS);
    this._refresh();
  }

  _refresh() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const render = () => {
      const isDue = this.#isScheduled && this.isConnected;
      this.#isScheduled = false;
      if (isDue) this._render();
    };
    requestAnimationFrame(render);
    setTimeout(render, 250); // a hidden tab has no frames
  }

  _render() {
    const shown = this._shown();
    const ids = new Set(shown.map((task) => task.task_id));
    for (const [id, card] of this.#cards) {
      if (!ids.has(id)) card.node.remove(this.#cards.delete(id));
    }
    this.#empty.hidden = shown.length || !this.#connection.isLoaded;
    const news = shown.flatMap((task, index) => this.#show(task, this.#list.children[index]));
    clearTimeout(this.#ticker);
    // No frames, no ticks in a hidden tab.
    if (shown.some(isWaiting)) this.#ticker = setTimeout(requestAnimationFrame, 1000, () => this._refresh());
    if (news.length) this.#live.textContent = news.join(". ");
  }

  /** What to announce. */
  #show(task, place) {
    const id = task.task_id;
    const card = this.#cards.get(id) ?? new Card((card) => this.#cancel(card));
    const before = card.task;
    this.#cards.set(id, card);
    if (card.node !== place) this.#list.insertBefore(card.node, place);
    if (before !== task || isWaiting(task)) card.update(task);
    if (before === task) return [];
    this.#tell("update", task);
    if (isFinal(task) && (before?.state !== task.state || before.attempt !== task.attempt)) {
      this.#tell(task.state === "SUCCESS" ? "success" : "failure", task);
    }
    return before && announcement(before) !== announcement(task) ? [announcement(task)] : [];
  }

  #tell(name, detail) {
    const init = { detail, bubbles: true, composed: true, cancelable: true };
    return this.dispatchEvent(new CustomEvent("jobpush-progress-" + name, init));
  }

  async #cancel(card) {
    // A page answers for local tasks itself.
    if (!this.#tell("cancel", card.task) || (await this.#connection.cancel(card.task.task_id))) return;
    card.notice = strings.cancelFailed;
    card.update(card.task);
    this.#live.textContent = `${titleOf(card.task)}: ${card.notice}`;
  }
}
