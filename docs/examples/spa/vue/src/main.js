import { connect } from "jobpush";
import { createApp } from "vue";

import App from "./App.vue";
import { token } from "./api.js";

connect({ root: "http://127.0.0.1:8001", token, shared: true });
createApp(App, { isKnown: Boolean(await token()) }).mount("#app");
