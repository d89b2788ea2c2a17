/**
 * The connection where WebSockets are blocked: an event stream, else polling.
 *
 * Browsers allow six HTTP/1.1 connections to a host, so that one stream per tab would block the whole site. One tab, the
 * leader, has the stream for all tabs, and passes its messages on by a BroadcastChannel. It holds a Web Lock, so that
 * the next tab leads once it is closed. Without Web Locks, as in pages without TLS, a tab leads if no other answers.
 */

import { isFinal } from "./states.js";
import { isUpTo, parse } from "./transport.js";

const POLL_MS = 3000;
/** While no task runs. */
const IDLE_POLL_MS = 10_000;
/** Silence of a stream, which carries a heartbeat every 15 s, or of the leader, which passes the heartbeat on. */
const MAX_SILENCE_MS = 25_000;
const ANSWER_TIMEOUT_MS = 10_000;
/** Time in which a leader answers. */
const ELECTION_MS = 500;
/** Several tabs join in one new stream. */
const RESTART_DELAY_MS = 100;
const STREAM_RETRY_MS = 2000;

/** Channels that bring snapshots, or their last event, to a tab that has no position in them. */
const HAS_SNAPSHOT = /^(#|private-(task|user)-|((private|presence)-)?cache-)/;

/** The user in a token, which stays the same when the token is replaced; else the text itself. */
function subjectOf(token) {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).sub;
  } catch {
    return token;
  }
}

/** A name for all tabs with the same gateway and user: only they may share a stream. */
async function nameOf(host) {
  const { headers, credentials } = await host.withIdentity();
  const { Authorization, ...others } = headers;
  return JSON.stringify(["jobpush", host.url(""), subjectOf(Authorization), others, credentials]);
}

export class Fallback {
  isTwoWay = false;
  #handlers;
  #host;
  #listening = new AbortController();
  /** Ends the leadership of this tab, or its wait for it. */
  #term;
  #tabs;
  #name;
  #isLeader = false;
  #source;
  /** The channels of the other tabs with their positions, by tab. */
  #wanted = new Map();
  #id = Math.random().toString(36).slice(2);
  /** Until the next stream of a leader, or the end of patience with the leader. */
  #timer;

  /**
   * @param handlers `message`, `tasks`, `interrupted` and `close` of the connection
   * @param host interface of the connection: `channels`, `since`, `url`, `request`, `withIdentity`
   */
  constructor(handlers, host) {
    this.#handlers = handlers;
    this.#host = host;
    const { signal } = this.#listening;
    // A page that sleeps cannot serve the other tabs.
    addEventListener("pagehide", () => this.#resign(), { signal });
    document.addEventListener("freeze", () => this.#resign(), { signal });
    addEventListener("pageshow", ({ persisted }) => persisted && this.#begin(), { signal });
    document.addEventListener("resume", () => this.#begin(), { signal });
    this.#begin();
  }

  /** The channels of this tab have changed. */
  update() {
    if (this.#isLeader) this.#restart();
    else this.#tabs?.postMessage({ type: "join", tab: this.#id, channels: this.#positions() });
  }

  /** This tab has left a channel. Events of most channels may go on; the members of a presence channel are seen. */
  leave(name) {
    if (name.startsWith("presence-")) this.update();
  }

  /** The page has a new token. A stream carries it in its request; tabs of another user have another stream. */
  async send() {
    if (this.#name === (await nameOf(this.#host))) this.update();
    else if (!this.#listening.signal.aborted) this.#begin();
  }

  close() {
    this.#listening.abort();
    this.#resign();
    this.#tabs?.close();
    this.#tabs = undefined;
  }

  // ---- The tabs of a browser ----

  async #begin() {
    this.#resign();
    this.#tabs?.close();
    this.#tabs = undefined;
    const { signal } = (this.#term = new AbortController());
    const name = await nameOf(this.#host);
    if (signal.aborted) return;
    this.#name = name;
    try {
      this.#tabs = new BroadcastChannel(this.#name);
    } catch {
      this.#poll(); // it does not exist here, or is not allowed: tabs that cannot share a stream have none
      return;
    }
    this.#tabs.onmessage = ({ data }) => this.#receive(data);
    this.#stand();
  }

  /** Lead once no other tab does, or with `isForced` at once. */
  async #stand(isForced = false) {
    this.#resign();
    const { signal } = (this.#term = new AbortController());
    this.update();
    this.#expectLeader(MAX_SILENCE_MS);
    const lead = () => {
      if (signal.aborted) return undefined;
      this.#lead();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    try {
      await navigator.locks.request(this.#name, isForced ? { steal: true } : { signal }, lead);
    } catch {
      // There are no locks, or it was stolen, or its wait has ended.
    }
    if (signal.aborted) return;
    if (this.#isLeader) this.#stand(); // another tab has taken the lock
    else if (isForced) this.#lead();
    else this.#expectLeader(ELECTION_MS * (1 + Math.random()));
  }

  #expectLeader(delayMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stand(true), delayMs);
  }

  #lead() {
    this.#isLeader = true;
    clearTimeout(this.#timer);
    this.#tabs.postMessage({ type: "lead" });
    this.#open();
  }

  /** Stop leading, or waiting for it. */
  #resign() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#tabs?.postMessage({ type: this.#isLeader ? "resign" : "leave", tab: this.#id });
    this.#isLeader = false;
    this.#wanted.clear();
    this.#term?.abort();
  }

  #receive({ type, tab, channels, name, args }) {
    if (type === "leave") this.#wanted.delete(tab);
    else if (type !== "join") this.#follow(type, name, args);
    else if (this.#isLeader) {
      this.#wanted.set(tab, channels);
      this.#tabs.postMessage({ type: "beat" });
      this.#restart();
    }
  }

  /** Handle a message of the leader. */
  #follow(type, name, args) {
    if (this.#isLeader) {
      if (type === "lead") this.#stand(); // there must not be two
      return;
    }
    this.#expectLeader(type === "resign" ? ELECTION_MS * (1 + Math.random()) : MAX_SILENCE_MS);
    if (type === "lead") this.update();
    else if (name === "message") this.#deliver(...args);
    else if (name) this.#handlers[name](...args);
  }

  /** Call a handler in all tabs. */
  #call(name, ...args) {
    this.#tabs?.postMessage({ type: "call", name, args });
    this.#handlers[name](...args);
  }

  // ---- Messages ----

  /** Pass a message of the stream on, unless only other tabs have its channel, or this tab has it already. */
  #deliver(message) {
    const { event, channel, id } = message;
    const { channels, since } = this.#host;
    if (channel && !channel.startsWith("#") && !channels.has(channel)) return;
    if (event === "jobpush:resync") since.delete(channel);
    if (id && since.has(channel) && isUpTo(id, since.get(channel))) return;
    this.#handlers.message(message);
  }

  #broadcast(message) {
    const { channel, id } = message;
    if (channel && id) {
      for (const positions of this.#wanted.values()) {
        if (positions.has(channel) || channel.startsWith("#")) positions.set(channel, id);
      }
    }
    this.#tabs.postMessage({ type: "call", name: "message", args: [message] });
    this.#deliver(message);
  }

  /** The channels of this tab, with the ids of their last events. */
  #positions() {
    const { channels, since } = this.#host;
    const own = [...since].filter(([name]) => name.startsWith("#"));
    return new Map([...own, ...[...channels.keys()].map((name) => [name, since.get(name)])]);
  }

  // ---- Stream and polling ----

  /** A new stream brings snapshots and members for the tab that joined. */
  #restart() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), RESTART_DELAY_MS);
  }

  #open() {
    this.#source?.close();
    const tabs = [this.#positions(), ...this.#wanted.values()];
    const names = [...new Set(tabs.flatMap((positions) => [...positions.keys()]))];
    const since = names.map((name) => [name, oldest(name, tabs)]).filter(([, id]) => id);
    const channels = names.filter((name) => !name.startsWith("#"));
    const url = this.#host.url("/jobpush/events", { channels, since: since.flat().join("|") });
    this.#source = new EventStream(url, this.#host, {
      message: (message) => this.#broadcast(message),
      beat: () => this.#tabs.postMessage({ type: "beat" }),
      close: (hasWorked) => (hasWorked ? this.#reopen() : this.#poll()),
    });
  }

  #reopen() {
    this.#call("interrupted", null);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), STREAM_RETRY_MS);
  }

  #poll() {
    this.#source?.close();
    this.#source = new Polling(this.#host, {
      tasks: (tasks, time) => this.#call("tasks", tasks, time),
      close: (error) => this.#call("close", 0, error),
    });
  }
}

/** Return the position from which all tabs get what they lack, if there is one. */
function oldest(name, tabs) {
  const ids = tabs.map((positions) => positions.get(name));
  const isMissing = tabs.some((positions, index) => !ids[index] && (name.startsWith("#") || positions.has(name)));
  if (isMissing && HAS_SNAPSHOT.test(name)) return undefined;
  return ids.filter(Boolean).sort((a, b) => (isUpTo(a, b) ? -1 : 1))[0];
}

/** Server-sent events, read with `fetch`, since `EventSource` sends no Authorization. */
class EventStream {
  #abort = new AbortController();
  #handlers;
  #timer;
  #hasWorked = false;

  constructor(url, host, handlers) {
    this.#handlers = handlers;
    this.#watch(ANSWER_TIMEOUT_MS);
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
      if (!this.#hasWorked) continue;
      this.#handlers?.beat();
      this.#watch(MAX_SILENCE_MS);
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
    this.#timer = setTimeout(() => this.#handlers.close(), ANSWER_TIMEOUT_MS);
    const { data, error } = await this.#host.request("tasks");
    if (!this.#handlers) return;
    clearTimeout(this.#timer);
    if (!data?.tasks) return this.#handlers.close(error);
    this.#handlers.tasks(data.tasks, data.time);
    const isBusy = !data.tasks.every(isFinal);
    this.#timer = setTimeout(() => this.#ask(), isBusy ? POLL_MS : IDLE_POLL_MS);
  }
}
