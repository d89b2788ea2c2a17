/** Connection tokens of the page's user. */

/** Reads a token when it is needed, keeps it, and reads it once for all callers that ask at the same time. */
export class TokenSource {
  #load;
  #reading;

  constructor(load) {
    this.#load = load;
  }

  /** Return the token: the kept one, or with `isFresh` a new one. Rejects where the page's function does. */
  read(isFresh = false) {
    if (isFresh && !this.#reading?.isRunning) this.#reading = null;
    return (this.#reading ??= this.#start());
  }

  #start() {
    const reading = (async () => this.#load())();
    reading.isRunning = true;
    const end = () => (reading.isRunning = false);
    reading.then(end, () => {
      end();
      if (this.#reading === reading) this.#reading = null;
    });
    return reading;
  }
}

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
