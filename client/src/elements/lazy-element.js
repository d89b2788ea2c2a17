/** An element whose code is loaded when a page has it. Set `connection` before it is on the page. */

export class LazyElement extends (globalThis.HTMLElement ?? Object) {
  #stop;

  async connectedCallback() {
    const { start } = await import("../inbox.js");
    if (this.isConnected) this.#stop = start(this);
  }

  disconnectedCallback() {
    this.#stop?.();
  }
}
