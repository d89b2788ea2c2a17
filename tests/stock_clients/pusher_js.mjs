/** Scenarios of pusher-js, unmodified; each function checks a rule of Pusher's documentation. */

import { equal, events, record, recordFrames, state, subscribed } from "./stage.mjs";

// -- connection ---------------------------------------------------------------------------------------

export async function aClientGetsASocketId(stage) {
  const client = await stage.connect();

  equal(/^\d+\.\d+$/.test(client.connection.socket_id), true);
}

export async function aClientWithAnUnknownKeyDoesNotReconnect(stage) {
  const client = stage.keep(new Pusher("no-such-key", stage.options()));
  const errors = record(client.connection);

  const error = await errors.next("error");

  equal(error.error.data.code, 4001);
  await state(client, "disconnected");
}

export async function aPingIsAnsweredWithAPong(stage) {
  const client = await stage.connect();
  const frames = recordFrames(client);

  client.send_event("pusher:ping", {});

  equal(await frames.next("pusher:pong"), {});
}

// -- channels -----------------------------------------------------------------------------------------

export async function aPublicChannelReceivesServerEvents(stage) {
  const first = await subscribed(await stage.connect(), stage.unique("news"));
  const second = await subscribed(await stage.connect({ entrance: 1 }), first.channel.name);
  const item = { title: "Grüße 🎉", "quoted \"text\"": ["\\", null, 1.5] };

  await stage.backend.trigger({ channels: first.channel.name, event: "item", data: item });

  equal(await first.next("item"), item);
  equal(await second.next("item"), item);
}

export async function anEventReachesAllOfItsChannels(stage) {
  const client = await stage.connect();
  const names = [1, 2, 3].map((number) => stage.unique(`many-${number}`));
  const recorders = await Promise.all(names.map((name) => subscribed(client, name)));

  await stage.backend.trigger({ channels: names, event: "item", data: "to all" });

  equal(await Promise.all(recorders.map((recorder) => recorder.next("item"))), ["to all", "to all", "to all"]);
}

export async function theExcludedSocketReceivesNothing(stage) {
  const [sender, other] = [await stage.connect(), await stage.connect({ entrance: 1 })];
  const mine = await subscribed(sender, stage.unique("news"));
  const theirs = await subscribed(other, mine.channel.name);
  const trigger = (event, socket_id) =>
    stage.backend.trigger({ channels: mine.channel.name, event, data: 1, socket_id });

  await trigger("not-to-me", sender.connection.socket_id);
  await trigger("fence");

  equal(events(await mine.until("fence")), ["fence"]);
  equal(events(await theirs.until("fence")), ["not-to-me", "fence"]);
}

export async function anUnsubscribedChannelIsSilent(stage) {
  const client = await stage.connect();
  const left = await subscribed(client, stage.unique("left"));
  const kept = await subscribed(client, stage.unique("kept"));
  const frames = recordFrames(client);

  client.unsubscribe(left.channel.name);
  client.send_event("pusher:ping", {}); // the pong arrives after the unsubscribe is processed
  await frames.next("pusher:pong");
  await stage.backend.trigger({ channels: [left.channel.name, kept.channel.name], event: "item", data: 1 });
  await kept.next("item");
  await stage.backend.trigger({ channels: kept.channel.name, event: "fence", data: 1 });

  const received = events(await frames.until(`fence ${kept.channel.name}`));
  equal(received.includes(`item ${left.channel.name}`), false);
}

export async function aPrivateChannelAsksTheAuthEndpoint(stage) {
  const joined = await subscribed(await stage.connect(), stage.unique("private-room"));

  await stage.backend.trigger({ channels: joined.channel.name, event: "item", data: { for: "members" } });

  equal(await joined.next("item"), { for: "members" });
}

export async function aJobpushSignatureAuthorizesAPresenceChannel(stage) {
  const client = await stage.connect({ user: "ann", signer: "jobpush-" });

  const joined = await subscribed(client, stage.unique("presence-room"));

  equal(joined.channel.members.me, { id: "ann", info: { name: "User ann" } });
}

export async function aRefusalOfTheAuthEndpointIsReportedWithItsStatus(stage) {
  const client = await stage.connect();

  const refused = record(client.subscribe(stage.unique("private-forbidden")));

  equal((await refused.next("pusher:subscription_error")).status, 403);
}

export async function aForgedSignatureIsRefusedWithStatus401(stage) {
  const client = await stage.connect();

  const refused = record(client.subscribe(stage.unique("private-forged")));

  const { status, type } = await refused.next("pusher:subscription_error");
  equal({ status, type }, { status: 401, type: "AuthError" });
  equal(client.connection.state, "connected");
}

export async function subscribersAreCounted(stage) {
  const first = await stage.connect();
  const channel = first.subscribe(stage.unique("counted"));
  const counts = record(channel);
  equal(await counts.next("pusher:subscription_count"), { subscription_count: 1 });

  const second = await stage.connect({ entrance: 1 });
  second.subscribe(channel.name);
  equal(await counts.next("pusher:subscription_count"), { subscription_count: 2 });

  second.unsubscribe(channel.name);
  equal(await counts.next("pusher:subscription_count"), { subscription_count: 1 });
  equal(channel.subscriptionCount, 1);
}

export async function anEncryptedChannelIsReadByItsMembers(stage) {
  const client = await stage.connect();
  const joined = await subscribed(client, stage.unique("private-encrypted-room"));
  const frames = recordFrames(client);

  await stage.backend.trigger({ channels: joined.channel.name, event: "secret", data: { pin: 1234 } });

  equal(await joined.next("secret"), { pin: 1234 });
  const onTheWire = await frames.next(`secret ${joined.channel.name}`);
  equal(Object.keys(onTheWire).sort(), ["ciphertext", "nonce"]);
}

const CACHE_CHANNELS = ["cache-score", "private-cache-score", "private-encrypted-cache-score", "presence-cache-score"];

export async function aCacheChannelBeginsWithItsLastEvent(stage) {
  const client = await stage.connect();
  for (const name of CACHE_CHANNELS.map((kind) => stage.unique(kind))) {
    await stage.backend.trigger({ channels: name, event: "goal", data: { score: "0:1" } });
    await stage.backend.trigger({ channels: name, event: "goal", data: { score: "1:1" } });

    const joined = await subscribed(client, name);

    equal(await joined.next("goal"), { score: "1:1" });
  }
}

export async function anEmptyCacheChannelReportsACacheMiss(stage) {
  const client = await stage.connect();
  for (const name of CACHE_CHANNELS.map((kind) => stage.unique(kind))) {
    const received = record(client.subscribe(name));

    await received.next("pusher:cache_miss");
    await stage.backend.trigger({ channels: name, event: "goal", data: 1 });

    equal(await received.next("goal"), 1);
  }
}

export async function aCacheChannelKeepsNoClientEvent(stage) {
  const mine = await subscribed(await stage.connect(), stage.unique("private-cache-chat"));
  const theirs = await subscribed(await stage.connect({ entrance: 1 }), mine.channel.name);
  mine.channel.trigger("client-typing", {});
  await theirs.next("client-typing");

  const late = record((await stage.connect()).subscribe(mine.channel.name));

  await late.next("pusher:cache_miss");
}

// -- client events ------------------------------------------------------------------------------------

export async function aClientEventReachesTheOthersOnly(stage) {
  const mine = await subscribed(await stage.connect(), stage.unique("private-chat"));
  const theirs = await subscribed(await stage.connect({ entrance: 1 }), mine.channel.name);

  mine.channel.trigger("client-typing", { on: true });

  equal(await theirs.next("client-typing"), { on: true });
  theirs.channel.trigger("client-fence", {});
  equal(events(await mine.until("client-fence")), ["client-fence"]);
}

export async function aClientEventOnAPresenceChannelNamesItsUser(stage) {
  const name = stage.unique("presence-chat");
  const ann = await subscribed(await stage.connect({ user: "ann" }), name);
  const ben = await subscribed(await stage.connect({ user: "ben", entrance: 1 }), name);
  const typing = new Promise((resolve) => ben.channel.bind("client-typing", (_, metadata) => resolve(metadata)));

  ann.channel.trigger("client-typing", {});

  equal(await typing, { user_id: "ann" });
}

// -- presence -----------------------------------------------------------------------------------------

export async function presenceMembersAreListedAddedAndRemoved(stage) {
  const name = stage.unique("presence-room");
  const ann = await subscribed(await stage.connect({ user: "ann" }), name);
  equal(ann.channel.members.count, 1);

  const ben = await subscribed(await stage.connect({ user: "ben", entrance: 1 }), name);
  equal(ben.channel.members.members, { ann: { name: "User ann" }, ben: { name: "User ben" } });
  equal(await ann.next("pusher:member_added"), { id: "ben", info: { name: "User ben" } });

  ben.channel.unsubscribe();
  equal(await ann.next("pusher:member_removed"), { id: "ben", info: { name: "User ben" } });
  equal(ann.channel.members.count, 1);
}

export async function severalTabsAreOneMember(stage) {
  const name = stage.unique("presence-room");
  const watcher = await subscribed(await stage.connect({ user: "watcher" }), name);
  const tabs = [];
  for (const entrance of [0, 1, 1]) {
    tabs.push(await subscribed(await stage.connect({ user: "ann", entrance }), name));
  }
  equal(tabs.at(-1).channel.members.count, 2);

  for (const tab of tabs) tab.channel.unsubscribe();
  equal(events(await watcher.until("pusher:member_removed")), ["pusher:member_added", "pusher:member_removed"]);
  await subscribed(await stage.connect({ user: "fence" }), name);

  equal(events(await watcher.until("pusher:member_added")), ["pusher:member_added"]);
}

export async function aSignedInUserNeedsNoChannelDataForPresence(stage) {
  const client = await stage.signIn({ user: stage.unique("ann") });

  const { channel } = await subscribed(client, stage.unique("presence-room"));

  equal(channel.members.me.id, client.user.user_data.id);
}

// -- users --------------------------------------------------------------------------------------------

export async function aUserReceivesTheirEvents(stage) {
  const [ann, ben] = [stage.unique("ann"), stage.unique("ben")];
  const client = await stage.signIn({ user: ann });
  const [mine, theirs] = [record(client.user), record((await stage.signIn({ user: ben, entrance: 1 })).user)];

  await stage.backend.send_to_user({ user_id: ann, event: "greeting", data: { text: "hello" } });
  await stage.backend.send_to_user({ user_id: ben, event: "fence", data: {} });

  equal(client.user.user_data.user_info, { name: `User ${ann}` });
  equal(await mine.next("greeting"), { text: "hello" });
  equal(events(await theirs.until("fence")), ["fence"]);
}

export async function aJobpushSignatureSignsAUserIn(stage) {
  const user = stage.unique("ann");

  const client = await stage.signIn({ user, signer: "jobpush-" });

  equal(client.user.user_data.id, user);
}

export async function aWatchlistReportsOnlineUsers(stage) {
  const ben = stage.unique("ben");
  const watcher = stage.keep(new Pusher(stage.key, stage.options({ user: stage.unique("ann"), watchlist: ben })));
  const watchlist = record(watcher.user.watchlist);
  watcher.signin();
  equal(await watchlist.next("offline"), { name: "offline", user_ids: [ben] });

  const watched = await stage.signIn({ user: ben, entrance: 1 });
  equal(await watchlist.next("online"), { name: "online", user_ids: [ben] });

  watched.disconnect();
  equal(await watchlist.next("offline"), { name: "offline", user_ids: [ben] });
}

export async function aTerminatedUserDoesNotReconnectAndOthersStay(stage) {
  const [ann, ben] = [stage.unique("ann"), stage.unique("ben")];
  const tabs = [await stage.signIn({ user: ann }), await stage.signIn({ user: ann, entrance: 1 })];
  const other = await stage.signIn({ user: ben });
  const received = record(other.user);

  await stage.backend.terminate_user_connections({ user_id: ann });

  await Promise.all(tabs.map((tab) => state(tab, "disconnected")));
  await stage.backend.send_to_user({ user_id: ben, event: "still-here", data: 1 });
  equal(await received.next("still-here"), 1);
}

// -- tasks and lost connections -----------------------------------------------------------------------

export async function aTasksChannelBeginsWithItsSnapshot(stage) {
  const task = { user_id: stage.unique("ann"), task_id: stage.unique("task") };
  await stage.backend.publish_task({ ...task, current: 40 });

  const joined = await subscribed(await stage.connect(), `private-task-${task.task_id}`);
  equal((await joined.next("jobpush:task")).current, 40);

  await stage.backend.publish_task({ ...task, current: 41 });
  equal((await joined.next("jobpush:task")).current, 41);
}

export async function aDroppedConnectionReconnectsWithTheCurrentState(stage) {
  const task = { user_id: stage.unique("ann"), task_id: stage.unique("task") };
  await stage.backend.publish_task({ ...task, current: 10 });
  const client = await stage.connect();
  const news = await subscribed(client, stage.unique("news"));
  const joined = await subscribed(client, `private-task-${task.task_id}`);
  await joined.next("jobpush:task");

  await stage.backend.cut_connections();
  await stage.backend.publish_task({ ...task, current: 90 });

  // If the client reconnects before the next progress, it first receives the old snapshot.
  const received = await joined.until("jobpush:task");
  equal(events(received), ["pusher:subscription_succeeded", "jobpush:task"]);
  if (received.at(-1).data.current === 10) received.push(...(await joined.until("jobpush:task")));
  equal(received.at(-1).data.current, 90);
  await news.next("pusher:subscription_succeeded");
  await stage.backend.trigger({ channels: news.channel.name, event: "item", data: "reconnected" });
  equal(await news.next("item"), "reconnected");
}

export async function aDroppedUserIsSignedInAgain(stage) {
  const user = stage.unique("ann");
  const client = await stage.signIn({ user });
  const [frames, received] = [recordFrames(client), record(client.user)];

  await stage.backend.cut_connections();

  await frames.next(`pusher_internal:subscription_succeeded #server-to-user-${user}`);
  await stage.backend.send_to_user({ user_id: user, event: "greeting", data: "again" });
  equal(await received.next("greeting"), "again");
}

export async function aKilledGatewayIsReplacedByAnother(stage) {
  const client = await stage.connect();
  const joined = await subscribed(client, stage.unique("news"));

  await stage.backend.lose_gateway();

  await joined.next("pusher:subscription_succeeded");
  await stage.backend.trigger({ channels: joined.channel.name, event: "item", data: "still here" });
  equal(await joined.next("item"), "still here");
}
