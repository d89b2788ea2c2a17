/**
 * The connection where WebSockets are blocked: an event stream, else polling.
 *
 * Browsers allow six HTTP/1.1 connections to a host, so that one stream per tab would block the whole site. The tab
 * that holds a Web Lock has the stream for all tabs, and passes its messages on by a BroadcastChannel.
 */

import { isFinal } from "./states.js";
import { parse } from "./transport.js";

const POLL_MS = 3000;
/** While no task runs. */
const IDLE_POLL_MS = 10_000;
/** Silence of a stream, which carries a heartbeat. */
const MAX_SILENCE_MS = 60_000;
const OPEN_TIMEOUT_MS = 10_000;
/** Several tabs join in one new stream. */
const RESTART_DELAY_MS = 100;
const STREAM_RETRY_MS = 2000;

/** The user in a token, so that tabs share a stream only where they have the same user. */
function subjectOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
  } catch {
    return "";
  }
}

export class Fallback {
  isTwoWay = false;
  #handlers;
  #host;
  #abort = new AbortController();
  #tabs;
  #isLeader = false;
  #source;
  /** The channels of the other tabs, by tab. */
  #wanted = new Map();
  #id = Math.random().toString(36).slice(2);
  #restartTimer;

  /**
   * @param handlers `message`, `tasks`, `interrupted` and `close` of the connection
   * @param host interface of the connection: `scope`, `channels`, `since`, `url`, `request`, `withIdentity`, `token`
   */
  constructor(handlers, host) {
    this.#handlers = handlers;
    this.#host = host;
    this.#begin();
  }

  /** The channels of this tab have changed. */
  update() {
    if (this.#isLeader) this.#restart();
    else this.#tabs?.postMessage({ type: "join", tab: this.#id, channels: [...this.#host.channels.keys()] });
  }

  close() {
    this.#abort.abort();
    clearTimeout(this.#restartTimer);
    this.#source?.close();
    if (!this.#isLeader) this.#tabs?.postMessage({ type: "leave", tab: this.#id });
    this.#tabs?.close();
    this.#tabs = null;
  }

  async #begin() {
    const token = await this.#host.token();
    const { signal } = this.#abort;
    if (signal.aborted) return;
    const locks = globalThis.navigator?.locks;
    if (!locks || !globalThis.BroadcastChannel) return this.#lead();
    const scope = `${this.#host.scope} ${token ? subjectOf(token) : ""}`;
    this.#tabs = new BroadcastChannel(scope);
    this.#tabs.onmessage = ({ data }) => this.#receive(data);
    this.update();
    const untilClosed = new Promise((resolve) => signal.addEventListener("abort", resolve));
    const lead = () => {
      if (!signal.aborted) this.#lead();
      return untilClosed;
    };
    locks.request(scope, { signal }, lead).catch(() => null); // closed before it had the lock
  }

  #lead() {
    this.#isLeader = true;
    this.#tabs?.postMessage({ type: "lead" });
    this.#open();
  }

  #receive({ type, tab, channels, name, args }) {
    if (type === "lead") this.update();
    else if (type === "join" && this.#isLeader) {
      this.#wanted.set(tab, channels);
      this.#restart();
    } else if (type === "leave") this.#wanted.delete(tab);
    else if (type === "call" && !this.#isLeader) this.#handlers[name](...args);
  }

  /** Call a handler in all tabs. */
  #call(name, ...args) {
    this.#tabs?.postMessage({ type: "call", name, args });
    this.#handlers[name](...args);
  }

  /** A new stream brings snapshots and members for the tab that joined. */
  #restart() {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => this.#open(), RESTART_DELAY_MS);
  }

  #open() {
    this.#source?.close();
    const channels = new Set([...this.#host.channels.keys(), ...[...this.#wanted.values()].flat()]);
    const since = [...this.#host.since].filter(([name]) => channels.has(name));
    const query = { channels: [...channels], since: since.flat().join("|") };
    this.#source = new EventStream(this.#host.url("/jobpush/events", query), this.#host, {
      message: (message) => this.#call("message", message),
      close: (hasWorked) => (hasWorked ? this.#reopen() : this.#poll()),
    });
  }

  #reopen() {
    this.#call("interrupted", null);
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => this.#open(), STREAM_RETRY_MS);
  }

  #poll() {
    this.#source?.close();
    this.#source = new Polling(this.#host, {
      tasks: (tasks) => this.#call("tasks", tasks),
      close: (error) => this.#call("close", 0, error),
    });
  }
}

/** Server-sent events, read with `fetch`, since `EventSource` sends no Authorization. */
class EventStream {
  #abort = new AbortController();
  #handlers;
  #timer;
  #hasWorked = false;

  constructor(url, host, handlers) {
    this.#handlers = handlers;
    this.#watch(OPEN_TIMEOUT_MS);
    this.#read(url, host);
  }

  close() {
    this.#handlers = null;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  async #read(url, host) {
    try {
      const headers = { Accept: "text/event-stream" };
      const identity = await host.withIdentity({ signal: this.#abort.signal, cache: "no-store" });
      const response = await fetch(url, { ...identity, headers: { ...identity.headers, ...headers } });
      const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (response.ok && isStream) await this.#readLines(response.body.pipeThrough(new TextDecoderStream()).getReader());
    } catch {
      // The end is the same as without an error.
    }
    this.#end();
  }

  async #readLines(reader) {
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      // The gateway writes each message on one line.
      for (const line of lines) if (line.startsWith("data: ")) this.#receive(parse(line.slice(6)));
      if (this.#hasWorked) this.#watch(MAX_SILENCE_MS);
    }
  }

  #receive(message) {
    this.#hasWorked = true;
    this.#handlers?.message(message);
  }

  #watch(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(), delayMs);
  }

  #end() {
    const handlers = this.#handlers;
    this.close();
    handlers?.close(this.#hasWorked);
  }
}

/** All tasks, every few seconds. */
class Polling {
  #host;
  #handlers;
  #timer;

  constructor(host, handlers) {
    this.#host = host;
    this.#handlers = handlers;
    this.#ask();
  }

  close() {
    this.#handlers = null;
    clearTimeout(this.#timer);
  }

  async #ask() {
    const { data, error } = await this.#host.request("tasks");
    if (!this.#handlers) return;
    if (!data?.tasks) return this.#handlers.close(error);
    this.#handlers.tasks(data.tasks);
    const isBusy = !data.tasks.every(isFinal);
    this.#timer = setTimeout(() => this.#ask(), isBusy ? POLL_MS : IDLE_POLL_MS);
  }
}
