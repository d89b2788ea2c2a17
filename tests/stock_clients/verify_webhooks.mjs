/** Validate webhooks with Pusher's SDK for Node servers: `[{ key, secret, headers, rawBody }]` on stdin, results on stdout. */

import { readFileSync } from "node:fs";

import PusherServer from "pusher";

const verified = JSON.parse(readFileSync(0)).map(({ key, secret, headers, rawBody }) => {
  const webhook = new PusherServer({ appId: "1", key, secret, host: "127.0.0.1" }).webhook({ headers, rawBody });
  return webhook.isValid() ? { events: webhook.getEvents(), time: webhook.getTime().getTime() } : null;
});
console.log(JSON.stringify(verified));
