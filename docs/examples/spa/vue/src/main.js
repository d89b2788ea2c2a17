import { connect } from "jobpush";
import { createApp } from "vue";

import { token } from "./api.js";
import SignIn from "./SignIn.vue";
import Tasks from "./Tasks.vue";

const isSignedIn = Boolean(await token());
if (isSignedIn) connect({ root: "http://127.0.0.1:8001", token, shared: true });
createApp(isSignedIn ? Tasks : SignIn).mount("#app");
