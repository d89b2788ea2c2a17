export const make = (tag, part, properties) => Object.assign(document.createElement(tag), { part, ...properties });

export const setText = (node, text) => {
  node.hidden = !text;
  if (node.textContent !== text) node.textContent = text;
};
