/**
 * Live task progress in the browser: a shared connection to the gateway, and two elements that show tasks.
 *
 *     <script type="module" src="/jobpush/static/jobpush.js"></script>
 *     <jobpush-tasks></jobpush-tasks>                    all tasks of the signed-in user, newest first
 *     <jobpush-progress task-id="…"></jobpush-progress>  one of them
 *
 * The page's own script, for instance to play a video once it is encoded:
 *
 *     import { connect } from "/jobpush/static/jobpush.js";
 *
 *     document.addEventListener("jobpush-progress-success", ({ detail: task }) => play(task.data.url));
 *     connect().on("news", (data) => show(data));
 *
 * Looks: the elements follow the page's `color-scheme`; set the custom properties `--jobpush-accent`, `-text`,
 * `-background`, `-muted`, `-border`, `-radius`, `-success`, `-warning`, `-error`, or style the parts: `list`, `task`,
 * `title`, `state`, `bar`, `footer`, `message`, `error`, `detail`, `cancel`, `empty`, `connection` (the note that the
 * connection is lost). The parts `task`, `state` and `bar` also carry the state in lower case:
 * `jobpush-tasks::part(bar failure) { … }`.
 *
 * @packageDocumentation
 */

export type TaskState =
  | "PENDING"
  | "RECEIVED"
  | "STARTED"
  | "PROGRESS"
  | "RETRY"
  | "SUCCESS"
  | "FAILURE"
  | "REVOKED"
  /** Its worker died. */
  | "LOST";

/** All that is known of a task at one moment: every event is a whole snapshot. Fields may be absent. */
export interface TaskEvent {
  readonly task_id: string;
  /** Its place in the order of the task's events: 1, 2, …; below 1 for local tasks, see {@link Connection.show}. */
  readonly seq: number;
  readonly state: TaskState;
  readonly name?: string;
  readonly title?: string;
  readonly current?: number;
  /** `null`: not known, and so is `percent`. */
  readonly total?: number | null;
  readonly percent?: number | null;
  readonly message?: string;
  /** Units per second. */
  readonly rate?: number | null;
  /** Seconds that are left. */
  readonly eta?: number | null;
  /** 1 for the first try. */
  readonly attempt?: number;
  /** How many tries there may be; `null`: no limit, or not known. */
  readonly max_attempts?: number | null;
  /** Unix seconds at which a task that waits for its time will run: a retry, an ETA or a countdown; `null`: at once. */
  readonly run_at?: number | null;
  /** How many were before it in its queue when that was told; `null`: not known. */
  readonly ahead?: number | null;
  /** Unix seconds, as are the next two. */
  readonly created_at?: number;
  readonly started_at?: number | null;
  readonly at?: number;
  readonly root_id?: string | null;
  readonly parent_id?: string | null;
  readonly group_id?: string | null;
  readonly error?: string | null;
  /** True from the click on "cancel" until the task is REVOKED. */
  readonly cancelling?: boolean;
  /** The extra keywords of `progress.update` in the task. Check an address in here before you link to it. */
  readonly data?: Readonly<Record<string, unknown>>;
}

/** What is known of all tasks, by id, newest first. */
export type TaskView = ReadonlyMap<string, TaskEvent>;

/**
 * Folds an event into a view, and returns the new view. What is older than the view (by `seq`, per task), and what it
 * holds already, changes nothing: then the very same view is returned. The view given is never changed.
 */
export function fold(view: TaskView, event: TaskEvent): TaskView;

/**
 * - `connecting`: the first try is under way;
 * - `connected`;
 * - `reconnecting`: lost, and trying again by itself;
 * - `signedOut`: connected, but no longer as the user of before, whose tasks stand still: a reload may help;
 * - `failed`: the gateway refused for good (close codes 4000 to 4099, see "Error codes" of Pusher's Channels protocol),
 *   a reload may help;
 * - `closed`: not opened yet, or closed by its last user.
 */
export type ConnectionState = "connecting" | "connected" | "reconnecting" | "signedOut" | "failed" | "closed";

/** Where an event came from. All absent for `jobpush:state` and `jobpush:tasks`. */
export interface EventInfo {
  readonly channel?: string;
  /** Its place in the channel's history; the connection resumes from there by itself. */
  readonly id?: string;
  /** Who sent a client event on a presence channel. */
  readonly user_id?: string;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the page knows what its own events carry
export type Listener<Data = any> = (data: Data, info: EventInfo) => void;

/** One use of a channel. */
export interface Channel {
  readonly name: string;
  /** Who is there, on a presence channel: user id to user info. Always up to date. */
  readonly members: ReadonlyMap<string, unknown>;
  /**
   * Hears one kind of event on this channel; besides the page's own names, `pusher:subscription_succeeded`,
   * `pusher:subscription_error` (`{status}`), `pusher:member_added`, `pusher:member_removed`, `pusher:cache_miss`.
   *
   * @returns a function that ends it
   */
  on(event: string, listener: Listener): () => void;
  /** Sends a client event (`client-…`). False if there is no WebSocket at the moment: it is not sent later. */
  trigger(event: `client-${string}`, data: unknown): boolean;
  /** Ends this use and its listeners. The channel is left with its last use. To be called once. */
  unsubscribe(): void;
}

/**
 * A connection to the gateway: Pusher's protocol over a WebSocket; where WebSockets are blocked, server-sent events; and
 * where those are too, one GET of the tasks at a time. It resumes where it was, and comes back by itself.
 */
export interface Connection {
  readonly state: ConnectionState;
  /** The tasks of the signed-in user, and local ones. A new view after each change, see `jobpush:tasks`. */
  readonly tasks: TaskView;
  /** Whether the user's tasks have come: only then does an empty view mean that there are none. */
  readonly isLoaded: boolean;
  /**
   * Hears one kind of event, on whatever channel. `jobpush:state` tells each new {@link ConnectionState}, `jobpush:tasks`
   * each new {@link TaskView} and a change of `isLoaded`, `jobpush:task` and `jobpush:log` are the tasks' own, and
   * `pusher:error` (`{code, message}`) is the gateway's.
   *
   * @returns a function that ends it
   */
  on(event: "jobpush:state", listener: Listener<ConnectionState>): () => void;
  on(event: "jobpush:tasks", listener: Listener<TaskView>): () => void;
  on(event: "jobpush:task", listener: Listener<TaskEvent>): () => void;
  on(event: string, listener: Listener): () => void;
  /** Joins a channel; private and presence channels are authorized at the gateway by themselves. */
  subscribe(channel: string): Channel;
  /** Asks to cancel a task. True if the gateway took the request; never rejects. The task's events tell the rest. */
  cancel(taskId: string): Promise<boolean>;
  /**
   * Shows a local task that the server does not know yet, such as an upload, among the others. What is not given stays
   * as it was. From the first word of the server about the same `task_id` on, that is what counts.
   */
  show(task: Omit<TaskEvent, "seq">): void;
  /** Removes a task from the view; a task of the server's comes back with its next event. */
  remove(taskId: string): void;
  /** Adds a user to the connection, which opens with the first one. `connect()` has done this for you. */
  open(): this;
  /** Takes a user away; the connection closes with the last one. */
  close(): void;
}

export interface ConnectOptions {
  /** The app's key. Default: from `{{ jobpush_tags() }}` in the page, else asked from the gateway. */
  key?: string;
  /** What stands before `/app` and `/jobpush` in the gateway's paths, without a slash at its end. */
  root?: string;
}

/**
 * The page's shared connection, with one more user; with options, a new one of your own.
 * Everyone who called it calls `close()` once.
 */
export function connect(options?: ConnectOptions): Connection;

/** All words of the elements. Replace them before the elements show: `Object.assign(strings, {SUCCESS: "Fertig"})`. */
export const strings: Record<TaskState, string> & {
  cancelling: string;
  cancel: string;
  cancelFailed: string;
  empty: string;
  connecting: string;
  reconnecting: string;
  failed: string;
  signedOut: string;
  cancelTask(title: string): string;
  percent(percent: number): string;
  number(number: number): string;
  amount(current: number, total: number): string;
  rate(perSecond: number): string;
  duration(seconds: number): string;
  left(seconds: number): string;
  /** How long a task has waited for a worker. */
  waited(seconds: number): string;
  ahead(count: number): string;
  /** What runs within the hour; ticks. */
  startsIn(seconds: number): string;
  startsAt(date: Date): string;
  /** The attempt under way, or the one to come; `max` may be unknown. */
  attempt(attempt: number, max?: number | null): string;
};

/**
 * What both elements have. The attribute `no-cancel` hides the cancel buttons; `data-connection` tells the state of the
 * connection, late if it is lost: a short loss is not worth a word. Each card has its task's state as `data-state`.
 */
declare class TaskElement extends HTMLElement {
  /** The page's shared connection unless another one is set. Opened and closed with the element. */
  connection: Connection;
}

/** `<jobpush-tasks>`: the user's tasks, newest first; `slot="empty"` is shown once it is known that there are none. */
export class JobpushTasks extends TaskElement {
  /** The attribute `limit`: how many tasks are shown at most. Infinity without it. */
  limit: number;
}

/**
 * `<jobpush-progress task-id="…">`: one task of the user, also one that is a part of a workflow (if its id has only
 * characters that Pusher allows in names). The attribute `data-state` tells its state.
 */
export class JobpushProgress extends TaskElement {
  /** The attribute `task-id`. */
  taskId: string;
  /** What was last heard of the task. */
  readonly task: TaskEvent | undefined;
}

/** All bubble, also out of shadow trees. At most one of a kind per task and frame: the newest. */
interface JobpushEventMap {
  /** A task that is shown for the first time, or has changed. */
  "jobpush-progress-update": CustomEvent<TaskEvent>;
  /** A task ended well; also fires for one that had ended before the page was opened. */
  "jobpush-progress-success": CustomEvent<TaskEvent>;
  /** The same for FAILURE, REVOKED and LOST. */
  "jobpush-progress-failure": CustomEvent<TaskEvent>;
  /** The cancel button was used. With `preventDefault()` the gateway is not asked: for local tasks. */
  "jobpush-progress-cancel": CustomEvent<TaskEvent>;
}

declare global {
  interface HTMLElementTagNameMap {
    "jobpush-tasks": JobpushTasks;
    "jobpush-progress": JobpushProgress;
  }
  interface HTMLElementEventMap extends JobpushEventMap {}
  interface DocumentEventMap extends JobpushEventMap {}
}
