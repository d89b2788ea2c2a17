/** The chat: the members of a presence channel are present, its client events show that a user types. */

import { connect } from "../jobpush/static/jobpush.js";
import { listRecent, sendInPlace } from "./recent.js";

/** Pause between two "typing" events of this page, and how long each is shown. */
const [TYPING_PAUSE_MS, TYPING_SHOWN_MS] = [1500, 3000];

const form = document.querySelector("#send");
const me = form.dataset.user;
const channel = connect().subscribe("presence-chat");

listRecent(document.querySelector("#messages"), channel, "message", (node, { name }) => {
  node.classList.toggle("own", name === me);
  setTyping(name, false);
});
sendInPlace(form);

// ---- Present users ----

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

// ---- Typing users ----

/** Names of typing users, each with the timer that removes it. */
const typists = new Map();
let typingSentAt = -Infinity;

form.addEventListener("input", ({ timeStamp }) => {
  if (timeStamp - typingSentAt > TYPING_PAUSE_MS && channel.trigger("client-typing", {})) typingSentAt = timeStamp;
});
// A message ends "typing", so the next event is sent at once.
form.addEventListener("submit", () => (typingSentAt = -Infinity));
// The gateway adds the user id; the sender cannot choose it.
channel.on("client-typing", (_, { user_id }) => setTyping(channel.members.get(user_id)?.name, true));

function setTyping(name, isTyping) {
  if (!name || name === me) return; // "me" is my other tab
  clearTimeout(typists.get(name));
  typists.delete(name);
  if (isTyping) typists.set(name, setTimeout(setTyping, TYPING_SHOWN_MS, name, false));
  const names = new Intl.ListFormat("en").format(typists.keys());
  document.querySelector("#typing").textContent = names && `${names} ${typists.size > 1 ? "are" : "is"} typing…`;
}
