import css from "./style.css";

/** Strict content security policies refuse style tags, but not constructed sheets. */
export const sheet = globalThis.CSSStyleSheet && new CSSStyleSheet();
sheet?.replaceSync(css);
