/** Features that short lists do not load: a held order, header and groups, long lists, attention. */

import { Hold } from "./hold.js";
import { Tools } from "./tools.js";
import { VirtualList } from "./virtual.js";

export class ListParts {
  #element;
  #hold;
  #tools;
  #virtual;
  #hasAttention = false;

  constructor(element) {
    this.#element = element;
    this.#hold = new Hold(element);
    this.#tools = new Tools(element);
    this.#virtual = new VirtualList(element);
  }

  translate() {
    this.#tools.translate();
  }

  /** Show tasks; `sorted` returns them in their order, of which at most `maxRendered` are rendered as a whole. */
  show(tasks, sorted, maxRendered) {
    this.#attend();
    this.#virtual.measure();
    const ordered = this.#hold.order(tasks) ?? sorted();
    this.#hold.note(ordered);
    const shown = this.#tools.choose(ordered);
    if (shown.length > maxRendered) this.#virtual.show(shown);
    else {
      this.#virtual.clear();
      this.#element._setCards(shown);
    }
    this.#tools.mark(shown);
  }

  async #attend() {
    if (this.#hasAttention || !this.#element.hasAttribute("attention")) return;
    this.#hasAttention = true;
    const { attend } = await import("../../attention.js");
    attend(this.#element);
  }
}
