/** The module that pages load: the connection and the elements. Types and documentation: index.d.ts. */

import { JobpushProgress } from "./elements/progress.js";
import { JobpushTasks } from "./elements/tasks.js";

export { connect } from "./client.js";
export { fold } from "./fold.js";
export { strings } from "./locales/en.js";
export { JobpushProgress, JobpushTasks };

/** Registering an element twice does no harm. */
function define(name, element) {
  const registry = globalThis.customElements;
  if (registry && !registry.get(name)) registry.define(name, element);
}

define("jobpush-tasks", JobpushTasks);
define("jobpush-progress", JobpushProgress);
