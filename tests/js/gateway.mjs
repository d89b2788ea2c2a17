/**
 * A fake gateway inside the page. The client is the real one; this script replaces `WebSocket` before the page's own
 * scripts run.
 */
const OWN = "#server-to-user-42";

class Gateway {
  sockets = [];
  /** Requests other than for files, as "METHOD path". */
  requests = [];
  violations = [];
  /** Events of the elements, as [name, task_id]. */
  events = [];
  announcements = [];

  get socket() {
    return this.sockets.at(-1);
  }

  send(event, data, channel = OWN) {
    this.socket.onmessage?.({ data: JSON.stringify({ event, channel, data: JSON.stringify(data) }) });
  }

  welcome() {
    this.send("pusher:connection_established", { socket_id: "1.2", activity_timeout: 120 }, undefined);
    this.send("pusher:signin_success", { user_data: '{"id":"42"}' }, undefined);
    this.send("pusher_internal:subscription_succeeded", {});
  }

  /** Send one frame per task, synchronously; missing fields get defaults. */
  sendTasks(...tasks) {
    for (const task of tasks) this.send("jobpush:task", { title: `Task ${task.task_id}`, seq: 1, created_at: 1, attempt: 1, ...task });
  }
}

const gateway = (window.gateway = new Gateway());

window.WebSocket = class {
  sent = [];
  isClosed = false;

  constructor(url) {
    this.url = url;
    gateway.sockets.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.isClosed = true;
  }
};

document.addEventListener("securitypolicyviolation", ({ violatedDirective }) => gateway.violations.push(violatedDirective));
for (const name of ["update", "success", "failure", "revoked", "cancel"]) {
  document.addEventListener(`jobpush-progress-${name}`, ({ detail }) => gateway.events.push([name, detail.task_id]));
}
