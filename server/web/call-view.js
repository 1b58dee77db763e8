"use strict";
// One call: transcript, why-panel, suggestions, selection, keys and sound around the affect line.

/** What a cue is a sign of, for people; a feeling's own words are in the why-panel. */
const CUES = { confusion: "does not follow", escalation: "may escalate", churn: "may leave", gratitude: "thankful", urgency: "in a hurry",
  vulnerability: "be considerate" };
const AGREES = 0.2; // a modality's own belief in the label from which it is named as a reason
const MODALITIES = { voice: "Voice", text: "Words", face: "Face", stress: "Stress", dynamics: "Conversation" };
const WORD = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu;
const DANGLING = new Set(["i", "i'm", "we", "you", "my", "your", "a", "an", "the", "to", "and", "of", "in", "it", "is", "that", "this"]); // a phrase does not end with these

/** An utterance of the transcript: its node, and a node for each word whose time is known. */
function saidNode(u, { time, name, badge, right }) {
  const bare = (text) => text.replace(/\s/g, "");
  const spelled = bare(u.words.map((w) => w.text).join("")) === bare(u.text);
  const text = el("p", { lang: u.language },
    ...(spelled ? u.words.flatMap((w, i) => [i ? " " : "", el("span", { textContent: w.text.trim() })]) : [u.text]));
  const node = el("div", { className: `said ${right ? "right" : ""}` },
    el("div", {}, el("span", { className: "time muted", textContent: time }), name ? el("b", { textContent: name }) : null, badge,
      u.confidence < 0.5 ? el("span", { className: "muted", textContent: "hard to hear" }) : null),
    text, u.translation ? el("i", { lang: "en", textContent: u.translation }) : null,
    ...u.cues.filter((cue) => CUES[cue.kind]).map((cue) => el("span", { className: "cue" },
      el("b", { textContent: CUES[cue.kind] }), ` “${asSaid(u.translation ?? u.text, cue.phrase)}”`)));
  if (badge) node.style.borderLeftColor = look.colours[badge.textContent] ?? "";
  return { u, node, words: spelled ? [...text.children] : [] };
}

/** The phrase as it stands in the text, without a dangling word at its end; matched phrases are kept in small letters. */
function asSaid(text, phrase) {
  const words = phrase.match(WORD) ?? [];
  while (words.length > 1 && DANGLING.has(words.at(-1).toLowerCase())) words.pop();
  const spelled = words.map((word) => word.replace(/['’]/g, "['’]")); // letters, digits and these only
  const found = spelled.length && new RegExp(`(?<![\\p{L}\\p{N}])${spelled.join("[^\\p{L}\\p{N}]+")}(?![\\p{L}\\p{N}])`, "iu").exec(text);
  return found ? found[0] : words.join(" ") || phrase;
}
const list = (items) => (items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items[0] ?? "");

/** Why a moment has its label, in one plain sentence; `utterance` is what was said then, if anything. */
function sentence(moment, utterance) {
  if (!isKnown(moment)) return `Nothing is known here: ${gapReason(moment)}.`;
  if (moment.affect.label === "unknown") return "Not clear enough to name an emotion.";
  const feels = utterance?.written ? "Reads" : moment.contributors.some((c) => c.modality === "face") ? "Seems" : "Sounds";
  if (moment.affect.label === "neutral") return `${feels} neutral.`; // single words are no reason for that
  const agrees = ({ labels }) => !labels || (labels[moment.affect.label] ?? 0) >= AGREES;
  const evidenceOf = (isWords) => unique(moment.contributors.filter((c) => (c.modality === "text") === isWords && agrees(c.estimate.scores))
    .flatMap((c) => c.estimate.scores.evidence)).slice(0, 3);
  const voice = evidenceOf(false), words = unique(evidenceOf(true).map((cue) => `“${asSaid(utterance?.text ?? "", cue)}”`));
  const reasons = [list(voice), words.length ? `${utterance?.written ? "writes" : "says"} ${list(words)}` : ""].filter(Boolean).join(", and ");
  return `${feels} ${moment.affect.label}${reasons ? `: ${reasons}` : ""}.`;
}

/** The why-panel of a moment: the sentence first, then likelihoods, contributors, absences and figures. */
function whyPanel(moment, { who, clock, utterance, written, text }) {
  const top = ranked(moment.affect.labels).slice(0, 3);
  const colourOf = (modality) => `var(--modality-${Object.keys(MODALITIES).indexOf(modality) + 1})`;
  const stack = el("div", { className: "stack", role: "img", "aria-label": "Weights of the contributors" },
    ...moment.contributors.map((c) => {
      const name = `${MODALITIES[c.modality]} ${percent(c.weight)}`;
      const part = el("span", { title: name, textContent: c.weight < 0.1 ? "" : c.weight < 0.22 ? percent(c.weight) : name });
      Object.assign(part.style, { flex: `${c.weight} 1 0`, background: colourOf(c.modality) });
      return part;
    }));
  const said = (c) => (c.modality === "text" ? c.estimate.scores.evidence.map((cue) => asSaid(utterance?.text ?? "", cue)) : c.estimate.scores.evidence);
  const absent = moment.absent.filter((a) => a.reason !== "written"); // that words have no sound needs no telling
  const models = unique(moment.contributors.map((c) => c.estimate.model));
  const { valence, arousal, dominance } = moment.affect;
  return [
    el("p", { className: "muted time small", textContent: `${who} at ${clock}` }),
    el("p", { className: "lead", textContent: text }),
    utterance ? el("p", { className: "muted", textContent: `“${utterance.text}”` }) : null,
    ...(top.length ? [el("h3", { textContent: "How likely" }), ...top.map(([label, p]) => {
      const fill = el("span", { className: "swatch" });
      Object.assign(fill.style, { width: `${p * 100}%`, background: look.colours[label] });
      return el("div", { className: "meter" }, el("span", { textContent: label }), el("span", {}, fill),
        el("span", { className: "number", textContent: likelihood(p) }));
    })] : []),
    ...(moment.contributors.length ? [el("h3", { textContent: "What it rests on" }), stack,
      table(["", "Says", "Input quality", "Evidence"], moment.contributors.map((c) => [
        MODALITIES[c.modality], opinion(c.estimate.scores), c.estimate.quality.toFixed(2), unique(said(c)).join(", ") || "–"]))] : []),
    absent.length ? el("h3", { textContent: "Not used, and why" }) : null,
    ...absent.map((a) => el("p", { textContent: `${MODALITIES[a.modality]}: ${a.reason}` })),
    el("h3", { textContent: "Figures" }),
    el("p", { className: "number small", textContent: [
      figures([["valence", valence], ["arousal", arousal], ["dominance", dominance]]),
      ...(written ? [] : [`stress ${moment.stress === null ? "not known" : moment.stress.toFixed(2)}`,
        `level ${moment.level_dbfs === null ? "not known" : `${moment.level_dbfs.toFixed(0).replace("-", "−")} dBFS`}`]),
    ].join(" · ") }),
    models.length ? el("p", { className: "muted small", textContent: `Models: ${models.join(", ")}` }) : null,
  ].filter(Boolean);
}

function opinion({ labels, valence }) {
  if (labels) {
    const [label, p] = ranked(labels)[0];
    return `${label}, ${p.toFixed(2)}`;
  }
  return valence === null ? "–" : `valence ${signed(valence)}`;
}
function table(head, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, ...head.map((textContent) => el("th", { textContent })))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((textContent) => el("td", { textContent }))))));
}

/**
 * @param source the timeline
 * @param options {feedback, extras, silent}: what was said of suggestions since (by id), more nodes for the why-panel of a moment,
 *   and why there is no sound
 */
function callView(source, options = {}) {
  const call = indexCall(source);
  const { axis, written, at: clockAt, duration, parties, partyIds, momentsOf, utterances, spans, nameOf, momentAt, momentsIn, utteranceAt,
    suggestions } = call;
  const highlights = call.summary.highlights;
  const audio = $("audio").hasAttribute("src") ? $("audio") : null;
  const state = { at: 0, hero: partyIds[0], who: partyIds[0], from: 0, to: duration, suggestion: null };

  const line = affectLine(call, state, { go, choose });

  // ---- the transcript -------------------------------------------------------------------------------------

  function mood(utterance) {
    const votes = {}, count = {};
    for (const { affect } of momentsIn(utterance.participant, utterance.span).filter(isKnown)) {
      votes[affect.label] = (votes[affect.label] ?? 0) + affect.probability;
      count[affect.label] = (count[affect.label] ?? 0) + 1;
    }
    const [label, total] = ranked(votes)[0] ?? [];
    return label ? chip(label, total / count[label]) : null;
  }
  const said = new Map(utterances.map((u) => {
    const entry = saidNode(u, { time: clockAt(u.span.start_us), name: parties.length > 2 ? nameOf(u.participant) : "",
      badge: mood(u), right: u.participant !== partyIds[0] });
    return [u.id, entry];
  }));
  const entries = [...said.values()];
  const entryOf = new Map(entries.map((entry) => [entry.node, entry]));
  const heardAt = (target) => {
    const entry = entryOf.get(target.closest(".said"));
    return entry && { entry, word: entry.u.words[entry.words.indexOf(target)] };
  };
  $("transcript").append(...entries.map((entry) => entry.node));
  $("columns").append(...parties.slice(0, 2).map((p) => el("span", { textContent: nameOf(p.id) })));
  if (!utterances.length) {
    $("transcript").append(el("p", { className: "muted", textContent: written
      ? "No words. Check that consent was recorded as granted."
      : "No words in this call. If someone did speak, check which channel carries whom, and that consent was recorded as granted." }));
  }
  $("transcript").addEventListener("click", ({ target }) => {
    const hit = heardAt(target);
    if (hit) go((hit.word ?? hit.entry.u).span.start_us, hit.entry.u.participant);
  });
  $("transcript").addEventListener("mouseover", ({ target }) => line.point(heardAt(target)?.word?.span));
  $("transcript").addEventListener("mouseleave", () => line.point(null));

  /** What the party in question says at this time, or most of in the moment that was chosen, or later in it, or earlier. */
  function utteranceNear(us) {
    const span = momentAt(state.who, us)?.span;
    const here = utteranceAt(state.who, us), after = span && utteranceAt(state.who, span.end_us - 1);
    const shared = (u) => Math.min(u.span.end_us, span.end_us) - Math.max(u.span.start_us, span.start_us);
    if (here && after && us === span.start_us && (!audio || audio.paused)) return shared(after) > shared(here) ? after : here;
    return here ?? after ?? (span && utteranceAt(state.who, span.start_us));
  }

  let current = null, currentWord = null;
  function followTranscript() {
    const utterance = utteranceNear(state.at) ?? utterances[lastBefore(utterances, state.at)];
    const entry = utterance && said.get(utterance.id);
    if (entry !== current) {
      current?.node.classList.remove("now");
      entry?.node.classList.add("now");
      current = entry;
      if (entry) $("transcript").scrollTop = entry.node.offsetTop - $("transcript").clientHeight / 3;
    }
    currentWord?.classList.remove("now");
    currentWord = audio && !audio.paused ? entry?.words[lastBefore(entry.u.words, state.at)] : null;
    currentWord?.classList.add("now");
  }

  // ---- the why-panel --------------------------------------------------------------------------------------

  let explained = null;
  function explain() {
    const moment = momentAt(state.who, state.at);
    if (moment && moment === explained) return;
    explained = moment;
    if (!moment) {
      $("why").replaceChildren(el("p", { className: "muted", textContent: call.moments.length
        ? `Nothing was ${written ? "written by" : "recorded of"} this party here.` : "There is nothing to explain: no moment of this call was analysed." }));
      return;
    }
    const utterance = utteranceNear(state.at), text = sentence(moment, utterance);
    $("plot").setAttribute("aria-valuetext", `${clockAt(moment.span.start_us)} ${nameOf(state.who)}: ${text}`);
    $("why").replaceChildren(...whyPanel(moment,
      { who: nameOf(state.who), clock: clockAt(moment.span.start_us), utterance, written, text }), ...(options.extras?.(moment) ?? []));
  }
  /** How much of the time in which something is known each emotion takes. */
  function legend() {
    const seconds = {};
    for (const { affect, span } of momentsOf.get(state.hero).filter(isKnown))
      seconds[affect.label] = (seconds[affect.label] ?? 0) + span.end_us - span.start_us;
    const total = sum(Object.values(seconds));
    $("legend").replaceChildren(...ranked(seconds).map(([label, us]) => {
      const dot = el("span", { className: `swatch dot ${label}` });
      dot.style.background = look.colours[label] ?? "";
      return el("li", {}, dot, `${label} ${percent(us / total)}`);
    }));
  }

  // ---- selection ------------------------------------------------------------------------------------------

  /** Goes to a time; `plays` starts the sound there, where there is one. */
  function go(us, who = state.who, plays = false) {
    if (audio) audio.currentTime = us / 1e6;
    if (audio && plays) start();
    at(us, who);
    history.replaceState(null, "", `#t=${Math.floor(axis.timeOf(us) / 1e6)}`);
  }
  function start() {
    audio.play().catch((error) => { if (error.name !== "AbortError") throw error; }); // held again before it began
  }
  function at(us, who = state.who) {
    state.at = clamp(us, 0, duration - 1);
    state.who = who;
    line.reveal(state.at);
    explain();
    followTranscript();
    $("now").textContent = `${clockAt(state.at)} / ${clock(source.duration_us)}`;
    $("plot").setAttribute("aria-valuenow", Math.floor(state.at / 1e6));
    for (const [i, row] of rows.entries()) {
      const span = spans.get(highlights[i].moment_id);
      const here = span && state.who === highlights[i].participant && state.at >= span.start_us && state.at < span.end_us;
      row.setAttribute("aria-current", String(Boolean(here)));
    }
    for (const { fact: { participant, span }, row } of facts)
      row.setAttribute("aria-current", String(state.who === participant && state.at >= span.start_us && state.at < span.end_us));
  }

  /** Marks a suggestion's evidence in the line and the transcript; the same one again lets go. */
  function choose(suggestion) {
    state.suggestion = suggestion === state.suggestion ? null : suggestion;
    const because = new Set(state.suggestion?.because);
    for (const [id, { node }] of said) node.classList.toggle("evidence", because.has(id));
    cards.forEach((card, i) => card.setAttribute("aria-pressed", String(suggestions[i] === state.suggestion)));
    const evidence = [...because].map((id) => spans.get(id)).filter(Boolean);
    if (evidence.length) {
      const from = Math.min(...evidence.map((s) => s.start_us)), to = Math.max(...evidence.map((s) => s.end_us));
      if (from < state.from || to > state.to) line.show(from - (to - from), to + (to - from));
      go(from, suggestion.participant);
    }
    line.draw();
  }

  // ---- the page around them -------------------------------------------------------------------------------

  const consent = (p) => ({ granted: "", pending: ", consent pending: not analysed", denied: ", no consent: not analysed" })[p.consent];
  const languages = unique(utterances.map((u) => u.language));
  const silent = parties.every((p) => call.notices.some((n) => n.code === "no_sound" && n.participant === p.id));
  $("facts").textContent = [lengthOf(source.duration_us), ...parties.map((p) => nameOf(p.id) + consent(p)),
    languages.length ? `language ${languages.join(", ")}` : "", written ? "written" : silent ? "no sound" : `${call.rate_hz / 1000} kHz audio`].filter(Boolean).join(" · ");
  $("notices").append(...call.notices.map((n) => el("li", { textContent: n.message })));
  $("summary").append(...call.summary.lines.map((textContent) => el("li", { textContent })));
  if (!call.summary.lines.length) $("summary").append(el("li", { className: "muted", textContent: "There is nothing to sum up." }));
  $("scores").append(...call.scores.filter((s) => s.overall.score !== null).map(scores));
  $("scores").hidden = !$("scores").children.length;
  const rows = highlights.map((h, i) => el("button", { className: "row", title: `${h.reason} (${likelihood(h.probability)})`,
    onclick: () => go(h.at_us, h.participant, true) }, el("b", { textContent: i + 1 }),
    el("span", { className: "time", textContent: clockAt(h.at_us) }), chip(h.label, h.probability),
    el("span", { className: "quote", textContent: h.quote ? `“${h.quote}”` : h.reason })));
  $("highlights").append(...rows.map((row) => el("li", {}, row)));
  if (!rows.length) $("highlights").append(el("li", { className: "muted", textContent: "No moment stands out." }));
  const facts = call.facts.map((fact) => ({ fact, row: el("button", { className: "row fact", onclick: () => go(fact.span.start_us, fact.participant, true) },
    el("span", { className: "time", textContent: clock(fact.span.start_us) }),
    el("span", {}, el("span", { className: "muted", textContent: `${nameOf(fact.participant)} ` }), `“${fact.text}”`)) }));
  for (const [kind, title] of Object.entries(look.facts)) {
    const own = facts.filter(({ fact }) => fact.kind === kind).map(({ row }) => el("li", {}, row));
    if (own.length) $("sentences").append(el("section", { "aria-label": title }, el("h2", { textContent: title }), el("ol", {}, ...own)));
  }
  $("sentences").hidden = !facts.length;
  const shown = new Map(call.snapshots.map((picture) => [picture.because, picture]));
  const snapshot = ({ at_us, participant, jpeg_base64 }) => el("img", { src: `data:image/jpeg;base64,${jpeg_base64}`,
    alt: `What the cameras of ${nameOf(participant)} showed at ${clockAt(at_us)}`, loading: "lazy" });
  const judged = new Map([...call.feedback.map((said) => [said.suggestion_id, said]), ...Object.entries(options.feedback ?? {})]);
  const verdict = ({ verdict, label, text, correction }) => {
    const instead = correction ?? [label, text].filter(Boolean).join(": ");
    return ` Agent: ${verdict}${instead ? ` (${instead})` : ""}.`;
  };
  const cards = suggestions.map((s) => el("button", { className: "suggestion", onclick: () => choose(s), "aria-pressed": "false" },
    el("span", { className: "muted small time", textContent: `${clockAt(s.created_us)} · ${s.kind} · ${s.priority} priority · ${likelihood(s.confidence)}` }),
    el("b", { textContent: s.text }), el("span", { textContent: s.reason }),
    el("span", { className: "muted small", textContent: ` Policy ${s.policy}.${judged.has(s.id) ? verdict(judged.get(s.id)) : ""}` }),
    shown.has(s.id) ? snapshot(shown.get(s.id)) : null));
  $("suggestions").append(...cards.map((card) => el("li", {}, card)));
  if (!cards.length) $("suggestions").append(el("li", { className: "muted", textContent: "No rule found a reason to suggest anything." }));
  $("dynamics").append(written ? writing() : call.dynamics.length
    ? table(["", ...call.dynamics.map((d) => nameOf(d.participant))], [
      ["Talk", ...call.dynamics.map((d) => `${clock(d.talk_us)} (${percent(d.talk_share)})`)],
      ["Talks over the other", ...call.dynamics.map((d) => `${(d.overtalk_us / 1e6).toFixed(1)} s`)],
      ["Interrupts", ...call.dynamics.map((d) => `${d.interruptions} ×` + (d.successful_interruptions ? ` (${d.successful_interruptions} took the floor)` : ""))],
      ["Answers after", ...call.dynamics.map((d) => (d.response_median_us === null ? "–"
        : `${briefly(d.response_median_us)} (90 % within ${briefly(d.response_p90_us)})`))],
      ["Pace", ...call.dynamics.map((d) => (d.words_per_minute === null ? "not known" : `${Math.round(d.words_per_minute)} words/min`))],
      ["Longest in one go", ...call.dynamics.map((d) => briefly(d.longest_monologue_us))],
      ["Silence", `${briefly(call.dynamics[0].silence_us)} (${percent(call.dynamics[0].silence_share)}), longest ${briefly(call.dynamics[0].longest_silence_us)}`]])
    : el("p", { className: "muted", textContent: "Nobody's speech was measured in this call." }));
  if (call.stages.length) $("stages").append(el("p", { className: "muted small", textContent: "Mean valence, and time frustrated or angry" }), byStage());
  $("stages").parentElement.hidden = !call.stages.length;
  $("models").textContent = `Emotions are estimates of how someone ${written ? "writes" : "sounds"}, not facts about a person. ${call.schema} · ` +
    Object.entries(call.models).map(([task, model]) => `${task.replaceAll("_", " ")}: ${model}`).join(" · ");
  $("hint").textContent = "Opacity and thickness show confidence; hatching, that nothing is known. " +
    (call.interruptions.length ? "Wedge: one cuts in; hollow: the other goes on. " : "") +
    "Click to jump, drag or wheel to zoom. " + (written ? "Shaded: time without turns, cut short." : audio ? "" : options.silent ?? "The sound is not part of this report.");

  document.body.style.setProperty("--clock", `${clock(source.duration_us).length}ch`);

  /** A party's score of the call and of each quarter, as bars from a zero line; one of which nothing is known is hatched. */
  function scores({ participant, overall, quarters, trajectory, drivers }) {
    const points = (score) => {
      if (score === null) return "unknown";
      const text = Math.abs(score).toFixed(1);
      return text === "0.0" ? text : (score < 0 ? "−" : "+") + text;
    };
    const bars = quarters.map((q) => {
      const bar = el("span", { className: q.score === null ? "swatch unknown" : q.score < 0 ? "below" : "above" });
      if (q.score !== null) bar.style.height = `${Math.max(1, Math.abs(q.score) / 5 * 20)}px`;
      const known = `${clock(q.span.start_us)} to ${clock(q.span.end_us)}: ${points(q.score)}, known for ${Math.round(q.known_us / 1e6)} s`;
      return el("button", { className: "quarter", title: known, "aria-label": known, onclick: () => go(axis.placeOf(q.span.start_us), participant) }, el("span", {}, bar),
        el("span", { className: "number small", textContent: points(q.score) }));
    });
    const named = (toward) => drivers.filter((d) => d.toward === toward).map((d) => `${look.drivers[d.name] ?? d.name} ${percent(d.share)}`).join(", ");
    const [low, high] = ["negative", "positive"].map(named);
    const changes = source.changes.filter((c) => c.participant === participant);
    const becomes = changes.map((c) => el("button", { className: "change small", onclick: () => go(axis.placeOf(c.at_us), participant),
      title: `From ${c.before} to ${c.after} (${likelihood(c.confidence)})` }, el("span", { className: "time", textContent: clock(c.at_us) }), c.after));
    return el("div", { className: "scores" }, el("div", {}, el("b", { className: "number", textContent: `${nameOf(participant)} ${points(overall.score)}` }),
      el("span", { className: "muted small", textContent: "of −5 to +5" }), el("span", { className: "small", textContent: look.trajectories[trajectory] })),
      el("div", { className: "quarters", role: "group", "aria-label": "Score by quarter of the call" }, ...bars),
      el("div", { className: "muted small" }, low ? el("p", { textContent: `Low points: ${low}` }) : null, high ? el("p", { textContent: `High points: ${high}` }) : null),
      becomes.length ? el("div", { className: "changes", role: "group", "aria-label": "Where the feeling changes" }, el("span", { className: "muted small", textContent: `${changes[0].before}, then` }), ...becomes) : null);
  }

  /** Who wrote how much, and how soon they answered the other. */
  function writing() {
    const turnsOf = (id) => utterances.filter((u) => u.participant === id);
    const answers = (id) => {
      const waits = source.utterances.flatMap((u, i) => {
        const before = source.utterances[i - 1];
        return before && u.participant === id && before.participant !== id ? [u.span.start_us - before.span.start_us] : [];
      }).sort((a, b) => a - b);
      return waits.length ? lengthOf(waits[waits.length >> 1]) : "–";
    };
    return table(["", ...parties.map((p) => nameOf(p.id))], [
      ["Turns", ...parties.map((p) => turnsOf(p.id).length)],
      ["Words", ...parties.map((p) => sum(turnsOf(p.id).map((u) => u.text.split(/\s+/).length)))],
      ["Answers after (median)", ...parties.map((p) => answers(p.id))]]);
  }

  /** Mean valence of a party in a stage, and how long they were upset; never of an agent: it would be a score of a person. */
  function feelings(party) {
    const found = call.stages.map(() => ({ valences: [], upset: 0 }));
    for (const { affect, span } of party.role === "agent" ? [] : momentsOf.get(party.id)) {
      if (affect.label === "unknown") continue;
      const stage = found[Math.max(0, lastBefore(call.stages, Math.floor((span.start_us + span.end_us) / 2)))];
      if (affect.valence !== null) stage.valences.push(affect.valence);
      if (look.upset.includes(affect.label)) stage.upset += span.end_us - span.start_us;
    }
    return found.map(({ valences, upset }) => [valences.length ? sum(valences) / valences.length : null, upset]);
  }

  /** How each party felt in each stage. */
  function byStage() {
    const feltBy = new Map(parties.map((p) => [p.id, feelings(p)]));
    const feelingOf = (stage, party) => feltBy.get(party)[stage];
    const felt = parties.filter((p) => call.stages.some((_, i) => feelingOf(i, p.id)[0] !== null));
    const cell = ([valence, upset]) => (valence === null ? "–" : signed(valence) + (upset ? `, upset ${briefly(upset)}` : ""));
    const rows = table(["", "Stage", "Lasts", ...felt.map((p) => nameOf(p.id))], call.stages.map(({ name }, i) => {
      const { start_us, end_us } = source.stages[i].span;
      return [clock(start_us), name, briefly(end_us - start_us), ...felt.map((p) => cell(feelingOf(i, p.id)))];
    }));
    rows.className = "stages";
    rows.querySelectorAll("tbody td:first-child").forEach((cell, i) => cell.replaceChildren(el("button", { className: "time",
      textContent: cell.textContent, onclick: () => go(call.stages[i].span.start_us, state.hero) })));
    return rows;
  }

  const switches = parties.filter((p) => momentsOf.get(p.id).some(isKnown) || p.id === state.hero).map((p) =>
    el("button", { textContent: nameOf(p.id), "aria-pressed": String(p.id === state.hero), onclick: ({ target }) => {
      state.hero = p.id;
      for (const button of switches) button.setAttribute("aria-pressed", String(button === target));
      at(state.at, p.id);
      line.draw();
      legend();
    } }));
  if (switches.length > 1) $("parties").append(...switches);

  function play() {
    if (!audio) return;
    if (audio.paused) start();
    else audio.pause();
  }
  if (audio) {
    $("play").hidden = false;
    $("play").onclick = play;
    const follow = () => {
      at(audio.currentTime * 1e6);
      if (!audio.paused) requestAnimationFrame(follow);
    };
    audio.onplay = () => { $("play").textContent = "Pause"; follow(); };
    audio.onpause = () => { $("play").textContent = "Play"; };
  }

  if ($("save")) $("save").onclick = () => {
    const url = URL.createObjectURL(new Blob([JSON.stringify(source)], { type: "application/json" }));
    el("a", { href: url, download: `${call.name}.json` }).click();
    URL.revokeObjectURL(url);
  };
  $("print").onclick = () => print();
  $("keys").onclick = () => $("help").showModal();

  const step = (items, timeOf, direction, whoOf) => {
    const ordered = direction > 0 ? items : [...items].reverse();
    const next = ordered.find((item) => (timeOf(item) - Math.floor(state.at)) * direction > 0);
    if (next) go(timeOf(next), whoOf(next));
  };
  const stepUtterance = (direction) => step(utterances, (u) => u.span.start_us, direction, (u) => u.participant);
  const stepHighlight = (direction) => step(highlights, (h) => h.at_us, direction, (h) => h.participant);
  const actions = {
    ArrowLeft: (e) => go(Math.max(0, state.at - (e.shiftKey ? 10e6 : 1e6))),
    ArrowRight: (e) => go(Math.min(duration - 1, state.at + (e.shiftKey ? 10e6 : 1e6))),
    j: () => stepUtterance(1), k: () => stepUtterance(-1), n: () => stepHighlight(1), p: () => stepHighlight(-1),
    "+": () => line.zoom(0.5), "=": () => line.zoom(0.5), "-": () => line.zoom(2), 0: () => line.fit(),
    " ": play, Escape: () => state.suggestion && choose(state.suggestion), "?": () => $("help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = $("help").open || event.ctrlKey || event.metaKey || event.altKey;
    const pressing = event.key === " " && (event.target.tagName === "BUTTON" || !audio);
    if (typing || pressing || !actions[event.key]) return;
    event.preventDefault();
    actions[event.key](event);
  });

  legend();
  $("plot").setAttribute("aria-valuemax", Math.floor(duration / 1e6));
  const linked = () => axis.placeOf(Number(/^#t=(\d+)$/.exec(location.hash)?.[1] ?? NaN) * 1e6);
  addEventListener("hashchange", () => Number.isNaN(linked()) || at(linked()));
  const first = highlights[0] ?? momentsOf.get(state.hero).find(isKnown);
  if (!Number.isNaN(linked())) at(linked());
  else at(first?.at_us ?? first?.span.start_us ?? 0, first?.participant);
  $("transcript").classList.add("smooth"); // only after the first jump
}
