const realSetTimeout = globalThis.setTimeout;

/** Stand-ins for what a browser gives the client: they record, and move only when a test says so. */

/** Time that stands still until `pass` is called. */
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

  /** How long until the next timer fires. */
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

  /** A frame of the gateway's: `data` travels as a JSON string inside the JSON. */
  receive(event, data = {}, { channel, id, user_id } = {}) {
    this.onmessage?.({ data: JSON.stringify({ event, channel, data: JSON.stringify(data), id, user_id }) });
  }

  /** The frames with which the gateway greets a signed-in browser. */
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

  /** The socket ends by itself, or by the gateway's will. */
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
    // Only the first answer counts.
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }));
  }

  receive(event, data = {}, { channel, id, user_id } = {}) {
    this.#accept();
    const message = JSON.stringify({ event, channel, data: JSON.stringify(data), id, user_id });
    this.#controller.enqueue(this.#encoder.encode(`data: ${message}\n\n`));
  }

  /** The gateway's answer is another than a stream. */
  fail(status = 503) {
    this.resolve({ ok: false, status, headers: new Headers(), json: async () => null });
  }

  /** The stream ends. */
  end() {
    this.#controller.close();
  }

  #accept() {
    this.resolve({ ok: true, headers: new Headers({ "Content-Type": "text/event-stream; charset=utf-8" }), body: this.body });
  }
}

/** A page at https://app.example, with a fresh clock, no network, and chance that is always 0.5. */
export class FakePage {
  clock = new Clock().install();
  document = Object.assign(new EventTarget(), { hidden: false, querySelector: () => null });
  requests = [];
  /** What the gateway answers, by the path after /jobpush/; else no answer comes at all. */
  answers = {};
  #window = new EventTarget();

  constructor() {
    FakeWebSocket.all = [];
    FakeStream.all = [];
    Object.assign(globalThis, {
      WebSocket: FakeWebSocket,
      BroadcastChannel: undefined,
      document: this.document,
      location: { href: "https://app.example/videos" },
      addEventListener: this.#window.addEventListener.bind(this.#window),
      removeEventListener: this.#window.removeEventListener.bind(this.#window),
      fetch: async (url, options = {}) => this.#answer(new URL(url, location.href), options),
    });
    Math.random = () => 0.5;
    Object.defineProperty(globalThis, "navigator", { value: { onLine: true, locks: {} }, configurable: true });
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

  /** Web Locks and BroadcastChannel between the connections of this page, as if each were in its own tab. */
  installTabs() {
    const channels = new Set();
    const waiting = [];
    let isHeld = false;
    const grant = async () => {
      if (isHeld || !waiting.length) return;
      isHeld = true;
      await waiting.shift()();
      isHeld = false;
      grant();
    };
    navigator.locks.request = async (name, { signal }, run) => {
      waiting.push(run);
      signal.addEventListener("abort", () => waiting.includes(run) && waiting.splice(waiting.indexOf(run), 1));
      grant();
    };
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

  /** Lets a chain of promises run to its end. */
  settle() {
    return new Promise((resolve) => realSetTimeout(resolve, 5));
  }

  #answer(url, options) {
    if (url.pathname.endsWith("/jobpush/events")) return new FakeStream(url, options).response;
    this.requests.push({ path: url.href.slice(url.origin.length), ...options });
    const answer = this.answers[url.pathname.split("/jobpush/")[1]];
    if (!answer) throw new TypeError("fetch failed");
    return { ok: !answer.status, status: 200, json: async () => answer, ...answer };
  }
}
