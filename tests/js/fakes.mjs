const realSetTimeout = globalThis.setTimeout;

/** Fakes of the browser APIs that the client uses: they record calls, and act only when a test tells them to. */

/** Fake time that only `pass` advances. */
export class Clock {
  now = 0;
  #timers = new Map();
  #lastId = 0;

  install() {
    globalThis.setTimeout = (run, delay = 0) => {
      this.#timers.set(++this.#lastId, { run, at: this.now + delay });
      return this.#lastId;
    };
    globalThis.clearTimeout = (id) => this.#timers.delete(id);
    performance.now = () => this.now;
    return this;
  }

  /** Milliseconds until the next timer fires. */
  get nextMs() {
    return Math.min(...[...this.#timers.values()].map(({ at }) => at)) - this.now;
  }

  pass(ms) {
    const end = this.now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.now = due[1].at;
      due[1].run();
    }
    this.now = end;
  }
}

class FakeTransport {
  isClosed = false;

  constructor(url) {
    this.url = new URL(url);
    this.constructor.all.push(this);
  }

  close() {
    this.isClosed = true;
  }

  /** Receive a frame of the gateway: `data` is a JSON string inside the JSON. */
  receive(event, data = {}, { channel, id, user_id } = {}) {
    this.onmessage?.({ data: JSON.stringify({ event, channel, data: JSON.stringify(data), id, user_id }) });
  }

  /** Receive the first frames that the gateway sends to a signed-in browser. */
  welcome({ user = "42", socketId = "1.2", activityTimeout = 120 } = {}) {
    this.receive("pusher:connection_established", { socket_id: socketId, activity_timeout: activityTimeout });
    if (!user) return this;
    this.receive("pusher:signin_success", { user_data: JSON.stringify({ id: user }) });
    this.receive("pusher_internal:subscription_succeeded", {}, { channel: `#server-to-user-${user}` });
    return this;
  }

  receiveTask(task, { channel = "#server-to-user-42", id } = {}) {
    this.receive("jobpush:task", task, { channel, id });
  }
}

export class FakeWebSocket extends FakeTransport {
  static all = [];
  sent = [];

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  /** Close the socket from the gateway's side, or by a network error. */
  end(code = 1006) {
    this.onclose?.({ code });
  }

  sentEvents(name) {
    return this.sent.filter(({ event }) => event === name).map(({ data }) => data);
  }
}

/** An event stream that `fetch` reads. */
export class FakeStream extends FakeTransport {
  static all = [];
  #controller;
  #encoder = new TextEncoder();

  constructor(url, { signal, headers }) {
    super(url);
    this.headers = headers;
    signal.addEventListener("abort", () => this.close());
    this.body = new ReadableStream({ start: (controller) => (this.#controller = controller) });
    // Only the first call settles it.
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  receive(event, data = {}, { channel, id, user_id } = {}) {
    this.#accept();
    const message = JSON.stringify({ event, channel, data: JSON.stringify(data), id, user_id });
    this.#controller.enqueue(this.#encoder.encode(`data: ${message}\n\n`));
  }

  /** Respond with an error instead of a stream. */
  fail(status = 503) {
    this.resolve({ ok: false, status, headers: new Headers(), json: async () => null });
  }

  /** Receive the comment that the gateway sends as a heartbeat. */
  beat() {
    this.#controller.enqueue(this.#encoder.encode(":\n\n"));
  }

  /** End the stream. */
  end() {
    this.#controller.close();
  }

  #accept() {
    this.resolve({ ok: true, headers: new Headers({ "Content-Type": "text/event-stream; charset=utf-8" }), body: this.body });
  }
}

/** A page at https://app.example with a new clock, no network, and a `Math.random` that always returns 0.5. */
export class FakePage {
  clock = new Clock().install();
  document = Object.assign(new EventTarget(), { hidden: false, querySelector: () => null });
  requests = [];
  /** Responses of the gateway, by the path after /jobpush/; a request to any other path fails. */
  responses = {};
  #window = new EventTarget();

  constructor() {
    FakeWebSocket.all = [];
    FakeStream.all = [];
    Object.assign(globalThis, {
      WebSocket: FakeWebSocket,
      document: this.document,
      location: { href: "https://app.example/videos" },
      addEventListener: this.#window.addEventListener.bind(this.#window),
      removeEventListener: this.#window.removeEventListener.bind(this.#window),
      fetch: async (url, options = {}) => this.#respond(new URL(url, location.href), options),
    });
    Math.random = () => 0.5;
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, configurable: true });
    this.#installTabs();
  }

  get sockets() {
    return FakeWebSocket.all;
  }

  get socket() {
    return FakeWebSocket.all.at(-1);
  }

  get streams() {
    return FakeStream.all;
  }

  get stream() {
    return FakeStream.all.at(-1);
  }

  /** Install Web Locks and BroadcastChannel, so that the connections of this page behave as if each were in its own tab. */
  #installTabs() {
    const channels = new Set();
    const locks = new Map();
    const grant = async (name) => {
      const { waiting, holder } = locks.get(name);
      if (holder || !waiting.length) return;
      const next = (locks.get(name).holder = waiting.shift());
      await next.run();
      next.end();
      if (locks.get(name).holder === next) locks.get(name).holder = undefined;
      grant(name);
    };
    const request = (name, { signal, steal }, run) =>
      new Promise((end, fail) => {
        if (!locks.has(name)) locks.set(name, { waiting: [] });
        const lock = locks.get(name);
        const one = { run, end, fail };
        if (steal) {
          lock.holder?.fail(new DOMException("stolen", "AbortError"));
          lock.holder = undefined;
          lock.waiting.unshift(one);
        } else lock.waiting.push(one);
        signal?.addEventListener("abort", () => {
          if (!lock.waiting.includes(one)) return;
          lock.waiting.splice(lock.waiting.indexOf(one), 1);
          fail(new DOMException("aborted", "AbortError"));
        });
        grant(name);
      });
    navigator.locks = { request };
    globalThis.BroadcastChannel = class {
      constructor(name) {
        this.name = name;
        channels.add(this);
      }
      postMessage(data) {
        const others = [...channels].filter((channel) => channel !== this && channel.name === this.name);
        for (const channel of others) queueMicrotask(() => channels.has(channel) && channel.onmessage({ data: structuredClone(data) }));
      }
      close() {
        channels.delete(this);
      }
    };
  }

  /** Dispatch an event of the window or the document. */
  dispatch(type, fields = {}) {
    const target = ["visibilitychange", "freeze", "resume"].includes(type) ? this.document : this.#window;
    target.dispatchEvent(Object.assign(new Event(type), fields));
  }

  goOnline() {
    this.#window.dispatchEvent(new Event("online"));
  }

  show(visibilityState = "visible") {
    this.document.hidden = visibilityState === "hidden";
    this.document.dispatchEvent(new Event("visibilitychange"));
  }

  /** Wait until pending promises have settled. */
  settle() {
    return new Promise((resolve) => realSetTimeout(resolve, 5));
  }

  #respond(url, options) {
    if (url.pathname.endsWith("/jobpush/events")) return new FakeStream(url, options).response;
    this.requests.push({ path: url.href.slice(url.origin.length), ...options });
    const response = this.responses[url.pathname.split("/jobpush/")[1]];
    if (!response) throw new TypeError("fetch failed");
    return { ok: !response.status, status: 200, json: async () => response, ...response };
  }
}
