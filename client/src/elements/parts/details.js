/**
 * The parts of a card that only some tasks need: steps, result, members, log, and the menu of actions.
 *
 * Loaded when the first card of a page needs one of them.
 */

import "../../locales/en-more.js";
import { titleOf } from "../../format.js";
import { hasFailed, isFinal } from "../../states.js";
import css from "./details.css";
import { addStyle } from "./style.js";
import { make, setText } from "./dom.js";
import { ActionMenu } from "./menu.js";
import { showResult } from "./result.js";

/** Ids of the last members that are shown; a workflow may have thousands. */
const MAX_MEMBERS = 100;

export class Details {
  #card;
  #host;
  #task;
  #steps = make("ol", "steps", { hidden: true });
  #result = make("div", "result", { hidden: true });
  #members = make("div", "members", { hidden: true });
  #logBox = make("div", "log-box", { hidden: true });
  #rerun = make("button", "rerun", { type: "button", hidden: true });
  #menu;
  #log;
  #seenStages = [];
  #resultText;
  #isRerunning = false;

  constructor(card) {
    this.#card = card;
    this.#host = card.host;
    addStyle(card.host.element.shadowRoot, css);
    this.#menu = new ActionMenu(() => this.#actions());
    this.#rerun.onclick = () => this.#runAgain();
    card.actions.append(this.#rerun, this.#menu.button, this.#menu.list);
    card.more.append(this.#steps, this.#result, this.#members, this.#logBox);
    card.more.hidden = false;
  }

  update(task) {
    const isOther = this.#task?.state !== task.state;
    this.#task = task;
    const t = this.#host.texts();
    this.#showSteps(task);
    this.#showResult(task, t);
    this.#rerun.hidden = !(this.#host.element.hasAttribute("rerun") && isFinal(task) && task.state !== "SUCCESS");
    this.#rerun.disabled = this.#isRerunning;
    setText(this.#rerun, this.#rerun.hidden ? "" : t.rerun);
    this.#rerun.ariaLabel = t.rerunTask(titleOf(task));
    this.#menu.button.ariaLabel = `${t.actions}: ${titleOf(task)}`;
    this.#menu.button.hidden = !this.#actions().length;
    if (isOther && !this.#members.hidden) this.#loadMembers();
  }

  remove() {
    this.#log?.stop();
    this.#menu.close();
  }

  #actions() {
    const t = this.#host.texts();
    const task = this.#task;
    const element = this.#host.element;
    const actions = [];
    if (task.data?.children) actions.push([t.members, () => this.#toggleMembers(), !this.#members.hidden]);
    if (task.seq >= 1) actions.push([t.log, () => this.#toggleLog(), !this.#logBox.hidden]);
    if (element.hasAttribute("rerun") && task.state === "SUCCESS") actions.push([t.rerun, () => this.#runAgain()]);
    if (isFinal(task) && element.dismiss) actions.push([t.dismiss, () => element.dismiss(task.task_id)]);
    return actions;
  }

  // ---- Steps and result ----

  #showSteps(task) {
    const { stage, stages } = task.data ?? {};
    if (stage && !this.#seenStages.includes(stage)) this.#seenStages.push(stage);
    const names = (Array.isArray(stages) ? stages : this.#seenStages).filter((name) => typeof name === "string");
    this.#steps.hidden = names.length < 2;
    const current = task.state === "SUCCESS" ? names.length : names.indexOf(stage);
    const signature = `${names.join("\n")}\n${current}`;
    if (this.#steps.hidden || this.#steps.dataset.signature === signature) return;
    this.#steps.dataset.signature = signature;
    this.#steps.replaceChildren(
      ...names.map((name, index) => {
        const state = index < current ? "done" : index === current ? "current" : "next";
        const item = make("li", `step ${state}`, { textContent: name, dir: "auto" });
        if (state === "current") item.ariaCurrent = "step";
        return item;
      }),
    );
  }

  #showResult(task, t) {
    const text = task.state === "SUCCESS" ? JSON.stringify([task.data?.result, task.data?.url, t.lang]) : "";
    if (text === this.#resultText) return;
    this.#resultText = text;
    const nodes = text ? showResult(task.data ?? {}, titleOf(task), t) : [];
    this.#result.replaceChildren(...nodes);
    this.#result.hidden = !nodes.length;
  }

  // ---- Actions ----

  async #runAgain() {
    // A page may run it in its own way.
    if (!this.#host.element._dispatch("rerun", this.#task)) return;
    this.#isRerunning = true;
    this.update(this.#task);
    const path = `tasks/${encodeURIComponent(this.#task.task_id)}/rerun`;
    const { ok } = await this.#host.element.connection.request(path, { method: "POST" });
    this.#isRerunning = false;
    this.update(this.#task);
    if (!ok) this.#card.setNotice(this.#host.texts().rerunFailed);
  }

  async #toggleLog() {
    if (!this.#logBox.hidden) {
      this.#logBox.hidden = true;
      this.#log?.stop();
      this.#log = undefined;
      return;
    }
    this.#logBox.hidden = false;
    const module = await import("./log.js").catch(() => null);
    if (!module || this.#logBox.hidden) return;
    this.#log = new module.LogView(this.#logBox, this.#host, this.#task);
  }

  async #toggleMembers() {
    this.#members.hidden = !this.#members.hidden;
    if (!this.#members.hidden) await this.#loadMembers();
  }

  /** Members in their own cards; those that failed come first. */
  async #loadMembers() {
    const { connection } = this.#host.element;
    const { data } = await connection.request(`tasks/${encodeURIComponent(this.#task.task_id)}/children`);
    const children = data?.children ?? [];
    const ids = [...children].sort((a, b) => hasFailed(b) - hasFailed(a)).slice(0, MAX_MEMBERS).map(({ task_id }) => task_id);
    const known = new Map([...this.#members.children].map((node) => [node.taskId, node]));
    this.#members.role = "list";
    this.#members.ariaLabel = this.#host.texts().membersOf(titleOf(this.#task));
    this.#members.replaceChildren(...ids.map((id) => known.get(id) ?? this.#member(id)));
  }

  #member(id) {
    const node = document.createElement("jobpush-progress");
    node.part = "member";
    node.role = "listitem";
    node.connection = this.#host.element.connection;
    node.setAttribute("density", "compact");
    node.taskId = id;
    return node;
  }
}
