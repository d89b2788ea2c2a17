/** English texts of the parts that are loaded when used: details, tools, announcements, log, inbox. */

import { addTexts } from "./index.js";
import { strings } from "./en.js";
import { pluralOf } from "./plural.js";

const plural = pluralOf("en");

addTexts({
  actions: "Actions",
  rerun: "Run again",
  rerunTask: (title) => `Run again: ${title}`,
  rerunFailed: "Could not be started again",
  dismiss: "Dismiss",
  dismissTask: (title) => `Dismiss ${title}`,
  clearFinished: "Clear finished",
  filter: "Filter tasks",
  groups: { running: "Running", waiting: "Waiting", finished: "Finished" },
  more: (n) => `Show ${n} more`,
  summary: { running: (n) => `${n} running`, waiting: (n) => `${n} waiting`, failed: (n) => `${n} failed`, done: (n) => `${n} done` },
  overall: "Overall progress",
  tasks: "Tasks",
  open: "Open",
  download: "Download",
  members: "Members",
  membersOf: (title) => `Members of ${title}`,
  log: "Log",
  logOf: (title) => `Log of ${title}`,
  logEmpty: "No lines yet",
  logLost: (n) => plural(n, { one: `${n} line left out`, other: `${strings.number(n)} lines left out` }),
  logFailed: "The log cannot be loaded",
  logSearch: "Search the log",
  logLevel: "Lowest level",
  logFollow: "Follow",
  copy: "Copy",
  copied: "Copied",
  inbox: "Notifications",
  inboxEmpty: "No notifications",
  inboxFailed: "The notifications cannot be loaded",
  unread: (n) => plural(n, { one: `${n} unread notification`, other: `${n} unread notifications` }),
  markRead: "Mark as read",
  markAllRead: "Mark all as read",
  close: "Close",
});
