/** Scenarios of Laravel Echo, unmodified, with its broadcaster "pusher". */

import Echo from "laravel-echo";

import { Recorder, equal, events, state } from "./stage.mjs";

export async function aPublicChannelReceivesALaravelEvent(stage) {
  const { echo, recorder } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.channel(name).listen("OrderShipped", (data) => recorder.add("OrderShipped", data)));

  await stage.backend.trigger({ channels: name, event: "App\\Events\\OrderShipped", data: { id: 7 } });

  equal(await recorder.next("OrderShipped"), { id: 7 });
}

export async function aPrivateChannelReceivesAnEventWithACustomName(stage) {
  const { echo, recorder } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.private(name).listen(".order.shipped", (data) => recorder.add("order.shipped", data)));

  await stage.backend.trigger({ channels: `private-${name}`, event: "order.shipped", data: { id: 8 } });

  equal(await recorder.next("order.shipped"), { id: 8 });
}

export async function anEncryptedPrivateChannelIsRead(stage) {
  const { echo, recorder } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.encryptedPrivate(name).listen(".order.shipped", (data) => recorder.add("order.shipped", data)));

  await stage.backend.trigger({ channels: `private-encrypted-${name}`, event: "order.shipped", data: { id: 9 } });

  equal(await recorder.next("order.shipped"), { id: 9 });
}

export async function aPresenceChannelReportsHereJoiningAndLeaving(stage) {
  const name = stage.unique("room");
  const ann = await connect(stage, { user: "ann" });
  present(ann, name);
  equal(await ann.recorder.next("here"), [{ name: "User ann" }]);

  const ben = await connect(stage, { user: "ben", entrance: 1 });
  present(ben, name);
  equal(byName(await ben.recorder.next("here")), ["User ann", "User ben"]);
  equal(await ann.recorder.next("joining"), { name: "User ben" });

  ben.echo.leave(name);
  equal(await ann.recorder.next("leaving"), { name: "User ben" });
}

export async function aWhisperReachesTheOthersOnly(stage) {
  const name = stage.unique("chat");
  const [ann, ben] = [await connect(stage), await connect(stage, { entrance: 1 })];
  for (const { echo, recorder } of [ann, ben]) {
    await joined(echo.private(name).listenForWhisper("typing", (data) => recorder.add("typing", data)));
  }

  ann.echo.private(name).whisper("typing", { by: "ann" });
  equal(await ben.recorder.next("typing"), { by: "ann" });

  ben.echo.private(name).whisper("typing", { by: "ben" });
  equal((await ann.recorder.until("typing")).map(({ data }) => data), [{ by: "ben" }]);
}

export async function aRefusedChannelReportsAnError(stage) {
  const { echo, recorder } = await connect(stage);

  echo.private(stage.unique("forged")).error((error) => recorder.add("error", error));

  equal((await recorder.next("error")).status, 401);
}

export async function anEventToOthersExcludesTheSocketIdOfEcho(stage) {
  const name = stage.unique("orders");
  const [mine, theirs] = [await connect(stage), await connect(stage, { entrance: 1 })];
  for (const { echo, recorder } of [mine, theirs]) {
    const record = (event) => (data) => recorder.add(event, data);
    await joined(echo.channel(name).listen(".toOthers", record("toOthers")).listen(".toAll", record("toAll")));
  }

  await stage.backend.trigger({ channels: name, event: "toOthers", data: 1, socket_id: mine.echo.socketId() });
  await stage.backend.trigger({ channels: name, event: "toAll", data: 2 });

  equal(events(await mine.recorder.until("toAll")), ["toAll"]);
  equal(events(await theirs.recorder.until("toAll")), ["toOthers", "toAll"]);
}

/** Return a connected Echo, and a recorder for its listeners. */
async function connect(stage, options) {
  const echo = new Echo({ broadcaster: "pusher", key: stage.key, Pusher, ...stage.options(options) });
  await state(stage.keep(echo.connector.pusher), "connected");
  return { echo, recorder: new Recorder() };
}

/** Wait until the server has confirmed the subscription to a channel. */
function joined(channel) {
  return new Promise((resolve) => channel.subscribed(resolve));
}

function present({ echo, recorder }, name) {
  echo
    .join(name)
    .here((members) => recorder.add("here", members))
    .joining((member) => recorder.add("joining", member))
    .leaving((member) => recorder.add("leaving", member));
}

function byName(members) {
  return members.map(({ name }) => name).sort();
}
