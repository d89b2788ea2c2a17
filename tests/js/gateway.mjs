/**
 * A gateway inside the page: the connection is the real one, only its socket ends here.
 * Put in place of `WebSocket` before the page's own scripts run.
 */
const OWN = "#server-to-user-42";

class Gateway {
  sockets = [];
  /** Requests other than for files, as "METHOD path". */
  requests = [];
  violations = [];
  /** What the elements told, as [name, task_id]. */
  told = [];
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

  /** One frame for each task, in one go; missing fields are made up. */
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
  document.addEventListener(`jobpush-progress-${name}`, ({ detail }) => gateway.told.push([name, detail.task_id]));
}
