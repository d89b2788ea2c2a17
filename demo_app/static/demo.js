/**
 * The uploader's page: takes files, shows their upload in the bar in which their task goes on, and lists what
 * can be watched. What a task does is not its business: that is <jobpush-tasks>, fed by the server.
 */

/** Uploads at once. More would only make each of them slower. */
const MAX_PARALLEL = 2;
/** How long "Delete" waits for the second click. */
const SURE_MS = 4000;
const MEGABYTE = 1024 * 1024;

const page = document.querySelector("#uploader").dataset;
const limits = {
  bytes: Number(page.maxBytes),
  videos: Number(page.maxVideos),
  /** Percent of a video's bar that belong to its upload. */
  uploadPercent: Number(page.uploadPercent),
};
const tasks = document.querySelector("jobpush-tasks");
const headers = { "X-Requested-With": "demo" };

// ---- Uploads ----

/** One file on its way to the server, as a task of the page's own until the server's events take over. */
class Upload {
  id = crypto.randomUUID();
  #file;
  #request = new XMLHttpRequest();
  #startedMs;

  constructor(file) {
    this.#file = file;
    this.#show({ state: "PENDING", message: "waiting to be uploaded", percent: 0 });
  }

  get isActive() {
    return this.#request !== null;
  }

  send() {
    const request = this.#request;
    this.#startedMs = performance.now();
    request.open("PUT", `${page.videosUrl}/${this.id}`);
    request.setRequestHeader("X-Requested-With", headers["X-Requested-With"]);
    request.setRequestHeader("X-File-Name", encodeURIComponent(this.#file.name.toWellFormed?.() ?? this.#file.name));
    request.upload.onprogress = ({ loaded, total }) => this.#showProgress(loaded, total);
    return new Promise((resolve) => {
      request.onload = () => this.#answered(request);
      request.onerror = () => this.fail("The upload was cut off. Check your connection and try again.");
      request.onloadend = resolve;
      request.send(this.#file);
    });
  }

  fail(error) {
    this.#request = null;
    this.#show({ state: "FAILURE", error });
  }

  cancel() {
    this.#request?.abort();
    this.#request = null;
    tasks.connection.remove(this.id);
  }

  #answered({ status, responseText }) {
    if (status !== 202) return this.fail(messageIn(responseText));
    this.#request = null; // from here on it is the server's task
  }

  #showProgress(loaded, total) {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const rate = seconds > 1 ? loaded / seconds : null;
    this.#show({
      state: "PROGRESS",
      message: `uploading, ${megabytes(loaded)} of ${megabytes(total)}`,
      percent: (limits.uploadPercent * loaded) / total,
      eta: rate && (total - loaded) / rate,
    });
  }

  #show(event) {
    tasks.connection.show({ task_id: this.id, title: this.#file.name, ...event });
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
    showProblem(`${which} not taken: you can have ${limits.videos} videos. Delete some first.`);
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
  else showProblem(response ? messageIn(await response.text()) : "The sample can't be loaded. Check your connection.");
}

// ---- Finished videos ----

const gallery = document.querySelector("#gallery");
const template = document.querySelector("#video");
const videos = new Map();
let isListed = false;
let refreshing;

/** Asks the server what there is to watch; calls while it answers become one more question. */
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
  // Of a video that was deleted nothing is to be seen, although its task is still remembered.
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
  Object.assign(card.querySelector("video"), { src: video.url, poster: video.poster_url, ariaLabel: video.name });
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
  else showProblem("The video can't be deleted right now. Try again in a moment.");
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

/** Also told by the server when another tab deleted it. */
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
}

// ---- Words ----

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

/** The sentence in an error of the server's, or one for what is none of them (a proxy's page, say). */
function messageIn(text) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return "The server can't take it right now. Try again in a moment.";
  }
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
    event.preventDefault(); // anywhere: a file that missed the area would replace the page
    take(event.dataTransfer.files);
  });
}

await customElements.whenDefined("jobpush-tasks");
listenForDrops(document.querySelector("#drop"));
document.querySelector("#sample").addEventListener("click", takeSample);
document.querySelector("#files").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = ""; // so that the same file can be chosen again
});
tasks.addEventListener("jobpush-progress-success", refresh);
tasks.addEventListener("jobpush-progress-failure", refresh); // lets the server tidy up behind it
tasks.addEventListener("jobpush-progress-cancel", (event) => {
  const upload = uploads.get(event.detail.task_id);
  const isTask = event.detail.seq >= 1; // the server's word, which may come before its answer to the upload
  if (isTask || !upload?.isActive) return;
  event.preventDefault(); // the server knows nothing of it yet
  upload.cancel();
});
tasks.connection.on("video-deleted", ({ id }) => forget(id));
addEventListener("beforeunload", (event) => {
  if ([...uploads.values()].some(({ isActive }) => isActive)) event.preventDefault();
});
refresh();
