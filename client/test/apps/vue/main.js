import { connect } from "jobpush";
import { createApp } from "vue";

import App from "./App.vue";

connect({ root: globalThis.GATEWAY, token: async () => globalThis.TOKEN, shared: true });
createApp(App).mount("#app");
