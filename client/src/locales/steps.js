/** Times are rounded to steps: an estimate is not exact. */
const MINUTE_STEPS = [1, 2, 3, 4, 5, 10, 15, 20, 30, 45];

/** Return the nearest step below which a time in minutes is stated. */
export const roundedMinutes = (seconds) => MINUTE_STEPS.findLast((step) => step <= Math.max(1, Math.round(seconds / 60)));
