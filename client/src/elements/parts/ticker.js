/** One timer for all elements of the page; it runs only while something shows a time that moves. */

const TICK_MS = 1000;
const tickers = new Set();
let timer;

function tick() {
  // No frames, no ticks in a hidden tab.
  requestAnimationFrame(() => {
    for (const run of tickers) run();
  });
  timer = setTimeout(tick, TICK_MS);
}

/** Add or remove a function that is called about once a second. */
export function setTicking(run, isTicking) {
  if (isTicking) tickers.add(run);
  else tickers.delete(run);
  if (!tickers.size) timer = clearTimeout(timer);
  else timer ??= setTimeout(tick, TICK_MS);
}
