/** The feed: the headlines of a public channel, and a form that publishes one. */

import { connect } from "../jobpush/static/jobpush.js";
import { listRecent, sendInPlace } from "./recent.js";

listRecent(document.querySelector("#headlines"), connect().subscribe("feed"), "headline");

const form = document.querySelector("#publish"); // only for signed-in users
if (form) sendInPlace(form);
