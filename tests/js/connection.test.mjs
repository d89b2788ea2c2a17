import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { connect } from "../../client/src/client.js";
// Preload the lazily imported modules, so that they are available immediately.
import "../../client/src/fallback.js";
import "../../client/src/signed.js";
import "../../client/src/token.js";
import { FakePage } from "./fakes.mjs";

const OWN = "#server-to-user-42";
/** A connection that lasts less than this does not reset the back-off. */
const STABLE_MS = 10_000;
const RESPONSE_TIMEOUT_MS = 10_000;
const SOCKET_RETRY_MS = 300_000;

/** @type {FakePage} */
let page;

beforeEach(() => {
  page = new FakePage();
});

const open = (options) => connect({ key: "k3y", root: "", ...options });

const opened = (welcome) => {
  const connection = open();
  page.socket.welcome(welcome);
  return connection;
};

const task = (task_id, seq, more) => ({ task_id, seq, state: "PROGRESS", created_at: 1, ...more });

const record = (target, ...events) => {
  const received = [];
  for (const event of events) target.on(event, (data, info) => received.push([event, data, info]));
  return received;
};

/** Let two sockets fail before they open. */
const blockSockets = async () => {
  page.socket.end();
  page.clock.pass(500);
  page.socket.end();
  page.clock.pass(1000);
  await page.settle();
};

/** Let the time until the next try of a socket pass, with answers to polls, and heartbeats on streams. */
const passUntilSocketRetry = async () => {
  for (let passed = 0; passed < SOCKET_RETRY_MS; passed += 5000) {
    page.clock.pass(5000);
    openStreams().at(-1)?.beat();
    await page.settle();
  }
};

const openStreams = () => page.streams.filter(({ isClosed }) => !isClosed);

describe("handshake", () => {
  test("the socket is opened on the page's own host, with Pusher's URL", () => {
    open({ root: "/prefix" });

    assert.equal(page.socket.url.href, "wss://app.example/prefix/app/k3y?protocol=7&client=jobpush");
  });

  test("key and root come from the page's meta tag", () => {
    page.document.querySelector = (selector) => {
      assert.equal(selector, "meta[name=jobpush]");
      return { dataset: { key: "tagged", root: "/site" } };
    };

    connect({});

    assert.equal(page.socket.url.pathname, "/site/app/tagged");
  });

  test("without a meta tag the key is requested from the gateway", async () => {
    page.responses.config = { key: "asked", path: "/app" };

    connect({ root: "" });
    await page.settle();

    assert.equal(page.socket.url.pathname, "/app/asked");
    assert.deepEqual(page.requests.map(({ path }) => path), ["/jobpush/config"]);
  });

  test("a failed request for the key is retried", async () => {
    const connection = connect({ root: "" });
    await page.settle();
    assert.equal(connection.state, "reconnecting");
    assert.equal(connection.reason.code, "unreachable");

    page.responses.config = { key: "asked" };
    page.clock.pass(500);
    await page.settle();

    assert.equal(page.socket.url.pathname, "/app/asked");
  });

  test("unsubscribing twice does not affect another subscription to the channel", () => {
    const connection = opened();
    const first = connection.subscribe("news");
    const second = connection.subscribe("news");
    const received = record(second, "item");

    first.unsubscribe();
    first.unsubscribe();
    page.socket.receive("item", 1, { channel: "news" });

    assert.deepEqual(page.socket.sentEvents("pusher:unsubscribe"), []);
    assert.equal(received.length, 1);
  });

  test("a subscription that has ended neither receives nor sends", () => {
    const connection = opened();
    const ended = connection.subscribe("news");
    connection.subscribe("news");
    ended.unsubscribe();

    const received = record(ended, "item");
    page.socket.receive("item", 1, { channel: "news" });

    assert.deepEqual(received, []);
    assert.equal(ended.trigger("client-x", {}), false);
  });

  test("a missing or invalid key is requested again", async () => {
    page.responses.config = { json: () => new Promise(() => {}) };
    const connection = connect({ root: "" });
    await page.settle();
    page.responses.config = { json: () => Promise.reject(new SyntaxError("an HTML sign-in page")) };
    page.clock.pass(RESPONSE_TIMEOUT_MS + 500);
    await page.settle();
    assert.equal(connection.state, "reconnecting");

    page.responses.config = { key: "asked" };
    page.clock.pass(1000);
    await page.settle();

    assert.equal(page.requests.length, 3);
    assert.equal(page.socket.url.pathname, "/app/asked");
  });

  test("the state goes from connecting to connected", () => {
    const connection = open();
    assert.equal(connection.state, "connecting");
    const received = record(connection, "jobpush:state");

    page.socket.welcome();

    assert.deepEqual(received.map(([, state]) => state), ["connected"]);
  });

  test("a socket that does not open times out", () => {
    open();

    page.clock.pass(10_000 + 500);

    assert.equal(page.sockets.length, 2);
    assert.ok(page.sockets[0].isClosed);
  });
});

describe("users of a connection", () => {
  test("all callers on a page share one connection", () => {
    page.document.querySelector = () => ({ dataset: { key: "k3y", root: "" } });
    const first = connect();
    const second = connect();

    assert.equal(first, second);
    assert.equal(page.sockets.length, 1);
    first.close();
    second.close();
    page.clock.pass(0);
  });

  test("the connection closes with its last user", () => {
    const connection = opened();
    connection.open();

    connection.close();
    page.clock.pass(0);
    assert.equal(connection.state, "connected");
    connection.close();
    page.clock.pass(0);

    assert.equal(connection.state, "closed");
    assert.ok(page.socket.isClosed);
  });

  test("a page that closes twice does not take the connection from an element", () => {
    const connection = opened();
    const element = {};
    connection.open(element);

    connection.close();
    connection.close();
    page.clock.pass(0);
    assert.equal(connection.state, "connected");
    connection.close(element);
    page.clock.pass(0);

    assert.equal(connection.state, "closed");
  });

  test("close and open in the same tick keep the socket", () => {
    const connection = opened();

    connection.close();
    connection.open();
    page.clock.pass(0);

    assert.equal(page.sockets.length, 1);
    assert.ok(!page.socket.isClosed);
  });

  test("a closed connection does not reconnect by itself", () => {
    const connection = opened();
    connection.close();
    page.clock.pass(0);

    page.goOnline();
    page.show();
    page.clock.pass(1_000_000);

    assert.equal(page.sockets.length, 1);
  });

  test("a closed connection can be opened again and resumes", () => {
    const connection = opened();
    page.socket.receiveTask(task("a", 1), { id: "17-0" });
    connection.close();
    page.clock.pass(0);

    connection.open();

    assert.equal(page.sockets.length, 2);
    assert.equal(page.socket.url.searchParams.get("since"), "17-0");
  });
});

describe("events", () => {
  test("the tasks of the user are folded into the view", () => {
    const connection = opened();

    page.socket.receiveTask(task("a", 2, { percent: 20 }));
    page.socket.receiveTask(task("a", 1, { percent: 10 }));

    assert.equal(connection.tasks.get("a").percent, 20);
  });

  test("each new view is emitted once, and no unchanged one", () => {
    const connection = opened();
    const received = record(connection, "jobpush:tasks");

    page.socket.receiveTask(task("a", 1));
    page.socket.receiveTask(task("a", 1));

    assert.equal(received.length, 1);
    assert.equal(received[0][1], connection.tasks);
  });

  test("tasks of other channels are not the user's", () => {
    const connection = opened();

    page.socket.receiveTask(task("foreign", 1), { channel: "private-task-foreign" });

    assert.equal(connection.tasks.size, 0);
  });

  test("an event of any name is received with its channel and id", () => {
    const connection = opened();
    const received = record(connection, "news");

    page.socket.receive("news", { headline: "<b>" }, { channel: OWN, id: "5-0" });

    assert.deepEqual(received, [["news", { headline: "<b>" }, { channel: OWN, id: "5-0", user_id: undefined }]]);
  });

  test("data other than JSON is passed on unchanged", () => {
    const connection = opened();
    const received = record(connection, "news");

    page.socket.onmessage({ data: '{"event":"news","channel":"c","data":"plain {text"}' });

    assert.equal(received[0][1], "plain {text");
  });

  test("an application event may be called state or tasks", () => {
    const connection = opened();
    const received = record(connection, "jobpush:state", "jobpush:tasks");

    page.socket.receive("state", {}, { channel: OWN });
    page.socket.receive("tasks", {}, { channel: OWN });

    assert.deepEqual(received, []);
  });

  test("a listener that throws does not affect other listeners", (context) => {
    const errors = context.mock.method(console, "error", () => {}).mock;
    const connection = opened();
    connection.on("news", () => {
      throw new Error("error in the page");
    });
    const received = record(connection, "news");

    page.socket.receive("news");

    assert.equal(received.length, 1);
    assert.equal(errors.callCount(), 1);
  });

  test("a listener can be removed", () => {
    const connection = opened();
    const received = [];
    const off = connection.on("news", (data) => received.push(data));

    off();
    page.socket.receive("news");

    assert.deepEqual(received, []);
  });
});

describe("channels", () => {
  test("a function that listens twice is called until both uses have ended", () => {
    const connection = opened();
    let calls = 0;
    const listener = () => (calls += 1);
    const off = connection.on("item", listener);
    connection.on("item", listener);

    off();
    off();
    page.socket.receive("item");

    assert.equal(calls, 1);
  });

  test("a public channel is joined without a signature", () => {
    opened().subscribe("news");

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news" }]);
  });

  test("a channel subscribed before the connection is joined once connected", () => {
    open().subscribe("news");
    assert.deepEqual(page.socket.sent, []);

    page.socket.welcome();

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news" }]);
  });

  test("two users of a channel share one subscription, and the last one ends it", () => {
    const connection = opened();
    const first = connection.subscribe("news");
    const second = connection.subscribe("news");

    first.unsubscribe();
    assert.deepEqual(page.socket.sentEvents("pusher:unsubscribe"), []);
    second.unsubscribe();

    assert.equal(page.socket.sentEvents("pusher:subscribe").length, 1);
    assert.deepEqual(page.socket.sentEvents("pusher:unsubscribe"), [{ channel: "news" }]);
  });

  test("a channel's listener receives this channel only, until it is unsubscribed", () => {
    const news = opened().subscribe("news");
    const received = record(news, "item");

    page.socket.receive("item", 1, { channel: "news" });
    page.socket.receive("item", 2, { channel: "other" });
    news.unsubscribe();
    page.socket.receive("item", 3, { channel: "news" });

    assert.deepEqual(received.map(([, data]) => data), [1]);
  });

  test("the user's own private channels need no signature", () => {
    const connection = opened();

    connection.subscribe("private-user-42");
    connection.subscribe("private-task-a");

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "private-user-42" }, { channel: "private-task-a" }]);
    assert.deepEqual(page.requests, []);
  });

  test("a private channel is signed by the gateway's auth endpoint", async () => {
    page.responses.auth = { auth: "k3y:signature" };

    opened().subscribe("private-room");
    await page.settle();

    const [request] = page.requests;
    assert.equal(request.path, "/jobpush/auth");
    assert.equal(request.method, "POST");
    assert.deepEqual(Object.fromEntries(request.body), { socket_id: "1.2", channel_name: "private-room" });
    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "private-room", auth: "k3y:signature" }]);
  });

  test("a presence channel forwards its channel_data byte for byte", async () => {
    page.responses.auth = { auth: "k3y:signature", channel_data: '{"user_id": "42"}' };

    opened().subscribe("presence-room");
    await page.settle();

    assert.equal(page.socket.sentEvents("pusher:subscribe")[0].channel_data, '{"user_id": "42"}');
  });

  test("a refused signature is reported to the channel", async () => {
    page.responses.auth = { status: 403 };
    const received = record(opened().subscribe("private-room"), "pusher:subscription_error");

    await page.settle();

    assert.deepEqual(received, [["pusher:subscription_error", { status: 403 }, { channel: "private-room" }]]);
    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), []);
  });

  test("an invalid signature is reported to the channel", async () => {
    page.responses.auth = { status: 200, ok: true, json: () => Promise.reject(new SyntaxError("not JSON")) };
    const received = record(opened().subscribe("private-room"), "pusher:subscription_error");
    await page.settle();

    assert.deepEqual(received, [["pusher:subscription_error", { status: 200 }, { channel: "private-room" }]]);
  });

  test("a signature for a closed socket is not used on the next one", async () => {
    page.responses.auth = { auth: "k3y:signature" };
    opened().subscribe("private-room");

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ socketId: "3.4" });
    await page.settle();

    assert.deepEqual(page.sockets[0].sentEvents("pusher:subscribe"), []);
    assert.equal(page.socket.sentEvents("pusher:subscribe").length, 1);
    assert.equal(page.requests[1].body.get("socket_id"), "3.4");
  });

  test("a presence channel has its members, and emits added and removed events", async () => {
    page.responses.auth = { auth: "a" };
    const room = opened().subscribe("presence-room");
    const received = record(room, "pusher:member_added", "pusher:member_removed");
    await page.settle();
    const channel = { channel: "presence-room" };

    const presence = { count: 2, ids: ["1", "2"], hash: { 1: { name: "Ada" }, 2: { name: "Bob" } } };
    page.socket.receive("pusher_internal:subscription_succeeded", { presence }, channel);
    page.socket.receive("pusher_internal:member_added", { user_id: 3, user_info: { name: "Cy" } }, channel);
    page.socket.receive("pusher_internal:member_removed", { user_id: "1" }, channel);

    assert.deepEqual([...room.members], [["2", { name: "Bob" }], ["3", { name: "Cy" }]]);
    assert.deepEqual(received.map(([event, data]) => [event, data.user_id]), [["pusher:member_added", 3], ["pusher:member_removed", "1"]]);
  });

  test("after a reconnect a presence channel starts from the new list of members", async () => {
    const room = opened().subscribe("presence-room");
    const channel = { channel: "presence-room" };
    page.socket.receive("pusher_internal:subscription_succeeded", { presence: { hash: { 1: {} } } }, channel);

    page.socket.receive("pusher_internal:subscription_succeeded", { presence: { hash: { 2: {} } } }, channel);

    assert.deepEqual([...room.members.keys()], ["2"]);
  });

  test("a client event is sent on its channel, or reported as not sent", () => {
    const connection = opened();
    const room = connection.subscribe("presence-room");

    assert.equal(room.trigger("client-typing", { on: true }), true);
    assert.deepEqual(page.socket.sent.at(-1), { event: "client-typing", data: { on: true }, channel: "presence-room" });
    page.socket.end();

    assert.equal(room.trigger("client-typing", {}), false);
  });
});

describe("reconnecting", () => {
  test("the delay doubles with each attempt, up to a cap, with full jitter", () => {
    opened();
    const waits = [];

    for (let attempt = 0; attempt < 8; attempt++) {
      page.socket.end();
      waits.push(page.clock.nextMs);
      page.clock.pass(waits.at(-1));
    }

    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  });

  test("the jitter may shorten the delay to zero", () => {
    Math.random = () => 0;
    opened();

    page.socket.end();

    assert.equal(page.clock.nextMs, 0);
  });

  test("a stable connection resets the back-off", () => {
    opened();
    page.socket.end();
    page.clock.pass(500);
    page.socket.end();
    page.clock.pass(1000);
    page.socket.welcome();
    page.clock.pass(STABLE_MS + 1);

    page.socket.end();

    assert.equal(page.clock.nextMs, 500);
  });

  test("a connection that breaks at once does not reset the back-off", () => {
    opened();
    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome();

    page.socket.end();

    assert.equal(page.clock.nextMs, 1000);
  });

  test("the state is emitted once", () => {
    const connection = opened();
    const received = record(connection, "jobpush:state");

    page.socket.end();
    page.clock.pass(500);
    page.socket.end();
    page.clock.pass(1000);
    page.socket.welcome();

    assert.deepEqual(received.map(([, state]) => state), ["reconnecting", "connected"]);
  });

  test("the user's channel resumes from the last id", () => {
    opened();
    page.socket.receiveTask(task("a", 1), { id: "1700000000000-0" });
    page.socket.receiveTask(task("a", 2), { id: "1700000000000-1" });

    page.socket.end();
    page.clock.pass(500);

    assert.equal(page.socket.url.searchParams.get("since"), "1700000000000-1");
  });

  test("every other channel resumes from its own last id", () => {
    const connection = opened();
    connection.subscribe("news");
    connection.subscribe("quiet");
    page.socket.receive("item", {}, { channel: "news", id: "9-0" });

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome();

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news", since: "9-0" }, { channel: "quiet" }]);
  });

  test("a channel that was left is not rejoined, and its position is dropped", () => {
    const connection = opened();
    const news = connection.subscribe("news");
    page.socket.receive("item", {}, { channel: "news", id: "9-0" });
    news.unsubscribe();

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome();
    connection.subscribe("news");

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news" }]);
  });

  test("after a resync sequence numbers start again, and the tasks stay in view", () => {
    const connection = opened();
    page.socket.receiveTask(task("a", 9, { percent: 90 }));

    page.socket.receive("jobpush:resync", {}, { channel: OWN });
    assert.equal(connection.tasks.get("a").percent, 90);
    page.socket.receiveTask(task("a", 1, { percent: 95 }));

    assert.equal(connection.tasks.get("a").percent, 95);
  });

  test("a resync of another channel does not affect the user's tasks", () => {
    const connection = opened();
    page.socket.receiveTask(task("a", 9, { percent: 90 }));

    page.socket.receive("jobpush:resync", {}, { channel: "news" });
    page.socket.receiveTask(task("a", 1, { percent: 10 }));

    assert.equal(connection.tasks.get("a").percent, 90);
  });

  test("another user sees no tasks of the previous one, and does not resume from its position", () => {
    const connection = opened();
    page.socket.receiveTask(task("secret", 1), { id: "7-0" });

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ user: "43" });

    assert.equal(connection.tasks.size, 0);
    assert.equal(page.sockets.length, 3);
    assert.equal(page.socket.url.searchParams.get("since"), null);
  });

  test("an ended session is shown until the next sign-in", () => {
    const connection = opened();
    for (const user of [null, "42"]) {
      page.socket.end();
      page.clock.pass(1000);
      page.socket.welcome({ user });
      page.clock.pass(1500);

      assert.equal(connection.state, user ? "connected" : "signedOut");
    }
  });

  test("a visitor that never signed in is not signed out", () => {
    const connection = opened({ user: null });
    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ user: null });

    page.clock.pass(1500);

    assert.equal(connection.state, "connected");
  });

  test("tasks count as loaded after the user's own channel, not after a local task", () => {
    const connection = opened({ user: null });
    connection.show(task("upload"));
    page.socket.receive("pusher_internal:subscription_succeeded", {}, { channel: "news" });
    assert.equal(connection.isLoaded, false);
    const received = record(connection, "jobpush:tasks");

    page.socket.welcome();

    assert.equal(connection.isLoaded, true);
    assert.equal(received.length, 1);
  });

  test("going online reconnects at once", () => {
    opened();
    page.socket.end();

    page.goOnline();

    assert.equal(page.sockets.length, 2);
    assert.equal(page.clock.nextMs, 10_000);
  });

  test("showing the page reconnects at once; hiding it does not", () => {
    opened();
    page.socket.end();

    page.show("hidden");
    assert.equal(page.sockets.length, 1);
    page.show();

    assert.equal(page.sockets.length, 2);
  });

  test("after a sleep, a ping detects a dead socket", () => {
    opened();

    page.show();
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
    page.clock.pass(10_000 + 500);

    assert.equal(page.sockets.length, 2);
  });

  test("an attempt in progress is not started twice", () => {
    open();

    page.show();
    page.show();

    assert.equal(page.sockets.length, 1);
  });

  test("messages of an abandoned socket are ignored", () => {
    const connection = opened();
    const old = page.socket;
    page.clock.pass(25_000 + 10_000);

    old.receiveTask(task("a", 1));

    assert.equal(connection.tasks.size, 0);
  });
});

describe("close codes", () => {
  for (const code of [4000, 4001, 4009, 4099]) {
    test(`${code} stops reconnecting permanently`, () => {
      const connection = opened();

      page.socket.end(code);
      page.goOnline();
      page.show();
      page.clock.pass(1_000_000);

      assert.equal(connection.state, "failed");
      assert.equal(page.sockets.length, 1);
    });
  }

  for (const code of [4100, 4199]) {
    test(`${code} backs off for at least a second`, () => {
      Math.random = () => 0;
      opened();

      page.socket.end(code);

      assert.equal(page.clock.nextMs, 1000);
    });
  }

  for (const code of [4200, 4299]) {
    test(`${code} reconnects within a second with jitter, any number of times`, () => {
      opened();

      for (let time = 0; time < 5; time++) {
        page.socket.end(code);
        assert.equal(page.clock.nextMs, 500);
        page.clock.pass(500);
        page.socket.welcome();
      }
    });
  }

  test("an error as the first frame is treated like its close code", () => {
    const connection = open();
    const received = record(connection, "pusher:error");

    page.socket.receive("pusher:error", { code: 4001, message: "no such app" });

    assert.equal(connection.state, "failed");
    assert.deepEqual(received[0][1], { code: 4001, message: "no such app" });
  });

  test("a later error does not close the connection", () => {
    const connection = opened();

    page.socket.receive("pusher:error", { code: 4009, message: "client event refused" });

    assert.equal(connection.state, "connected");
  });
});

describe("liveness", () => {
  test("an idle connection pings, and the pong keeps the socket", () => {
    opened({ activityTimeout: 20 });

    page.clock.pass(19_999);
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), []);
    page.clock.pass(1);
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
    page.socket.receive("pusher:pong");
    page.clock.pass(10_001);

    assert.equal(page.sockets.length, 1);
    assert.ok(!page.socket.isClosed);
  });

  test("any message postpones the ping", () => {
    opened({ activityTimeout: 20 });

    page.clock.pass(15_000);
    page.socket.receive("news");
    page.clock.pass(15_000);

    assert.deepEqual(page.socket.sentEvents("pusher:ping"), []);
  });

  test("without a pong the socket is replaced", () => {
    const connection = opened({ activityTimeout: 20 });

    page.clock.pass(20_000 + 10_000);

    assert.equal(connection.state, "reconnecting");
    assert.ok(page.sockets[0].isClosed);
  });

  test("a ping of the gateway gets a pong", () => {
    opened();

    page.socket.receive("pusher:ping");

    assert.deepEqual(page.socket.sentEvents("pusher:pong"), [{}]);
  });
});

describe("where WebSockets are blocked", () => {
  test("after two sockets that never opened, the client reads an event stream", async () => {
    const connection = open();
    connection.subscribe("news");
    connection.subscribe("private-task-a");

    await blockSockets();

    assert.equal(page.sockets.length, 2);
    assert.equal(page.stream.url.href, "https://app.example/jobpush/events?channels=news%2Cprivate-task-a&since=");
    assert.equal(page.stream.headers.Accept, "text/event-stream");
  });

  test("a browser that refuses to make a socket has it blocked", async () => {
    globalThis.WebSocket = class {
      constructor() {
        throw new DOMException("insecure", "SecurityError");
      }
    };
    const connection = open();

    page.clock.pass(0);
    page.clock.pass(500);
    page.clock.pass(1000);
    await page.settle();
    page.stream.welcome();
    await page.settle();

    assert.equal(connection.state, "connected");
  });

  test("sockets do not count as blocked if the gateway was reachable before", async () => {
    opened();
    page.socket.end();
    page.clock.pass(500);

    await blockSockets();

    assert.equal(page.streams.length, 0);
  });

  test("sockets of a known gateway count as blocked after many attempts, or on another network", async () => {
    const failUntilFallback = async () => {
      const before = page.sockets.length;
      while (!page.streams.length) {
        if (!page.socket.isClosed) page.socket.end();
        page.clock.pass(Math.min(page.clock.nextMs, 30_000));
        await page.settle();
      }
      return page.sockets.length - before;
    };

    opened();
    page.socket.end();
    page.clock.pass(500);
    assert.equal(await failUntilFallback(), 21);

    page = new FakePage();
    opened();
    page.goOnline();
    page.clock.pass(RESPONSE_TIMEOUT_MS + 500); // no pong arrives: the network has changed
    assert.equal(await failUntilFallback(), 1);

    page = new FakePage();
    opened();
    page.goOnline();
    page.socket.receive("pusher:pong"); // the network is the same
    page.socket.end();
    page.clock.pass(500);
    assert.equal(await failUntilFallback(), 21);
  });

  test("the stream delivers the same events without signatures", async () => {
    const connection = open();
    const room = connection.subscribe("private-room");
    const received = record(room, "item");
    await blockSockets();
    page.requests.length = 0;

    page.stream.welcome();
    page.stream.receiveTask(task("a", 1));
    page.stream.receive("item", 1, { channel: "private-room" });
    await page.settle();

    assert.equal(connection.state, "connected");
    assert.equal(connection.tasks.size, 1);
    assert.equal(received.length, 1);
    assert.deepEqual(page.requests, []);
    assert.equal(room.trigger("client-x", {}), false);
  });

  test("channels subscribed later are requested in one new stream", async () => {
    const connection = open();
    connection.subscribe("one");
    await blockSockets();
    page.stream.welcome();
    page.stream.receive("item", {}, { channel: "one", id: "17-0" });
    await page.settle();

    connection.subscribe("two");
    connection.subscribe("three");
    page.clock.pass(100);
    await page.settle();

    assert.equal(page.streams.length, 2);
    assert.ok(page.streams[0].isClosed);
    assert.equal(page.stream.url.searchParams.get("channels"), "one,two,three");
    assert.equal(page.stream.url.searchParams.get("since"), "one|17-0");
  });

  test("a stream that breaks is opened again", async () => {
    const connection = open();
    await blockSockets();
    page.stream.welcome();
    await page.settle();

    page.stream.end();
    await page.settle();
    assert.equal(connection.state, "reconnecting");
    page.clock.pass(2000);
    await page.settle();
    page.stream.welcome();
    await page.settle();

    assert.equal(connection.state, "connected");
    assert.equal(page.streams.length, 2);
  });

  test("a socket is tried again after some minutes", async () => {
    const connection = open();
    await blockSockets();
    page.stream.welcome();
    await page.settle();

    await passUntilSocketRetry();
    page.socket.welcome();

    assert.equal(page.sockets.length, 3);
    assert.ok(page.stream.isClosed);
    assert.equal(connection.state, "connected");
  });

  test("each attempt at a socket interrupts the stream briefly, the tenth no longer than the first", async () => {
    open();
    await blockSockets();
    for (let attempts = 1; attempts <= 10; attempts += 1) {
      page.stream.welcome();
      await page.settle();
      const started = page.clock.now;
      await passUntilSocketRetry();
      page.socket.end();
      page.clock.pass(500);
      await page.settle();

      assert.equal(page.sockets.length, 2 + attempts);
      assert.ok(!page.stream.isClosed);
      assert.ok(page.clock.now - started <= SOCKET_RETRY_MS + 500);
    }
  });

  test("on another network a socket is tried at once", async () => {
    open();
    await blockSockets();
    page.stream.welcome();
    await page.settle();

    page.goOnline();

    assert.equal(page.sockets.length, 3);
  });

  test("if the stream fails too, the client polls, and the state shows it, until sockets work", async () => {
    const connection = open();
    page.responses.tasks = { tasks: [task("b", 1, { created_at: 2 }), task("a", 1)] };
    await blockSockets();

    page.stream.fail();
    await page.settle();
    assert.deepEqual([...connection.tasks.keys()], ["b", "a"]);
    assert.equal(connection.state, "polling");
    assert.equal(connection.isLoaded, true);
    page.responses.tasks = { tasks: [task("a", 2, { percent: 50 })] };
    page.clock.pass(3000);
    await page.settle();
    assert.equal(connection.tasks.get("a").percent, 50);
    await passUntilSocketRetry();
    page.socket.welcome();

    assert.equal(connection.state, "connected");
  });

  test("a poll without an answer changes the state, and is not the last one", async () => {
    const connection = open();
    page.responses.tasks = { tasks: [task("a", 1)] };
    await blockSockets();
    page.stream.fail();
    await page.settle();
    const { fetch } = globalThis;
    globalThis.fetch = () => new Promise(() => {});
    page.clock.pass(3000);
    await page.settle();

    page.clock.pass(10_000);
    assert.equal(connection.state, "reconnecting");
    globalThis.fetch = fetch;
    page.clock.pass(2000);
    await page.settle();
    page.socket.welcome();

    assert.equal(connection.state, "connected");
  });

  test("a stream that a proxy buffers is abandoned", async () => {
    const connection = open();
    page.responses.tasks = { tasks: [task("a", 1)] };
    await blockSockets();

    page.clock.pass(10_000);
    await page.settle();

    assert.ok(page.stream.isClosed);
    assert.equal(connection.tasks.size, 1);
  });

  test("a silent stream is closed and opened again", async () => {
    const connection = open();
    await blockSockets();
    page.stream.welcome();
    await page.settle();

    page.clock.pass(25_000);
    await page.settle();
    assert.equal(connection.state, "reconnecting");
    page.clock.pass(2000);
    await page.settle();

    assert.equal(page.streams.length, 2);
  });

  test("an unreachable gateway is retried soon", async () => {
    open();
    await blockSockets();

    page.stream.fail();
    await page.settle();
    page.clock.pass(10_000);

    assert.equal(page.sockets.length, 3);
  });

  test("a closed connection sends no more requests", async () => {
    const connection = open();
    page.responses.tasks = { tasks: [] };
    await blockSockets();
    page.stream.fail();

    connection.close();
    page.clock.pass(0);
    await page.settle();
    page.clock.pass(1_000_000);

    assert.equal(page.sockets.length, 2);
    assert.equal(connection.state, "closed");
  });

  test("all tabs of a browser share one stream, and another tab takes it over", async () => {
    const first = open();
    first.subscribe("one");
    await blockSockets();
    const second = open();
    second.subscribe("two");
    await blockSockets();
    page.clock.pass(100);
    await page.settle();
    assert.deepEqual(openStreams().map(({ url }) => url.searchParams.get("channels")), ["one,two"]);
    const received = record(second, "item");

    page.stream.welcome();
    page.stream.receiveTask(task("a", 1));
    page.stream.receive("item", 7, { channel: "two" });
    await page.settle();
    assert.deepEqual([first.state, second.state], ["connected", "connected"]);
    assert.deepEqual([first.tasks.size, second.tasks.size], [1, 1]);
    assert.deepEqual(received.map(([, data]) => data), [7]);
    first.close();
    page.clock.pass(0);
    await page.settle();
    page.clock.pass(100);
    await page.settle();

    assert.equal(openStreams().length, 1);
    page.stream.welcome();
    await page.settle();
    assert.equal(second.state, "connected");
  });
});

describe("tabs that share a stream", () => {
  /** Open a connection that is the only one with a stream. */
  const openLeader = async (options) => {
    const leader = open(options);
    await blockSockets();
    page.stream.welcome();
    await page.settle();
    return leader;
  };
  /** Open another connection, and let the leader open a stream for it. */
  const openFollower = async (prepare = () => null, options) => {
    const follower = open(options);
    prepare(follower);
    await blockSockets();
    await passRestart();
    return follower;
  };
  const passRestart = async () => {
    page.clock.pass(100);
    await page.settle();
  };
  const sinceOf = (stream) => stream.url.searchParams.get("since");

  test("a tab gets the snapshots of channels that another tab has, which gets no event twice", async () => {
    const leader = await openLeader();
    leader.subscribe("private-task-x");
    leader.subscribe("news");
    await passRestart();
    page.stream.welcome();
    page.stream.receiveTask(task("x", 1), { channel: "private-task-x", id: "17-0" });
    page.stream.receive("item", 1, { channel: "news", id: "18-0" });
    await page.settle();
    const ofLeader = record(leader, "jobpush:task", "item");

    const follower = await openFollower((connection) => {
      connection.subscribe("private-task-x");
      connection.subscribe("news");
    });
    const ofFollower = record(follower, "jobpush:task");
    assert.equal(sinceOf(page.stream), "news|18-0");
    page.stream.receiveTask(task("x", 1), { channel: "private-task-x", id: "17-0" });
    await page.settle();

    assert.equal(ofFollower.length, 1);
    assert.equal(ofLeader.length, 0);
  });

  test("a new stream continues from the oldest position of all tabs, and after a resync from none", async () => {
    const leader = await openLeader();
    leader.subscribe("news");
    await openFollower((connection) => connection.subscribe("news"));
    page.stream.receive("item", 1, { channel: "news", id: "9-5" });
    page.stream.receiveTask(task("a", 1), { id: "17-1" });
    await page.settle();
    page.stream.end();
    await page.settle();
    page.clock.pass(2000);
    await page.settle();
    assert.equal(sinceOf(page.stream), "#server-to-user-42|17-1|news|9-5");

    const items = record(leader, "item");
    page.stream.receive("jobpush:resync", {}, { channel: "news" });
    page.stream.receive("item", 2, { channel: "news", id: "3-0" });
    await page.settle();

    assert.deepEqual(items.map(([, data]) => data), [2]);
  });

  test("a tab gets no events of channels that only another tab has", async () => {
    const leader = await openLeader();
    const items = record(leader, "item");
    await openFollower((connection) => connection.subscribe("news"));

    page.stream.receive("item", 1, { channel: "news" });
    await page.settle();

    assert.equal(items.length, 0);
  });

  test("a presence channel is left with its last tab", async () => {
    const leader = await openLeader();
    const room = leader.subscribe("presence-room");
    await passRestart();
    const other = await openFollower((connection) => connection.subscribe("presence-room"));

    room.unsubscribe();
    await passRestart();
    assert.equal(page.stream.url.searchParams.get("channels"), "presence-room");
    page.stream.welcome();
    await page.settle();
    other.subscribe("presence-room").unsubscribe();
    room.unsubscribe();
    other.close();
    page.clock.pass(0);
    await page.settle();
    leader.subscribe("news");
    await passRestart();

    assert.equal(page.stream.url.searchParams.get("channels"), "news");
  });

  for (const [kind, options] of [
    ["headers", { headers: { "X-User": "bob" } }],
    ["credentials", { credentials: "omit" }],
    ["gateways", { root: "/other" }],
    ["users", { token: () => `h.${btoa('{"sub":"bob"}')}.s` }],
    ["opaque tokens", { token: () => "bob" }],
  ]) {
    test(`tabs with different ${kind} do not share a stream`, async () => {
      await openLeader({ headers: {}, token: () => "ada" });
      await openFollower(undefined, { headers: {}, token: () => "ada", ...options });

      assert.equal(openStreams().length, 2);
    });
  }

  test("tabs of one user share a stream, whatever their tokens are", async () => {
    let count = 0;
    const token = () => `h.${btoa(JSON.stringify({ sub: "ada", n: ++count }))}.s`;
    await openLeader({ token });
    await openFollower(undefined, { token });

    assert.equal(openStreams().length, 1);
  });

  test("a stream gets a new token before the old one expires, and after it has ended", async (context) => {
    context.mock.method(console, "warn", () => {});
    let count = 0;
    const connection = open({ token: async () => `h.${btoa('{"sub":"ada"}')}.${++count}` });
    await page.settle();
    await blockSockets();
    const accept = async () => {
      page.stream.receive("pusher:connection_established", { socket_id: "1.2", activity_timeout: 120 });
      page.stream.receive("jobpush:signin_success", { user_id: "42", expires_at: connection.time() + 20 });
      page.stream.receive("pusher_internal:subscription_succeeded", {}, { channel: OWN });
      await page.settle();
    };
    const signatures = () => page.streams.map(({ headers }) => headers.Authorization.split(".")[2]);
    await accept();

    page.clock.pass(16_001);
    await page.settle();
    await passRestart();
    assert.deepEqual(signatures(), ["1", "2"]);
    await accept();
    page.stream.receive("jobpush:signed_out", { reason: "token_expired" });
    await page.settle();
    await passRestart();
    assert.deepEqual(signatures(), ["1", "2", "3"]);
    await accept();

    assert.equal(connection.state, "connected");
    assert.equal(openStreams().length, 1);
  });

  test("a new token of another user leaves the stream of the previous one", async (context) => {
    context.mock.method(console, "warn", () => {});
    let user = "ada";
    const token = async () => user;
    await openLeader({ token });
    await openFollower(undefined, { token });
    user = "bob";

    page.stream.receive("jobpush:signed_out", { reason: "signed_out" });
    await page.settle();

    assert.deepEqual(openStreams().map(({ headers }) => headers.Authorization), ["Bearer bob"]);
  });

  for (const kind of ["missing", "refused"]) {
    test(`if Web Locks are ${kind}, the tabs still share one stream, and the next tab takes it over`, async () => {
      if (kind === "missing") navigator.locks = undefined;
      else navigator.locks.request = async () => Promise.reject(new DOMException("no storage", "SecurityError"));
      const elect = async () => {
        page.clock.pass(1000);
        await page.settle();
      };
      const first = open();
      await blockSockets();
      const second = open();
      await blockSockets();
      await elect();
      await elect();
      await passRestart();
      assert.equal(openStreams().length, 1);
      page.stream.welcome();
      await page.settle();
      assert.deepEqual([first.state, second.state], ["connected", "connected"]);

      first.close();
      page.clock.pass(0);
      await page.settle();
      await elect();

      assert.equal(openStreams().length, 1);
    });
  }

  test("tabs that cannot share a stream poll", async () => {
    globalThis.BroadcastChannel = class {
      constructor() {
        throw new DOMException("no storage", "SecurityError");
      }
    };
    page.responses.tasks = { tasks: [task("a", 1)] };
    const connection = open();
    await blockSockets();

    assert.equal(page.streams.length, 0);
    assert.equal(connection.state, "polling");
    page.dispatch("pagehide");
    page.dispatch("pageshow", { persisted: true });
    page.responses.tasks = { tasks: [task("a", 2)] };
    await page.settle();
    assert.equal(connection.tasks.get("a").seq, 2);
  });

  test("a leader that is silent is replaced", async () => {
    const { request } = navigator.locks;
    const forever = () => new Promise(() => {});
    navigator.locks.request = (name, ...rest) => {
      navigator.locks.request = request;
      request(name, {}, forever).catch(() => null); // a tab that is frozen
      return request(name, ...rest);
    };
    const connection = open();
    await blockSockets();
    page.clock.pass(24_000);
    await page.settle();
    assert.equal(page.streams.length, 0);

    page.clock.pass(1000);
    await page.settle();
    page.stream.welcome();
    await page.settle();

    assert.equal(connection.state, "connected");
  });

  test("a leader follows after another tab has taken its lock", async () => {
    const { request } = navigator.locks;
    let name;
    navigator.locks.request = (...args) => request(([name] = args)[0], ...args.slice(1));
    await openLeader();

    request(name, { steal: true }, () => new Promise(() => {}));
    await page.settle();

    assert.equal(openStreams().length, 0);
  });

  for (const [sleep, wake, fields] of [["freeze", "resume", {}], ["pagehide", "pageshow", { persisted: true }]]) {
    test(`a page gives its stream up at ${sleep}, and gets one at ${wake}`, async () => {
      const connection = await openLeader();

      page.dispatch(sleep);
      await page.settle();
      assert.equal(openStreams().length, 0);
      page.dispatch(wake, fields);
      await page.settle();
      page.stream.welcome();
      page.stream.receiveTask(task("a", 1));
      await page.settle();

      assert.equal(openStreams().length, 1);
      assert.equal(connection.tasks.size, 1);
    });
  }
});

describe("liveness of the network", () => {
  test("an idle connection pings within 25 seconds, even if the gateway allows more", () => {
    opened({ activityTimeout: 120 });

    page.clock.pass(25_000);

    assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
  });

  test("a missing pong is detected within 10 seconds, even if pings are repeated", () => {
    const connection = opened();
    page.clock.pass(25_000);

    page.clock.pass(6000);
    page.show();
    page.clock.pass(4000);

    assert.equal(connection.state, "reconnecting");
  });

  test("going offline changes the state at once, with a reason, and does not count as a blocked socket", () => {
    const connection = opened();

    page.dispatch("offline");

    assert.equal(connection.state, "reconnecting");
    assert.equal(connection.reason.code, "offline");
    assert.ok(page.socket.isClosed);
    page.goOnline();
    page.socket.welcome();
    assert.equal(connection.state, "connected");
    assert.equal(connection.reason, null);
  });

  for (const [type, fields] of [["pageshow", { persisted: true }], ["resume", {}], ["online", {}], ["visibilitychange", {}]]) {
    test(`${type} pings at once`, () => {
      opened();

      page.dispatch(type, fields);

      assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
    });
  }

  test("the first pageshow of a page sends no ping", () => {
    opened();

    page.dispatch("pageshow", { persisted: false });

    assert.deepEqual(page.socket.sentEvents("pusher:ping"), []);
  });
});

describe("reasons", () => {
  const refusal = { status: 403, error: { code: "forbidden_origin", message: "https://app.example is not allowed" } };

  test("a refused handshake sets a reason, and logs it once in the console", async (context) => {
    const warnings = context.mock.method(console, "warn", () => {}).mock;
    page.responses.tasks = refusal;
    const connection = open();

    await blockSockets();
    page.stream.fail(403);
    await page.settle();

    assert.deepEqual(connection.reason, refusal.error);
    assert.equal(warnings.callCount(), 1);
    assert.match(warnings.calls[0].arguments[0], /https:\/\/app.example is not allowed \(forbidden_origin\)/);
  });

  test("a protocol error sets a reason", (context) => {
    context.mock.method(console, "warn", () => {});
    const connection = open();

    page.socket.receive("pusher:error", { code: 4001, message: "Application key k3y does not exist" });

    assert.deepEqual(connection.reason, { code: "4001", message: "Application key k3y does not exist" });
  });

  test("explain sets a reason for a connection without a user", async (context) => {
    context.mock.method(console, "warn", () => {});
    page.responses.tasks = { status: 401, error: { code: "not_signed_in", message: "nobody is signed in" } };
    const connection = opened({ user: null });
    const states = record(connection, "jobpush:state");

    await connection.explain();

    assert.equal(connection.state, "connected");
    assert.equal(connection.reason.code, "not_signed_in");
    assert.equal(states.length, 1);
  });
});

describe("tokens", () => {
  const FAR = 4_000_000_000;
  const signedIn = (expires_at) => page.socket.receive("jobpush:signin_success", { user_id: "42", expires_at });
  const sentTokens = () => page.socket.sentEvents("jobpush:signin").map(({ token }) => token);

  const openWithToken = async (token) => {
    const connection = open({ token });
    page.socket.onopen();
    await page.settle();
    return connection;
  };

  const makeTokenSource = () => {
    let count = 0;
    return async () => `t${++count}`;
  };

  test("the token is the first message, sent before the connection is established, and not in the URL", async () => {
    await openWithToken(makeTokenSource());

    assert.deepEqual(page.socket.sent, [{ event: "jobpush:signin", data: { token: "t1" } }]);
    assert.doesNotMatch(page.socket.url.href, /t1/);
  });

  test("the token is read while the socket opens, and is the only message before the first task", async () => {
    let reads = 0;
    const connection = open({ token: async () => `t${++reads}` });
    await page.settle();
    assert.equal(reads, 1);
    assert.equal(page.sockets.length, 1);

    page.socket.onopen();
    await page.settle();
    page.socket.welcome({ user: null });
    signedIn(FAR);
    page.socket.receive("pusher_internal:subscription_succeeded", { position: "1-0" }, { channel: OWN });
    page.socket.receiveTask(task("a", 1));
    await page.settle();

    assert.equal(connection.tasks.get("a").state, "PROGRESS");
    assert.deepEqual(page.socket.sent.map(({ event }) => event), ["jobpush:signin"]);
    assert.deepEqual(page.requests, []);
  });

  test("the token is replaced on the same socket before it expires", async () => {
    const connection = await openWithToken(makeTokenSource());
    page.socket.welcome({ user: null });
    signedIn(connection.time() + 20);
    await page.settle();

    page.clock.pass(16_001);
    await page.settle();

    assert.deepEqual(sentTokens(), ["t1", "t2"]);
    assert.equal(page.sockets.length, 1);
  });

  test("a token function that fails is called again", async (context) => {
    context.mock.method(console, "warn", () => {});
    let calls = 0;
    const connection = await openWithToken(async () => {
      if (++calls === 1) throw new Error("unreachable");
      return "late";
    });
    assert.equal(connection.reason.code, "token_unavailable");

    page.clock.pass(5000);
    await page.settle();

    assert.deepEqual(sentTokens(), ["late"]);
  });

  test("a token function without an answer is called again, also after a reconnect", async (context) => {
    context.mock.method(console, "warn", () => {});
    let calls = 0;
    const connection = await openWithToken(() => (++calls === 1 ? new Promise(() => {}) : "late"));
    page.clock.pass(10_000);
    await page.settle();
    assert.equal(connection.state, "reconnecting");

    page.clock.pass(1000);
    page.socket.onopen();
    await page.settle();

    assert.deepEqual(sentTokens(), ["late"]);
  });

  test("a refused token is replaced once, then the page shows that it is signed out", async (context) => {
    context.mock.method(console, "warn", () => {});
    const connection = await openWithToken(makeTokenSource());
    page.socket.welcome({ user: null });

    for (let time = 0; time < 3; time++) {
      page.socket.receive("jobpush:signin_error", { code: "token_expired", message: "the token has expired" });
      await page.settle();
    }

    assert.deepEqual(sentTokens(), ["t1", "t2"]);
    assert.equal(connection.state, "signedOut");
    assert.equal(connection.reason.code, "token_expired");
  });

  test("after signed_out a new token signs in again", async (context) => {
    context.mock.method(console, "warn", () => {});
    const connection = await openWithToken(makeTokenSource());
    page.socket.welcome({ user: null });
    signedIn(FAR);

    page.socket.receive("jobpush:signed_out", { reason: "token_expired" });
    assert.equal(connection.state, "signedOut");
    await page.settle();
    signedIn(FAR);

    assert.deepEqual(sentTokens(), ["t1", "t2"]);
    assert.equal(connection.state, "connected");
  });

  test("requests and streams carry the token, the page's headers and its credentials", async () => {
    page.responses["tasks/a/cancel"] = {};
    const connection = open({ token: () => "t", headers: { "X-Tenant": "7" }, credentials: "include" });

    await connection.cancel("a");
    await blockSockets();

    const { headers, credentials } = page.requests[0];
    assert.deepEqual(headers, { "X-Requested-With": "jobpush", "X-Tenant": "7", Authorization: "Bearer t" });
    assert.equal(credentials, "include");
    assert.equal(page.stream.headers.Authorization, "Bearer t");
  });

  test("a request whose token has expired is sent again with a new one", async () => {
    const responses = [{ status: 401, error: { code: "token_expired" } }, { status: 202, ok: true }];
    Object.defineProperty(page.responses, "tasks/a/cancel", { get: () => responses.shift() });
    const connection = open({ token: makeTokenSource() });

    assert.equal(await connection.cancel("a"), true);
    assert.deepEqual(page.requests.map(({ headers }) => headers.Authorization), ["Bearer t1", "Bearer t2"]);
  });

  test("the page's meta tag may name a token endpoint", async () => {
    page.document.querySelector = () => ({ dataset: { key: "k3y", root: "", tokenUrl: "/token" } });
    page.responses[undefined] = { text: async () => '{"token":"from the tag"}' };

    const connection = connect({});
    page.socket.onopen();
    await page.settle();

    assert.deepEqual(sentTokens(), ["from the tag"]);
    connection.close();
  });
});

describe("replays and clocks", () => {
  const confirm = (id) => page.socket.receive("pusher_internal:subscription_succeeded", {}, { channel: OWN, id });
  const replayed = (connection) => [...connection.tasks.values()].map((task) => task.replayed);

  test("snapshots of the first load are marked as replayed, later events are not", () => {
    const connection = opened({ user: null });
    confirm("0-0");

    page.socket.receiveTask(task("snapshot", 3));
    page.socket.receiveTask(task("last snapshot", 1), { id: "100-5" });
    page.socket.receiveTask(task("live", 1), { id: "100-6" });

    assert.deepEqual(replayed(connection), [true, true, undefined]);
  });

  test("the first event of a user without tasks is not marked as replayed", () => {
    const connection = opened({ user: null });
    confirm("100-5");

    page.socket.receiveTask(task("live", 1), { id: "100-6" });

    assert.deepEqual(replayed(connection), [undefined]);
  });

  test("events missed while disconnected are not marked as replayed, even if snapshots replace them", () => {
    const connection = opened({ user: null });
    confirm("100-0");
    page.socket.receiveTask(task("a", 1), { id: "101-0" });
    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ user: null });
    confirm("101-0");
    page.socket.receiveTask(task("b", 1), { id: "150-0" });
    page.socket.end();
    page.clock.pass(1500);
    page.socket.welcome({ user: null });
    confirm("0-0");
    page.socket.receive("jobpush:resync", {}, { channel: OWN });

    page.socket.receiveTask(task("c", 1));
    page.socket.receiveTask(task("d", 1), { id: "300-0" });

    assert.deepEqual(replayed(connection), [undefined, undefined, undefined, undefined]);
  });

  test("tasks of the first poll are marked as replayed, later ones are not", async () => {
    const connection = open();
    page.responses.tasks = { tasks: [task("a", 1)] };
    await blockSockets();
    page.stream.fail();
    await page.settle();
    page.responses.tasks = { tasks: [task("b", 1)] };
    page.clock.pass(3000);
    await page.settle();

    assert.deepEqual(replayed(connection), [true, undefined]);
  });

  test("time follows the gateway's clock where the page polls", async () => {
    const connection = open();
    const time = Date.now() / 1000 + 3600;
    page.responses.tasks = { tasks: [], time };
    await blockSockets();
    page.stream.fail();
    await page.settle();

    assert.ok(Math.abs(connection.time() - time) < 5);
  });

  test("a browser clock that is set while the page is open does not change the time", (context) => {
    const connection = opened();
    const before = connection.time();

    context.mock.method(Date, "now", () => 0);
    page.clock.pass(2000);

    assert.equal(connection.time(), before + 2);
  });

  test("time follows the gateway's clock", () => {
    const connection = open();
    const time = Date.now() / 1000 - 3600;

    page.socket.receive("pusher:connection_established", { socket_id: "1.2", activity_timeout: 120, time });

    assert.ok(Math.abs(connection.time() - time) < 5);
  });
});

describe("tasks", () => {
  test("a cancel is requested with a header that other origins cannot set", async () => {
    page.responses["tasks/a%2Fb/cancel"] = { task_id: "a/b", cancelling: true };

    const isAccepted = await opened().cancel("a/b");

    assert.equal(isAccepted, true);
    assert.deepEqual(page.requests[0], {
      path: "/jobpush/tasks/a%2Fb/cancel",
      method: "POST",
      headers: { "X-Requested-With": "jobpush" },
    });
  });

  test("cancel returns false if the request is refused or fails", async () => {
    const connection = opened();
    page.responses["tasks/a/cancel"] = { status: 404 };

    assert.equal(await connection.cancel("a"), false);
    assert.equal(await connection.cancel("b"), false);
  });

  test("a local task is shown, and updated by later fields", () => {
    const connection = open();

    connection.show({ task_id: "u", title: "cat.mov", state: "PENDING", percent: 0 });
    connection.show({ task_id: "u", state: "PROGRESS", percent: 50 });

    const { title, state, percent, seq } = connection.tasks.get("u");
    assert.deepEqual({ title, state, percent }, { title: "cat.mov", state: "PROGRESS", percent: 50 });
    assert.ok(seq < 1);
  });

  test("after the server's first event, local updates are ignored", () => {
    const connection = opened();
    for (let percent = 0; percent <= 100; percent++) connection.show({ task_id: "u", state: "PROGRESS", percent });

    page.socket.receiveTask(task("u", 1, { state: "PENDING" }));
    connection.show({ task_id: "u", state: "PROGRESS", percent: 3 });

    assert.equal(connection.tasks.get("u").state, "PENDING");
  });

  test("a task can be removed", () => {
    const connection = open();
    connection.show({ task_id: "u", state: "PENDING" });

    connection.remove("u");

    assert.equal(connection.tasks.size, 0);
  });
});
