/** Long lists: only the cards that can be seen are nodes; two empty nodes take the place of the rest. */

const ESTIMATED_HEIGHT = 96;
const GAP = 8;
/** Rendered beyond the edges of the window. */
const MARGIN = 600;

/**
 * Return the range of tasks to render, and the heights of what is above and below it.
 *
 * `top` is the place of the list in the window; `heights` has the measured heights of cards, by task id.
 */
export function visibleRange(top, tasks, heights) {
  const from = -top - MARGIN;
  const to = innerHeight - top + MARGIN;
  let offset = 0;
  let first = -1;
  let last = tasks.length;
  let above = 0;
  let end = 0;
  for (let index = 0; index < tasks.length; index++) {
    const height = (heights.get(tasks[index].task_id) ?? ESTIMATED_HEIGHT) + GAP;
    if (first < 0 && offset + height >= from) {
      first = index;
      above = offset;
    }
    offset += height;
    if (offset <= to) end = offset;
    else if (last === tasks.length) {
      last = index + 1;
      end = offset;
    }
  }
  if (first < 0) {
    first = Math.max(0, tasks.length - 1);
    above = offset - ESTIMATED_HEIGHT;
  }
  return { first, last: Math.max(last, first + 1), above, below: Math.max(0, offset - end) };
}

function setHeight(node, height) {
  if (node.style.height !== `${height}px`) node.style.height = `${height}px`;
}

export class VirtualList {
  #element;
  #onScroll;
  #isScheduled = false;
  #listening;
  #resizes;
  #width;
  #top;
  #heights = new Map();
  #above = Object.assign(document.createElement("div"), { style: "margin-bottom: -.5rem" });
  #below = Object.assign(document.createElement("div"), { style: "margin-bottom: -.5rem" });

  /** `onScroll` is called at most once per frame while a long list is scrolled, or its window is resized. */
  constructor(element, onScroll) {
    this.#element = element;
    this.#onScroll = onScroll;
    this.#resizes = globalThis.ResizeObserver && new ResizeObserver(() => this.#onResize());
  }

  /** Listen until the element has left the page. */
  #listen() {
    if (this.#listening) return;
    this.#listening = new AbortController();
    const options = { capture: true, passive: true, signal: this.#listening.signal };
    for (const type of ["scroll", "resize"]) addEventListener(type, () => this.#schedule(), options);
    this.#resizes?.observe(this.#element);
  }

  #stopListening() {
    this.#listening?.abort();
    this.#listening = undefined;
    this.#resizes?.disconnect();
  }

  #schedule() {
    if (!this.#element.isConnected) {
      this.#stopListening();
      return;
    }
    if (this.#isScheduled || !this.#above.isConnected) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      if (this.#above.isConnected) this.#onScroll();
    });
  }

  /** Heights depend on the width; the height of the list itself changes during scrolling. */
  #onResize() {
    const { clientWidth } = this.#element;
    if (clientWidth !== this.#width && this.#above.isConnected) this.#element._refresh();
    this.#width = clientWidth;
  }

  /** Note the heights of the cards; call it before other changes of a frame, so that the browser lays out once. */
  measure() {
    if (!this.#above.isConnected) return;
    for (const [id, { node }] of this.#element._cards()) if (node.offsetHeight) this.#heights.set(id, node.offsetHeight);
    this.#top = this.#element._list.getBoundingClientRect().top;
  }

  /** Render the tasks in the window, and the one with the focus. */
  show(tasks) {
    this.#listen();
    const { _list: list } = this.#element;
    const cards = this.#element._cards();
    list.style.overflowAnchor = "none";
    const top = this.#top ?? list.getBoundingClientRect().top;
    this.#top = undefined;
    const { first, last, above, below } = visibleRange(top, tasks, this.#heights);
    const visible = tasks.slice(first, last);
    // The card with the focus stays.
    const active = this.#element.shadowRoot.activeElement?.closest("[part=item]");
    const focused = active && [...cards].find(([, { node }]) => node === active)?.[0];
    if (focused && !visible.some(({ task_id }) => task_id === focused)) {
      visible.push(...tasks.filter(({ task_id }) => task_id === focused));
    }
    // A node that moves, and a style that is set again, cost a layout of the whole list.
    if (list.firstChild !== this.#above) list.prepend(this.#above);
    this.#element._setCards(visible);
    if (list.lastChild !== this.#below) list.append(this.#below);
    setHeight(this.#above, above);
    setHeight(this.#below, below);
  }

  clear() {
    this.#stopListening();
    this.#element._list.style.overflowAnchor = "";
    this.#above.remove();
    this.#below.remove();
  }
}
