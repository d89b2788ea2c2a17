/** Types and documentation: jobpush.d.ts. */

const VERSION = "0.1.0";
const MAX_TASKS = 1000;
/** Local events stay below 1, the server's first seq. */
const LOCAL_STEP = 2 ** -20;

/** For any answer, and until a connection is stable. */
const PATIENCE_MS = 10_000;
const MAX_BACKOFF_MS = 30_000;
/** Sockets in a row that never opened. */
const BLOCKED_AFTER = 2;
const SOCKET_RETRY_MS = 300_000;
const NOTE_DELAY_MS = 1500;

export const strings = {
  PENDING: "Waiting",
  RECEIVED: "Waiting",
  STARTED: "Running",
  PROGRESS: "Running",
  RETRY: "Trying again",
  SUCCESS: "Done",
  FAILURE: "Failed",
  REVOKED: "Cancelled",
  LOST: "The worker was lost",
  cancelling: "Cancelling…",
  cancel: "Cancel",
  cancelFailed: "Could not be cancelled; try again",
  empty: "No tasks yet",
  connecting: "Connecting…",
  reconnecting: "Reconnecting…",
  failed: "Not connected: reload the page",
  signedOut: "Signed out: reload the page",
  cancelTask: (title) => `Cancel ${title}`,
  percent: (percent) => `${Math.floor(percent)} %`,
  number: (number) => number.toLocaleString(undefined, { maximumFractionDigits: 1 }),
  amount: (current, total) => `${strings.number(current)} / ${strings.number(total)}`,
  rate: (rate) => `${strings.number(rate)}/s`,
  duration: (seconds) => {
    if (seconds < 60) return `${Math.ceil(seconds)} s`;
    return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${strings.number(seconds / 3600)} h`;
  },
  left: (seconds) => `${strings.duration(seconds)} left`,
  waited: (seconds) => `for ${strings.duration(seconds)}`,
  ahead: (count) => `${count} before it`,
  startsIn: (seconds) => `starts in ${strings.duration(seconds)}`,
  startsAt: (date) => `starts at ${date.toLocaleString()}`,
  attempt: (attempt, max) => `attempt ${attempt}` + (max >= attempt ? ` of ${max}` : ""),
};

export const fold = (view, event) => {
  const id = event?.task_id;
  const known = view.get(id);
  if (typeof id !== "string" || !event.state || (known && !(event.seq > known.seq))) return view;
  const next = new Map(view).set(id, Object.freeze({ ...event }));
  if (known && known.created_at === event.created_at) return next;
  const newestFirst = [...next].sort(([, a], [, b]) => (b.created_at ?? 0) - (a.created_at ?? 0));
  return new Map(newestFirst.slice(0, MAX_TASKS));
};

const parse = (text) => {
  try {
    return typeof text === "string" ? JSON.parse(text) : text;
  } catch {
    return text;
  }
};

class Connection {
  #key;
  #root;
  #listeners = new Map();
  #subscriptions = new Map();
  #lastIds = new Map();
  state = "closed";
  tasks = new Map();
  isLoaded = false;
  #users = 0;
  #userChannel;
  #transport;
  #isStale;
  #socketId;
  #timer;
  #signInTimer;
  #failures = 0;
  #blocked = 0;
  #activityTimeoutMs;
  #connectedAt;

  constructor({ key, root } = {}) {
    const meta = document.querySelector("meta[name=jobpush]")?.dataset;
    this.#key = key ?? meta?.key;
    this.#root = root ?? meta?.root ?? new URL("../..", import.meta.url).pathname.slice(0, -1);
  }

  open() {
    this.#users += 1;
    if (this.state === "closed") this.#start();
    return this;
  }

  close() {
    this.#users = Math.max(0, this.#users - 1);
    // An element that only moves keeps the socket.
    setTimeout(() => this.#users || this.#stop(), 0);
  }

  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  subscribe(name) {
    const subscription = this.#subscriptions.get(name) ?? { users: 0, members: new Map() };
    const offs = [];
    this.#subscriptions.set(name, subscription);
    subscription.users += 1;
    if (subscription.users === 1) this.#join(name);
    return {
      name,
      members: subscription.members,
      on: (event, listener) => {
        const off = this.on(event, (data, meta) => meta.channel === name && listener(data, meta));
        offs.push(off);
        return off;
      },
      trigger: (event, data) => this.#send(event, data, name),
      unsubscribe: () => {
        offs.splice(0).forEach((off) => off());
        subscription.users -= 1;
        if (subscription.users === 0) this.#leave(name);
      },
    };
  }

  async cancel(taskId) {
    return (await this.#fetch(`tasks/${encodeURIComponent(taskId)}/cancel`, { method: "POST" })).ok;
  }

  show(event) {
    const known = this.tasks.get(event.task_id);
    const seq = (known?.seq ?? 0) + LOCAL_STEP;
    if (seq < 1) this.#setTasks(fold(this.tasks, { created_at: Date.now() / 1000, ...known, ...event, seq }));
  }

  remove(taskId) {
    this.#setTasks(new Map([...this.tasks].filter(([id]) => id !== taskId)));
  }

  #start() {
    addEventListener("online", this.#wake);
    document.addEventListener("visibilitychange", this.#wake);
    this.#setState("connecting");
    this.#connect();
  }

  #stop() {
    removeEventListener("online", this.#wake);
    document.removeEventListener("visibilitychange", this.#wake);
    this.#discard();
    this.#setState("closed");
  }

  #wake = ({ type }) => {
    if (document.hidden || this.state === "failed") return;
    if (type === "online") this.#blocked = 0;
    if (this.#socketId && this.#transport.send) this.#ping();
    else if (!this.#transport || type === "online") this.#connect();
  };

  #connect() {
    this.#discard();
    if (!this.#key) this.#configure();
    else if (this.#blocked < BLOCKED_AFTER) this.#openSocket();
    else this.#openEvents();
  }

  async #configure() {
    this.#after(PATIENCE_MS, () => this.#retry());
    const { data } = await this.#fetch("config");
    if (this.state === "closed" || this.#key) return;
    this.#key = data?.key;
    if (this.#key) this.#connect();
    else this.#retry();
  }

  #openSocket() {
    const since = this.#lastIds.get(this.#userChannel);
    const query = { protocol: 7, client: "jobpush", version: VERSION, ...(since && { since }) };
    const url = this.#url(`/app/${this.#key}`, query).replace("http", "ws");
    this.#listen(new WebSocket(url), () => this.#lose());
    this.#transport.onclose = ({ code }) => this.#lose(code);
  }

  #openEvents() {
    this.#discard();
    this.#blocked = BLOCKED_AFTER - 1; // one more is enough
    this.#isStale = false;
    const channels = [...this.#subscriptions.keys()];
    const since = [...this.#lastIds].flat().join("|");
    const stream = new EventSource(this.#url("/jobpush/events", { channels, since }));
    this.#listen(stream, () => this.#loseEvents());
    stream.onerror = () => {
      // Unless closed (2), it comes back by itself.
      if (this.#socketId && stream.readyState !== 2) this.#setState("reconnecting");
      else this.#loseEvents();
    };
  }

  #listen(transport, onTimeout) {
    this.#transport = transport;
    transport.onmessage = ({ data }) => this.#receive(data);
    this.#after(PATIENCE_MS, onTimeout);
  }

  async #loseEvents() {
    const worked = this.#socketId;
    this.#discard();
    this.#retry();
    const { data } = worked ? {} : await this.#fetch("tasks");
    if (!data || this.#transport || this.state === "closed") return;
    this.#setTasks(data.tasks.reduce(fold, this.tasks), true);
  }

  #lose(code = 0) {
    if (!this.#socketId) this.#blocked += 1;
    this.#discard();
    const band = Math.floor(code / 100);
    if (band === 40) this.#setState("failed");
    else this.#retry(band === 41 ? 1000 : 0, band === 42);
  }

  #retry(leastMs = 0, isSoon = false) {
    const spreadMs = isSoon ? 1000 : Math.min(MAX_BACKOFF_MS, 1000 * 2 ** this.#failures++);
    this.#setState("reconnecting");
    // Not all may return at once.
    this.#after(leastMs + Math.random() * spreadMs, () => this.#connect());
  }

  #discard() {
    if (this.#socketId && performance.now() - this.#connectedAt > PATIENCE_MS) this.#failures = 0;
    clearTimeout(this.#timer);
    const transport = this.#transport;
    this.#transport = this.#socketId = undefined;
    if (!transport) return;
    transport.onmessage = transport.onclose = transport.onerror = null;
    transport.close();
  }

  /** Only one thing is awaited at a time. */
  #after(delayMs, run) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, delayMs);
  }

  #awaitActivity() {
    if (this.#transport.send) {
      this.#blocked = -20; // rather an outage
      this.#after(this.#activityTimeoutMs, () => this.#ping());
    } else if (this.#isStale) this.#after(0, () => this.#openEvents());
    else this.#after(SOCKET_RETRY_MS, () => this.#connect());
  }

  #ping() {
    this.#send("pusher:ping", {});
    this.#after(PATIENCE_MS, () => this.#lose());
  }

  #send(event, data, channel) {
    if (!this.#socketId || !this.#transport.send) return false;
    this.#transport.send(JSON.stringify({ event, data, channel }));
    return true;
  }

  #receive(text) {
    let { event, channel, id, user_id, data } = parse(text);
    data = parse(data);
    if (channel && id) this.#lastIds.set(channel, id);
    if (this.#socketId && this.#transport.send) this.#awaitActivity();
    this.#handle(event, data, channel);
    this.#emit(event.replace("_internal", ""), data, { channel, id, user_id });
  }

  #handle(event, data, channel) {
    const subscription = this.#subscriptions.get(channel);
    const members = subscription?.members;
    const isOwn = channel && channel === this.#userChannel;
    switch (event) {
      case "pusher:connection_established":
        return this.#establish(data);
      case "pusher:ping":
        return this.#send("pusher:pong", {});
      case "pusher:error":
        // A first frame stands for the close code.
        return this.#socketId || this.#lose(data.code);
      case "pusher:signin_success":
        return this.#signIn("#server-to-user-" + parse(data.user_data).id);
      case "pusher_internal:subscription_succeeded":
        members?.clear();
        if (isOwn) this.#setTasks(this.tasks, true);
        return Object.entries(data?.presence?.hash ?? {}).forEach((member) => members?.set(...member));
      case "pusher_internal:member_added":
        return members?.set(String(data.user_id), data.user_info);
      case "pusher_internal:member_removed":
        return members?.delete(String(data.user_id));
      case "jobpush:resync":
        // Its numbers may have begun again.
        return isOwn && this.#setTasks(new Map([...this.tasks].map(([id, task]) => [id, { ...task, seq: 0 }])));
      case "jobpush:task":
        return isOwn && this.#setTasks(fold(this.tasks, data));
    }
  }

  #establish({ socket_id, activity_timeout }) {
    this.#socketId = socket_id;
    this.#activityTimeoutMs = activity_timeout * 1000;
    this.#connectedAt = performance.now();
    this.#setState("connected");
    if (this.#userChannel) this.#signInTimer = setTimeout(() => this.#setState("signedOut"), NOTE_DELAY_MS);
    this.#awaitActivity();
    if (!this.#transport.send) return;
    for (const name of this.#subscriptions.keys()) this.#join(name);
  }

  /** Nothing of a user may stay when the session is another's. */
  #signIn(userChannel) {
    const isOther = this.#userChannel && this.#userChannel !== userChannel;
    this.#userChannel = userChannel;
    this.#setState("connected");
    if (!isOther) return;
    this.#lastIds.clear();
    this.#setTasks(new Map(), false);
    this.#connect();
  }

  #join(name) {
    // A stream has its channels in its address.
    if (this.#transport && !this.#transport.send) {
      this.#isStale = true;
      return this.#awaitActivity();
    }
    if (/^(private-(?!user-|task-)|presence-)/.test(name)) this.#joinSigned(name);
    else this.#subscribe(name);
  }

  async #joinSigned(name) {
    const subscription = this.#subscriptions.get(name);
    const socketId = this.#socketId;
    if (!socketId) return;
    const body = new URLSearchParams({ socket_id: socketId, channel_name: name });
    const { status, data } = await this.#fetch("auth", { method: "POST", body });
    if (socketId !== this.#socketId || subscription !== this.#subscriptions.get(name)) return;
    if (data) this.#subscribe(name, data);
    else this.#emit("pusher:subscription_error", { status }, { channel: name });
  }

  #subscribe(name, auth) {
    this.#send("pusher:subscribe", { channel: name, since: this.#lastIds.get(name), ...auth });
  }

  #leave(name) {
    this.#subscriptions.delete(name);
    this.#lastIds.delete(name);
    this.#send("pusher:unsubscribe", { channel: name });
  }

  #url(path, query) {
    const url = new URL(this.#root + path, location.href);
    url.search = new URLSearchParams(query);
    return url.href;
  }

  async #fetch(path, options) {
    const headers = { "X-Requested-With": "jobpush" };
    const response = await fetch(this.#url("/jobpush/" + path), { headers, ...options }).catch(() => Response.error());
    const { ok, status } = response;
    return { ok, status, data: ok && (await response.json().catch(() => null)) };
  }

  #setState(state) {
    clearTimeout(this.#signInTimer);
    if (this.state === state) return;
    this.state = state;
    this.#emit("jobpush:state", state, {});
  }

  #setTasks(tasks, isLoaded = this.isLoaded) {
    if (this.tasks === tasks && this.isLoaded === isLoaded) return;
    this.tasks = tasks;
    this.isLoaded = isLoaded;
    this.#emit("jobpush:tasks", tasks, {});
  }

  #emit(event, data, meta) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(data, meta);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

// A script under two addresses is two modules.
export const connect = (options) =>
  (options ? new Connection(options) : (globalThis[Symbol.for("jobpush")] ??= new Connection())).open();

// Strict policies refuse style tags, not this.
const sheet = globalThis.CSSStyleSheet && new CSSStyleSheet();
sheet?.replaceSync(`
:host {
  --_muted: var(--jobpush-muted, light-dark(#5b6470, #9aa3ae));
  --_border: var(--jobpush-border, #8883);
  display: block;
  font-size: .875rem;
  line-height: 1.5;
  color: var(--jobpush-text, light-dark(#1c2128, #e6e8eb));
}
:host([hidden]), :host([no-cancel]) [part=cancel], :host([task-id]) [part=empty], [hidden] { display: none !important }
[part=list] { display: grid; gap: .5rem }
[part~=task], [part=footer] { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 .75rem }
[part~=task] {
  --_tone: var(--jobpush-accent, light-dark(#2563eb, #6ea8fe));
  padding: .75rem 1rem;
  border: 1px solid var(--_border);
  border-radius: var(--jobpush-radius, .625rem);
  background: var(--jobpush-background, light-dark(#fff, #1c2026));
}
[part~=pending], [part~=received], [part~=revoked] { --_tone: var(--_muted) }
[part~=retry] { --_tone: var(--jobpush-warning, light-dark(#a35200, #fbbf24)) }
[part~=success] { --_tone: var(--jobpush-success, light-dark(#15803d, #4ade80)) }
[part~=failure], [part~=lost] { --_tone: var(--jobpush-error, light-dark(#c42b2b, #ff8a80)) }
[part=title], [part~=state] { font-weight: 600 }
[part~=state], [part=error] { color: var(--_tone) }
[part~=state], [part=cancel], [part=footer] { font-size: .8125rem }
[part=footer], [part=connection], [part=empty] { color: var(--_muted) }
[part=title] { flex: 1 5rem }
[part=title], [part=message], [part=error] { overflow-wrap: anywhere }
[part~=bar] {
  appearance: none;
  width: 100%;
  height: .375rem;
  margin: .5rem 0;
  border: 0;
  border-radius: 1rem;
  overflow: hidden;
  background: var(--_border);
}
::-webkit-progress-bar { background: none }
::-webkit-progress-value { background: var(--_tone) }
::-moz-progress-bar { background: var(--_tone) }
:indeterminate {
  background: linear-gradient(90deg, #0000, var(--_tone), #0000) 50% / 40% 100% no-repeat var(--_border);
}
:indeterminate::-moz-progress-bar { background: none }
@keyframes slide { from { background-position: -70% } to { background-position: 170% } }
[part=footer] { width: 100%; min-height: 1.5em }
[part=error] { flex: 1 60% }
[part=detail] { margin-left: auto; font-variant-numeric: tabular-nums }
[part=cancel] {
  padding: .125rem .5rem;
  border: 1px solid var(--_border);
  border-radius: .375rem;
  font-family: inherit;
  color: inherit;
  background: none;
}
[part=live] { position: fixed; clip-path: inset(50%) }
@media (prefers-reduced-motion: no-preference) {
  :indeterminate { animation: slide 1.6s linear infinite }
  ::-webkit-progress-value { transition: width .2s }
}
`);

const make = (tag, part, properties) => Object.assign(document.createElement(tag), { part, ...properties });

const setText = (node, text) => {
  node.hidden = !text;
  if (node.textContent !== text) node.textContent = text;
};

const isFinal = ({ state }) => /SUCCESS|FAILURE|REVOKED|LOST/.test(state);

const isWaiting = ({ state }) => /PENDING|RECEIVED|RETRY/.test(state);

const titleOf = (task) => task.title || task.name || task.task_id;

const stateText = (task) => (task.cancelling && !isFinal(task) ? strings.cancelling : strings[task.state]);

const percentOf = ({ state, percent, current, total }) => {
  if (state === "SUCCESS") return 100;
  return percent ?? (total > 0 ? (100 * current) / total : null);
};

const waitText = ({ run_at, created_at, state }) => {
  const now = Date.now() / 1000;
  if (run_at > now + 3600) return strings.startsAt(new Date(run_at * 1000));
  if (run_at > now) return strings.startsIn(run_at - now);
  return state !== "RETRY" && now > created_at + 1 && strings.waited(now - created_at);
};

const detailText = (task) => {
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

const announcement = (task) => {
  const quarter = isFinal(task) ? 0 : Math.floor(percentOf(task) / 25) * 25;
  return `${titleOf(task)}: ${stateText(task)} ${quarter ? strings.percent(quarter) : ""}`;
};

class Card {
  task;
  notice;

  #title = make("span", "title");
  #state = make("span", "state");
  #cancel = make("button", "cancel", { type: "button" });
  #bar = make("progress", "bar", { max: 100 });
  #message = make("span", "message");
  #error = make("span", "error");
  #detail = make("span", "detail");

  constructor(onCancel) {
    const footer = make("div", "footer");
    footer.append(this.#message, this.#error, this.#detail);
    this.node = make("div", "task", { role: "group", tabIndex: -1 });
    this.node.append(this.#title, this.#state, this.#cancel, this.#bar, footer);
    this.#cancel.onclick = () => onCancel(this);
  }

  update(task) {
    this.task = task;
    const title = titleOf(task);
    const isDone = isFinal(task);
    const isHidden = isDone || task.cancelling;
    const error = (!isHidden && this.notice) || task.error;
    const percent = percentOf(task) ?? (isDone ? 0 : null);
    this.node.dataset.state = task.state;
    for (const node of [this.node, this.#state, this.#bar]) node.part = `${node.part[0]} ${task.state.toLowerCase()}`;
    this.node.ariaLabel = this.#bar.ariaLabel = title;
    if (percent == null) this.#bar.removeAttribute("value");
    else this.#bar.value = percent;
    setText(this.#title, title);
    setText(this.#state, stateText(task));
    setText(this.#message, error ? "" : task.message);
    setText(this.#error, error);
    setText(this.#detail, detailText(task));
    // The keyboard stays here when its button goes.
    if (isHidden && this.#cancel.matches(":focus")) this.node.focus();
    setText(this.#cancel, isHidden ? "" : strings.cancel);
    this.#cancel.ariaLabel = strings.cancelTask(title);
  }
}

class TaskElement extends (globalThis.HTMLElement ?? Object) {
  #connection;
  #offs = [];
  #cards = new Map();
  #isScheduled = false;
  #noteTimer;
  #ticker;
  #note = make("div", "connection");
  #list = make("div", "list");
  #empty = make("slot", "empty", { name: "empty", textContent: strings.empty });
  #live = make("div", "live", { role: "status" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#note, this.#list, this.#empty, this.#live);
  }

  get connection() {
    return this.#connection;
  }

  set connection(connection) {
    this.disconnectedCallback();
    this.#connection = connection;
    if (this.isConnected) this.connectedCallback();
  }

  connectedCallback() {
    this.#connection = this.#connection?.open() ?? connect();
    this.#offs = [
      this.#connection.on("jobpush:state", () => this.#watchState()),
      this.#connection.on("jobpush:tasks", () => this._refresh()),
      ...this._listen(),
    ];
    this.#watchState();
  }

  disconnectedCallback() {
    if (!this.#offs.length) return;
    this.#offs.splice(0).forEach((off) => off());
    clearTimeout(this.#noteTimer);
    this.#connection.close();
  }

  #watchState() {
    const { state } = this.#connection;
    const show = () => {
      this.dataset.connection = state;
      setText(this.#note, strings[state]);
    };
    clearTimeout(this.#noteTimer);
    this.#noteTimer = setTimeout(show, state === "connected" ? 0 : NOTE_DELAY_MS);
    this._refresh();
  }

  _refresh() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const render = () => {
      const isDue = this.#isScheduled && this.isConnected;
      this.#isScheduled = false;
      if (isDue) this._render();
    };
    requestAnimationFrame(render);
    setTimeout(render, 250); // a hidden tab has no frames
  }

  _render() {
    const shown = this._shown();
    const ids = new Set(shown.map((task) => task.task_id));
    for (const [id, card] of this.#cards) {
      if (!ids.has(id)) card.node.remove(this.#cards.delete(id));
    }
    this.#empty.hidden = shown.length || !this.#connection.isLoaded;
    const news = shown.flatMap((task, index) => this.#show(task, this.#list.children[index]));
    clearTimeout(this.#ticker);
    // No frames, no ticks in a hidden tab.
    if (shown.some(isWaiting)) this.#ticker = setTimeout(requestAnimationFrame, 1000, () => this._refresh());
    if (news.length) this.#live.textContent = news.join(". ");
  }

  /** What to announce. */
  #show(task, place) {
    const id = task.task_id;
    const card = this.#cards.get(id) ?? new Card((card) => this.#cancel(card));
    const before = card.task;
    this.#cards.set(id, card);
    if (card.node !== place) this.#list.insertBefore(card.node, place);
    if (before !== task || isWaiting(task)) card.update(task);
    if (before === task) return [];
    this.#tell("update", task);
    if (isFinal(task) && (before?.state !== task.state || before.attempt !== task.attempt)) {
      this.#tell(task.state === "SUCCESS" ? "success" : "failure", task);
    }
    return before && announcement(before) !== announcement(task) ? [announcement(task)] : [];
  }

  #tell(name, detail) {
    const init = { detail, bubbles: true, composed: true, cancelable: true };
    return this.dispatchEvent(new CustomEvent("jobpush-progress-" + name, init));
  }

  async #cancel(card) {
    // A page answers for local tasks itself.
    if (!this.#tell("cancel", card.task) || (await this.#connection.cancel(card.task.task_id))) return;
    card.notice = strings.cancelFailed;
    card.update(card.task);
    this.#live.textContent = `${titleOf(card.task)}: ${card.notice}`;
  }
}

export class JobpushTasks extends TaskElement {
  static observedAttributes = ["limit"];

  get limit() {
    return +this.getAttribute("limit") || Infinity;
  }

  set limit(value) {
    this.setAttribute("limit", value);
  }

  attributeChangedCallback() {
    this._refresh();
  }

  _listen() {
    return [];
  }

  _shown() {
    return [...this.connection.tasks.values()].slice(0, this.limit);
  }
}

export class JobpushProgress extends TaskElement {
  static observedAttributes = ["task-id"];
  #heard;

  get taskId() {
    return this.getAttribute("task-id") ?? "";
  }

  set taskId(value) {
    this.setAttribute("task-id", value);
  }

  get task() {
    return this.connection?.tasks.get(this.taskId) ?? this.#heard;
  }

  attributeChangedCallback() {
    this.#heard = undefined;
    if (this.connection) this.connection = this.connection;
  }

  /** Workflows' members are not in `connection.tasks`. */
  _listen() {
    if (!/^[-\w=@,.;]+$/.test(this.taskId)) return [];
    const channel = this.connection.subscribe("private-task-" + this.taskId);
    channel.on("jobpush:task", (task) => {
      this.#heard = task;
      this._refresh();
    });
    return [channel.unsubscribe];
  }

  _shown() {
    return this.task ? [this.task] : [];
  }

  _render() {
    super._render();
    this.dataset.state = this.task?.state ?? "";
  }
}

const define = (name, element) =>
  globalThis.customElements?.get(name) ?? globalThis.customElements?.define(name, element);
define("jobpush-tasks", JobpushTasks);
define("jobpush-progress", JobpushProgress);
