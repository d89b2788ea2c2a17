/** For signed-in users: after a sign-out in another tab, the server closes this connection and the page reloads. */

import { connect } from "../jobpush/static/jobpush.js";

const connection = connect();
let wasConnected = connection.state === "connected";

const off = connection.on("jobpush:state", (state) => {
  wasConnected ||= state === "connected"; // a connection that is refused at once would be refused for ever
  if (state === "failed" && wasConnected) location.reload();
});
addEventListener("beforeunload", off); // the tab that signs out is already leaving
