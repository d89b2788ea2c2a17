import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { connect } from "node:net";

import { celeryMessage, jobpushToken } from "./jobpush.mjs";

const { JOBPUSH_KEY: key, JOBPUSH_SECRET: secret } = process.env;
const gateway = "http://127.0.0.1:8001";

const page = (user) => `<!doctype html>
<title>Shop</title>
<link rel="icon" href="data:,">
<style>form { margin-bottom: 1rem }</style>
${user ? `
<meta name="jobpush" data-key="${key}" data-root="${gateway}" data-token-url="/jobpush-token">
<script type="module" src="${gateway}/jobpush/static/jobpush.js"></script>
<form method="post" action="/export"><button>Export orders.csv</button></form>
<jobpush-tasks></jobpush-tasks>` : `
<form action="/sign-in"><input name="name" placeholder="Your name" required><button>Sign in</button></form>`}`;

/** Append a message to Celery's queue, as `LPUSH celery …` of any Redis client does. */
function enqueue(message) {
  const parts = ["LPUSH", "celery", message].map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`);
  return new Promise((resolve, reject) => {
    const socket = connect(6379, "localhost", () => socket.end(`*3\r\n${parts.join("")}`));
    socket.on("error", reject).on("close", resolve).resume();
  });
}

// Your own sessions go here: this one takes any name.
const sessions = new Map();

createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  const user = sessions.get(/session=([^;]+)/.exec(request.headers.cookie)?.[1]);
  const seeOther = (headers) => response.writeHead(303, { Location: "/", ...headers }).end();
  if (url.pathname === "/jobpush-token") {
    response.writeHead(user ? 200 : 401, { "Content-Type": "application/json", "Cache-Control": "no-store" });
    response.end(user ? JSON.stringify({ token: jobpushToken(user, secret) }) : "{}");
  } else if (url.pathname === "/sign-in") {
    const session = randomUUID();
    sessions.set(session, url.searchParams.get("name"));
    seeOther({ "Set-Cookie": `session=${session}; HttpOnly; SameSite=Lax` });
  } else if (url.pathname === "/export" && user) {
    await enqueue(celeryMessage("tasks.export", [user, "orders.csv"], user, "Export orders.csv"));
    seeOther();
  } else {
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(page(user));
  }
}).listen(Number(process.env.PORT ?? 8000), "127.0.0.1");
