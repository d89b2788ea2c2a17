import { strings } from "./locales/en.js";

export const isFinal = ({ state }) => /SUCCESS|FAILURE|REVOKED|LOST/.test(state);

export const isWaiting = ({ state }) => /PENDING|RECEIVED|RETRY/.test(state);

export const titleOf = (task) => task.title || task.name || task.task_id;

export const stateText = (task) => (task.cancelling && !isFinal(task) ? strings.cancelling : strings[task.state]);

export const percentOf = ({ state, percent, current, total }) => {
  if (state === "SUCCESS") return 100;
  return percent ?? (total > 0 ? (100 * current) / total : null);
};

const waitText = ({ run_at, created_at, state }) => {
  const now = Date.now() / 1000;
  if (run_at > now + 3600) return strings.startsAt(new Date(run_at * 1000));
  if (run_at > now) return strings.startsIn(run_at - now);
  return state !== "RETRY" && now > created_at + 1 && strings.waited(now - created_at);
};

export const detailText = (task) => {
  const { state, current, total } = task;
  const percent = percentOf(task);
  const isMoving = state === "PROGRESS";
  const attempt = task.attempt + (state === "RETRY"); // the one to come
  const details = [
    isWaiting(task) && waitText(task),
    task.ahead != null && strings.ahead(task.ahead),
    attempt > 1 && strings.attempt(attempt, task.max_attempts),
    percent != null && strings.percent(percent),
    total > 0 ? strings.amount(current ?? 0, total) : current > 0 && strings.number(current),
    isMoving && task.rate > 0 && strings.rate(task.rate),
    isMoving && task.eta > 0 && strings.left(task.eta),
  ];
  return details.filter(Boolean).join(" · ");
};

export const announcement = (task) => {
  const quarter = isFinal(task) ? 0 : Math.floor(percentOf(task) / 25) * 25;
  return `${titleOf(task)}: ${stateText(task)} ${quarter ? strings.percent(quarter) : ""}`;
};
