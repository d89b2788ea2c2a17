/** Elements whose code is loaded when a page has them. Set `connection` before they are on the page. */

class LazyElement extends (globalThis.HTMLElement ?? Object) {
  #stop;

  async connectedCallback() {
    const { start } = await import("../inbox.js");
    if (this.isConnected) this.#stop = start(this, this.constructor === JobpushBadge);
  }

  disconnectedCallback() {
    this.#stop?.();
  }
}

export class JobpushNotifications extends LazyElement {}

export class JobpushBadge extends LazyElement {}
