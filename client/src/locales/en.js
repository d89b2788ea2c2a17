/** The English texts of the elements. */

import { roundedMinutes } from "./steps.js";

export const strings = {
  lang: "en",
  PENDING: "Waiting",
  RECEIVED: "Waiting",
  STARTED: "Running",
  PROGRESS: "Running",
  RETRY: "Trying again",
  SUCCESS: "Done",
  FAILURE: "Failed",
  REVOKED: "Cancelled",
  LOST: "The worker was lost",
  cancelling: "Cancelling…",
  cancel: "Cancel",
  undo: "Undo",
  cancelFailed: "Could not be cancelled; try again",
  empty: "No tasks yet",
  connecting: "Connecting…",
  polling: "Updated every few seconds",
  reconnecting: "Reconnecting…",
  failed: "Not connected: reload the page",
  signedOut: "Signed out: reload the page",
  offline: "Offline: not up to date",
  not_signed_in: "Nobody is signed in",
  cancelTask: (title) => `Cancel ${title}`,
  undoCancel: (title) => `Undo: cancel ${title}`,
  percent: (percent) => `${Math.floor(percent)} %`,
  number: (number) => number.toLocaleString(strings.lang, { maximumFractionDigits: 1 }),
  amount: (current, total) => `${strings.number(current)} / ${strings.number(total)}`,
  rate: (rate) => `${strings.number(rate)}/s`,
  duration: (seconds) => {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${strings.number(seconds / 3600)} h`;
  },
  left: (seconds) => {
    if (seconds < 10) return "a few seconds left";
    if (seconds < 60) return "less than a minute left";
    return seconds < 3600 ? `about ${roundedMinutes(seconds)} min left` : `about ${Math.round(seconds / 3600)} h left`;
  },
  waited: (seconds) => `for ${strings.duration(seconds)}`,
  took: (seconds) => `took ${strings.duration(seconds)}`,
  endedAt: (date, isToday) => date.toLocaleString(strings.lang, { timeStyle: "short", ...(!isToday && { dateStyle: "medium" }) }),
  ahead: (count) => `${count} before it`,
  startsIn: (seconds) => `starts in ${strings.duration(seconds)}`,
  startsAt: (date) => `starts at ${date.toLocaleString(strings.lang)}`,
  attempt: (attempt, max) => `attempt ${attempt}` + (max >= attempt ? ` of ${max}` : ""),
};
