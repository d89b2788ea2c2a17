/** For who is signed in: when they sign out, in whatever tab, the server ends the connection of this one too. */

import { connect } from "../jobpush/static/jobpush.js";

const connection = connect();
let wasConnected = connection.state === "connected";

const off = connection.on("jobpush:state", (state) => {
  wasConnected ||= state === "connected"; // one that is refused from the start would be refused again, for ever
  if (state === "failed" && wasConnected) location.reload();
});
addEventListener("beforeunload", off); // the tab that signs out is on its way already
