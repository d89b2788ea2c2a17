import { TaskElement } from "./base.js";

export class JobpushTasks extends TaskElement {
  static observedAttributes = ["limit"];

  get limit() {
    return +this.getAttribute("limit") || Infinity;
  }

  set limit(value) {
    this.setAttribute("limit", value);
  }

  attributeChangedCallback() {
    this._refresh();
  }

  _listen() {
    return [];
  }

  _shown() {
    return [...this.connection.tasks.values()].slice(0, this.limit);
  }
}
