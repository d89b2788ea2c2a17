/** Play scenarios in Node: `node client.mjs <name> <module> <origin of the application>`. */

import Pusher from "pusher-js";

import { playAll } from "./stage.mjs";

const [name, module, origin] = process.argv.slice(2);
globalThis.Pusher = Pusher;
await playAll(name, await import(`./${module}.mjs`), origin);
