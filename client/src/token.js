/** Connection tokens of the page's user: read, sent, replaced before they expire. Loaded where a page has tokens. */

/** The part of a token's lifetime after which it is replaced. */
const REFRESH_AT = 0.8;
const REFRESH_RETRY_MS = 5000;
/** For the page's function: a request that the network has swallowed may stay without an answer. */
const LOAD_TIMEOUT_MS = 10_000;
/** The longest delay that a timer of browsers can hold. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** Return a function that reads the token from an endpoint of the application: `{"token": "…"}`, or plain text. */
export const tokenFrom = (url, options) => async () => {
  const response = await fetch(url, { cache: "no-store", credentials: "same-origin", ...options });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  const text = await response.text();
  try {
    return JSON.parse(text).token;
  } catch {
    return text.trim();
  }
};

export class TokenSession {
  #load;
  #host;
  #reading;
  #isRunning = false;
  #isRetried = false;
  #timer;

  /**
   * @param load the page's function
   * @param host the connection: `transport()`, `time()`, `setState(state, reason)`, `setReason(reason)`
   */
  constructor(load, host) {
    this.#load = load;
    this.#host = host;
  }

  /** Return the token: the kept one, or with `isFresh` a new one. Read once for all that ask at the same time. */
  read(isFresh = false) {
    if (isFresh && !this.#isRunning) this.#reading = null;
    return (this.#reading ??= this.#start());
  }

  #start() {
    this.#isRunning = true;
    let timer;
    const reading = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error("no answer")), LOAD_TIMEOUT_MS);
      (async () => this.#load())().then(resolve, reject);
    });
    reading
      .catch(() => (this.#reading = null))
      .then(() => {
        clearTimeout(timer);
        this.#isRunning = false;
      });
    return reading;
  }

  /** Sign in on the socket: the first message, or a later one with a new token. */
  async signIn(isFresh = false) {
    const transport = this.#host.transport();
    try {
      const [token] = await Promise.all([this.read(isFresh), transport.opened]);
      if (token && transport === this.#host.transport()) transport.send({ event: "jobpush:signin", data: { token } });
    } catch (error) {
      if (transport !== this.#host.transport()) return;
      console.warn("jobpush: the page's token function failed;", error);
      this.#host.setReason({ code: "token_unavailable", message: "No token is available" });
      this.#timer = setTimeout(() => this.signIn(true), REFRESH_RETRY_MS);
    }
  }

  /** The gateway has accepted a token. */
  accept({ expires_at }) {
    this.#isRetried = false;
    const delayMs = Math.max(0, (expires_at - this.#host.time()) * 1000 * REFRESH_AT);
    this.stop();
    this.#timer = setTimeout(() => this.signIn(true), Math.min(delayMs, MAX_DELAY_MS));
  }

  /** The gateway has refused a token, or ended the user's rights: one fresh token is tried. */
  refuse() {
    this.stop();
    if (this.#isRetried) return;
    this.#isRetried = true;
    this.signIn(true);
  }

  stop() {
    clearTimeout(this.#timer);
  }
}
