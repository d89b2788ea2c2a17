/** The chat's page: a presence channel tells who is here, its client events who is typing. */

import { connect } from "../jobpush/static/jobpush.js";
import { listRecent, sendInPlace } from "./recent.js";

/** How often those who type say so, and how long one word of it counts. */
const SAY_EVERY_MS = 1500;
const COUNTS_FOR_MS = 3000;

const form = document.querySelector("#say");
const me = form.dataset.user;
const channel = connect().subscribe("presence-chat");

// ---- Messages ----

listRecent(document.querySelector("#messages"), channel, "message", (node, { name }) => {
  node.classList.toggle("own", name === me);
  stopTyping(name);
});
sendInPlace(form);

// ---- Who is here ----

function showPeople() {
  const names = [...channel.members.values()].map(({ name }) => name).sort((a, b) => a.localeCompare(b));
  document.querySelector("#count").textContent = names.length;
  document.querySelector("#people").replaceChildren(...names.map((name) => {
    const item = document.createElement("li");
    item.textContent = item.title = name;
    item.classList.toggle("own", name === me);
    return item;
  }));
}

for (const change of ["subscription_succeeded", "member_added", "member_removed"]) {
  channel.on(`pusher:${change}`, showPeople);
}

// ---- Who is typing ----

const typists = new Map();
let saidAt = -Infinity;

form.addEventListener("input", ({ timeStamp }) => {
  if (timeStamp - saidAt > SAY_EVERY_MS && channel.trigger("client-typing", {})) saidAt = timeStamp;
});
form.addEventListener("submit", () => {
  saidAt = -Infinity; // the next word is said at once, for the message takes back this one
});

// Who it was is the gateway's word, not the sender's.
channel.on("client-typing", (_, { user_id }) => {
  const name = channel.members.get(user_id)?.name;
  if (!name || name === me) return; // my other tab
  clearTimeout(typists.get(name));
  typists.set(name, setTimeout(stopTyping, COUNTS_FOR_MS, name));
  showTypists();
});

function stopTyping(name) {
  clearTimeout(typists.get(name));
  if (typists.delete(name)) showTypists();
}

function showTypists() {
  const names = [...typists.keys()];
  const who = new Intl.ListFormat("en").format(names);
  document.querySelector("#typing").textContent = names.length ? `${who} ${names.length > 1 ? "are" : "is"} typing…` : "";
}
