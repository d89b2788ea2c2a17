/** Nothing moves under the pointer or the focus: known tasks keep their places, and new ones come last. */

export class Hold {
  #element;
  /** The place of each task that is shown. */
  #places = new Map();

  constructor(element) {
    this.#element = element;
    const isBefore = (a, b) => (a.node.compareDocumentPosition(b.node) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1);
    this.note([...element._cards().values()].sort(isBefore).map(({ task }) => task));
    for (const type of ["pointerleave", "focusout"]) element.addEventListener(type, () => element._refresh());
  }

  /** Note the order that is shown. */
  note(tasks) {
    this.#places = new Map(tasks.map(({ task_id }, index) => [task_id, index]));
  }

  /** Return the tasks in the order that is held; `undefined` while nothing holds it. */
  order(tasks) {
    if (!this.#places.size || !(this.#element.matches(":hover") || this.#element.shadowRoot.activeElement)) return undefined;
    for (const { task_id } of tasks) if (!this.#places.has(task_id)) this.#places.set(task_id, this.#places.size);
    return tasks.sort((a, b) => this.#places.get(a.task_id) - this.#places.get(b.task_id));
  }
}
