/** Every state of the card, as tasks: for the tests, and for the page "states" of the demo. */

const NOW = Date.now() / 1000;
const LONG = "Summer holiday in the mountains, the long version with all of the walks and the rain, part 0012.mov";

export const states = [
  { title: "Encode cat.mov", state: "PROGRESS", percent: 30, current: 1200, total: 4000, rate: 58.2, eta: 170, message: "pass 1 of 2", started_at: NOW - 75 },
  { title: "Count the stars", state: "PROGRESS", percent: null, current: 1234, rate: 58, message: "no end is known", started_at: NOW - 12 },
  { title: LONG, state: "PROGRESS", percent: 64, eta: 20, started_at: NOW - 300, data: { stages: ["probe", "encode", "thumbnail"], stage: "encode" } },
  { title: "Send the newsletter", state: "STARTED", attempt: 2, max_attempts: 4, started_at: NOW - 3 },
  { title: "Import orders", state: "PROGRESS", percent: 12, cancelling: true, started_at: NOW - 40 },
  { title: "Album of 40 pictures", state: "PROGRESS", percent: 45, data: { children: { total: 40, succeeded: 18, failed: 1, revoked: 0, running: 2 } }, started_at: NOW - 90 },
  { title: "Fetch prices", state: "RETRY", attempt: 1, max_attempts: 4, run_at: NOW + 45, percent: 40, error: "The supplier did not answer" },
  { title: "Resize pictures", state: "PENDING", ahead: 3, created_at: NOW - 30 },
  { title: "Convert the scans", state: "PENDING", message: "No worker is running for the queue scans", message_code: "no_worker:scans", created_at: NOW - 50 },
  { title: "Nightly report", state: "RECEIVED", run_at: NOW + 86_400 },
  { title: "Encode dog.mov", state: "SUCCESS", current: 4000, total: 4000, started_at: NOW - 400, at: NOW - 200, data: { result: { type: "file", url: "/static/logo.svg", label: "dog.mp4" } } },
  { title: "Draw the chart", state: "SUCCESS", started_at: NOW - 300, at: NOW - 290, data: { result: { type: "image", url: "/static/logo.svg", label: "Chart" } } },
  { title: "Sum up the month", state: "SUCCESS", started_at: NOW - 320, at: NOW - 310, data: { result: { type: "table", rows: [["Region", "Orders"], ["North", 120], ["South", 98]] } } },
  { title: "Read the archive", state: "FAILURE", percent: 40, error: "The file is not a video that can be read", started_at: NOW - 500, at: NOW - 450 },
  { title: "Delete old files", state: "REVOKED", at: NOW - 600 },
  { title: "Move the index", state: "LOST", percent: 71, started_at: NOW - 700, at: NOW - 650 },
].map((task, index) => ({ task_id: `state-${index}`, seq: 1, attempt: 1, created_at: NOW - 60 - index, ...task }));
