/** React hooks. The elements themselves need none: `import "jobpush"`, then `<jobpush-tasks />`. */

import { useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { sharedConnection } from "./client.js";

const NOTHING = new Map();

/** Read a value of the connection, and again after each of its events. */
function useValue(connection, event, read, onServer) {
  const subscribe = useCallback(
    (notify) => {
      const user = {};
      connection.open(user);
      const off = connection.on(event, notify);
      return () => {
        off();
        connection.close(user);
      };
    },
    [connection, event],
  );
  return useSyncExternalStore(subscribe, () => read(connection), () => onServer);
}

/** Return the connection with its state. */
export function useConnection(connection = sharedConnection()) {
  const state = useValue(connection, "jobpush:state", ({ state }) => state, "closed");
  const reason = useValue(connection, "jobpush:state", ({ reason }) => reason, null);
  return { connection, state, reason };
}

/** Return the tasks of the signed-in user, newest first. */
export function useTasks(connection = sharedConnection()) {
  const view = useValue(connection, "jobpush:change", ({ tasks }) => tasks, NOTHING);
  return useMemo(() => [...view.values()], [view]);
}

/** Return one task, which may be a member of a workflow; `undefined` until it is known. */
export function useTask(taskId, connection = sharedConnection()) {
  const own = useValue(connection, "jobpush:change", ({ tasks }) => tasks.get(taskId), undefined);
  const [member, setMember] = useState();
  useEffect(() => {
    setMember(undefined);
    if (!taskId) return undefined;
    const channel = connection.subscribe(`private-task-${taskId}`);
    channel.on("jobpush:task", setMember);
    return channel.unsubscribe;
  }, [connection, taskId]);
  return own ?? member;
}
