"use strict";
// Small helpers, and what the other scripts ask of one call.

const $ = (id) => document.getElementById(id);
const look = JSON.parse($("look").textContent);

/** Builds an element; texts only ever become text nodes. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const two = (number) => String(number).padStart(2, "0");

/** m:ss, h:mm:ss from an hour on, "2d hh:mm" from a day on. */
function clock(us) {
  const seconds = Math.floor(us / 1e6), minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
  if (hours >= 24) return `${Math.floor(hours / 24)}d ${two(hours % 24)}:${two(minutes % 60)}`;
  return hours ? `${hours}:${two(minutes % 60)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}
const lengthOf = (us) => clock(us) + (us >= 86400e6 ? "" : us >= 3600e6 ? " h" : " min");
const briefly = (us) => (us >= 60e6 ? lengthOf(us) : us < 9.95e6 ? `${(us / 1e6).toFixed(1)} s` : `${Math.round(us / 1e6)} s`);
const likelihood = (p) => `${look.likelihoods.find(([least]) => p >= least)[1]}, ${p.toFixed(2)}`;
const percent = (share) => `${Math.round(share * 100)} %`;
const signed = (value) => (value <= -0.005 ? "−" : "+") + Math.abs(value).toFixed(2);
const figures = (pairs) => pairs.map(([name, value]) => `${name} ${value === null ? "not known" : signed(value)}`).join(" · ");
const ranked = (labels) => Object.entries(labels).sort((a, b) => b[1] - a[1]);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const unique = (values) => [...new Set(values)];

/** Black or white, whichever reads better on the fill (WCAG contrast). */
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#FFFFFF";
}

function chip(label, probability) {
  const fill = look.colours[label];
  const node = el("span", { className: `chip ${label}`, textContent: label });
  if (probability) node.title = likelihood(probability);
  if (fill) Object.assign(node.style, { background: fill, color: inkOn(fill) });
  return node;
}

/** The index of the last item that starts at or before the time, or -1. */
function lastBefore(items, us) {
  let low = 0, high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].span.start_us <= us) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

const isKnown = (moment) => Object.keys(moment.affect.labels).length > 0;
const confidenceOf = (moment) => sum(moment.contributors.map((c) => c.weight * c.estimate.scores.confidence));

/** Why nothing is known of a moment; a face or a camera that was never there is not the reason. */
function gapReason(moment) {
  const heard = moment.absent.filter((a) => a.modality === "voice" || a.modality === "text");
  return unique((heard.length ? heard : moment.absent).map((a) => a.reason)).join("; ") || "no evidence";
}

const BREAK_US = 3e6; // longer idle times of a written conversation are drawn as long as this; as in server/axis.py

/** Between the time of a call and its place on the drawn line: the same, but where nobody wrote for long. */
function axisOf(call) {
  const stretches = [{ from: 0, drawn: 0 }];
  let reached = 0;
  for (const { span } of isWritten(call) ? call.moments : []) {
    const last = stretches.at(-1);
    if (span.start_us - reached > BREAK_US) {
      last.to = reached;
      stretches.push({ from: span.start_us, drawn: last.drawn + reached - last.from + BREAK_US });
    }
    reached = Math.max(reached, span.end_us);
  }
  const placeOf = (us) => {
    const i = stretches.findLastIndex((s) => s.from <= us), { from, to, drawn } = stretches[Math.max(0, i)];
    return drawn + Math.min(us, to ?? us) - from;
  };
  const timeOf = (place) => {
    const i = stretches.findLastIndex((s) => s.drawn <= place), { from, to, drawn } = stretches[Math.max(0, i)];
    const us = from + place - drawn;
    return us > to ? stretches[i + 1].from : us;
  };
  const breaks = stretches.slice(1).map(({ from, drawn }, i) =>
    ({ start: drawn - BREAK_US, end: drawn, idle: from - stretches[i].to }));
  return { placeOf, timeOf, breaks };
}
const isWritten = (call) => call.rate_hz === 0;

/** The call with every time moved to its place on the line. */
function placed(call, { placeOf }) {
  const move = (item) => ({ ...item, span: { start_us: placeOf(item.span.start_us), end_us: placeOf(item.span.end_us) } });
  return { ...call, duration_us: placeOf(call.duration_us), moments: call.moments.map(move), utterances: call.utterances.map(move), stages: call.stages.map(move),
    suggestions: call.suggestions.map((s) => ({ ...s, created_us: placeOf(s.created_us), expires_us: placeOf(s.expires_us) })),
    summary: { ...call.summary, highlights: call.summary.highlights.map((h) => ({ ...h, at_us: placeOf(h.at_us) })) } };
}

/** Look-ups over one call; times are places on its line, in microseconds, and `at` writes the clock time of one. */
function indexCall(source) {
  const axis = axisOf(source), written = isWritten(source);
  const call = written ? placed(source, axis) : source;
  const at = (place) => clock(axis.timeOf(place));
  const duration = Math.max(call.duration_us, 1);
  const parties = [...call.participants].sort((a, b) => (b.role === "customer") - (a.role === "customer"));
  const partyIds = parties.map((party) => party.id);
  const momentsOf = new Map(partyIds.map((id) => [id, call.moments.filter((m) => m.participant === id)]));
  const speechOf = new Map(partyIds.map((id) => [id, (written ? call.utterances : call.speech).filter((s) => s.participant === id)]));
  const utterances = [...call.utterances].sort((a, b) => a.span.start_us - b.span.start_us);
  const spans = new Map([...call.moments, ...call.utterances].map((item) => [item.id, item.span]));
  const suggestions = [...call.suggestions].sort((a, b) => a.created_us - b.created_us);
  const nameOf = (id) => {
    const party = parties.find((p) => p.id === id);
    if (!party) return id;
    if (party.role === "unknown") return id;
    const name = party.role[0].toUpperCase() + party.role.slice(1);
    return parties.filter((p) => p.role === party.role).length > 1 ? `${name} ${id}` : name;
  };
  const momentAt = (id, us) => {
    const moments = momentsOf.get(id) ?? [];
    const moment = moments[lastBefore(moments, us)];
    return moment && us < moment.span.end_us ? moment : null;
  };
  const utteranceAt = (id, us) =>
    utterances.findLast((u) => u.participant === id && u.span.start_us <= us && us < u.span.end_us);
  const momentsIn = (id, span) => {
    const moments = momentsOf.get(id) ?? [];
    const first = Math.max(0, lastBefore(moments, span.start_us));
    const last = lastBefore(moments, span.end_us - 1);
    return moments.slice(first, last + 1).filter((m) => m.span.end_us > span.start_us);
  };

  return { ...call, axis, written, at, duration, parties, partyIds, momentsOf, speechOf, utterances, suggestions, spans, nameOf, momentAt,
    utteranceAt, momentsIn };
}
