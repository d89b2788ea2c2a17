import { strings } from "../locales/en.js";
import { detailText, isFinal, percentOf, stateText, titleOf } from "../format.js";
import { make, setText } from "./dom.js";

export class Card {
  task;
  notice;

  #title = make("span", "title");
  #state = make("span", "state");
  #cancel = make("button", "cancel", { type: "button" });
  #bar = make("progress", "bar", { max: 100 });
  #message = make("span", "message");
  #error = make("span", "error");
  #detail = make("span", "detail");

  constructor(onCancel) {
    const footer = make("div", "footer");
    footer.append(this.#message, this.#error, this.#detail);
    this.node = make("div", "task", { role: "group", tabIndex: -1 });
    this.node.append(this.#title, this.#state, this.#cancel, this.#bar, footer);
    this.#cancel.onclick = () => onCancel(this);
  }

  update(task) {
    this.task = task;
    const title = titleOf(task);
    const isDone = isFinal(task);
    const isHidden = isDone || task.cancelling;
    const error = (!isHidden && this.notice) || task.error;
    const percent = percentOf(task) ?? (isDone ? 0 : null);
    this.node.dataset.state = task.state;
    for (const node of [this.node, this.#state, this.#bar]) node.part = `${node.part[0]} ${task.state.toLowerCase()}`;
    this.node.ariaLabel = this.#bar.ariaLabel = title;
    if (percent == null) this.#bar.removeAttribute("value");
    else this.#bar.value = percent;
    setText(this.#title, title);
    setText(this.#state, stateText(task));
    setText(this.#message, error ? "" : task.message);
    setText(this.#error, error);
    setText(this.#detail, detailText(task));
    // The keyboard stays here when its button goes.
    if (isHidden && this.#cancel.matches(":focus")) this.node.focus();
    setText(this.#cancel, isHidden ? "" : strings.cancel);
    this.#cancel.ariaLabel = strings.cancelTask(title);
  }
}
