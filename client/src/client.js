/** The connection to the gateway. No DOM beyond timers, page events and the meta tag. */

import { fold } from "./fold.js";

const VERSION = "0.1.0";
/** Local events stay below 1, the server's first seq. */
const LOCAL_STEP = 2 ** -20;

/** For any answer, and until a connection is stable. */
const PATIENCE_MS = 10_000;
const MAX_BACKOFF_MS = 30_000;
/** Sockets in a row that never opened. */
const BLOCKED_AFTER = 2;
const SOCKET_RETRY_MS = 300_000;
const NOTE_DELAY_MS = 1500;

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
