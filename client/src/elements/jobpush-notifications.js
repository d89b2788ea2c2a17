/** `<jobpush-notifications>`: the inbox of the user; its code is in inbox.js. */

import { LazyElement } from "./lazy-element.js";

export class JobpushNotifications extends LazyElement {}
