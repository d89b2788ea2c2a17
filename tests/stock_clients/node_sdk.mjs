/** Scenarios of Pusher's SDK for Node servers, unmodified; pusher-js receives its events. */

import PusherServer from "pusher";

import { equal, events, record, state, subscribed } from "./stage.mjs";

export async function triggerReachesSeveralChannels(stage) {
  const client = await stage.connect();
  const names = [stage.unique("a"), stage.unique("b")];
  const recorders = await Promise.all(names.map((name) => subscribed(client, name)));

  const response = await sdk(stage).trigger(names, "item", { number: 1 });

  equal([response.status, await response.json()], [200, {}]);
  equal(await Promise.all(recorders.map((recorder) => recorder.next("item"))), [{ number: 1 }, { number: 1 }]);
}

export async function triggerExcludesASocketAndReturnsInfo(stage) {
  const client = await stage.connect();
  const joined = await subscribed(client, stage.unique("news"));
  const server = sdk(stage);

  const params = { socket_id: client.connection.socket_id, info: "subscription_count" };
  const response = await server.trigger(joined.channel.name, "not-to-me", 1, params);
  await server.trigger(joined.channel.name, "fence", 1);

  equal(await response.json(), { channels: { [joined.channel.name]: { subscription_count: 1 } } });
  equal(events(await joined.until("fence")), ["fence"]);
}

export async function triggerBatchSendsEachEventToItsChannel(stage) {
  const client = await stage.connect();
  const [a, b] = [await subscribed(client, stage.unique("a")), await subscribed(client, stage.unique("b"))];

  const response = await sdk(stage).triggerBatch([
    { channel: a.channel.name, name: "one", data: 1 },
    { channel: b.channel.name, name: "two", data: { number: 2 } },
  ]);

  equal([response.status, await response.json()], [200, {}]);
  equal([await a.next("one"), await b.next("two")], [1, { number: 2 }]);
}

export async function encryptedEventsAreReadByMembers(stage) {
  const joined = await subscribed(await stage.connect(), stage.unique("private-encrypted-room"));

  await sdk(stage).trigger(joined.channel.name, "secret", { pin: 1234 });

  equal(await joined.next("secret"), { pin: 1234 });
}

export async function channelsAreListedByPrefixWithTheirMembers(stage) {
  const name = stage.unique("presence-room");
  await subscribed(await stage.connect({ user: "ann" }), name);
  await subscribed(await stage.connect({ user: "ben", entrance: 1 }), name);

  const response = await sdk(stage).get({
    path: "/channels",
    params: { filter_by_prefix: name, info: "user_count" },
  });

  equal([response.status, await response.json()], [200, { channels: { [name]: { user_count: 2 } } }]);
}

export async function oneChannelIsDescribed(stage) {
  const { channel } = await subscribed(await stage.connect(), stage.unique("news"));

  const response = await sdk(stage).get({ path: `/channels/${channel.name}`, params: { info: "subscription_count" } });

  equal(await response.json(), { occupied: true, subscription_count: 1 });
}

export async function theUsersOfAPresenceChannelAreListed(stage) {
  const { channel } = await subscribed(await stage.connect({ user: "ann" }), stage.unique("presence-room"));

  const response = await sdk(stage).get({ path: `/channels/${channel.name}/users` });

  equal(await response.json(), { users: [{ id: "ann" }] });
}

export async function theUsersOfAPublicChannelAreABadRequest(stage) {
  const failure = await sdk(stage).get({ path: `/channels/${stage.unique("news")}/users` }).catch((error) => error);

  equal(failure.status, 400);
}

export async function aWrongSecretIsUnauthorized(stage) {
  const failure = await sdk(stage, { secret: "wrong" }).get({ path: "/channels" }).catch((error) => error);

  equal(failure.status, 401);
}

export async function sendToUserReachesTheSignedInUser(stage) {
  const user = stage.unique("ann");
  const received = record((await stage.signIn({ user })).user);

  const response = await sdk(stage).sendToUser(user, "greeting", { text: "hello" });

  equal([response.status, await response.json()], [200, {}]);
  equal(await received.next("greeting"), { text: "hello" });
}

export async function terminateUserConnectionsEndsThem(stage) {
  const user = stage.unique("ann");
  const client = await stage.signIn({ user });

  const response = await sdk(stage).terminateUserConnections(user);

  equal([response.status, await response.json()], [200, {}]);
  await state(client, "disconnected");
}

export async function authorizeChannelAndAuthenticateUserAreAccepted(stage) {
  const server = sdk(stage);
  const client = stage.keep(
    new Pusher(stage.key, {
      ...stage.options(),
      channelAuthorization: {
        customHandler: ({ socketId, channelName }, callback) =>
          callback(null, server.authorizeChannel(socketId, channelName, { user_id: "ann", user_info: { age: 7 } })),
      },
      userAuthentication: {
        customHandler: ({ socketId }, callback) => callback(null, server.authenticateUser(socketId, { id: "ann" })),
      },
    }),
  );
  const all = record(client);
  client.signin();
  await all.next("pusher:signin_success");

  const { channel } = await subscribed(client, stage.unique("presence-room"));

  equal(channel.members.me, { id: "ann", info: { age: 7 } });
}

export async function aWebhookSignedByJobpushIsValid(stage) {
  const rawBody = JSON.stringify({ time_ms: Date.now(), events: [{ name: "channel_occupied", channel: "news" }] });
  const signature = await stage.backend.sign({ text: rawBody });
  const headers = { "x-pusher-key": stage.key, "x-pusher-signature": signature, "content-type": "application/json" };

  equal(sdk(stage).webhook({ headers, rawBody }).isValid(), true);
}

/** Return the SDK, configured as in its documentation, for the second entrance; clients use the first. */
function sdk(stage, overrides = {}) {
  const { appId, key, secret, masterKey: encryptionMasterKeyBase64, tls: useTLS } = stage;
  const address = { host: "127.0.0.1", port: stage.ports[1], useTLS };
  return new PusherServer({ appId, key, secret, encryptionMasterKeyBase64, ...address, ...overrides });
}
