/** The WebSocket of a connection. What replaces it where WebSockets are blocked is in fallback.js. */

/** Return the value of a JSON text, and anything else as it is. */
export function parse(text) {
  try {
    return typeof text === "string" ? JSON.parse(text) : text;
  } catch {
    return text;
  }
}

/** Whether the stream id `a` ("milliseconds-number") is not after `b`. */
export function isUpTo(a, b) {
  const [aTime, aNumber] = a.split("-").map(Number);
  const [bTime, bNumber] = b.split("-").map(Number);
  return (aTime - bTime || aNumber - bNumber) <= 0;
}

/** Messages in both directions. `handlers` are `message(message)` and `close(code)`; none is called after `close()`. */
export class SocketTransport {
  isTwoWay = true;
  #socket;

  constructor(url, handlers) {
    try {
      this.#socket = new WebSocket(url);
    } catch {
      // Not allowed here, for example without TLS in a page with it.
      this.#socket = { close() {} };
      setTimeout(() => this.#socket.onerror?.(), 0);
    }
    this.opened = new Promise((resolve) => (this.#socket.onopen = resolve));
    this.#socket.onmessage = ({ data }) => handlers.message(parse(data));
    this.#socket.onclose = ({ code }) => handlers.close(code);
    this.#socket.onerror = () => handlers.close(); // the only event if the page's policy blocks it
  }

  send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  close() {
    this.#socket.onmessage = this.#socket.onclose = this.#socket.onerror = null;
    this.#socket.close();
  }
}
