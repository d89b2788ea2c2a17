/** A button with a menu of actions, used by pointer and keyboard. */

import { make } from "./dom.js";

export class ActionMenu {
  #actions;

  /** @param actions returns `[text, run, isChecked]` of each action */
  constructor(actions) {
    this.#actions = actions;
    this.button = make("button", "menu-button", { type: "button", textContent: "⋯", ariaHasPopup: "menu", ariaExpanded: "false" });
    this.list = make("div", "menu", { role: "menu", hidden: true });
    this.button.onclick = () => (this.list.hidden ? this.#open() : this.close());
    this.button.onkeydown = (event) => {
      if (event.key !== "ArrowDown") return;
      event.preventDefault();
      this.#open();
    };
    this.list.onkeydown = (event) => this.#onKey(event);
    this.list.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget !== this.button && !this.list.contains(relatedTarget)) this.close();
    });
  }

  close() {
    this.list.hidden = true;
    this.button.ariaExpanded = "false";
  }

  #open() {
    const items = this.#actions().map(([text, run, isChecked]) => {
      const item = make("button", "menu-item", { type: "button", textContent: text, tabIndex: -1 });
      item.role = isChecked === undefined ? "menuitem" : "menuitemcheckbox";
      if (isChecked !== undefined) item.ariaChecked = String(isChecked);
      item.onclick = () => {
        this.close();
        this.button.focus();
        run();
      };
      return item;
    });
    this.list.replaceChildren(...items);
    this.list.ariaLabel = this.button.ariaLabel;
    this.list.hidden = false;
    this.button.ariaExpanded = "true";
    items[0]?.focus();
  }

  #onKey(event) {
    const items = [...this.list.children];
    const index = items.indexOf(this.list.getRootNode().activeElement);
    const targets = { ArrowDown: index + 1, ArrowUp: index - 1 + items.length, Home: 0, End: items.length - 1 };
    if (event.key === "Escape") {
      this.close();
      this.button.focus();
    } else if (event.key in targets) items[targets[event.key] % items.length].focus();
    else return;
    event.preventDefault();
  }
}
