/** The chat's page: a presence channel tells who is here, its client events who is typing. */

import { connect } from "../jobpush/static/jobpush.js";
import { listRecent, sendInPlace } from "./recent.js";

/** How often those who type say so, and how long one word of it counts. */
const [SAY_EVERY_MS, COUNTS_FOR_MS] = [1500, 3000];

const form = document.querySelector("#say");
const me = form.dataset.user;
const channel = connect().subscribe("presence-chat");

listRecent(document.querySelector("#messages"), channel, "message", (node, { name }) => {
  node.classList.toggle("own", name === me);
  setTyping(name, false);
});
sendInPlace(form);

// ---- Who is here ----

for (const change of ["subscription_succeeded", "member_added", "member_removed"]) {
  channel.on(`pusher:${change}`, showPeople);
}

function showPeople() {
  const names = [...channel.members.values()].map(({ name }) => name).sort((a, b) => a.localeCompare(b));
  document.querySelector("#count").textContent = names.length;
  document.querySelector("#people").replaceChildren(...names.map(person));
}

const person = (name) =>
  Object.assign(document.createElement("li"), { textContent: name, title: name, className: name === me ? "own" : "" });

// ---- Who is typing ----

/** Names, each with the timer that ends it. */
const typists = new Map();
let saidAt = -Infinity;

form.addEventListener("input", ({ timeStamp }) => {
  if (timeStamp - saidAt > SAY_EVERY_MS && channel.trigger("client-typing", {})) saidAt = timeStamp;
});
// A message takes that word back, so the next one is to be said at once.
form.addEventListener("submit", () => (saidAt = -Infinity));
// Who it was is the gateway's word, not the sender's.
channel.on("client-typing", (_, { user_id }) => setTyping(channel.members.get(user_id)?.name, true));

function setTyping(name, isTyping) {
  if (!name || name === me) return; // "me" is my other tab
  clearTimeout(typists.get(name));
  typists.delete(name);
  if (isTyping) typists.set(name, setTimeout(setTyping, COUNTS_FOR_MS, name, false));
  const names = new Intl.ListFormat("en").format(typists.keys());
  document.querySelector("#typing").textContent = names && `${names} ${typists.size > 1 ? "are" : "is"} typing…`;
}
