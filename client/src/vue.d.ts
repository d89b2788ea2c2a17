import type { ComputedRef, DefineComponent, MaybeRefOrGetter, ShallowRef } from "vue";

import type { Connection, ConnectionState, JobpushIntrinsicElements, Reason, TaskEvent } from "./index.js";

/** Return the connection (by default the page's shared one) with refs of its state. */
export function useConnection(connection?: Connection): {
  connection: Connection;
  state: ShallowRef<ConnectionState>;
  reason: ShallowRef<Reason | null>;
};

/** Return a ref of the tasks of the signed-in user, newest first. */
export function useTasks<Data extends object = Record<string, unknown>>(
  connection?: Connection,
): ComputedRef<TaskEvent<Data>[]>;

/** Return a ref of one task, which may be a member of a workflow. */
export function useTask<Data extends object = Record<string, unknown>>(
  taskId: MaybeRefOrGetter<string | null | undefined>,
  connection?: Connection,
): ComputedRef<TaskEvent<Data> | undefined>;

declare module "vue" {
  interface GlobalComponents {
    "jobpush-tasks": DefineComponent<JobpushIntrinsicElements["jobpush-tasks"]>;
    "jobpush-progress": DefineComponent<JobpushIntrinsicElements["jobpush-progress"]>;
  }
}
