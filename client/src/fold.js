/** The view of all tasks: a pure fold of (view, event). */

const MAX_TASKS = 1000;

export const fold = (view, event) => {
  const id = event?.task_id;
  const known = view.get(id);
  if (typeof id !== "string" || !event.state || (known && !(event.seq > known.seq))) return view;
  const next = new Map(view).set(id, Object.freeze({ ...event }));
  if (known && known.created_at === event.created_at) return next;
  const newestFirst = [...next].sort(([, a], [, b]) => (b.created_at ?? 0) - (a.created_at ?? 0));
  return new Map(newestFirst.slice(0, MAX_TASKS));
};
