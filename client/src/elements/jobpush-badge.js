/** `<jobpush-badge>`: how many notifications the user has not seen; its code is in inbox.js. */

import { LazyElement } from "./lazy-element.js";

export class JobpushBadge extends LazyElement {}
