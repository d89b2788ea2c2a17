/** Titles that are too long for their lines. */

/** An emoji may have several characters, which belong together. */
function lettersOf(text) {
  return Intl.Segmenter ? Array.from(new Intl.Segmenter().segment(text), ({ segment }) => segment) : [...text];
}

/** The width and the font for which each node was fitted. */
const boxes = new WeakMap();

const boxOf = (node) => `${node.clientWidth} ${getComputedStyle(node).font}`;

/** Fits titles again when their width or font has changed; titles that have left the page are forgotten. */
const resizes =
  globalThis.ResizeObserver &&
  new ResizeObserver((entries) =>
    requestAnimationFrame(() => {
      for (const { target } of entries) {
        if (!target.isConnected) resizes.unobserve(target);
        else if (boxOf(target) !== boxes.get(target)) fitTitle(target);
      }
    }),
  );

/**
 * Shorten a title in its middle until it fits its lines: names of files differ at their ends. The whole title is in the
 * attribute `title`.
 *
 * It measures, so call it after all other changes of a frame.
 */
export function fitTitle(node) {
  const { title } = node;
  boxes.set(node, boxOf(node));
  resizes?.observe(node);
  node.textContent = title;
  if (node.scrollHeight <= node.clientHeight + 2 || !node.clientHeight) return;
  const letters = lettersOf(title.slice(0, 1000));
  const ending = lettersOf(title.slice(-100)).slice(-24);
  const estimate = Math.floor((title.length * node.clientHeight) / node.scrollHeight);
  for (let length = Math.min(letters.length, estimate); length > 8; length = Math.floor(length * 0.9)) {
    const tail = ending.slice(-Math.min(24, Math.floor(length / 3)));
    node.textContent = `${letters.slice(0, length - tail.length).join("")}…${tail.join("")}`;
    if (node.scrollHeight <= node.clientHeight + 2) return;
  }
}
