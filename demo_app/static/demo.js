/**
 * The uploader: sends files, shows each upload in the same bar as its task, and lists the finished videos.
 * <jobpush-tasks> shows the tasks, from the events of the server.
 */

/** Parallel uploads. More would only slow each of them down. */
const MAX_PARALLEL = 2;
/** Time for the second click on "Delete". */
const SURE_MS = 4000;
const MEGABYTE = 1024 * 1024;

const page = document.querySelector("#uploader").dataset;
const limits = {
  bytes: Number(page.maxBytes),
  videos: Number(page.maxVideos),
  /** Percent of the bar that the upload takes. */
  uploadPercent: Number(page.uploadPercent),
};
const tasks = document.querySelector("jobpush-tasks");
const headers = { "X-Requested-With": "demo" };

// ---- Uploads ----

/** Codes of the server's errors after which an upload continues. */
const CONTINUED = new Set(["cut_off", "wrong_offset", "upload_busy", "broker_away", "redis_away"]);
/** Attempts without progress before an upload fails, and the pause before the first of them; it doubles. */
const ATTEMPTS = 8;
const PAUSE_MS = 500;

/** Return a random UUID, also in a page without TLS, where browsers have no `crypto.randomUUID`. */
function newId() {
  const url = URL.createObjectURL(new Blob());
  URL.revokeObjectURL(url);
  return url.slice(-36);
}

/** One file on its way to the server, shown as a local task until the server's events take over. */
class Upload {
  id = newId();
  file;
  #request;
  #isActive = true;
  /** Bytes that the server has. */
  #offset = 0;
  #startedMs;

  constructor(file) {
    this.file = file;
    this.#show({ state: "PENDING", message: "waiting to be uploaded", percent: 0 });
  }

  get isActive() {
    return this.#isActive;
  }

  /** Sends the file. After an interruption it continues where the server's copy ends. */
  async send() {
    this.#startedMs = performance.now();
    for (let attempt = 0; this.#isActive; attempt += 1) {
      const { status, text } = await this.#sendRest();
      if (status === 202) this.#isActive = false; // from here on it is the server's task
      if (!this.#isActive) return;
      const isInterrupted = status === 0 || [502, 503, 504].includes(status) || CONTINUED.has(errorIn(text)?.code);
      if (!isInterrupted) return this.fail(messageIn(text));
      if (attempt === ATTEMPTS) return this.fail("The upload was interrupted. Check your connection and try again.");
      this.#showProgress(this.#offset, "connection lost, trying again");
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** attempt));
      if (await this.#findOffset()) attempt = -1; // it moves, so it may be interrupted again
    }
  }

  fail(error) {
    this.#isActive = false;
    this.#show({ state: "FAILURE", error });
  }

  cancel() {
    this.#isActive = false;
    this.#request?.abort();
    this.discard();
    tasks.connection.remove(this.id);
  }

  /** Deletes the part that has arrived, which counts against the user's space. */
  discard() {
    fetch(this.#url, { method: "DELETE", headers }).catch(() => null);
  }

  get #url() {
    return `${page.videosUrl}/${this.id}`;
  }

  #sendRest() {
    const request = (this.#request = new XMLHttpRequest());
    const start = this.#offset;
    request.open("PUT", this.#url);
    request.setRequestHeader("X-Requested-With", headers["X-Requested-With"]);
    request.setRequestHeader("X-File-Name", encodeURIComponent(this.file.name.toWellFormed?.() ?? this.file.name));
    request.setRequestHeader("Upload-Offset", start);
    request.setRequestHeader("Upload-Length", this.file.size);
    request.upload.onprogress = ({ loaded }) => this.#isActive && this.#showProgress(start + loaded);
    return new Promise((resolve) => {
      request.onloadend = () => resolve({ status: request.status, text: request.responseText });
      request.send(this.file.slice(start));
    });
  }

  /** Asks where the upload continues. Returns whether the server has more than before. */
  async #findOffset() {
    const response = await fetch(this.#url, { method: "HEAD", headers, cache: "no-store" }).catch(() => null);
    if (response?.headers.get("Upload-Complete") === "1") this.#isActive = false;
    const offset = response?.ok ? Number(response.headers.get("Upload-Offset")) : this.#offset;
    const isFurther = offset > this.#offset;
    this.#offset = response?.status === 404 ? 0 : offset;
    return isFurther;
  }

  #showProgress(loaded, message) {
    const total = this.file.size;
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const rate = seconds > 1 ? loaded / seconds : null;
    this.#show({
      state: "PROGRESS",
      message: message ?? `uploading, ${megabytes(loaded)} of ${megabytes(total)}`,
      percent: (limits.uploadPercent * loaded) / total,
      eta: message ? null : rate && (total - loaded) / rate,
    });
  }

  #show(event) {
    tasks.connection.show({ task_id: this.id, title: this.file.name, ...event });
  }
}

const uploads = new Map();
const waiting = [];
let running = 0;

function take(files) {
  clearProblems();
  const room = limits.videos - videos.size - [...uploads.values()].filter(({ isActive }) => isActive).length;
  const left = Math.max(0, files.length - room);
  if (left) {
    const which = files.length === 1 ? "This file was" : `${left} of ${files.length} files were`;
    showProblem(`${which} not taken: the limit is ${limits.videos} videos. Delete some first.`);
  }
  for (const file of [...files].slice(0, Math.max(0, room))) start(file);
}

function start(file) {
  const upload = new Upload(file);
  uploads.set(upload.id, upload);
  if (file.size > limits.bytes) return upload.fail(`This file is too large: ${megabytes(limits.bytes)} are allowed.`);
  if (file.size === 0) return upload.fail("This file is empty.");
  waiting.push(upload);
  next();
}

async function next() {
  if (running >= MAX_PARALLEL || !waiting.length) return;
  const upload = waiting.shift();
  running += 1;
  if (upload.isActive) await upload.send();
  running -= 1;
  next();
}

async function takeSample({ currentTarget: button }) {
  const { textContent } = button;
  Object.assign(button, { disabled: true, textContent: "Making it…" });
  const response = await fetch(page.sampleUrl).catch(() => null);
  Object.assign(button, { disabled: false, textContent });
  if (response?.ok) take([new File([await response.blob()], "sample.mp4", { type: "video/mp4" })]);
  else showProblem(response ? messageIn(await response.text()) : "The sample cannot be loaded. Check your connection.");
}

// ---- Finished videos ----

const gallery = document.querySelector("#gallery");
const template = document.querySelector("#video");
const videos = new Map();
/** Loads a poster once its card comes near the screen: a gallery may hold hundreds. */
const posters = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      target.poster = target.dataset.poster;
      posters.unobserve(target);
    }
  },
  { rootMargin: "300px" },
);
let isListed = false;
let refreshing;

/** Lists the finished videos. Calls during a request lead to one more request. */
async function refresh() {
  if (refreshing) return void (refreshing = "again");
  refreshing = "once";
  const ended = endedTasks("SUCCESS");
  const response = await fetch(page.videosUrl, { headers }).catch(() => null);
  if (response?.status === 401) return location.reload(); // signed out in another tab
  if (response?.ok) showVideos((await response.json()).videos, ended);
  const isAskedAgain = refreshing === "again";
  refreshing = undefined;
  if (isAskedAgain) refresh();
}

function showVideos(list, endedBefore) {
  const ids = new Set(list.map(({ id }) => id));
  for (const id of videos.keys()) if (!ids.has(id)) removeVideo(id);
  for (const video of [...list].reverse()) if (!videos.has(video.id)) addVideo(video);
  // A deleted video also disappears from the tasks, which the server still knows.
  for (const id of endedBefore) if (!ids.has(id)) tasks.connection.remove(id);
  isListed = true;
  showCount();
}

function addVideo(video) {
  const card = template.content.firstElementChild.cloneNode(true);
  const [download, remove] = card.querySelectorAll(".actions > *");
  card.classList.toggle("new", isListed);
  card.querySelector("h3").textContent = card.querySelector("h3").title = video.name;
  card.querySelector(".note").textContent = [
    video.duration && clock(video.duration),
    `${video.width} × ${video.height}`,
    megabytes(video.bytes),
  ].filter(Boolean).join(" · ");
  const player = Object.assign(card.querySelector("video"), { src: video.url, ariaLabel: video.name });
  player.dataset.poster = video.poster_url;
  posters.observe(player);
  Object.assign(download, { href: video.download_url, ariaLabel: `Download ${video.name}` });
  remove.ariaLabel = `Delete ${video.name}`;
  remove.addEventListener("click", () => askedToDelete(video.id, remove));
  videos.set(video.id, card);
  gallery.prepend(card);
}

async function askedToDelete(id, button) {
  if (!button.classList.contains("sure")) return askAgain(button);
  button.disabled = true;
  const response = await fetch(`${page.videosUrl}/${id}`, { method: "DELETE", headers }).catch(() => null);
  button.disabled = false;
  if (response?.ok || response?.status === 404) forget(id);
  else showProblem("The video cannot be deleted right now. Try again in a moment.");
}

function askAgain(button) {
  const { textContent } = button;
  button.textContent = "Delete for good?";
  button.classList.add("sure");
  setTimeout(() => {
    button.textContent = textContent;
    button.classList.remove("sure");
  }, SURE_MS);
}

/** Also called when another tab has deleted the video. */
function forget(id) {
  removeVideo(id);
  tasks.connection.remove(id);
  showCount();
}

function removeVideo(id) {
  videos.get(id)?.remove();
  videos.delete(id);
}

function showCount() {
  document.querySelector("#count").textContent = videos.size || "";
  document.querySelector("#empty").hidden = videos.size > 0;
  document.querySelector("#trailer").hidden = videos.size < 2;
}

async function makeTrailer({ currentTarget: button }) {
  clearProblems();
  button.disabled = true;
  const response = await fetch(page.trailerUrl, { method: "POST", headers }).catch(() => null);
  button.disabled = false;
  if (!response?.ok) showProblem(messageIn(await response?.text()));
}

// ---- Messages ----

const problems = document.querySelector("#problems");

function showProblem(text) {
  const item = document.createElement("li");
  const dismiss = document.createElement("button");
  item.append(text, dismiss);
  Object.assign(dismiss, { type: "button", className: "quiet", textContent: "OK", onclick: () => item.remove() });
  problems.append(item);
}

function clearProblems() {
  problems.replaceChildren();
}

/** The error in a response of the server; nothing for other responses, for example a proxy's page. */
function errorIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return undefined;
  }
}

function messageIn(text) {
  return errorIn(text)?.message ?? "The server cannot take it right now. Try again in a moment.";
}

function megabytes(bytes) {
  const number = bytes / MEGABYTE;
  return `${number.toLocaleString(undefined, { maximumFractionDigits: number < 10 ? 1 : 0 })} MB`;
}

function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function endedTasks(state) {
  return [...tasks.connection.tasks.values()].filter((task) => task.state === state).map((task) => task.task_id);
}

// ---- Wiring ----

function listenForDrops(area) {
  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    area.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? area.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    area.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault(); // everywhere: a file dropped beside the area would replace the page
    take(event.dataTransfer.files);
  });
}

await customElements.whenDefined("jobpush-tasks");
listenForDrops(document.querySelector("#drop"));
document.querySelector("#sample").addEventListener("click", takeSample);
document.querySelector("#trailer").addEventListener("click", makeTrailer);
document.querySelector("#files").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = ""; // allows the same file to be chosen again
});
tasks.addEventListener("jobpush-progress-rerun", (event) => {
  const upload = uploads.get(event.detail.task_id);
  if (!upload) return; // the server runs trailers again
  event.preventDefault(); // the file is still here, but no longer on the server
  tasks.dismiss?.(upload.id);
  if (!(event.detail.seq >= 1)) upload.discard(); // it failed on its way to the server
  take([upload.file]);
});
tasks.addEventListener("jobpush-progress-success", refresh);
// Lets the server clean up:
for (const end of ["failure", "revoked"]) tasks.addEventListener(`jobpush-progress-${end}`, refresh);
tasks.addEventListener("jobpush-progress-cancel", (event) => {
  const upload = uploads.get(event.detail.task_id);
  const isTask = event.detail.seq >= 1; // an event of the server, which may precede its response to the upload
  if (isTask || !upload?.isActive) return;
  event.preventDefault(); // the server does not know it yet
  upload.cancel();
});
tasks.connection.on("video-deleted", ({ id }) => forget(id));
// Browsers ask for the permission only after a click.
const desktop = document.querySelector("#desktop");
desktop.hidden = globalThis.Notification?.permission !== "default";
desktop.addEventListener("click", async () => {
  await Notification.requestPermission();
  desktop.hidden = true;
});
addEventListener("beforeunload", (event) => {
  if ([...uploads.values()].some(({ isActive }) => isActive)) event.preventDefault();
});
refresh();
