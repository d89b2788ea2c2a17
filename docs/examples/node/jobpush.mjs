import { createHmac, randomUUID } from "node:crypto";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** Return a token for the gateway: a JWT, signed with HS256. */
export function jobpushToken(user, secret, ttl = 900) {
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + ttl })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

/** Return a message that starts a Celery task (protocol 2, for a Redis broker). */
export function celeryMessage(task, args, user, title) {
  const id = randomUUID();
  const body = [args, {}, { callbacks: null, errbacks: null, chain: null, chord: null }];
  const headers = { lang: "js", task, id, root_id: id, parent_id: null, group: null, retries: 0 };
  return JSON.stringify({
    body: Buffer.from(JSON.stringify(body)).toString("base64"),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    headers: { ...headers, jobpush_user: user, jobpush_title: title, jobpush_created: Date.now() / 1000 },
    properties: {
      correlation_id: id,
      delivery_mode: 2,
      delivery_tag: randomUUID(),
      delivery_info: { exchange: "", routing_key: "celery" },
      body_encoding: "base64",
    },
  });
}
