/** Titles that are too long for their lines. */

/**
 * Shorten a title in its middle until it fits its lines: names of files differ at their ends.
 *
 * It measures, so call it after all other changes of a frame.
 */
export function fitTitle(node, title) {
  node.textContent = title;
  if (node.scrollHeight <= node.clientHeight + 2 || !node.clientHeight) return;
  const letters = [...title].slice(0, 1000);
  const ending = [...title].slice(-24).join("");
  for (let length = Math.floor((letters.length * node.clientHeight) / node.scrollHeight); length > 8; length = Math.floor(length * 0.9)) {
    const tail = [...ending].slice(-Math.min(24, Math.floor(length / 3))).join("");
    node.textContent = `${letters.slice(0, length - tail.length).join("")}…${tail}`;
    if (node.scrollHeight <= node.clientHeight + 2) return;
  }
}
