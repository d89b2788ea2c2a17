import { TaskElement } from "./base.js";

export class JobpushProgress extends TaskElement {
  static observedAttributes = ["task-id"];
  #heard;

  get taskId() {
    return this.getAttribute("task-id") ?? "";
  }

  set taskId(value) {
    this.setAttribute("task-id", value);
  }

  get task() {
    return this.connection?.tasks.get(this.taskId) ?? this.#heard;
  }

  attributeChangedCallback() {
    this.#heard = undefined;
    if (this.connection) this.connection = this.connection;
  }

  /** Workflows' members are not in `connection.tasks`. */
  _listen() {
    if (!/^[-\w=@,.;]+$/.test(this.taskId)) return [];
    const channel = this.connection.subscribe("private-task-" + this.taskId);
    channel.on("jobpush:task", (task) => {
      this.#heard = task;
      this._refresh();
    });
    return [channel.unsubscribe];
  }

  _shown() {
    return this.task ? [this.task] : [];
  }

  _render() {
    super._render();
    this.dataset.state = this.task?.state ?? "";
  }
}
