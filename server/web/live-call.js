"use strict";
// The live view of one call: its affect line grows, with what is said, how the customer sounds and what to do next.

const KEEP_US = 180e6; // following, the last three minutes are shown

function liveCall(meta) {
  const root = $("live");
  const source = { name: meta.id, duration_us: 1, rate_hz: 8000, participants: meta.participants, utterances: [], moments: [], suggestions: [], speech: [],
    vocal: [], dynamics: [], stages: [], notices: [], feedback: [], facts: [], snapshots: [], changes: [], scores: [], interruptions: [],
    summary: { lines: [], highlights: [] } };
  let call = indexCall(source), held = false, over = false;
  let hero = call.partyIds[0]; // nobody yet, where voices are still to be told apart
  const state = { at: 0, hero, who: hero, from: 0, to: 60e6, suggestion: null };
  const kept = { moments: new Map(), utterances: new Map(), suggestions: new Map(), stages: new Map(), speech: new Map(), notices: new Set() };
  const said = new Map(), partial = new Map();

  // Before anything is heard the line is a minute long and empty.
  const sized = (us) => Math.max(us, 60e6);
  source.duration_us = sized(0);
  call = indexCall(source);
  const line = affectLine(call, state, { go, choose });

  function go(us, who = state.who) {
    state.at = us;
    state.who = who;
    hold(true);
    explain();
    line.reveal(us);
  }
  function choose(suggestion) {
    state.suggestion = suggestion === state.suggestion ? null : suggestion;
    const span = state.suggestion?.because.map((id) => call.spans.get(id)).find(Boolean);
    if (span) go(span.start_us, suggestion.participant);
    line.draw();
    showSuggestions();
  }
  function hold(on) {
    held = on;
    $("follow").hidden = !on;
    if (on) return;
    follow();
    explain();
    showFacts();
  }
  $("follow").onclick = () => hold(false);

  /** The stretch that is shown moves with the call, unless someone looks at something else. */
  function follow() {
    const end = sized(source.duration_us);
    state.from = Math.max(0, end - KEEP_US);
    state.to = end;
    state.at = Math.max(0, source.received_us - 1);
    line.update(call);
  }

  const newest = (id) => (call.momentsOf.get(id) ?? []).findLast(isKnown);
  const saidAt = (moment) => moment && (call.utteranceAt(moment.participant, moment.span.start_us) ?? call.utteranceAt(moment.participant, moment.span.end_us - 1));

  function explain() {
    const moment = held ? call.momentAt(state.who, state.at) : newest(hero);
    if (!moment) {
      $("why").replaceChildren(el("p", { className: "muted", textContent: held ? "Nothing was recorded of this party here." : "Nothing is known yet." }));
      return;
    }
    const utterance = saidAt(moment);
    $("why").replaceChildren(...whyPanel(moment, { who: call.nameOf(moment.participant), clock: clock(moment.span.start_us), utterance, written: false,
      text: sentence(moment, utterance) }));
  }

  function showNow() {
    const moment = newest(hero);
    if (moment) {
      $("mood").replaceChildren(chip(moment.affect.label, moment.affect.probability), ` ${likelihood(moment.affect.probability)}`);
      $("why-now").textContent = `${clock(moment.span.start_us)} · ${sentence(moment, saidAt(moment))}`;
    }
    const valid = call.suggestions.filter((s) => s.expires_us > source.received_us);
    const alert = over ? null : valid.findLast((s) => s.kind === "alert");
    $("alert").hidden = !alert;
    $("alert").textContent = alert ? `▲ ${alert.text} ${alert.reason}` : "";
    const next = over ? null : valid.findLast((s) => s.kind !== "alert");
    $("next").replaceChildren(...(next ? [el("p", { className: "lead", textContent: next.text }), el("p", { className: "muted", textContent: next.reason })]
      : [el("p", { className: "muted", textContent: over ? "The call is over." : "No suggestion now." })]));
  }

  function showSuggestions() {
    if (!call.suggestions.length) return;
    $("suggestions").replaceChildren(...call.suggestions.toReversed().map((s) => {
      const gone = over || s.expires_us <= source.received_us;
      return el("li", {}, el("button", { className: `suggestion ${gone ? "gone" : ""}`, onclick: () => choose(s), "aria-pressed": String(s === state.suggestion) },
        el("span", { className: "muted small time", textContent: `${clock(s.created_us)} · ${s.kind} · ${gone ? "no longer due" : `due until ${clock(s.expires_us)}`}` }),
        el("b", { textContent: s.text }), el("span", { textContent: s.reason })));
    }));
  }

  function showSaid(utterances) {
    const box = $("transcript"), atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    for (const u of utterances) {
      const right = u.participant !== hero;
      const entry = saidNode(u, { time: clock(u.span.start_us), name: call.parties.length > 2 ? call.nameOf(u.participant) : "", badge: null, right });
      if (!u.final) {
        entry.node.classList.add("partial");
        partial.get(u.participant)?.remove();
        partial.set(u.participant, entry.node);
        box.append(entry.node);
        continue;
      }
      partial.get(u.participant)?.remove();
      partial.delete(u.participant);
      entry.node.onclick = () => go(u.span.start_us, u.participant);
      if (said.has(u.id)) said.get(u.id).node.replaceWith(entry.node);
      else {
        const before = [...said.values()].findLast((other) => other.u.span.start_us <= u.span.start_us);
        if (before) before.node.after(entry.node);
        else box.prepend(entry.node);
      }
      said.set(u.id, entry);
    }
    if (atEnd && !held) box.scrollTop = box.scrollHeight;
  }

  /** Moods are known a little after the words. */
  function showMoods() {
    for (const { u, node } of [...said.values()].slice(-12)) {
      const votes = {};
      for (const { affect } of call.momentsIn(u.participant, u.span).filter(isKnown)) votes[affect.label] = (votes[affect.label] ?? 0) + affect.probability;
      const label = ranked(votes)[0]?.[0], shown = node.querySelector(".chip");
      if (!label || shown?.textContent === label) continue;
      shown?.remove();
      node.firstElementChild.append(chip(label));
      node.style.borderLeftColor = look.colours[label] ?? "";
    }
  }

  function showFigures() {
    const figures = call.partyIds.map((id) => source.dynamics.find((d) => d.participant === id)).filter(Boolean);
    if (!figures.length) return;
    $("dynamics").replaceChildren(table(["", ...figures.map((d) => call.nameOf(d.participant))], [
      ["Talk", ...figures.map((d) => `${clock(d.talk_us)} (${percent(d.talk_share)})`)],
      ["Interrupts", ...figures.map((d) => `${d.interruptions} ×`)],
      ["Pace now", ...figures.map((d) => (d.words_per_minute_now === null ? "not known" : `${Math.round(d.words_per_minute_now)} words/min`))],
      ["In one go", ...figures.map((d) => briefly(d.monologue_us))],
      ["Silence", `${briefly(figures[0].silence_us)} (${percent(figures[0].silence_share)})`]]));
  }

  function showFacts() {
    const stage = call.stages.at(-1);
    $("facts").textContent = [over ? "over" : "running", lengthOf(source.received_us ?? 0), meta.queue, meta.product, stage && `stage: ${stage.name}`].filter(Boolean).join(" · ");
    $("now").textContent = `${clock(held ? state.at : source.received_us ?? 0)}${held ? " held" : ""}`;
  }

  /** Voices that share one channel become known while the call runs, and who they are still later. */
  function meet(participants) {
    const known = new Map([...source.participants, ...participants].map((p) => [p.id, p]));
    source.participants = [...known.values()];
    call = indexCall(source);
    const whose = state.who === hero;
    state.hero = hero = call.partyIds[0];
    if (whose) state.who = hero;
    showColumns();
    said.clear();
    $("transcript").replaceChildren();
    showSaid([...kept.utterances.values()]);
  }
  const showColumns = () =>
    $("columns").replaceChildren(...call.parties.slice(0, 2).map((p) => el("span", { textContent: call.nameOf(p.id) })));

  function take(news) {
    source.received_us = Math.max(source.received_us ?? 0, news.received_us);
    if (news.participants.length) meet(news.participants);
    for (const s of news.stages) {
      for (const [id, other] of kept.stages) if (id !== s.id && other.span.start_us > s.span.start_us) kept.stages.delete(id);
      kept.stages.set(s.id, s);
    }
    for (const kind of ["moments", "suggestions"]) for (const item of news[kind]) kept[kind].set(item.id, item);
    for (const u of news.utterances) if (u.final) kept.utterances.set(u.id, u);
    for (const turn of news.speech) kept.speech.set(`${turn.participant} ${turn.span.start_us}`, turn);
    for (const d of news.dynamics) source.dynamics = [...source.dynamics.filter((other) => other.participant !== d.participant), d];
    const byTime = (a, b) => a.span.start_us - b.span.start_us;
    source.moments = [...kept.moments.values()].sort(byTime);
    source.utterances = [...kept.utterances.values()];
    source.suggestions = [...kept.suggestions.values()];
    source.speech = [...kept.speech.values()].sort(byTime);
    source.stages = [...kept.stages.values()].sort(byTime);
    source.duration_us = sized(source.received_us);
    if (source.stages.length) source.stages[source.stages.length - 1] = { ...source.stages.at(-1), span: { ...source.stages.at(-1).span, end_us: source.received_us } };
    for (const n of news.notices) {
      const text = `${clock(n.at_us)} ${n.message}`;
      if (!kept.notices.has(text)) $("notices").append(el("li", { textContent: text }));
      kept.notices.add(text);
    }
    call = indexCall(source);
    showSaid(news.utterances);
    if (held) line.update(call);
    else follow();
    if (!held) explain();
    showMoods();
    showNow();
    if (news.suggestions.length || source.suggestions.some((s) => s.expires_us > source.received_us - 2e6)) showSuggestions();
    showFigures();
    showFacts();
  }

  showColumns();
  $("fit").onclick = () => { hold(true); line.show(0, source.duration_us); };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && held) hold(false);
  });
  return { take, end: (stored) => {
    over = true;
    root.classList.add("over");
    document.querySelector(".pulse")?.remove();
    for (const node of partial.values()) node.remove();
    showNow();
    showSuggestions();
    showFacts();
    const text = "This call is over. ";
    $("notices").prepend(el("li", {}, text, stored ? el("a", { href: stored, textContent: "Open the whole call" }) : "Nothing more will come here."));
  } };
}

function watch() {
  const { call, key } = $("live").dataset;
  const address = `/live/${encodeURIComponent(call)}/events${key ? `?key=${encodeURIComponent(key)}` : ""}`;
  let view = null;
  const stream = listen(address, { events: {
    call: (meta) => { view ??= liveCall(meta); },
    items: (news) => {
      view.take(news);
      document.documentElement.dataset.ready = "true";
    },
    over: ({ stored }) => {
      stream.close();
      view.end(stored);
    },
  }, lost: () => { $("facts").textContent = "The connection is gone; it is tried again. What you see may be old."; } });
}
watch();
if ($("share")) $("share").onclick = async ({ target }) => {
  const link = `${location.origin}${location.pathname}?key=${encodeURIComponent(target.dataset.key)}`;
  await navigator.clipboard.writeText(link).then(() => { target.textContent = "Copied; works for 12 hours"; }, () => prompt("The agent's link", link));
};
