import type { Connection, ConnectionState, JobpushIntrinsicElements, Reason, TaskEvent } from "./index.js";

/** Return the connection (by default the page's shared one) with its state. */
export function useConnection(connection?: Connection): {
  connection: Connection;
  state: ConnectionState;
  reason: Reason | null;
};

/** Return the tasks of the signed-in user, newest first. */
export function useTasks<Data extends object = Record<string, unknown>>(connection?: Connection): TaskEvent<Data>[];

/** Return one task, which may be a member of a workflow; `undefined` until it is known. */
export function useTask<Data extends object = Record<string, unknown>>(
  taskId: string | null | undefined,
  connection?: Connection,
): TaskEvent<Data> | undefined;

declare module "react" {
  namespace JSX {
    interface IntrinsicElements extends JobpushIntrinsicElements {}
  }
}
