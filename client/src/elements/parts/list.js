/** Features that short lists do not load: a held order, header and groups, long lists, attention. */

import { Hold } from "./hold.js";
import { Tools } from "./tools.js";
import { VirtualList } from "./virtual.js";

/** Time without a scroll event after which scrolling has ended. */
const SCROLL_END_MS = 150;

export class ListParts {
  #element;
  #hold;
  #tools;
  #virtual;
  #hasAttention = false;
  #shown = [];
  #scrollTimer;

  constructor(element) {
    this.#element = element;
    this.#hold = new Hold(element);
    this.#tools = new Tools(element);
    this.#virtual = new VirtualList(element, () => this.#onScroll());
  }

  translate() {
    this.#tools.translate();
  }

  /** Show tasks; `sorted` returns them in their order, of which at most `maxRendered` are rendered as a whole. */
  show(tasks, sorted, maxRendered) {
    this.#attend();
    this.#virtual.measure();
    const held = this.#hold.order(tasks);
    const ordered = held ?? sorted();
    if (!held) this.#tools.regroup();
    this.#hold.note(ordered);
    const shown = this.#tools.choose(ordered);
    this.#shown = shown;
    if (shown.length > maxRendered) this.#showWindow();
    else {
      this.#virtual.clear();
      this.#element._setCards(shown);
      this.#tools.mark(shown);
    }
  }

  #showWindow() {
    this.#virtual.show(this.#shown);
    this.#tools.mark(this.#shown);
  }

  /** Only the window moves while the user scrolls; the rest is rendered afterwards. */
  #onScroll() {
    this.#virtual.measure();
    this.#showWindow();
    for (const card of this.#element._cards().values()) card.fit();
    clearTimeout(this.#scrollTimer);
    this.#scrollTimer = setTimeout(() => this.#element._refresh(), SCROLL_END_MS);
  }

  async #attend() {
    if (this.#hasAttention || !this.#element.hasAttribute("attention")) return;
    this.#hasAttention = true;
    const { attend } = await import("../../attention.js");
    attend(this.#element);
  }
}
