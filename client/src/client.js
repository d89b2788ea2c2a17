/** The connection to the gateway: Pusher's protocol, resuming, tokens. No elements. Safe to import on a server. */

import { fold, foldAll, isNews } from "./fold.js";
import { SocketTransport, parse } from "./transport.js";

/** Local events stay below 1, the server's first seq. */
const LOCAL_STEP = 2 ** -20;

/** For any answer, and until a connection is stable. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Silence after which the client pings. Proxies cut idle connections after 30 or 60 seconds. */
const MAX_IDLE_MS = 25_000;
const MAX_BACKOFF_MS = 30_000;
/** Sockets in a row that never opened. */
const BLOCKED_AFTER = 2;
/** A gateway that was reachable before counts as unreachable, not as blocked. */
const KNOWN_GATEWAY_BONUS = -20;
const SOCKET_RETRY_MS = 300_000;
const SIGN_IN_TIMEOUT_MS = 1500;

/** Positions before all events: of the first snapshots, and of those after a resync. */
const NEVER = "0-0";
const RESYNCED = "0-1";
const USER_CHANNEL_PREFIX = "#server-to-user-";
const OFFLINE = { code: "offline", message: "The browser is offline" };
const UNREACHABLE = { code: "unreachable", message: "The gateway does not answer, or does not allow the origin of this page" };

/** Channels that need a signature; those of single users and tasks are checked by the gateway itself. */
const SIGNED_CHANNEL = /^(private-(?!user-|task-)|presence-)/;

/** Return the root of the gateway that served this module; in a bundle the page's own origin. */
function defaultRoot() {
  const { href } = new URL("../..", import.meta.url);
  return import.meta.url.includes("/jobpush/static/") ? href.slice(0, -1) : "";
}

export class Connection {
  state = "closed";
  reason = null;
  isLoaded = false;
  #view = new Map();
  /** Events that are not in the view yet: a burst is folded once. */
  #pending = new Map();

  #key;
  #root;
  #headers;
  #credentials;
  #tokenFunction;
  #tokenUrl;
  #tokens;

  #users = new Set();
  #listening;
  #listeners = new Map();
  #subscriptions = new Map();
  #lastIds = new Map();
  #userChannel;

  #transport;
  #socketId;
  #isPinging = false;
  #timer;
  #signInTimer;
  #failures = 0;
  #blocked = 0;
  #idleMs = MAX_IDLE_MS;
  #connectedAt = 0;
  /** Of the gateway's clock and the browser's monotonic one, in milliseconds. */
  #clockOffset = Date.now() - performance.now();
  #warned = new Set();

  constructor({ key, root, token, headers, credentials } = {}) {
    const meta = globalThis.document?.querySelector("meta[name=jobpush]")?.dataset ?? {};
    this.#key = key ?? meta.key;
    this.#root = root ?? meta.root ?? defaultRoot();
    this.#headers = headers;
    this.#credentials = credentials;
    this.#tokenFunction = token;
    this.#tokenUrl = meta.tokenUrl;
  }

  // ---- What a page calls ----

  get tasks() {
    if (this.#pending.size) {
      this.#view = foldAll(this.#view, this.#pending.values());
      this.#pending.clear();
    }
    return this.#view;
  }

  open(user = Symbol()) {
    this.#users.add(user);
    if (this.state === "closed") this.#start();
    return this;
  }

  /** Without a user, one of those that `open()` has added: a second call cannot take the connection from an element. */
  close(user = [...this.#users].find((one) => typeof one === "symbol")) {
    this.#users.delete(user);
    // An element that only moves keeps the connection.
    setTimeout(() => this.#users.size || this.#stop(), 0);
  }

  /** Elements that are in the page already are there before its script can connect. */
  moveElements(connection) {
    for (const user of this.#users) if (user.isConnected) user.connection = connection;
  }

  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    const entry = listener.bind(); // two uses of one function are two listeners
    this.#listeners.set(event, listeners.add(entry));
    return () => listeners.delete(entry);
  }

  subscribe(name) {
    const subscription = this.#subscriptions.get(name) ?? { users: 0, members: new Map() };
    this.#subscriptions.set(name, subscription);
    subscription.users += 1;
    if (subscription.users === 1) this.#join(name);
    const offs = [];
    let isUsed = true;
    return {
      name,
      members: subscription.members,
      on: (event, listener) => {
        const off = this.on(event, (data, info) => isUsed && info.channel === name && listener(data, info));
        offs.push(off);
        return off;
      },
      trigger: (event, data) => isUsed && this.#send(event, data, name),
      unsubscribe: () => {
        if (!isUsed) return;
        isUsed = false;
        for (const off of offs) off();
        subscription.users -= 1;
        if (subscription.users === 0) this.#leave(name);
      },
    };
  }

  async cancel(taskId) {
    return (await this.request(`tasks/${encodeURIComponent(taskId)}/cancel`, { method: "POST" })).ok;
  }

  show(event) {
    const known = this.tasks.get(event.task_id);
    const seq = (known?.seq ?? 0) + LOCAL_STEP;
    if (seq < 1) this.#setTasks(fold(this.tasks, { created_at: this.time(), ...known, ...event, seq }));
  }

  remove(taskId) {
    const tasks = new Map(this.tasks);
    if (tasks.delete(taskId)) this.#setTasks(tasks);
  }

  time() {
    return (performance.now() + this.#clockOffset) / 1000;
  }

  /** Ask the gateway for its reason where a page has no user or no connection; it becomes `reason`. */
  async explain() {
    const { state } = this;
    const { error } = await this.request("tasks");
    if (error && this.state === state && !this.reason) this.#setState(state, error);
  }

  /** Send a request to a route below /jobpush/. Never rejects. */
  async request(path, options = {}) {
    const answer = await this.#fetch(path, options);
    if (answer.error?.code !== "token_expired" || !(await this.#readToken(true))) return answer;
    return this.#fetch(path, options);
  }

  async #fetch(path, options) {
    const response = await fetch(this.#url(`/jobpush/${path}`), await this.#withIdentity(options)).catch(() => null);
    const { ok = false, status = 0 } = response ?? {};
    const body = await response?.json().catch(() => null);
    return { ok, status, data: ok ? body : null, error: ok ? null : body?.error };
  }

  async #withIdentity(options) {
    const headers = { "X-Requested-With": "jobpush", ...this.#headers };
    const token = await this.#readToken();
    if (token) headers.Authorization = `Bearer ${token}`;
    return { headers, ...(this.#credentials && { credentials: this.#credentials }), ...options };
  }

  // ---- Life of the connection ----

  #start() {
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    for (const type of ["online", "offline", "pageshow"]) addEventListener(type, this.#wake, { signal });
    for (const type of ["visibilitychange", "resume"]) document.addEventListener(type, this.#wake, { signal });
    this.#setState("connecting");
    this.#connect();
  }

  #stop() {
    this.#listening?.abort();
    this.#discard();
    this.#setState("closed");
  }

  /** The page is seen again, or the network has changed. */
  #wake = ({ type, persisted }) => {
    if (this.state === "failed" || (type === "pageshow" && !persisted)) return;
    if (type === "offline") {
      this.#discard();
      this.#retry(0, false, OFFLINE);
      return;
    }
    if (type === "visibilitychange" && document.hidden) return;
    if (type === "online") this.#blocked = 0;
    if (this.#socketId && this.#transport.isTwoWay) this.#ping();
    else if (!this.#transport || type === "online") this.#connect();
  };

  #connect() {
    this.#discard();
    if (!this.#key) this.#configure();
    else if (this.#blocked < BLOCKED_AFTER) this.#openSocket();
    else this.#openFallback();
  }

  async #configure() {
    this.#after(ANSWER_TIMEOUT_MS, () => this.#retry());
    const { data, error, status } = await this.request("config");
    if (this.state === "closed" || this.#key) return;
    this.#key = data?.key;
    if (this.#key) this.#connect();
    else this.#retry(0, false, error ?? (status ? null : UNREACHABLE));
  }

  #openSocket() {
    const query = { protocol: 7, client: "jobpush" };
    const since = this.#lastIds.get(this.#userChannel);
    if (since) query.since = since;
    const url = this.#url(`/app/${this.#key}`, query).replace("http", "ws");
    this.#transport = new SocketTransport(url, this.#handlers);
    this.#after(ANSWER_TIMEOUT_MS, () => this.#lose());
    this.#useTokens((tokens) => tokens.signIn());
  }

  async #openFallback() {
    const placeholder = { close() {} };
    this.#transport = placeholder;
    this.#blocked = BLOCKED_AFTER - 1; // one more is enough
    const module = await import("./fallback.js").catch(() => null);
    if (this.#transport !== placeholder) return;
    if (!module) return this.#lose();
    this.#transport = new module.Fallback(this.#handlers, {
      channels: this.#subscriptions,
      since: this.#lastIds,
      url: (path, query) => this.#url(path, query),
      request: (path) => this.request(path),
      withIdentity: (options) => this.#withIdentity(options),
    });
    this.#after(SOCKET_RETRY_MS, () => this.#connect());
  }

  #handlers = {
    message: (message) => this.#receive(message),
    close: (code, reason) => this.#lose(code, reason),
    /** All tasks, where only polling works. */
    tasks: (tasks, time) => {
      this.#setTime(time);
      this.#setState("polling");
      const news = this.isLoaded ? tasks : tasks.map((task) => ({ ...task, replayed: true }));
      this.#setTasks(foldAll(this.tasks, news), true);
    },
    interrupted: (reason) => this.#setState("reconnecting", reason),
  };

  #lose(code = 0, reason = null) {
    const isOffline = globalThis.navigator?.onLine === false;
    const hasNeverOpened = this.#transport?.isTwoWay && !this.#socketId && !isOffline;
    if (hasNeverOpened) this.#blocked += 1;
    if (hasNeverOpened && !reason && this.#blocked === BLOCKED_AFTER) this.explain();
    this.#discard();
    const band = Math.floor(code / 100);
    if (band === 40) this.#setState("failed", reason ?? this.reason);
    else this.#retry(band === 41 ? 1000 : 0, band === 42, reason ?? (isOffline ? OFFLINE : null));
  }

  #retry(leastMs = 0, isSoon = false, reason = null) {
    const spreadMs = isSoon ? 1000 : Math.min(MAX_BACKOFF_MS, 1000 * 2 ** this.#failures++);
    this.#setState("reconnecting", reason ?? this.reason);
    // Pages must not return all at once.
    this.#after(leastMs + Math.random() * spreadMs, () => this.#connect());
  }

  #discard() {
    if (this.#socketId && performance.now() - this.#connectedAt > ANSWER_TIMEOUT_MS) this.#failures = 0;
    clearTimeout(this.#timer);
    this.#tokens?.then((tokens) => tokens.stop());
    this.#transport?.close();
    this.#transport = this.#socketId = undefined;
    this.#isPinging = false;
  }

  #setTime(time) {
    if (time) this.#clockOffset = time * 1000 - performance.now();
  }

  /** At most one timeout is pending. */
  #after(delayMs, run) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, delayMs);
  }

  #awaitActivity() {
    this.#isPinging = false;
    this.#blocked = KNOWN_GATEWAY_BONUS;
    this.#after(this.#idleMs, () => this.#ping());
  }

  #ping() {
    if (this.#isPinging) return;
    this.#isPinging = true;
    this.#send("pusher:ping", {});
    this.#after(ANSWER_TIMEOUT_MS, () => this.#lose());
  }

  #send(event, data, channel) {
    if (!this.#socketId || !this.#transport.isTwoWay) return false;
    this.#transport.send({ event, data, channel });
    return true;
  }

  // ---- Messages ----

  #receive({ event, channel, id, user_id, data: text }) {
    let data = parse(text);
    // Snapshots follow a confirmation with this id; the last one has the id of the next position.
    if (event === "jobpush:task" && this.#lastIds.get(channel) === NEVER) data = { ...data, replayed: true };
    if (channel && id) this.#lastIds.set(channel, id);
    if (this.#socketId && this.#transport.isTwoWay) this.#awaitActivity();
    this.#handle(event, data, channel);
    this.#emit(event.replace("_internal", ""), data, { channel, id, user_id });
  }

  #handle(event, data, channel) {
    const members = this.#subscriptions.get(channel)?.members;
    const isOwn = channel && channel === this.#userChannel;
    switch (event) {
      case "pusher:connection_established":
        return this.#establish(data);
      case "pusher:ping":
        return this.#send("pusher:pong", {});
      case "pusher:error":
        // An error as the first frame is treated like its close code.
        return this.#socketId || this.#lose(data.code, { code: String(data.code), message: data.message });
      case "pusher:signin_success":
        return this.#signIn(USER_CHANNEL_PREFIX + parse(data.user_data).id);
      case "jobpush:signin_success":
        this.#setState("connected");
        return this.#useTokens((tokens) => tokens.accept(data));
      case "jobpush:signin_error":
      case "jobpush:signed_out":
        return this.#loseUser(data);
      case "pusher_internal:subscription_succeeded":
        if (channel.startsWith(USER_CHANNEL_PREFIX)) {
          this.#signIn(channel);
          this.#setTasks(this.tasks, true);
        }
        members?.clear();
        for (const member of Object.entries(data.presence?.hash ?? {})) members?.set(...member);
        return;
      case "pusher_internal:member_added":
        return members?.set(String(data.user_id), data.user_info);
      case "pusher_internal:member_removed":
        return members?.delete(String(data.user_id));
      case "jobpush:resync":
        // What follows is news; the sequence numbers of the server may have restarted.
        if (this.#lastIds.get(channel) === NEVER) this.#lastIds.set(channel, RESYNCED);
        return isOwn && this.#setTasks(new Map([...this.tasks].map(([id, task]) => [id, { ...task, seq: 0 }])));
      case "jobpush:task":
        return isOwn && this.#addTask(data);
    }
  }

  #establish({ socket_id, activity_timeout, time }) {
    this.#socketId = socket_id;
    this.#idleMs = Math.min(activity_timeout * 1000, MAX_IDLE_MS);
    this.#connectedAt = performance.now();
    this.#setTime(time);
    this.#setState("connected");
    if (this.#userChannel) this.#signInTimer = setTimeout(() => this.#setState("signedOut"), SIGN_IN_TIMEOUT_MS);
    if (!this.#transport.isTwoWay) return;
    this.#awaitActivity();
    for (const name of this.#subscriptions.keys()) this.#join(name);
  }

  /** Drop all data of the previous user when the session changes. */
  #signIn(userChannel) {
    const isOther = this.#userChannel && this.#userChannel !== userChannel;
    this.#userChannel = userChannel;
    this.#setState("connected");
    if (!isOther) return;
    this.#lastIds.clear();
    this.#setTasks(new Map(), false);
    this.#connect();
  }

  // ---- Tokens ----

  /** Call a function with the part that handles tokens, which is loaded where the page has some. */
  #useTokens(run) {
    if (!this.#tokenFunction && !this.#tokenUrl) return;
    this.#tokens ??= this.#loadTokens();
    return this.#tokens.then(run, () => (this.#tokens = null));
  }

  async #loadTokens() {
    const { TokenSession, tokenFrom } = await import("./token.js");
    const options = { headers: this.#headers, credentials: this.#credentials };
    return new TokenSession(this.#tokenFunction ?? tokenFrom(this.#tokenUrl, options), {
      transport: () => this.#transport,
      time: () => this.time(),
      setReason: (reason) => this.#userChannel || this.#setState(this.state, reason),
    });
  }

  #readToken(isFresh) {
    return this.#useTokens((tokens) => tokens.read(isFresh).catch(() => null));
  }

  #loseUser({ code, message, reason }) {
    this.#setState("signedOut", { code: code ?? reason ?? "signed_out", message: message ?? reason });
    this.#useTokens((tokens) => tokens.refuse());
  }

  // ---- Channels ----

  #join(name) {
    // A stream names its channels in its address.
    if (this.#transport && !this.#transport.isTwoWay) this.#transport.update?.();
    else if (SIGNED_CHANNEL.test(name)) this.#joinSigned(name);
    else this.#subscribe(name);
  }

  async #joinSigned(name) {
    const subscription = this.#subscriptions.get(name);
    const socketId = this.#socketId;
    if (!socketId) return;
    const { sign } = await import("./signed.js");
    const { data, ...refusal } = await sign(this, socketId, name);
    if (socketId !== this.#socketId || subscription !== this.#subscriptions.get(name)) return;
    if (data) this.#subscribe(name, data);
    else this.#emit("pusher:subscription_error", refusal, { channel: name });
  }

  #subscribe(name, auth) {
    this.#send("pusher:subscribe", { channel: name, since: this.#lastIds.get(name), ...auth });
  }

  #leave(name) {
    this.#subscriptions.delete(name);
    this.#lastIds.delete(name);
    this.#send("pusher:unsubscribe", { channel: name }) || this.#transport?.leave?.(name);
  }

  // ---- State and events ----

  #url(path, query) {
    const url = new URL(this.#root + path, location.href);
    if (query) url.search = new URLSearchParams(query);
    return url.href;
  }

  #setState(state, reason = null) {
    clearTimeout(this.#signInTimer);
    if (this.state === state && this.reason?.code === reason?.code) return;
    this.state = state;
    this.reason = reason;
    this.#warn(reason);
    this.#emit("jobpush:state", state, {});
  }

  /** Log each reason once. */
  #warn(reason) {
    if (!reason || reason === OFFLINE || this.#warned.has(reason.code)) return;
    this.#warned.add(reason.code);
    console.warn(`jobpush: ${reason.message ?? ""} (${reason.code})`);
  }

  #addTask(event) {
    const id = event?.task_id;
    if (!isNews(this.#pending.get(id) ?? this.#view.get(id), event)) return;
    this.#pending.set(id, event);
    this.#emitTasks();
  }

  #setTasks(tasks, isLoaded = this.isLoaded) {
    if (this.tasks === tasks && this.isLoaded === isLoaded) return;
    this.#view = tasks;
    this.isLoaded = isLoaded;
    this.#emitTasks();
  }

  #emitTasks() {
    this.#emit("jobpush:change", undefined, {});
    if (this.#listeners.get("jobpush:tasks")?.size) this.#emit("jobpush:tasks", this.tasks, {});
  }

  #emit(event, data, info) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(data, info);
      } catch (error) {
        console.error(error);
      }
    }
  }
}

const SHARED = Symbol.for("jobpush");

/** The page's shared connection, not opened. A script under two addresses is two modules; the connection is one. */
export const sharedConnection = () => (globalThis[SHARED] ??= new Connection());

export function connect(options) {
  if (!options) return sharedConnection().open();
  const connection = new Connection(options);
  if (options.shared) {
    const before = globalThis[SHARED];
    globalThis[SHARED] = connection;
    before?.moveElements(connection);
  }
  return connection.open();
}
