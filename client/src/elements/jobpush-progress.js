/** `<jobpush-progress task-id="…">`: one task. */

import { TaskElement } from "./task-element.js";

/** Ids that Pusher allows in names of channels. */
const IS_CHANNEL_NAME = /^[-\w=@,.;]+$/;

export class JobpushProgress extends TaskElement {
  static observedAttributes = ["task-id", "density", "rerun"];
  #received;

  get taskId() {
    return this.getAttribute("task-id") ?? "";
  }

  set taskId(value) {
    this.setAttribute("task-id", value);
  }

  get task() {
    return this.connection?.tasks.get(this.taskId) ?? this.#received;
  }

  attributeChangedCallback(name) {
    if (name !== "task-id") return super.attributeChangedCallback();
    this.#received = undefined;
    if (this.connection) this.connection = this.connection;
  }

  /** Members of workflows are not in `connection.tasks`. */
  _listen() {
    if (!IS_CHANNEL_NAME.test(this.taskId)) return [];
    const channel = this.connection.subscribe(`private-task-${this.taskId}`);
    channel.on("jobpush:task", (task) => {
      this.#received = task;
      this._refresh();
    });
    return [channel.unsubscribe];
  }

  _tasks() {
    return this.task ? [this.task] : [];
  }

  _show(tasks) {
    this._setCards(tasks);
    this.dataset.state = this.task?.state ?? "";
  }
}
