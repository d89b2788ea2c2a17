import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { connect } from "../../client/src/client.js";
import { FakePage } from "./fakes.mjs";

const OWN = "#server-to-user-42";
/** Below this a connection was too short to end the back-off. */
const STABLE_MS = 10_000;
const PATIENCE_MS = 10_000;
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
  const heard = [];
  for (const event of events) target.on(event, (data, info) => heard.push([event, data, info]));
  return heard;
};

/** Two sockets that never open. */
const blockSockets = () => {
  page.socket.end();
  page.clock.pass(500);
  page.socket.end();
  page.clock.pass(1000);
};

describe("handshake", () => {
  test("the socket is opened on the page's own host, in Pusher's way", () => {
    open({ root: "/prefix" });

    assert.equal(page.socket.url.href, "wss://app.example/prefix/app/k3y?protocol=7&client=jobpush&version=0.1.0");
  });

  test("key and root come from the page's tag", () => {
    page.document.querySelector = (selector) => {
      assert.equal(selector, "meta[name=jobpush]");
      return { dataset: { key: "tagged", root: "/site" } };
    };

    connect({});

    assert.equal(page.socket.url.pathname, "/site/app/tagged");
  });

  test("without a tag the key is asked from the gateway", async () => {
    page.answers.config = { key: "asked", path: "/app" };

    connect({ root: "" });
    await page.settle();

    assert.equal(page.socket.url.pathname, "/app/asked");
    assert.deepEqual(page.requests.map(({ path }) => path), ["/jobpush/config"]);
  });

  test("a gateway that can't tell the key yet is asked again", async () => {
    const connection = connect({ root: "" });
    await page.settle();
    assert.equal(connection.state, "reconnecting");

    page.answers.config = { key: "asked" };
    page.clock.pass(500);
    await page.settle();

    assert.equal(page.socket.url.pathname, "/app/asked");
  });

  test("an answer that is no key, or never comes, is asked for again", async () => {
    page.answers.config = { json: () => new Promise(() => {}) };
    const connection = connect({ root: "" });
    await page.settle();
    page.answers.config = { json: () => Promise.reject(new SyntaxError("a page that asks to sign in")) };
    page.clock.pass(PATIENCE_MS + 500);
    await page.settle();
    assert.equal(connection.state, "reconnecting");

    page.answers.config = { key: "asked" };
    page.clock.pass(1000);
    await page.settle();

    assert.equal(page.requests.length, 3);
    assert.equal(page.socket.url.pathname, "/app/asked");
  });

  test("the state goes from connecting to connected", () => {
    const connection = open();
    assert.equal(connection.state, "connecting");
    const heard = record(connection, "jobpush:state");

    page.socket.welcome();

    assert.deepEqual(heard.map(([, state]) => state), ["connected"]);
  });

  test("a socket that opens but says nothing is given up", () => {
    open();

    page.clock.pass(10_000 + 500);

    assert.equal(page.sockets.length, 2);
    assert.ok(page.sockets[0].isClosed);
  });
});

describe("users of a connection", () => {
  test("a page has one connection, whoever asks", () => {
    page.document.querySelector = () => ({ dataset: { key: "k3y", root: "" } });
    const first = connect();
    const second = connect();

    assert.equal(first, second);
    assert.equal(page.sockets.length, 1);
    first.close();
    second.close();
    page.clock.pass(0);
  });

  test("the last user closes it", () => {
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

  test("who closes and opens in one breath keeps the socket", () => {
    const connection = opened();

    connection.close();
    connection.open();
    page.clock.pass(0);

    assert.equal(page.sockets.length, 1);
    assert.ok(!page.socket.isClosed);
  });

  test("a closed connection does not come back by itself", () => {
    const connection = opened();
    connection.close();
    page.clock.pass(0);

    page.goOnline();
    page.show();
    page.clock.pass(1_000_000);

    assert.equal(page.sockets.length, 1);
  });

  test("a closed connection can be opened again, and goes on where it was", () => {
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

  test("each new view is told once, and none that is the same", () => {
    const connection = opened();
    const heard = record(connection, "jobpush:tasks");

    page.socket.receiveTask(task("a", 1));
    page.socket.receiveTask(task("a", 1));

    assert.equal(heard.length, 1);
    assert.equal(heard[0][1], connection.tasks);
  });

  test("tasks of other channels are not the user's", () => {
    const connection = opened();

    page.socket.receiveTask(task("foreign", 1), { channel: "private-task-foreign" });

    assert.equal(connection.tasks.size, 0);
  });

  test("an event of any name is heard, with where it came from", () => {
    const connection = opened();
    const heard = record(connection, "news");

    page.socket.receive("news", { headline: "<b>" }, { channel: OWN, id: "5-0" });

    assert.deepEqual(heard, [["news", { headline: "<b>" }, { channel: OWN, id: "5-0", user_id: undefined }]]);
  });

  test("data that is no JSON is handed on as it came", () => {
    const connection = opened();
    const heard = record(connection, "news");

    page.socket.onmessage({ data: '{"event":"news","channel":"c","data":"plain {text"}' });

    assert.equal(heard[0][1], "plain {text");
  });

  test("an app's own event may be called state or tasks", () => {
    const connection = opened();
    const heard = record(connection, "jobpush:state", "jobpush:tasks");

    page.socket.receive("state", {}, { channel: OWN });
    page.socket.receive("tasks", {}, { channel: OWN });

    assert.deepEqual(heard, []);
  });

  test("a listener that throws keeps nothing from the others", (context) => {
    const errors = context.mock.method(console, "error", () => {}).mock;
    const connection = opened();
    connection.on("news", () => {
      throw new Error("of the page");
    });
    const heard = record(connection, "news");

    page.socket.receive("news");

    assert.equal(heard.length, 1);
    assert.equal(errors.callCount(), 1);
  });

  test("a listener can be taken back", () => {
    const connection = opened();
    const heard = [];
    const off = connection.on("news", (data) => heard.push(data));

    off();
    page.socket.receive("news");

    assert.deepEqual(heard, []);
  });
});

describe("channels", () => {
  test("a public channel is joined without a signature", () => {
    opened().subscribe("news");

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news" }]);
  });

  test("a channel asked for too early is joined once connected", () => {
    open().subscribe("news");
    assert.deepEqual(page.socket.sent, []);

    page.socket.welcome();

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news" }]);
  });

  test("two uses of a channel are one subscription, left by the last", () => {
    const connection = opened();
    const first = connection.subscribe("news");
    const second = connection.subscribe("news");

    first.unsubscribe();
    assert.deepEqual(page.socket.sentEvents("pusher:unsubscribe"), []);
    second.unsubscribe();

    assert.equal(page.socket.sentEvents("pusher:subscribe").length, 1);
    assert.deepEqual(page.socket.sentEvents("pusher:unsubscribe"), [{ channel: "news" }]);
  });

  test("a channel's listener hears this channel only, until it is left", () => {
    const news = opened().subscribe("news");
    const heard = record(news, "item");

    page.socket.receive("item", 1, { channel: "news" });
    page.socket.receive("item", 2, { channel: "other" });
    news.unsubscribe();
    page.socket.receive("item", 3, { channel: "news" });

    assert.deepEqual(heard.map(([, data]) => data), [1]);
  });

  test("one's own private channels need no signature", () => {
    const connection = opened();

    connection.subscribe("private-user-42");
    connection.subscribe("private-task-a");

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "private-user-42" }, { channel: "private-task-a" }]);
    assert.deepEqual(page.requests, []);
  });

  test("a private channel is signed by the gateway's auth", async () => {
    page.answers.auth = { auth: "k3y:signature" };

    opened().subscribe("private-room");
    await page.settle();

    const [request] = page.requests;
    assert.equal(request.path, "/jobpush/auth");
    assert.equal(request.method, "POST");
    assert.deepEqual(Object.fromEntries(request.body), { socket_id: "1.2", channel_name: "private-room" });
    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "private-room", auth: "k3y:signature" }]);
  });

  test("a presence channel hands on its channel_data byte for byte", async () => {
    page.answers.auth = { auth: "k3y:signature", channel_data: '{"user_id": "42"}' };

    opened().subscribe("presence-room");
    await page.settle();

    assert.equal(page.socket.sentEvents("pusher:subscribe")[0].channel_data, '{"user_id": "42"}');
  });

  test("a refused signature is told to the channel", async () => {
    page.answers.auth = { status: 403 };
    const heard = record(opened().subscribe("private-room"), "pusher:subscription_error");

    await page.settle();

    assert.deepEqual(heard, [["pusher:subscription_error", { status: 403 }, { channel: "private-room" }]]);
    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), []);
  });

  test("an answer that is no signature is told to the channel", async () => {
    page.answers.auth = { status: 200, ok: true, json: () => Promise.reject(new SyntaxError("no JSON")) };
    const heard = record(opened().subscribe("private-room"), "pusher:subscription_error");
    await page.settle();

    assert.deepEqual(heard, [["pusher:subscription_error", { status: 200 }, { channel: "private-room" }]]);
  });

  test("a signature for a socket that is gone is not used on the next", async () => {
    page.answers.auth = { auth: "k3y:signature" };
    opened().subscribe("private-room");

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ socketId: "3.4" });
    await page.settle();

    assert.deepEqual(page.sockets[0].sentEvents("pusher:subscribe"), []);
    assert.equal(page.socket.sentEvents("pusher:subscribe").length, 1);
    assert.equal(page.requests[1].body.get("socket_id"), "3.4");
  });

  test("presence tells who is there, who comes and who goes", async () => {
    page.answers.auth = { auth: "a" };
    const room = opened().subscribe("presence-room");
    const heard = record(room, "pusher:member_added", "pusher:member_removed");
    await page.settle();
    const channel = { channel: "presence-room" };

    const presence = { count: 2, ids: ["1", "2"], hash: { 1: { name: "Ada" }, 2: { name: "Bob" } } };
    page.socket.receive("pusher_internal:subscription_succeeded", { presence }, channel);
    page.socket.receive("pusher_internal:member_added", { user_id: 3, user_info: { name: "Cy" } }, channel);
    page.socket.receive("pusher_internal:member_removed", { user_id: "1" }, channel);

    assert.deepEqual([...room.members], [["2", { name: "Bob" }], ["3", { name: "Cy" }]]);
    assert.deepEqual(heard.map(([event, data]) => [event, data.user_id]), [["pusher:member_added", 3], ["pusher:member_removed", "1"]]);
  });

  test("after a reconnect presence starts from the new list", async () => {
    const room = opened().subscribe("presence-room");
    const channel = { channel: "presence-room" };
    page.socket.receive("pusher_internal:subscription_succeeded", { presence: { hash: { 1: {} } } }, channel);

    page.socket.receive("pusher_internal:subscription_succeeded", { presence: { hash: { 2: {} } } }, channel);

    assert.deepEqual([...room.members.keys()], ["2"]);
  });

  test("a client event goes out on its channel, or says that it did not", () => {
    const connection = opened();
    const room = connection.subscribe("presence-room");

    assert.equal(room.trigger("client-typing", { on: true }), true);
    assert.deepEqual(page.socket.sent.at(-1), { event: "client-typing", data: { on: true }, channel: "presence-room" });
    page.socket.end();

    assert.equal(room.trigger("client-typing", {}), false);
  });
});

describe("reconnecting", () => {
  test("the wait doubles from try to try, up to a cap, and is random as a whole", () => {
    opened();
    const waits = [];

    for (let attempt = 0; attempt < 8; attempt++) {
      page.socket.end();
      waits.push(page.clock.nextMs);
      page.clock.pass(waits.at(-1));
    }

    assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
  });

  test("chance may shorten the wait to nothing", () => {
    Math.random = () => 0;
    opened();

    page.socket.end();

    assert.equal(page.clock.nextMs, 0);
  });

  test("a connection that held ends the back-off", () => {
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

  test("a connection that breaks at once does not", () => {
    opened();
    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome();

    page.socket.end();

    assert.equal(page.clock.nextMs, 1000);
  });

  test("the state tells of it, once", () => {
    const connection = opened();
    const heard = record(connection, "jobpush:state");

    page.socket.end();
    page.clock.pass(500);
    page.socket.end();
    page.clock.pass(1000);
    page.socket.welcome();

    assert.deepEqual(heard.map(([, state]) => state), ["reconnecting", "connected"]);
  });

  test("the user's channel goes on from the last id", () => {
    opened();
    page.socket.receiveTask(task("a", 1), { id: "1700000000000-0" });
    page.socket.receiveTask(task("a", 2), { id: "1700000000000-1" });

    page.socket.end();
    page.clock.pass(500);

    assert.equal(page.socket.url.searchParams.get("since"), "1700000000000-1");
  });

  test("every other channel goes on from its own", () => {
    const connection = opened();
    connection.subscribe("news");
    connection.subscribe("quiet");
    page.socket.receive("item", {}, { channel: "news", id: "9-0" });

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome();

    assert.deepEqual(page.socket.sentEvents("pusher:subscribe"), [{ channel: "news", since: "9-0" }, { channel: "quiet" }]);
  });

  test("a channel that was left is not joined again, nor is its place remembered", () => {
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

  test("after a resync the server's numbers count anew, and the tasks stay in view", () => {
    const connection = opened();
    page.socket.receiveTask(task("a", 9, { percent: 90 }));

    page.socket.receive("jobpush:resync", {}, { channel: OWN });
    assert.equal(connection.tasks.get("a").percent, 90);
    page.socket.receiveTask(task("a", 1, { percent: 95 }));

    assert.equal(connection.tasks.get("a").percent, 95);
  });

  test("a resync of another channel leaves the user's tasks alone", () => {
    const connection = opened();
    page.socket.receiveTask(task("a", 9, { percent: 90 }));

    page.socket.receive("jobpush:resync", {}, { channel: "news" });
    page.socket.receiveTask(task("a", 1, { percent: 10 }));

    assert.equal(connection.tasks.get("a").percent, 90);
  });

  test("another user sees nothing of the one before, and is not resumed from there", () => {
    const connection = opened();
    page.socket.receiveTask(task("secret", 1), { id: "7-0" });

    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ user: "43" });

    assert.equal(connection.tasks.size, 0);
    assert.equal(page.sockets.length, 3);
    assert.equal(page.socket.url.searchParams.get("since"), null);
  });

  test("a user whose session has ended is told so, until signed in again", () => {
    const connection = opened();
    for (const user of [null, "42"]) {
      page.socket.end();
      page.clock.pass(1000);
      page.socket.welcome({ user });
      page.clock.pass(1500);

      assert.equal(connection.state, user ? "connected" : "signedOut");
    }
  });

  test("a visitor who never signed in is not signed out", () => {
    const connection = opened({ user: null });
    page.socket.end();
    page.clock.pass(500);
    page.socket.welcome({ user: null });

    page.clock.pass(1500);

    assert.equal(connection.state, "connected");
  });

  test("the tasks are loaded once the user's own channel says so, not with a local one", () => {
    const connection = opened({ user: null });
    connection.show(task("upload"));
    page.socket.receive("pusher_internal:subscription_succeeded", {}, { channel: "news" });
    assert.equal(connection.isLoaded, false);
    const heard = record(connection, "jobpush:tasks");

    page.socket.welcome();

    assert.equal(connection.isLoaded, true);
    assert.equal(heard.length, 1);
  });

  test("back online, it tries at once", () => {
    opened();
    page.socket.end();

    page.goOnline();

    assert.equal(page.sockets.length, 2);
    assert.equal(page.clock.nextMs, 10_000);
  });

  test("seen again, it tries at once; hidden, it does not", () => {
    opened();
    page.socket.end();

    page.show("hidden");
    assert.equal(page.sockets.length, 1);
    page.show();

    assert.equal(page.sockets.length, 2);
  });

  test("behind a lid that went up, a dead socket is found out by a ping", () => {
    opened();

    page.show();
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
    page.clock.pass(10_000 + 500);

    assert.equal(page.sockets.length, 2);
  });

  test("a try under way is not started twice", () => {
    open();

    page.show();
    page.show();

    assert.equal(page.sockets.length, 1);
  });

  test("a socket that was given up is not heard any more", () => {
    const connection = opened();
    const old = page.socket;
    page.clock.pass(120_000 + 10_000);

    old.receiveTask(task("a", 1));

    assert.equal(connection.tasks.size, 0);
  });
});

describe("close codes", () => {
  for (const code of [4000, 4001, 4009, 4099]) {
    test(`${code} stops for good, whatever happens`, () => {
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
    test(`${code} backs off for a second at least`, () => {
      Math.random = () => 0;
      opened();

      page.socket.end(code);

      assert.equal(page.clock.nextMs, 1000);
    });
  }

  for (const code of [4200, 4299]) {
    test(`${code} comes back within a second, again and again, but not in one moment with all the others`, () => {
      opened();

      for (let time = 0; time < 5; time++) {
        page.socket.end(code);
        assert.equal(page.clock.nextMs, 500);
        page.clock.pass(500);
        page.socket.welcome();
      }
    });
  }

  test("an error as the first frame stands for the close code", () => {
    const connection = open();
    const heard = record(connection, "pusher:error");

    page.socket.receive("pusher:error", { code: 4001, message: "no such app" });

    assert.equal(connection.state, "failed");
    assert.deepEqual(heard[0][1], { code: 4001, message: "no such app" });
  });

  test("an error later on closes nothing", () => {
    const connection = opened();

    page.socket.receive("pusher:error", { code: 4009, message: "client event refused" });

    assert.equal(connection.state, "connected");
  });
});

describe("liveness", () => {
  test("after silence it pings, and the pong keeps the socket", () => {
    opened({ activityTimeout: 30 });

    page.clock.pass(29_999);
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), []);
    page.clock.pass(1);
    assert.deepEqual(page.socket.sentEvents("pusher:ping"), [{}]);
    page.socket.receive("pusher:pong");
    page.clock.pass(10_001);

    assert.equal(page.sockets.length, 1);
    assert.ok(!page.socket.isClosed);
  });

  test("any message breaks the silence", () => {
    opened({ activityTimeout: 30 });

    page.clock.pass(20_000);
    page.socket.receive("news");
    page.clock.pass(20_000);

    assert.deepEqual(page.socket.sentEvents("pusher:ping"), []);
  });

  test("no pong means that the socket is dead", () => {
    const connection = opened({ activityTimeout: 30 });

    page.clock.pass(30_000 + 10_000);

    assert.equal(connection.state, "reconnecting");
    assert.ok(page.sockets[0].isClosed);
  });

  test("a ping of the gateway's is answered", () => {
    opened();

    page.socket.receive("pusher:ping");

    assert.deepEqual(page.socket.sentEvents("pusher:pong"), [{}]);
  });
});

describe("where WebSockets are blocked", () => {
  test("after two sockets that never opened it turns to server-sent events", () => {
    const connection = open();
    connection.subscribe("news");
    connection.subscribe("private-task-a");

    blockSockets();

    assert.equal(page.sockets.length, 2);
    assert.equal(page.stream.url.href, "https://app.example/jobpush/events?channels=news%2Cprivate-task-a&since=");
  });

  test("a gateway that was there once is not taken for a blocked one", () => {
    opened();
    page.socket.end();
    page.clock.pass(500);

    blockSockets();

    assert.equal(page.streams.length, 0);
  });

  test("one that was there once is taken for a blocked one after many tries, or on another network", () => {
    const failUntilItTurns = () => {
      const before = page.sockets.length;
      while (!page.streams.length) {
        page.socket.end();
        page.clock.pass(page.clock.nextMs);
      }
      return page.sockets.length - before;
    };

    opened();
    page.socket.end();
    page.clock.pass(500);
    assert.equal(failUntilItTurns(), 21);

    page = new FakePage();
    opened();
    page.goOnline();
    page.clock.pass(PATIENCE_MS + 500); // no pong comes from the network before
    assert.equal(failUntilItTurns(), 1);

    page = new FakePage();
    opened();
    page.goOnline();
    page.socket.receive("pusher:pong"); // it is the same network
    page.socket.end();
    page.clock.pass(500);
    assert.equal(failUntilItTurns(), 21);
  });

  test("the stream brings the same events, and signs nothing", async () => {
    const connection = open();
    const room = connection.subscribe("private-room");
    const heard = record(room, "item");
    blockSockets();

    page.stream.welcome();
    page.stream.receiveTask(task("a", 1));
    page.stream.receive("item", 1, { channel: "private-room" });
    await page.settle();

    assert.equal(connection.state, "connected");
    assert.equal(connection.tasks.size, 1);
    assert.equal(heard.length, 1);
    assert.deepEqual(page.requests, []);
    assert.equal(room.trigger("client-x", {}), false);
  });

  test("channels joined later are asked for in one new stream", () => {
    const connection = open();
    blockSockets();
    page.stream.welcome();
    page.stream.receiveTask(task("a", 1), { id: "17-0" });

    connection.subscribe("one");
    connection.subscribe("two");
    page.clock.pass(0);

    assert.equal(page.streams.length, 2);
    assert.ok(page.streams[0].isClosed);
    assert.equal(page.stream.url.searchParams.get("channels"), "one,two");
    assert.equal(page.stream.url.searchParams.get("since"), `${OWN}|17-0`);
  });

  test("a channel that is joined while the stream opens is asked for in the next", () => {
    const connection = open();
    blockSockets();

    connection.subscribe("news");
    page.stream.welcome();
    page.clock.pass(0);

    assert.equal(page.stream.url.searchParams.get("channels"), "news");
    page.stream.welcome();
    page.clock.pass(0);
    assert.equal(page.streams.length, 2);
  });

  test("a stream that breaks is left to the browser, which resumes it", () => {
    const connection = open();
    blockSockets();
    page.stream.welcome();

    page.stream.fail(0);
    assert.equal(connection.state, "reconnecting");
    page.stream.welcome();

    assert.equal(connection.state, "connected");
    assert.equal(page.streams.length, 1);
  });

  test("a stream that the gateway refuses later starts over with a socket", () => {
    open();
    blockSockets();
    page.stream.welcome();

    page.stream.fail();
    page.clock.pass(10_000);

    assert.equal(page.sockets.length, 3);
    assert.deepEqual(page.requests, []);
  });

  test("some minutes later it tries for a socket again", () => {
    const connection = open();
    blockSockets();
    page.stream.welcome();

    page.clock.pass(SOCKET_RETRY_MS);
    page.socket.welcome();

    assert.equal(page.sockets.length, 3);
    assert.ok(page.stream.isClosed);
    assert.equal(connection.state, "connected");
  });

  test("each try for a socket costs the stream a moment, the tenth no more than the first", () => {
    open();
    blockSockets();
    for (let tries = 1; tries <= 10; tries += 1) {
      page.stream.welcome();
      page.clock.pass(SOCKET_RETRY_MS);
      assert.equal(page.sockets.length, 2 + tries);

      page.socket.end();
      page.clock.pass(500);

      assert.equal(page.streams.length, 1 + tries);
    }
  });

  test("on another network it starts anew at once", () => {
    open();
    blockSockets();
    page.stream.welcome();

    page.goOnline();

    assert.equal(page.sockets.length, 3);
  });

  test("without a stream either, the tasks are fetched, and all is tried again soon", async () => {
    const connection = open();
    page.answers.tasks = { tasks: [task("b", 1, { created_at: 2 }), task("a", 1)] };
    blockSockets();

    page.stream.fail();
    await page.settle();

    assert.deepEqual([...connection.tasks.keys()], ["b", "a"]);
    assert.deepEqual(page.requests.map(({ path }) => path), ["/jobpush/tasks"]);
    page.clock.pass(page.clock.nextMs);
    assert.equal(page.sockets.length, 3);
    page.socket.end();
    page.clock.pass(page.clock.nextMs);
    assert.equal(page.streams.length, 2);
  });

  test("a stream that a proxy holds back is given up too", async () => {
    const connection = open();
    page.answers.tasks = { tasks: [task("a", 1)] };
    blockSockets();

    page.clock.pass(10_000);
    await page.settle();

    assert.ok(page.stream.isClosed);
    assert.equal(connection.tasks.size, 1);
  });

  test("a gateway that is simply away is tried again soon", async () => {
    open();
    blockSockets();

    page.stream.fail();
    await page.settle();
    page.clock.pass(10_000);

    assert.equal(page.sockets.length, 3);
  });

  test("a closed connection fetches nothing more", async () => {
    const connection = open();
    page.answers.tasks = { tasks: [] };
    blockSockets();
    page.stream.fail();

    connection.close();
    page.clock.pass(0);
    await page.settle();
    page.clock.pass(1_000_000);

    assert.equal(page.sockets.length, 2);
    assert.equal(connection.state, "closed");
  });
});

describe("tasks", () => {
  test("a cancel is asked from the gateway, in a way no foreign page can", async () => {
    page.answers["tasks/a%2Fb/cancel"] = { task_id: "a/b", cancelling: true };

    const isTaken = await opened().cancel("a/b");

    assert.equal(isTaken, true);
    assert.deepEqual(page.requests[0], {
      path: "/jobpush/tasks/a%2Fb/cancel",
      method: "POST",
      headers: { "X-Requested-With": "jobpush" },
    });
  });

  test("a cancel that is refused, or never arrives, is false", async () => {
    const connection = opened();
    page.answers["tasks/a/cancel"] = { status: 404 };

    assert.equal(await connection.cancel("a"), false);
    assert.equal(await connection.cancel("b"), false);
  });

  test("a local task is shown, and goes on from what it was", () => {
    const connection = open();

    connection.show({ task_id: "u", title: "cat.mov", state: "PENDING", percent: 0 });
    connection.show({ task_id: "u", state: "PROGRESS", percent: 50 });

    const { title, state, percent, seq } = connection.tasks.get("u");
    assert.deepEqual({ title, state, percent }, { title: "cat.mov", state: "PROGRESS", percent: 50 });
    assert.ok(seq < 1);
  });

  test("from the server's first word on, only the server counts", () => {
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
