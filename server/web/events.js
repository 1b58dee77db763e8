"use strict";
// A stream of events from the server that is opened again when it is lost.

const RETRY_MS = 3000;

/**
 * @param on {events: {name: (data) => …}, open(), lost()}
 * @returns {close()}
 */
function listen(address, on) {
  let source, closed = false;
  function open() {
    source = new EventSource(address);
    source.onopen = () => on.open?.();
    for (const [name, take] of Object.entries(on.events)) source.addEventListener(name, ({ data }) => take(JSON.parse(data)));
    source.addEventListener("bye", () => location.reload()); // signed out meanwhile
    source.onerror = () => {
      if (closed) return;
      on.lost();
      if (source.readyState === EventSource.CLOSED) setTimeout(again, RETRY_MS); // else the browser tries by itself
    };
  }
  /** When the page itself is refused by now, it says why better than this one can. */
  async function again() {
    const answer = await fetch(location.href, { method: "HEAD", headers: { accept: "text/html" } }).catch(() => null);
    if (answer && (!answer.ok || answer.redirected)) location.reload();
    else open();
  }
  open();
  return { close: () => { closed = true; source.close(); } };
}
