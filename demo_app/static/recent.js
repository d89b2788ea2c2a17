/** Shared by the chat and the feed: a list that is always up to date, and a form that adds to it. */

/**
 * Shows the entries at the list's `data-url`, and each `event` of the channel as it arrives.
 *
 * The entries are fetched after every subscription, so that none is missed. Each entry is shown once, in the order of
 * the ids. Each `data-text` in the list's template names a field, which is filled as text, never as HTML.
 *
 * @param {HTMLOListElement} list `reversed`: the newest entry is on top
 * @param {(node: Element, item: Record<string, string>) => void} [onShow]
 */
export function listRecent(list, channel, event, onShow) {
  const template = document.querySelector(`template[data-for="${list.id}"]`).content.firstElementChild;

  function show(item, isNew) {
    if (document.getElementById(item.id)) return;
    const node = template.cloneNode(true);
    node.id = item.id;
    node.classList.toggle("new", isNew);
    for (const part of node.querySelectorAll("[data-text]")) part.textContent = item[part.dataset.text];
    const time = new Date(parseInt(item.id, 10));
    Object.assign(node.querySelector("time"), { dateTime: time.toISOString(), textContent: timeText(time) });
    list.insertBefore(node, [...list.children].find(({ id }) => (id > item.id) !== list.reversed) ?? null);
    onShow?.(node, item);
  }

  channel.on(event, (item) => show(item, true));
  channel.on("pusher:subscription_succeeded", async () => {
    const response = await fetch(list.dataset.url).catch(() => null);
    if (response?.redirected) return location.reload(); // signed out in another tab
    if (!response?.ok) return;
    for (const item of await response.json()) show(item, false);
    list.dataset.isLoaded = "";
  });
}

/** Sends a form without leaving the page. If the server refuses it, the text comes back. */
export function sendInPlace(form) {
  const { text } = form.elements;
  const problem = form.querySelector(".problem");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData(form);
    form.reset(); // the next one can be typed at once
    const response = await fetch(form.action, { method: "POST", body }).catch(() => null);
    if (response?.redirected) return location.reload(); // signed out in another tab
    problem.textContent = response?.ok ? "" : await reasonIn(response);
    if (!response?.ok) text.value ||= body.get("text");
  });
}

async function reasonIn(response) {
  const answer = await response?.json().catch(() => null);
  return answer?.error?.message ?? "This could not be sent. Check your connection and try again.";
}

function timeText(time) {
  const isToday = time.toDateString() === new Date().toDateString();
  return time.toLocaleString(undefined, { timeStyle: "short", ...(!isToday && { dateStyle: "medium" }) });
}
