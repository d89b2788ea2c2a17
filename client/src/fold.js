/** The view of all tasks: a pure fold of (view, event). */

const MAX_TASKS = 10_000;

/** Whether an event changes what is known of its task. */
export function isNews(known, event) {
  return typeof event?.task_id === "string" && event.state && (!known || event.seq > known.seq);
}

export const fold = (view, event) => foldAll(view, [event]);

/** Fold several events with one copy of the view. */
export function foldAll(view, events) {
  let next = view;
  let isReordered = false;
  for (const event of events) {
    const known = next.get(event?.task_id);
    if (!isNews(known, event)) continue;
    if (next === view) next = new Map(view);
    next.set(event.task_id, Object.freeze({ ...event }));
    isReordered ||= !known || known.created_at !== event.created_at;
  }
  if (!isReordered) return next;
  const newestFirst = [...next].sort(([, a], [, b]) => (b.created_at ?? 0) - (a.created_at ?? 0));
  return new Map(newestFirst.slice(0, MAX_TASKS));
}
