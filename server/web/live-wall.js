"use strict";
// The live wall: a row for each running call, kept up to date; who needs help most comes first.

const NEEDS = { 3: ["Alert", "▲"], 2: ["Upset", "◆"], 1: ["Struggles", "●"], 0: ["None", "–"] };

function liveWall() {
  const table = $("wall"), body = table.tBodies[0], calls = new Map();
  let held = false, connected = false, total = 0;

  const cellsOf = () => ({ need: el("td"), who: el("td"), lasts: el("td", { className: "number" }), line: el("td"), now: el("td"), next: el("td") });

  function update(row) {
    const known = calls.get(row.id) ?? { cells: cellsOf(), node: el("tr", { tabIndex: -1 }) };
    if (!calls.has(row.id)) {
      known.link = el("a", { href: `/live/${encodeURIComponent(row.id)}` });
      known.where = el("span", { className: "muted small block" });
      known.cells.who.append(known.link, known.where);
      known.node.append(...Object.values(known.cells));
      known.node.dataset.href = known.link.href;
      calls.set(row.id, known);
    }
    known.row = row;
    const { need, lasts, line, now, next } = known.cells, [word, sign] = NEEDS[row.need];
    known.node.className = `need-${row.need}`;
    need.replaceChildren(el("span", { className: "need" }, el("span", { textContent: sign, "aria-hidden": "true" }), ` ${word}`),
      el("span", { className: "muted small block", textContent: row.need === 3 ? "open alert" : row.reason }));
    known.link.textContent = row.who;
    known.where.textContent = [row.queue, row.product, row.agent_group].filter(Boolean).join(" · ");
    lasts.textContent = lengthOf(row.received_us);
    line.replaceChildren(sparkline(row.valence));
    now.replaceChildren(chip(row.label, row.probability),
      el("span", { className: "muted small block", textContent: [row.probability ? likelihood(row.probability) : "", row.stage].filter(Boolean).join(" · ") }));
    next.textContent = row.alert ?? row.suggestion ?? "–";
    next.className = row.alert ? "strong" : row.suggestion ? "" : "muted";
  }

  /** By need, then by when they began; only when nobody is about to click. */
  function arrange() {
    if (held) return;
    const order = [...calls.values()].sort((a, b) => b.row.need - a.row.need || a.row.began.localeCompare(b.row.began) || a.row.id.localeCompare(b.row.id));
    order.forEach(({ node }, i) => body.children[i] === node || body.insertBefore(node, body.children[i] ?? null));
  }

  function tell() {
    table.hidden = !calls.size;
    $("none").hidden = calls.size > 0 || !connected;
    const help = [...calls.values()].filter(({ row }) => row.need >= 2).length;
    $("state").textContent = !connected ? "The connection is gone; it is tried again every few seconds. What you see may be old."
      : !calls.size ? "Up to date"
      : `${total > calls.size ? `${calls.size} of ${total} calls, those that need help most` : `${total} ${total === 1 ? "call" : "calls"}`} · ${help ? `${help} may need help` : "nobody needs help"}${held ? " · order held" : ""}`;
  }

  const hold = (on) => { held = on; if (!on) arrange(); tell(); };
  body.addEventListener("pointerenter", () => hold(true));
  body.addEventListener("pointerleave", () => hold(body.contains(document.activeElement)));
  body.addEventListener("focusin", () => hold(true));
  body.addEventListener("focusout", () => hold(body.matches(":hover")));

  function take(news) {
    connected = true;
    total = news.total;
    for (const id of news.gone) {
      calls.get(id)?.node.remove();
      calls.delete(id);
    }
    news.rows.forEach(update);
    for (const { row, node } of calls.values()) if (!node.isConnected) body.append(node);
    arrange();
    tell();
    document.documentElement.dataset.ready = "true";
  }
  listen("/live/events", { events: { wall: take }, open: () => { connected = true; tell(); }, lost: () => { connected = false; tell(); } });
}
liveWall();
