// ws and ioredis, as the README of ws broadcasts: one listener, and a loop over the subscribers of the stream.
//
//     node ws.mjs
import Redis from "ioredis";
import { WebSocketServer, WebSocket } from "ws";

const listeners = new Map();

const redis = new Redis(process.env.REDIS_URL);
redis.on("pmessage", (pattern, channel, message) => {
  for (const socket of listeners.get(channel) ?? []) {
    if (socket.readyState === WebSocket.OPEN) socket.send(message);
  }
});
await redis.psubscribe("*");

const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT), backlog: 2048 });
server.on("connection", (socket, request) => {
  const stream = request.url.slice(1);
  if (!listeners.has(stream)) listeners.set(stream, new Set());
  listeners.get(stream).add(socket);
  socket.on("close", () => listeners.get(stream).delete(socket));
  socket.on("error", () => socket.terminate());
  socket.send("ready");
});
