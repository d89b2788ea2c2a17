/** The states of a task, in sets. A new end state is added here, and gets an icon in elements/parts/dom.js and its texts in locales/. */

export const isFinal = ({ state }) => /SUCCESS|FAILURE|REVOKED|LOST/.test(state);

export const hasFailed = ({ state }) => /FAILURE|LOST/.test(state);

export const isWaiting = ({ state }) => /PENDING|RECEIVED|RETRY/.test(state);

export const isRunning = (task) => !isFinal(task) && !isWaiting(task);

/** The last part of the name of the event that an element sends when a task ends; LOST uses that of FAILURE. */
export const endEventOf = ({ state }) => state.replace("LOST", "FAILURE").toLowerCase();
