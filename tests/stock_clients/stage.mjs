/** What every scenario stands on: stock clients, ears that miss nothing, and the application's back end. */

const PATIENCE_MS = 15_000;

/** Asks the application for scenarios and plays them, one after the other, until it is gone. */
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
    /** The application's back end: each method of `Backend` in backend.py. */
    this.backend = new Proxy({}, { get: (_, method) => (args = {}) => this.#ask(method, args) });
  }

  /** The same name at each of its uses in a scenario would meet the other scenarios'. */
  unique(name) {
    return `${name}-${Math.random().toString(36).slice(2, 10)}`;
  }

  /**
   * Options of pusher-js as its documentation has them for a server that is not Pusher's.
   * `signer` names who signs at the application: Pusher's SDK, or ours with "jobpush-".
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

  /** A connected pusher-js. */
  async connect(options) {
    const client = this.keep(new globalThis.Pusher(this.key, this.options(options)));
    await state(client, "connected");
    return client;
  }

  /** A connected pusher-js whose user has signed in and can be sent to. */
  async signIn({ user, ...options }) {
    const client = this.keep(new globalThis.Pusher(this.key, this.options({ user, ...options })));
    const frames = frameEar(client);
    client.signin();
    await frames.next(`pusher_internal:subscription_succeeded #server-to-user-${user}`);
    return client;
  }

  /** Ends the client with the scenario, and reports what it heard if that fails. */
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

/** All that was heard since it began to listen, in order, each thing to be taken once. */
export class Ear {
  #heard = [];
  #wake = () => {};

  hear(event, data) {
    this.#heard.push({ event, data });
    this.#wake();
  }

  /** Everything up to the next `event`, and that one last. */
  async until(event) {
    for (;;) {
      const index = this.#heard.findIndex((one) => one.event === event);
      if (index >= 0) return this.#heard.splice(0, index + 1);
      await this.#more(event);
    }
  }

  /** The data of the next `event`; what came before it is passed over. */
  async next(event) {
    return (await this.until(event)).at(-1).data;
  }

  #more(event) {
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(new Error(`did not hear ${event}, only ${JSON.stringify(this.#heard)}`));
      const timer = setTimeout(giveUp, PATIENCE_MS);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** An ear for a channel, a client, its user or its watchlist: what pusher-js calls an events dispatcher. */
export function ear(dispatcher) {
  const ear = new Ear();
  dispatcher.bind_global((event, data) => ear.hear(event, data));
  return ear;
}

/** An ear for every frame of a client; an event is called by its name and, if it has one, its channel. */
export function frameEar(client) {
  const ear = new Ear();
  client.connection.bind("message", ({ event, channel, data }) => ear.hear([event, channel].filter(Boolean).join(" "), data));
  return ear;
}

/** An ear for a channel that the server has let the client into. */
export async function subscribed(client, name) {
  const channel = client.subscribe(name);
  const joined = ear(channel);
  await joined.next("pusher:subscription_succeeded");
  return Object.assign(joined, { channel });
}

/** Waits until the connection is in that state, or refuses if it is not to be. */
export async function state(client, wanted) {
  const changes = new Ear();
  client.connection.bind("state_change", ({ current }) => changes.hear(current));
  if (client.connection.state !== wanted) await changes.next(wanted);
}

/** The names of what was heard; how many subscribe is told at any time. */
export function events(heard) {
  return heard.map(({ event }) => event).filter((event) => event !== "pusher:subscription_count");
}

export function equal(actual, expected) {
  const [left, right] = [JSON.stringify(sorted(actual)), JSON.stringify(sorted(expected))];
  if (left !== right) throw new Error(`expected ${right}, got ${left}`);
}

/** The same value with the members of its objects in the order of their names. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}
