/** Helpers for nodes. Texts are set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

export const make = (tag, part, properties) => Object.assign(document.createElement(tag), { part, ...properties });

/** Set the text of a node, which is hidden without one. */
export function setText(node, text) {
  node.hidden = !text;
  if (node.textContent !== (text || "")) node.textContent = text || "";
}

/** Return an icon with one path, which `setIcon` draws. */
export function makeIcon(part) {
  const icon = document.createElementNS(SVG, "svg");
  icon.setAttribute("part", part);
  icon.setAttribute("viewBox", "0 0 16 16");
  icon.ariaHidden = "true";
  icon.append(document.createElementNS(SVG, "path"));
  return icon;
}

const WAITING = "M8 2a6 6 0 1 0 .1 0M8 5v3l2 2";
const RUNNING = "M5 3l8 5l-8 5z";

/** Shapes tell the states apart, not colours alone. */
const SHAPES = {
  STARTED: RUNNING,
  PROGRESS: RUNNING,
  RETRY: "M13 8a5 5 0 1 1-2-4M13 2v3h-3",
  SUCCESS: "M3 8l4 4l6-8",
  FAILURE: "M8 2l7 12H1zM8 6v4M8 12v.1",
  REVOKED: "M4 4l8 8M12 4l-8 8",
  LOST: "M5 6c0-4 6-4 6-1c0 2-3 2-3 5M8 13v.1",
};

export function setIcon(icon, state) {
  const shape = SHAPES[state] ?? WAITING;
  if (icon.firstChild.getAttribute("d") !== shape) icon.firstChild.setAttribute("d", shape);
}
