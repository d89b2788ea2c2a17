/** The documented imports, checked by `tsc --strict`. Nothing here runs. */

import { addLanguage, connect, fold, strings, JobpushTasks, type Connection, type TaskEvent, type TaskView } from "jobpush";
import { useConnection, useTask, useTasks } from "jobpush/react";
import * as vue from "jobpush/vue";

interface Video {
  url: string;
  width: number;
}

const connection: Connection = connect({
  root: "https://api.example.com",
  key: "key",
  token: async () => "token",
  headers: { "X-Tenant": "7" },
  credentials: "include",
  shared: true,
});

const view: TaskView = fold(new Map(), { task_id: "a", seq: 1, state: "SUCCESS" });
const off: () => void = connection.on("jobpush:tasks", (tasks) => tasks.get("a")?.percent);
connection.on("jobpush:state", (state) => state === "polling" && connection.reason?.message);
connection.on("news", (data: { headline: string }, { channel }) => [data.headline, channel]);
const accepted: Promise<boolean> = connection.cancel("a");

window.addEventListener("jobpush-progress-success", ({ detail }) => detail.replayed || detail.task_id);
document.addEventListener("jobpush-progress-revoked", ({ detail }) => detail.state);
const list: JobpushTasks | null = document.querySelector("jobpush-tasks");
if (list) list.limit = 3;

addLanguage("fr", { SUCCESS: "Terminé" });

// @ts-expect-error -- states are known
connection.on("jobpush:state", (state) => state === "unknown");
// @ts-expect-error -- client events have a prefix
connection.subscribe("presence-room").trigger("typing", {});

export function Tasks() {
  const { state, reason } = useConnection();
  const tasks = useTasks<Video>();
  const task: TaskEvent<Video> | undefined = useTask<Video>("a");
  return (
    <section title={reason?.message}>
      {state}
      <a href={task?.data?.url}>{tasks.map(({ data }) => data?.width)}</a>
      <jobpush-tasks limit={3} header="" density="compact" no-cancel="" />
      <jobpush-badge />
      <jobpush-progress task-id="a" />
    </section>
  );
}

export const composables = () => [vue.useTask<Video>(() => "a").value?.data?.url, vue.useTasks().value.length, vue.useConnection().state.value];
export const used = [view, off, accepted, strings.cancelTask("a")];
