/** Helpers for scenarios: stock clients, recorders of events, and the application's back end. */

const PATIENCE_MS = 15_000;

/** Request scenarios from the application and play them one by one, until it is unreachable. */
export async function playAll(name, scenarios, origin) {
  for (;;) {
    const response = await fetch(`${origin}/next/${name}`);
    if (response.status !== 200) continue;
    const { number, scenario, stage } = await response.json();
    const failure = await play(scenarios[scenario], new Stage({ ...stage, origin }));
    await fetch(`${origin}/done`, post({ number, failure }));
  }
}

async function play(scenario, stage) {
  try {
    await scenario(stage);
    return null;
  } catch (error) {
    return `${error}\n${error?.stack}\n${stage.report()}`;
  } finally {
    stage.leave();
  }
}

function post(body) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

export class Stage {
  #clients = [];
  #frames = [];

  constructor({ appId, key, secret, masterKey, ports, tls, path, origin }) {
    Object.assign(this, { appId, key, secret, masterKey, ports, tls, path, origin });
    /** The application's back end, with the methods of `Backend` in backend.py. */
    this.backend = new Proxy({}, { get: (_, method) => (args = {}) => this.#ask(method, args) });
  }

  /** Return a unique name, so that scenarios do not affect each other. */
  unique(name) {
    return `${name}-${Math.random().toString(36).slice(2, 10)}`;
  }

  /**
   * Return options of pusher-js for a third-party server, as in its documentation.
   * `signer` selects how the application signs: by default with Pusher's SDK, or with jobpush: "jobpush-".
   */
  options({ entrance = 0, user = "guest", watchlist, signer = "" } = {}) {
    const port = this.ports[entrance];
    const params = { user_id: user };
    return {
      cluster: "",
      wsHost: "127.0.0.1",
      wsPath: this.path,
      wsPort: port,
      wssPort: port,
      forceTLS: this.tls,
      enabledTransports: ["ws", "wss"],
      channelAuthorization: { endpoint: `${this.origin}/${signer}auth`, params },
      userAuthentication: { endpoint: `${this.origin}/${signer}user-auth`, params: { ...params, ...(watchlist && { watchlist }) } },
    };
  }

  /** Return a connected pusher-js client. */
  async connect(options) {
    const client = this.keep(new globalThis.Pusher(this.key, this.options(options)));
    await state(client, "connected");
    return client;
  }

  /** Return a connected pusher-js client with a signed-in user that receives events. */
  async signIn({ user, ...options }) {
    const client = this.keep(new globalThis.Pusher(this.key, this.options({ user, ...options })));
    const frames = recordFrames(client);
    client.signin();
    await frames.next(`pusher_internal:subscription_succeeded #server-to-user-${user}`);
    return client;
  }

  /** Disconnect the client after the scenario, and report its messages if the scenario fails. */
  keep(client) {
    const number = this.#clients.push(client);
    client.connection.bind("message", (frame) => this.#frames.push(`${number} < ${JSON.stringify(frame)}`));
    client.connection.bind("state_change", ({ current }) => this.#frames.push(`${number} is ${current}`));
    client.connection.bind("error", (error) => this.#frames.push(`${number} error ${JSON.stringify(error)}`));
    return client;
  }

  report() {
    return this.#frames.join("\n");
  }

  leave() {
    this.#clients.forEach((client) => client.disconnect());
  }

  async #ask(method, args) {
    const response = await fetch(`${this.origin}/backend/${method}`, post(args));
    if (!response.ok) throw new Error(`${method} failed: ${await response.text()}`);
    return response.json();
  }
}

/** A queue of all events since the recorder was created. */
export class Recorder {
  #events = [];
  #wake = () => {};

  add(event, data) {
    this.#events.push({ event, data });
    this.#wake();
  }

  /** Remove and return everything up to and including the next `event`. */
  async until(event) {
    for (;;) {
      const index = this.#events.findIndex((entry) => entry.event === event);
      if (index >= 0) return this.#events.splice(0, index + 1);
      await this.#waitFor(event);
    }
  }

  /** Return the data of the next `event`; skip earlier events. */
  async next(event) {
    return (await this.until(event)).at(-1).data;
  }

  #waitFor(event) {
    return new Promise((resolve, reject) => {
      const fail = () => reject(new Error(`${event} was not received, only ${JSON.stringify(this.#events)}`));
      const timer = setTimeout(fail, PATIENCE_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** Record the events of an events dispatcher of pusher-js: a channel, a client, its user or its watchlist. */
export function record(dispatcher) {
  const recorder = new Recorder();
  dispatcher.bind_global((event, data) => recorder.add(event, data));
  return recorder;
}

/** Record every frame of a client, under the name of the event and, if it has one, its channel. */
export function recordFrames(client) {
  const recorder = new Recorder();
  client.connection.bind("message", ({ event, channel, data }) => recorder.add([event, channel].filter(Boolean).join(" "), data));
  return recorder;
}

/** Subscribe to a channel and wait for the confirmation; return a recorder of the channel. */
export async function subscribed(client, name) {
  const channel = client.subscribe(name);
  const joined = record(channel);
  await joined.next("pusher:subscription_succeeded");
  return Object.assign(joined, { channel });
}

/** Wait until the connection is in a state; reject after a timeout. */
export async function state(client, wanted) {
  const changes = new Recorder();
  client.connection.bind("state_change", ({ current }) => changes.add(current));
  if (client.connection.state !== wanted) await changes.next(wanted);
}

/** Return the names of recorded events, without subscription counts, which can arrive at any time. */
export function events(recorded) {
  return recorded.map(({ event }) => event).filter((event) => event !== "pusher:subscription_count");
}

export function equal(actual, expected) {
  const [left, right] = [JSON.stringify(sorted(actual)), JSON.stringify(sorted(expected))];
  if (left !== right) throw new Error(`expected ${right}, got ${left}`);
}

/** Return a copy of a value with the members of all objects sorted by name. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}
