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

/**
 * The state of a task at one moment: every event is a whole snapshot. Fields may be absent. `Data` is what the task
 * sends as extra keywords.
 */
export interface TaskEvent<Data extends object = Record<string, unknown>> {
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
  /** Messages before it in its queue at the last count; `null`: not known. */
  readonly ahead?: number | null;
  /** Unix seconds, as are the next two. */
  readonly created_at?: number;
  readonly started_at?: number | null;
  readonly at?: number;
  readonly root_id?: string | null;
  readonly parent_id?: string | null;
  readonly group_id?: string | null;
  readonly error?: string | null;
  /** Code of a text that jobpush has written itself, for translation: see `reason` of `strings`. */
  readonly message_code?: string;
  readonly error_code?: string;
  /** True from the click on "cancel" until the task is REVOKED. */
  readonly cancelling?: boolean;
  /** The extra keywords of `progress.update` in the task. Check an address in here before you link to it. */
  readonly data?: Readonly<Data>;
  /** True if the task was already in this state before the page, or the element, was there. */
  readonly replayed?: boolean;
}

/** All known tasks by id, newest first. */
export type TaskView<Data extends object = Record<string, unknown>> = ReadonlyMap<string, TaskEvent<Data>>;

/**
 * Fold an event into a view and return the new view. An event that is older than the view (by `seq`, per task), or
 * already in it, returns the same view. The given view is never changed.
 */
export function fold(view: TaskView, event: TaskEvent): TaskView;

/**
 * - `connecting`: the first attempt is under way;
 * - `connected`;
 * - `polling`: only plain requests work; tasks are updated every few seconds;
 * - `reconnecting`: the connection was lost and is being restored; the tasks are not current;
 * - `signedOut`: connected, but no longer signed in; the tasks are not updated;
 * - `failed`: refused permanently (close codes 4000 to 4099, see "Error codes" of Pusher's Channels protocol);
 * - `closed`: not opened yet, or closed by its last user.
 */
export type ConnectionState =
  | "connecting"
  | "connected"
  | "polling"
  | "reconnecting"
  | "signedOut"
  | "failed"
  | "closed";

/** Why there is no connection or no user: the gateway's code and sentence. */
export interface Reason {
  readonly code: string;
  readonly message?: string;
}

/** Where an event came from. All absent for `jobpush:state` and `jobpush:tasks`. */
export interface EventInfo {
  readonly channel?: string;
  /** Its place in the channel's history; the connection resumes from there by itself. */
  readonly id?: string;
  /** The sender of a client event on a presence channel. */
  readonly user_id?: string;
}

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- the page knows what its own events carry
export type Listener<Data = any> = (data: Data, info: EventInfo) => void;

/** One use of a channel. */
export interface Channel {
  readonly name: string;
  /** The members of a presence channel: user id to user info. Always up to date. */
  readonly members: ReadonlyMap<string, unknown>;
  /**
   * Listen to one kind of event on this channel; besides the page's own names, `pusher:subscription_succeeded`,
   * `pusher:subscription_error` (`{status}`), `pusher:member_added`, `pusher:member_removed`, `pusher:cache_miss`.
   *
   * @returns a function that removes the listener
   */
  on(event: string, listener: Listener): () => void;
  /** Sends a client event (`client-…`). False if there is no WebSocket at the moment: it is not sent later. */
  trigger(event: `client-${string}`, data: unknown): boolean;
  /** Ends this use and its listeners. The channel is left with its last use. A second call has no effect. */
  unsubscribe(): void;
}

/**
 * A connection to the gateway: Pusher's protocol over a WebSocket; where WebSockets are blocked, an event stream that
 * all tabs share; where that is blocked too, polling. It resumes where it was, and reconnects by itself.
 */
export interface Connection {
  readonly state: ConnectionState;
  /** Why the state is as it is; `null` while the connection works. */
  readonly reason: Reason | null;
  /** The tasks of the signed-in user, and local ones. A new view after each change, see `jobpush:tasks`. */
  readonly tasks: TaskView;
  /** Whether the user's tasks are loaded: only then does an empty view mean that there are none. */
  readonly isLoaded: boolean;
  /**
   * Listen to one kind of event, on all channels. `jobpush:state` is each new {@link ConnectionState} or reason,
   * `jobpush:tasks` each new {@link TaskView} and a change of `isLoaded`; `jobpush:task` and `jobpush:log` are the
   * tasks' own, and `pusher:error` (`{code, message}`) is the gateway's.
   *
   * @returns a function that removes the listener
   */
  on(event: "jobpush:state", listener: Listener<ConnectionState>): () => void;
  on(event: "jobpush:tasks", listener: Listener<TaskView>): () => void;
  on(event: "jobpush:task", listener: Listener<TaskEvent>): () => void;
  on(event: string, listener: Listener): () => void;
  /** Join a channel; private and presence channels are authorized at the gateway. */
  subscribe(channel: string): Channel;
  /** Ask to cancel a task. True if the gateway accepted the request; never rejects. */
  cancel(taskId: string): Promise<boolean>;
  /**
   * Send a request to a route below `/jobpush/`, with the identity of the page: `tasks/<id>/rerun`, for example.
   * Never rejects: `data` is the answer, `error` the gateway's refusal.
   */
  request(path: string, options?: RequestInit): Promise<{ ok: boolean; status: number; data: any; error?: Reason | null }>;
  /**
   * Show a local task that the server does not know yet, for example an upload. Fields that are not given stay as they
   * were. From the server's first event with the same `task_id` on, only the server counts.
   */
  show(task: Omit<TaskEvent, "seq">): void;
  /** Remove a task from the view; a task of the server returns with its next event. */
  remove(taskId: string): void;
  /** Unix seconds by the gateway's clock. */
  time(): number;
  /** Ask the gateway why there is no user or no connection; its answer becomes `reason`. */
  explain(): Promise<void>;
  /** Add a user of the connection, which opens with the first one. `connect()` has done this for you. */
  open(user?: object): this;
  /**
   * Remove a user; the connection closes with the last one. Without an argument, one that was added without: elements,
   * hooks and users with a name of their own keep the connection, however often this is called.
   */
  close(user?: object): void;
}

export interface ConnectOptions {
  /** The application's key. Default: from `{{ jobpush_tags() }}` in the page, else requested from the gateway. */
  key?: string;
  /** Address of the gateway up to `/app` and `/jobpush`, without a slash at its end; may be another origin. */
  root?: string;
  /** Return a connection token. Called again before it expires. `null`: nobody is signed in. */
  token?: () => string | null | Promise<string | null>;
  /** Headers of every request. */
  headers?: Record<string, string>;
  /** Whether requests to another origin carry cookies. */
  credentials?: "omit" | "same-origin" | "include";
  /** Make this the connection of all elements and hooks of the page. */
  shared?: boolean;
}

/**
 * Return the page's shared connection, with one more user; with options, a new one.
 * Without code: `<meta name="jobpush" data-key="…" data-root="…" data-token-url="…">`.
 */
export function connect(options?: ConnectOptions): Connection;

/** The texts of the elements. Replace them before the elements show: `Object.assign(strings, {SUCCESS: "Ready"})`. */
export const strings: Record<TaskState, string> & {
  cancelling: string;
  cancel: string;
  cancelFailed: string;
  undo: string;
  offline: string;
  not_signed_in: string;
  undoCancel(title: string): string;
  took(seconds: number): string;
  endedAt(date: Date, isToday: boolean): string;
  /** Between the parts of a summary; ", " by default. */
  comma?: string;
  /** Of all tasks: "3 running, 2 waiting, 1 failed". */
  summary: Record<"running" | "waiting" | "failed" | "done", (count: number) => string>;
  /** A text of the gateway by its code, see "Wire format"; `undefined`: as the gateway sends it, in English. */
  reason?(code: string): string | undefined;
  empty: string;
  polling: string;
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
 * Add a language, or replace single texts of one: `addLanguage("fr", { SUCCESS: "Terminé" })`. The elements use the
 * language of the nearest `lang` attribute; English, German and Arabic are included. Missing texts are English.
 */
export function addLanguage(lang: string, texts: Record<string, unknown>): void;

/**
 * What both elements have. Attributes: `no-cancel` hides the cancel buttons, `rerun` shows "run again" on ended tasks,
 * `density` is `compact`, `default` or `detailed`. `data-connection` is the state of the connection, and `data-stale`
 * is set while the tasks are not current. Each card has its task's state as `data-state`, and a slot `task-<id>`.
 */
declare class TaskElement extends HTMLElement {
  /** The page's shared connection unless another one is set. Opened and closed with the element. */
  connection: Connection;
}

/**
 * `<jobpush-tasks>`: the user's tasks, those that run first, then the newest first. `slot="empty"` is shown once it is
 * known that there are none. Attributes: `header` (summary, overall bar, filter, "clear finished"), `group` (headings),
 * `attention="toast title desktop"` (what shows the end of a task; exactly one tab does).
 */
export class JobpushTasks extends TaskElement {
  /** The attribute `limit`: how many tasks are shown at first; "show more" shows the others. Infinity without it. */
  limit: number;
}

/**
 * `<jobpush-progress task-id="…">`: one task of the user, also one that is a part of a workflow (if its id has only
 * characters that Pusher allows in names). The attribute `data-state` is its state.
 */
export class JobpushProgress extends TaskElement {
  /** The attribute `task-id`. */
  taskId: string;
  /** The newest known state of the task. */
  readonly task: TaskEvent | undefined;
}

/** `<jobpush-notifications>`: a bell with the notifications that are kept for the user. */
export class JobpushNotifications extends HTMLElement {
  /** Set it before the element is on the page; else the page's shared connection is used. */
  connection?: Connection;
}

/** `<jobpush-badge>`: the number of unread notifications. */
export class JobpushBadge extends HTMLElement {
  connection?: Connection;
}

/** All bubble, also out of shadow trees. At most one of a kind per task and frame: the newest. */
export interface JobpushEventMap {
  /** A task is shown for the first time, or has changed. */
  "jobpush-progress-update": CustomEvent<TaskEvent>;
  /** A task succeeded; `detail.replayed` if it had done so before the element was on the page. */
  "jobpush-progress-success": CustomEvent<TaskEvent>;
  /** The same for FAILURE and LOST. */
  "jobpush-progress-failure": CustomEvent<TaskEvent>;
  /** The same for REVOKED. */
  "jobpush-progress-revoked": CustomEvent<TaskEvent>;
  /** The cancel button was used. With `preventDefault()` the gateway is not asked: for local tasks. */
  "jobpush-progress-cancel": CustomEvent<TaskEvent>;
  "jobpush-progress-rerun": CustomEvent<TaskEvent>;
}

/** Attributes of the elements, for JSX. */
export interface JobpushElementAttributes {
  id?: string;
  class?: string;
  className?: string;
  lang?: string;
  dir?: string;
  style?: unknown;
  children?: unknown;
  ref?: unknown;
  key?: string | number;
  connection?: Connection;
  density?: "compact" | "default" | "detailed";
  "no-cancel"?: boolean | "";
  rerun?: boolean | "";
}

declare global {
  interface HTMLElementTagNameMap {
    "jobpush-tasks": JobpushTasks;
    "jobpush-progress": JobpushProgress;
    "jobpush-notifications": JobpushNotifications;
    "jobpush-badge": JobpushBadge;
  }
  interface HTMLElementEventMap extends JobpushEventMap {}
  interface DocumentEventMap extends JobpushEventMap {}
  interface WindowEventMap extends JobpushEventMap {}
}

/** The elements in JSX; `jobpush/react` and `jobpush/vue` declare them to their frameworks. */
export interface JobpushIntrinsicElements {
  "jobpush-tasks": JobpushElementAttributes & {
    limit?: number;
    header?: boolean | "";
    group?: boolean | "";
    attention?: string;
  };
  "jobpush-progress": JobpushElementAttributes & { "task-id"?: string };
  "jobpush-notifications": JobpushElementAttributes;
  "jobpush-badge": JobpushElementAttributes;
}
