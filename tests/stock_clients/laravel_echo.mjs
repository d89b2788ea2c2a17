/** What Laravel Echo, unchanged and with its broadcaster "pusher", does with our gateway. */

import Echo from "laravel-echo";

import { Ear, equal, events, state } from "./stage.mjs";

export async function aPublicChannelHearsALaravelEvent(stage) {
  const { echo, ear } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.channel(name).listen("OrderShipped", (data) => ear.hear("OrderShipped", data)));

  await stage.backend.trigger({ channels: name, event: "App\\Events\\OrderShipped", data: { id: 7 } });

  equal(await ear.next("OrderShipped"), { id: 7 });
}

export async function aPrivateChannelHearsAnEventOfItsOwnName(stage) {
  const { echo, ear } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.private(name).listen(".order.shipped", (data) => ear.hear("order.shipped", data)));

  await stage.backend.trigger({ channels: `private-${name}`, event: "order.shipped", data: { id: 8 } });

  equal(await ear.next("order.shipped"), { id: 8 });
}

export async function anEncryptedPrivateChannelIsRead(stage) {
  const { echo, ear } = await connect(stage);
  const name = stage.unique("orders");
  await joined(echo.encryptedPrivate(name).listen(".order.shipped", (data) => ear.hear("order.shipped", data)));

  await stage.backend.trigger({ channels: `private-encrypted-${name}`, event: "order.shipped", data: { id: 9 } });

  equal(await ear.next("order.shipped"), { id: 9 });
}

export async function aPresenceChannelTellsHereJoiningAndLeaving(stage) {
  const name = stage.unique("room");
  const ann = await connect(stage, { user: "ann" });
  present(ann, name);
  equal(await ann.ear.next("here"), [{ name: "User ann" }]);

  const ben = await connect(stage, { user: "ben", entrance: 1 });
  present(ben, name);
  equal(byName(await ben.ear.next("here")), ["User ann", "User ben"]);
  equal(await ann.ear.next("joining"), { name: "User ben" });

  ben.echo.leave(name);
  equal(await ann.ear.next("leaving"), { name: "User ben" });
}

export async function aWhisperReachesTheOthersOnly(stage) {
  const name = stage.unique("chat");
  const [ann, ben] = [await connect(stage), await connect(stage, { entrance: 1 })];
  for (const { echo, ear } of [ann, ben]) {
    await joined(echo.private(name).listenForWhisper("typing", (data) => ear.hear("typing", data)));
  }

  ann.echo.private(name).whisper("typing", { by: "ann" });
  equal(await ben.ear.next("typing"), { by: "ann" });

  ben.echo.private(name).whisper("typing", { by: "ben" });
  equal((await ann.ear.until("typing")).map(({ data }) => data), [{ by: "ben" }]);
}

export async function aRefusedChannelIsTold(stage) {
  const { echo, ear } = await connect(stage);

  echo.private(stage.unique("forged")).error((error) => ear.hear("error", error));

  equal((await ear.next("error")).status, 401);
}

export async function othersAreToldWithTheSocketIdOfEcho(stage) {
  const name = stage.unique("orders");
  const [mine, theirs] = [await connect(stage), await connect(stage, { entrance: 1 })];
  for (const { echo, ear } of [mine, theirs]) {
    const hear = (event) => (data) => ear.hear(event, data);
    await joined(echo.channel(name).listen(".toOthers", hear("toOthers")).listen(".toAll", hear("toAll")));
  }

  await stage.backend.trigger({ channels: name, event: "toOthers", data: 1, socket_id: mine.echo.socketId() });
  await stage.backend.trigger({ channels: name, event: "toAll", data: 2 });

  equal(events(await mine.ear.until("toAll")), ["toAll"]);
  equal(events(await theirs.ear.until("toAll")), ["toOthers", "toAll"]);
}

/** A connected Echo and an ear for what its listeners hear. */
async function connect(stage, options) {
  const echo = new Echo({ broadcaster: "pusher", key: stage.key, Pusher, ...stage.options(options) });
  await state(stage.keep(echo.connector.pusher), "connected");
  return { echo, ear: new Ear() };
}

/** Waits until the server has let Echo into a channel. */
function joined(channel) {
  return new Promise((resolve) => channel.subscribed(resolve));
}

function present({ echo, ear }, name) {
  echo
    .join(name)
    .here((members) => ear.hear("here", members))
    .joining((member) => ear.hear("joining", member))
    .leaving((member) => ear.hear("leaving", member));
}

function byName(members) {
  return members.map(({ name }) => name).sort();
}
