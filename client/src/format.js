/** The texts of a task. Pure: `t` are the texts of a language, `now` is the gateway's time in Unix seconds. */

import { hasFailed, isFinal, isRunning, isWaiting } from "./states.js";

const HOUR = 3600;

export const titleOf = (task) => task.title || task.name || task.task_id;

export const stateText = (task, t) => (task.cancelling && !isFinal(task) ? t.cancelling : (t[task.state] ?? task.state));

/** Return the `message` or `error` of a task; texts of the gateway have codes, by which a language translates them. */
export const textOf = (task, kind, t) => (task[kind] && t.reason?.(task[`${kind}_code`])) || task[kind];

export function percentOf({ state, percent, current, total }) {
  if (state === "SUCCESS") return 100;
  return percent ?? (total > 0 ? (100 * current) / total : null);
}

/** Return a message for a reason of the connection. */
export const reasonText = (reason, t) => t[reason.code] ?? reason.message ?? reason.code;

function waitText({ run_at, created_at, state }, t, now) {
  if (run_at > now + HOUR) return t.startsAt(new Date(run_at * 1000));
  if (run_at > now) return t.startsIn(run_at - now);
  return state !== "RETRY" && now > created_at + 1 && t.waited(now - created_at);
}

function endText({ started_at, at }, t, now) {
  if (!at) return [];
  const end = new Date(at * 1000);
  const isToday = end.toDateString() === new Date(now * 1000).toDateString();
  return [started_at && t.took(Math.max(0, at - started_at)), t.endedAt(end, isToday)];
}

/** Return the details of a task, in order; those that tick first. */
export function detailsOf(task, t, now) {
  const { state, current, total, started_at } = task;
  const percent = percentOf(task);
  const isMoving = state === "PROGRESS";
  const attempt = task.attempt + (state === "RETRY"); // the one to come
  return [
    isWaiting(task) && waitText(task, t, now),
    isRunning(task) && started_at && now > started_at + 1 && t.waited(now - started_at),
    task.ahead != null && isWaiting(task) && t.ahead(task.ahead),
    attempt > 1 && t.attempt(attempt, task.max_attempts),
    percent != null && t.percent(percent),
    total > 0 ? t.amount(current ?? 0, total) : current > 0 && t.number(current),
    isMoving && task.rate > 0 && t.rate(task.rate),
    isMoving && task.eta > 0 && t.left(task.eta),
    ...(isFinal(task) ? endText(task, t, now) : []),
  ].filter(Boolean);
}

/** Return what a screen reader announces of a change; quarters of the progress, and the reason of a failure. */
export function announcement(task, t) {
  const quarter = isFinal(task) ? 0 : Math.floor(percentOf(task) / 25) * 25;
  const extra = hasFailed(task) ? textOf(task, "error", t) : quarter ? t.percent(quarter) : "";
  return [`${titleOf(task)}: ${stateText(task, t)}`, extra].filter(Boolean).join(hasFailed(task) ? ": " : " ");
}

const kindOf = (task) => {
  if (isRunning(task)) return "running";
  if (isWaiting(task)) return "waiting";
  return hasFailed(task) ? "failed" : "done";
};

/** Return a summary such as "3 running, 2 waiting, 1 failed". */
export function summaryText(tasks, t) {
  const counts = { running: 0, waiting: 0, failed: 0, done: 0 };
  for (const task of tasks) if (task.state !== "REVOKED") counts[kindOf(task)] += 1;
  return Object.keys(counts).filter((key) => counts[key]).map((key) => t.summary[key](counts[key])).join(t.comma ?? ", ");
}
