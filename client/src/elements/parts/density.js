/** The style of `density="compact"`. */

import css from "./density.css";
import { addStyle } from "./style.js";

export default (root) => addStyle(root, css);
