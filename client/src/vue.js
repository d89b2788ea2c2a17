/** Vue composables. The elements themselves need none: `import "jobpush"`, then `<jobpush-tasks />`. */

import { computed, onMounted, onUnmounted, shallowRef, toValue, watch } from "vue";

import { sharedConnection } from "./client.js";

/** Return a ref of a value of the connection, which is open while the component is mounted. */
function useValue(connection, event, read, onServer) {
  const value = shallowRef(onServer);
  const user = {};
  let off;
  onMounted(() => {
    connection.open(user);
    const update = () => (value.value = read(connection));
    off = connection.on(event, update);
    update();
  });
  onUnmounted(() => {
    off?.();
    connection.close(user);
  });
  return value;
}

/** Return the connection with refs of its state. */
export function useConnection(connection = sharedConnection()) {
  const state = useValue(connection, "jobpush:state", ({ state }) => state, "closed");
  const reason = useValue(connection, "jobpush:state", ({ reason }) => reason, null);
  return { connection, state, reason };
}

/** Return a ref of the tasks of the signed-in user, newest first. */
export function useTasks(connection = sharedConnection()) {
  const view = useValue(connection, "jobpush:change", ({ tasks }) => tasks, new Map());
  return computed(() => [...view.value.values()]);
}

/** Return a ref of one task, which may be a member of a workflow. The id may be a ref or a getter. */
export function useTask(taskId, connection = sharedConnection()) {
  const view = useValue(connection, "jobpush:change", ({ tasks }) => tasks, new Map());
  const member = shallowRef();
  let channel;
  const leave = () => channel?.unsubscribe();
  onMounted(() => {
    watch(
      () => toValue(taskId),
      (id) => {
        leave();
        member.value = undefined;
        channel = id ? connection.subscribe(`private-task-${id}`) : undefined;
        channel?.on("jobpush:task", (task) => (member.value = task));
      },
      { immediate: true },
    );
  });
  onUnmounted(leave);
  return computed(() => view.value.get(toValue(taskId)) ?? member.value);
}
