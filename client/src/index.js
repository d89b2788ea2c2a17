/** The module that pages load: the connection and the elements. Types and documentation: index.d.ts. */

import { JobpushBadge } from "./elements/jobpush-badge.js";
import { JobpushNotifications } from "./elements/jobpush-notifications.js";
import { JobpushProgress } from "./elements/jobpush-progress.js";
import { JobpushTasks } from "./elements/jobpush-tasks.js";

export { connect } from "./client.js";
export { fold } from "./fold.js";
export { strings } from "./locales/en.js";
export { addLanguage } from "./locales/index.js";
// For the parts that are loaded when used:
export { sharedConnection } from "./client.js";
export { addStyle, applyStyle } from "./elements/parts/style.js";
export { addTexts, loadTexts, textsOf } from "./locales/index.js";
export { JobpushBadge, JobpushNotifications, JobpushProgress, JobpushTasks };

/** Registering an element twice does no harm. */
function define(name, element) {
  const registry = globalThis.customElements;
  if (registry && !registry.get(name)) registry.define(name, element);
}

define("jobpush-tasks", JobpushTasks);
define("jobpush-progress", JobpushProgress);
define("jobpush-notifications", JobpushNotifications);
define("jobpush-badge", JobpushBadge);
