"use strict";
// The affect line: every track of a call over one time axis, drawn on one canvas, with pins as buttons above it.

const SHAPES = { alert: "M5 0 10 10H0Z", assist: "M5 0A5 5 0 1 0 5 10A5 5 0 1 0 5 0Z", routing: "M5 0 10 5 5 10 0 5Z" };
const BRIDGE_US = 8e6; // the ribbon and the dotted line carry over silences up to this long
const USUAL_FROM = 20; // moments needed before a usual range is shown
const NARROW_PX = 560;
const TRACK_PX = 18;
const PIN_LANES = 3;
const WORTH_NAMING_PX = 10; // emotions shorter than this on screen get no name below the ribbon

/**
 * @param source what indexCall gives
 * @param state {at, hero, from, to, suggestion}: cursor, whose affect, visible stretch, chosen suggestion
 * @param on {go(us, participant), choose(suggestion)}
 */
function affectLine(source, state, on) {
  const canvas = $("plot"), pen = canvas.getContext("2d");
  let box = {}, ink = {}, call, axis, written, verb, at, duration, parties, partyIds, speechOf, nameOf, momentAt, momentsIn;
  let usualOf, overtalk, filmed, pins = [], numbers = [];

  const xOf = (us) => box.left + ((us - state.from) / (state.to - state.from)) * box.width;
  const usOf = (x) => clamp(state.from + ((x - box.left) / box.width) * (state.to - state.from), 0, duration - 1);
  const xInside = (us) => clamp(xOf(us), box.left, box.left + box.width);
  const isVisible = (start, end) => end > state.from && start < state.to;

  // ---- data for drawing -----------------------------------------------------------------------------------

  /** What is drawn of the visible stretch: each moment, or 2 px wide means where moments are narrower than that. */
  function buckets(id) {
    const moments = momentsIn(id, { start_us: state.from, end_us: state.to });
    const size = Math.max(1, Math.ceil(moments.length / (box.width / 2)));
    const out = [];
    for (let i = 0; i < moments.length; i += size) out.push(bucket(moments.slice(i, i + size)));
    return out;
  }

  function bucket(moments) {
    const mean = (pick, weight = () => 1) => {
      const known = moments.filter((m) => pick(m) !== null);
      const total = sum(known.map(weight));
      return total ? sum(known.map((m) => pick(m) * weight(m))) / total : null;
    };
    const votes = {};
    for (const { affect } of moments.filter(isKnown)) votes[affect.label] = (votes[affect.label] ?? 0.01) + affect.probability;
    return {
      start: moments[0].span.start_us, end: moments.at(-1).span.end_us, reason: gapReason(moments[0]),
      label: Object.keys(votes).sort((a, b) => votes[b] - votes[a])[0] ?? null,
      valence: mean((m) => m.affect.valence, (m) => confidenceOf(m) + 0.01),
      confidence: mean((m) => (m.affect.valence === null ? null : confidenceOf(m))) ?? 0,
      arousal: mean((m) => m.affect.arousal), stress: mean((m) => m.stress), level: mean((m) => m.level_dbfs),
    };
  }

  /** Merges touching neighbours of the same key. */
  function runs(items, key) {
    const out = [];
    for (const item of items) {
      const value = key(item), last = out.at(-1);
      if (last?.value === value && last.end === item.start) {
        last.end = item.end;
        last.items.push(item);
      } else out.push({ value, start: item.start, end: item.end, items: [item] });
    }
    return out;
  }

  /** Takes the call, or a running one again when there is more of it. */
  function take(next) {
    ({ axis, written, at, duration, parties, partyIds, speechOf, nameOf, momentAt, momentsIn } = call = next);
    verb = written ? "writes" : "speaks";
    usualOf = new Map(partyIds.map((id) => {
      const values = call.momentsOf.get(id).map((m) => m.affect.arousal).filter((v) => v !== null).sort((a, b) => a - b);
      return [id, values.length < USUAL_FROM ? null : [values[values.length >> 2], values[(values.length * 3) >> 2]]];
    }));
    overtalk = written ? [] : partyIds.flatMap((id, i) => partyIds.slice(i + 1).flatMap((other) => {
      const theirs = speechOf.get(other);
      return speechOf.get(id).flatMap(({ span }) => {
        const found = [];
        for (let k = lastBefore(theirs, span.end_us - 1); k >= 0 && theirs[k].span.end_us > span.start_us; k--)
          found.push([Math.max(span.start_us, theirs[k].span.start_us), Math.min(span.end_us, theirs[k].span.end_us)]);
        return found;
      });
    }));
    filmed = new Set(partyIds.filter((id) => call.momentsOf.get(id).some(faceOf)));
    makePins();
  }

  /** What a moment's face looks like with how fit the picture was, or why there is none; nothing where there is no camera. */
  function faceOf(moment) {
    const seen = moment.contributors.find((c) => c.modality === "face")?.estimate;
    if (seen) return { label: ranked(seen.scores.labels)[0][0], quality: seen.quality };
    const reason = moment.absent.find((a) => a.modality === "face")?.reason;
    return reason && reason !== "no video" && reason !== "written" ? { reason } : null;
  }

  // ---- drawing --------------------------------------------------------------------------------------------

  function layOut() {
    const width = $("chart").clientWidth, narrow = width < NARROW_PX, left = narrow ? 0 : 128;
    const heights = { axis: 22, stage: call.stages.length ? 34 : 0, valence: narrow ? 150 : 190, emotion: 36, face: filmed.has(state.hero) ? 22 : 0, arousal: 72, speaks: TRACK_PX * Math.max(1, parties.length),
      markers: 23 * Math.min(PIN_LANES, call.suggestions.length), loudness: written ? 0 : 52 };
    const rows = {};
    let y = 0;
    for (const [name, height] of Object.entries(heights).filter(([, h]) => h)) {
      if (narrow && name !== "axis") y += 16;
      rows[name] = { top: y, height, middle: y + height / 2 };
      y += height + 10;
    }
    box = { left, width: width - left, height: y, rows, narrow };
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = y * scale;
    canvas.style.height = `${y}px`;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(document.documentElement);
    const names = ["ink", "muted", "card", "rule", "wash", "good", "bad", "customer", "agent", "hatch", "hatch-ground", "band"];
    ink = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    ink.faintHatch = hatch(ink["hatch-ground"], ink.card);
    ink.clearHatch = hatch(ink.hatch, ink["hatch-ground"]);
  }

  function hatch(line, ground) {
    const tile = el("canvas", { width: 8, height: 8 });
    const brush = tile.getContext("2d");
    brush.fillStyle = ground;
    brush.fillRect(0, 0, 8, 8);
    brush.strokeStyle = line;
    brush.lineWidth = 1.5;
    for (const shift of [-8, 0, 8]) {
      brush.moveTo(shift - 1, 9);
      brush.lineTo(shift + 9, -1);
    }
    brush.stroke();
    return pen.createPattern(tile, "repeat");
  }

  function fillRect(fill, start, end, top, height, alpha = 1) {
    if (!isVisible(start, end)) return;
    const left = Math.round(xInside(start));
    pen.globalAlpha = alpha;
    pen.fillStyle = fill;
    pen.fillRect(left, top, Math.max(1, Math.round(xInside(end)) - left), height);
    pen.globalAlpha = 1;
  }

  function rule(y, colour = ink.rule) {
    pen.fillStyle = colour;
    pen.fillRect(box.left, Math.round(y), box.width, 1);
  }

  /** Strokes a line through points [x, y]. */
  function stroke(points, colour, width, dash = []) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.lineCap = dash.length ? "butt" : "round";
    pen.setLineDash(dash);
    pen.beginPath();
    for (const [x, y] of points) pen.lineTo(x, y);
    pen.stroke();
  }

  function write(text, x, y, { colour = ink.muted, size = 11, weight = 400, align = "left" } = {}) {
    pen.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
    Object.assign(pen, { fillStyle: colour, textAlign: align, textBaseline: "middle" });
    pen.fillText(text, x, y);
  }
  const strong = { size: 12, weight: 600 };
  function widthOf(text, { size = 11, weight = 400 } = {}) {
    pen.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
    return pen.measureText(text).width;
  }

  function draw() {
    pen.clearRect(0, 0, box.left + box.width, box.height);
    const data = buckets(state.hero);
    if (axis.breaks.length) drawTurns();
    else drawAxis();
    for (const id of state.suggestion?.because ?? []) {
      const span = call.spans.get(id);
      if (span) fillRect(ink.wash, span.start_us, span.end_us, TRACK_PX, box.height);
    }
    pen.save();
    pen.beginPath();
    pen.rect(box.left, 0, box.width, box.height);
    pen.clip();
    if (box.rows.stage) drawStages();
    drawValence(data);
    drawEmotions(data);
    if (box.rows.face) drawFace();
    drawArousal(data);
    drawSpeakers();
    if (box.rows.loudness) drawLoudness();
    pen.restore();
    drawCaptions();
    placePins();
    placeNumbers();
    placeCursor();
    syncPan();
  }

  function drawCaptions() {
    const { stage, valence, emotion, face, arousal, speaks, markers, loudness } = box.rows;
    const feels = written ? "Reads" : face ? "Seems" : "Sounds";
    const captions = [[stage, "Stage"], [valence, state.hero ? `${nameOf(state.hero)} valence` : "Valence"], [emotion, feels], [face, "Face"], [markers, "Markers"], [loudness, "Loudness"]];
    if (box.narrow) {
      captions.push([arousal, written ? "Arousal" : "Arousal ―  stress ┄  (band: usual arousal)"], [speaks, `${parties.map((p) => nameOf(p.id)).join(", ")} ${verb}`]);
      for (const [row, text] of captions) if (row) write(text, 0, row.top - 8, { colour: ink.ink, ...strong });
      return;
    }
    const right = box.left - 8;
    for (const [row, text] of captions)
      if (row) write(text, 0, row === valence || row === loudness ? row.middle : row.top + 10, { colour: ink.ink, ...strong });
    write("+1 pleasant", right, valence.top + 6, { align: "right" });
    write("−1 unpleasant", right, valence.top + valence.height - 6, { align: "right" });
    write("Arousal", 0, arousal.top + 12, { colour: ink.ink, ...strong });
    stroke([[right - 24, arousal.top + 12], [right, arousal.top + 12]], ink.ink, 1.5);
    if (!written) {
      write("Stress", 0, arousal.top + 34, { colour: ink.bad, ...strong });
      stroke([[right - 24, arousal.top + 34], [right, arousal.top + 34]], ink.bad, 1.5, [5, 3]);
    }
    write("Usual arousal", 0, arousal.top + 56);
    pen.fillStyle = ink.band;
    pen.fillRect(right - 24, arousal.top + 50, 24, 12);
    parties.forEach((p, i) => write(`${nameOf(p.id)} ${verb}`, 0, speaks.top + TRACK_PX * i + 9, { colour: ink.ink, ...strong }));
  }

  function drawAxis() {
    const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].map((s) => s * 1e6);
    const step = steps.find((s) => (s / (state.to - state.from)) * box.width >= 56) ?? 7200e6;
    for (let us = Math.ceil(state.from / step) * step; us <= state.to; us += step) {
      const x = Math.round(xOf(us));
      pen.fillStyle = ink.rule;
      pen.fillRect(x, 16, 1, box.height - 16);
      write(at(us), clamp(x, box.left + 12, box.left + box.width - 16), 8, { align: "center" });
    }
  }

  /** The axis of what was written with idle times: a clock where writing goes on, a band where it did not. */
  function drawTurns() {
    let free = -Infinity;
    for (const place of [0, ...axis.breaks.map((b) => b.end)]) {
      const text = at(place), width = widthOf(text), x = Math.min(Math.round(xOf(place)), box.left + box.width - width);
      if (!isVisible(place, place + 1) || x < free) continue;
      write(text, x, 8);
      free = x + width + 8;
    }
    for (const { start, end } of axis.breaks) fillRect(ink.rule, start, end, 16, box.height - 16, 0.45);
  }

  /** What each stretch is for, paler where that is less sure; a hold is hatched. */
  function drawStages() {
    const { top } = box.rows.stage, height = 20, below = [];
    for (const { name, span, confidence } of call.stages) {
      if (!isVisible(span.start_us, span.end_us)) continue;
      fillRect(name === "hold" ? ink.clearHatch : ink.band, span.start_us, span.end_us, top, height, 0.3 + 0.7 * confidence);
      const [left, right] = [xInside(span.start_us), xInside(span.end_us)];
      pen.fillStyle = ink.muted;
      if (left > box.left) pen.fillRect(Math.round(left), top, 1, height);
      const inside = shortened(name, right - left - 8);
      if (inside) write(inside, left + 5, top + 10, { colour: ink.ink });
      if (inside || right - left < WORTH_NAMING_PX) continue;
      below.push({ text: name, x: clamp(left + 2, box.left, box.left + box.width - widthOf(name)), at: left });
    }
    let taken = -Infinity;
    for (const { text, x, at } of below) {
      if (x < taken || x - at > widthOf(text)) continue;
      write(text, x, top + 28, { colour: ink.muted });
      taken = x + widthOf(text) + 8;
    }
  }

  /** The text, or what of it fits with a sign that it goes on; nothing where that says nothing. */
  function shortened(text, width) {
    if (widthOf(text) < width) return text;
    const length = [...text].findLastIndex((_, i) => i >= 3 && widthOf(`${text.slice(0, i)}…`) < width);
    return length > 0 ? `${text.slice(0, length)}…` : "";
  }

  function drawValence(data) {
    const { top, height, middle } = box.rows.valence;
    const yOf = (valence) => middle - valence * (height / 2 - 2);
    for (const run of runs(data, (b) => (b.valence === null ? b.reason : ""))) {
      if (run.value === "") {
        drawArea(run.items, middle, yOf);
        continue;
      }
      fillRect(run.value === "no speech" ? ink.faintHatch : ink.clearHatch, run.start, run.end, top, height);
      const [left, right] = [xInside(run.start), xInside(run.end)];
      const width = widthOf(run.value) + 12, centre = (left + right) / 2;
      if (width > right - left) continue;
      pen.fillStyle = ink.card;
      pen.fillRect(centre - width / 2, top + height - 20, width, 18);
      write(run.value, centre, top + height - 11, { align: "center" });
    }
    rule(middle, ink.muted);
    const known = data.filter((b) => b.valence !== null);
    known.slice(1).forEach((b, i) => {
      const before = known[i], pause = b.start - before.end;
      if (pause > 0 && pause <= BRIDGE_US)
        stroke([[xOf(before.end), yOf(before.valence)], [xOf(b.start), yOf(b.valence)]], ink.muted, 1, [2, 4]);
    });
  }

  /** One unbroken stretch of valence: area to zero by opacity, line by thickness, both growing with confidence. */
  function drawArea(items, middle, yOf) {
    const points = items.map((b) => ({ x: xOf((b.start + b.end) / 2), v: b.valence, c: b.confidence }));
    points.unshift({ ...points[0], x: xOf(items[0].start) });
    points.push({ ...points.at(-1), x: xOf(items.at(-1).end) });
    for (let i = 1; i < points.length; i++) {
      const [p, q] = [points[i - 1], points[i]], confidence = (p.c + q.c) / 2;
      const corners = [p, q];
      if (p.v * q.v < 0) corners.splice(1, 0, { x: p.x + ((q.x - p.x) * p.v) / (p.v - q.v), v: 0 });
      for (let k = 1; k < corners.length; k++) {
        const [a, b] = [corners[k - 1], corners[k]];
        pen.globalAlpha = 0.15 + 0.6 * confidence;
        pen.fillStyle = a.v + b.v < 0 ? ink.bad : ink.good;
        pen.beginPath();
        for (const [x, y] of [[a.x, middle], [a.x, yOf(a.v)], [b.x, yOf(b.v)], [b.x, middle]]) pen.lineTo(Math.round(x), y);
        pen.fill();
      }
      pen.globalAlpha = 1;
      stroke([[p.x, yOf(p.v)], [q.x, yOf(q.v)]], ink.ink, 0.75 + 2 * confidence);
    }
  }

  /** A slimmer ribbon of what the camera shows, paler where the picture is poor, hatched where there is no face to judge. */
  function drawFace() {
    const { top } = box.rows.face, band = 14;
    const items = call.momentsOf.get(state.hero).map((m) => ({ start: m.span.start_us, end: m.span.end_us, face: faceOf(m) }));
    for (const run of runs(items, (item) => item.face?.label ?? item.face?.reason ?? null)) {
      const fill = look.colours[run.value];
      for (const { start, end, face } of run.items)
        if (face) fillRect(fill ?? ink.clearHatch, start, end, top, band, fill ? 0.3 + 0.7 * face.quality : 1);
      const [left, right] = [xInside(run.start), xInside(run.end)];
      if (run.value !== null && isVisible(run.start, run.end) && widthOf(run.value) < right - left - 4) {
        pen.fillStyle = ink.card;
        if (!fill) pen.fillRect((left + right - widthOf(run.value)) / 2 - 3, top, widthOf(run.value) + 6, band);
        write(run.value, (left + right) / 2, top + band / 2, { align: "center", colour: fill ? inkOn(fill) : ink.ink });
      }
    }
  }

  /** Bands of colour; the name goes inside where it fits, else below where there is room. */
  function drawEmotions(data) {
    const { top } = box.rows.emotion, band = 22;
    const groups = [];
    for (const run of runs(data, (b) => b.label)) {
      const last = groups.at(-1);
      if (run.value === null) fillRect(ink.faintHatch, run.start, run.end, top, band);
      else if (last?.label === run.value && run.start - last.end <= BRIDGE_US) {
        fillRect(look.colours[run.value] ?? ink.clearHatch, last.end, run.start, top, band, 0.3);
        last.end = run.end;
        last.runs.push(run);
      } else groups.push({ label: run.value, start: run.start, end: run.end, runs: [run] });
    }
    let taken = -Infinity;
    for (const { label, start, end, runs: spoken } of groups) {
      const fill = look.colours[label];
      for (const run of spoken) fillRect(fill ?? ink.clearHatch, run.start, run.end, top, band);
      const widest = spoken.reduce((a, b) => (b.end - b.start > a.end - a.start ? b : a));
      const [left, right] = [xInside(widest.start), xInside(widest.end)];
      const width = widthOf(label, strong);
      if (width < right - left - 4) {
        write(label, (left + right) / 2, top + band / 2, { ...strong, align: "center", colour: fill ? inkOn(fill) : ink.ink });
        continue;
      }
      const below = clamp((xInside(start) + xInside(end) - widthOf(label)) / 2, box.left, box.left + box.width - widthOf(label));
      if (below < taken || xInside(end) - xInside(start) < WORTH_NAMING_PX) continue;
      write(label, below, top + band + 8, { colour: ink.ink });
      taken = below + widthOf(label) + 6;
    }
  }

  function drawArousal(data) {
    const { middle, height } = box.rows.arousal;
    const yOf = (value) => middle - value * (height / 2 - 2);
    const usual = usualOf.get(state.hero);
    if (usual) fillRect(ink.band, state.from, state.to, yOf(usual[1]), yOf(usual[0]) - yOf(usual[1]));
    rule(middle);
    for (const [name, colour, dash] of [["arousal", ink.ink, []], ["stress", ink.bad, [5, 3]]]) {
      for (const { items, start, end } of runs(data, (b) => b[name] !== null).filter((run) => run.value)) {
        const points = items.map((b) => [xOf((b.start + b.end) / 2), yOf(b[name])]);
        stroke([[xOf(start), points[0][1]], ...points, [xOf(end), points.at(-1)[1]]], colour, 1.5, dash);
      }
    }
  }

  function drawSpeakers() {
    const { top, height } = box.rows.speaks;
    partyIds.forEach((id, i) => {
      const y = top + TRACK_PX * i;
      rule(y + 9);
      for (const { span } of speechOf.get(id)) fillRect(i ? ink.agent : ink.customer, span.start_us, span.end_us, y + 4, 11);
    });
    for (const [start, end] of overtalk) fillRect(ink.bad, start, end, top + 1, height - 2);
    for (const each of call.interruptions) drawInterruption(each, top + TRACK_PX * partyIds.indexOf(each.by));
  }

  /** A wedge where someone cuts in, in their track; hollow when the other went on. */
  function drawInterruption({ span, successful }, top) {
    if (!isVisible(span.start_us, span.start_us + 1)) return;
    const x = xOf(span.start_us), y = top + 9.5;
    pen.beginPath();
    for (const [dx, dy] of [[-7, -6], [3, 0], [-7, 6]]) pen.lineTo(x + dx, y + dy);
    pen.closePath();
    pen.fillStyle = successful ? ink.bad : ink.card;
    pen.fill();
    pen.setLineDash([]);
    Object.assign(pen, { strokeStyle: successful ? ink.card : ink.bad, lineWidth: 1.5 });
    pen.stroke();
  }

  function drawLoudness() {
    const { middle, height } = box.rows.loudness;
    rule(middle);
    partyIds.slice(0, 2).forEach((id, i) => {
      for (const b of buckets(id)) {
        const size = b.level === null ? 0 : clamp((b.level + 60) / 60, 0, 1) * (height / 2);
        if (size) fillRect(i ? ink.agent : ink.customer, b.start, b.end, i ? middle + 1 : middle - size, size, 0.75);
      }
    });
  }

  // ---- pins and cursor ------------------------------------------------------------------------------------

  function shape(kind) {
    const [svg, path] = ["svg", "path"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
    svg.setAttribute("viewBox", "0 0 10 10");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", SHAPES[kind]);
    svg.append(path);
    return svg;
  }

  function makePins() {
    const known = new Map(pins.map((pin) => [pin.suggestion, pin]));
    pins = call.suggestions.map((suggestion) => known.get(suggestion) ?? pinOf(suggestion));
    numbers = call.summary.highlights.map((highlight, i) => ({ highlight, node: el("button", { className: "number",
      textContent: i + 1, title: highlight.reason, "aria-label": `Top moment ${i + 1}`,
      onclick: () => on.go(highlight.at_us, highlight.participant, true) }) }));
    const nodes = [...pins, ...numbers].map(({ node }) => node);
    const there = [...$("pins").children];
    if (nodes.length !== there.length || nodes.some((node, i) => node !== there[i])) $("pins").replaceChildren(...nodes);
  }
  function pinOf(suggestion) {
    const word = suggestion.action.split(":").at(-1).replace(/[-_]/g, " ");
    return { suggestion, word, node: el("button", {
      title: `${at(suggestion.created_us)} ${suggestion.text}`, "aria-label": `${suggestion.kind}: ${suggestion.text}`,
      onclick: () => on.choose(suggestion) }, shape(suggestion.kind), el("span", { textContent: word })) };
  }

  /** Lanes in turn; a pin shows its word where its neighbours in the lane leave room. */
  function placePins() {
    const right = box.left + box.width, taken = Array(PIN_LANES).fill(-Infinity);
    const ofSuggestion = (s) => Math.min(s.created_us, duration - 1);
    const shown = pins.filter(({ suggestion: s, node }) => !(node.hidden = !isVisible(ofSuggestion(s), ofSuggestion(s) + 1)));
    shown.forEach(({ suggestion, word, node }, i) => {
      const lane = i % PIN_LANES, next = shown[i + PIN_LANES], width = 32 + widthOf(word, { size: 12 });
      const x = Math.min(xOf(suggestion.created_us), right - width);
      const fits = x >= taken[lane] && !(next && xOf(next.suggestion.created_us) < x + width);
      taken[lane] = x + (fits ? width : 22);
      node.lastChild.hidden = !fits;
      node.setAttribute("aria-pressed", String(suggestion === state.suggestion));
      const left = fits ? x : Math.min(xOf(suggestion.created_us), right - 22);
      Object.assign(node.style, { left: `${left}px`, top: `${box.rows.markers.top + 23 * lane}px` });
    });
  }

  function placeNumbers() {
    const { top, height, middle } = box.rows.valence;
    for (const { highlight, node } of numbers) {
      const us = highlight.at_us + 5e5;
      node.hidden = highlight.participant !== state.hero || !isVisible(us, us + 1);
      const y = middle - (momentAt(state.hero, us)?.affect.valence ?? 0) * (height / 2 - 2);
      const beside = clamp(y > middle ? y + 8 : y - 26, top, top + height - 18);
      Object.assign(node.style, { left: `${xOf(us) - 9}px`, top: `${beside}px` });
    }
  }

  function placeCursor() {
    $("cursor").hidden = !isVisible(state.at, state.at + 1);
    $("cursor").style.left = `${xOf(state.at)}px`;
  }

  // ---- zoom and pan ---------------------------------------------------------------------------------------

  function show(from, to) {
    const length = clamp(to - from, Math.min(5e6, duration), duration);
    state.from = clamp(from, 0, duration - length);
    state.to = state.from + length;
    draw();
  }
  const fit = () => show(0, duration);
  function zoom(factor, around = state.at) {
    const centre = isVisible(around, around + 1) ? around : (state.from + state.to) / 2;
    show(centre - (centre - state.from) * factor, centre + (state.to - centre) * factor);
  }
  function reveal(us) {
    const length = state.to - state.from;
    if (!isVisible(us, us + 1)) show(us - length / 2, us + length / 2);
    placeCursor();
  }
  function syncPan() {
    const pan = $("pan"), inner = (pan.clientWidth * duration) / (state.to - state.from);
    pan.style.visibility = state.to - state.from < duration ? "visible" : "hidden";
    pan.firstElementChild.style.width = `${inner}px`;
    pan.scrollLeft = (state.from / duration) * inner;
  }
  $("pan").onscroll = ({ target }) => {
    const from = (target.scrollLeft / target.scrollWidth) * duration, length = state.to - state.from;
    if (Math.abs(from - state.from) / length > 2 / box.width) show(from, from + length);
  };
  $("in").onclick = () => zoom(0.5);
  $("out").onclick = () => zoom(2);
  $("fit").onclick = canvas.ondblclick = fit;

  // ---- pointer --------------------------------------------------------------------------------------------

  const xIn = (event) => event.clientX - canvas.getBoundingClientRect().left;
  $("chart").addEventListener("wheel", (event) => {
    const length = state.to - state.from;
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (!sideways && event.deltaY > 0 && length >= duration) return; // already whole: the page scrolls
    event.preventDefault();
    const shift = ((event.deltaX || event.deltaY) / box.width) * length;
    if (sideways) show(state.from + shift, state.from + shift + length);
    else zoom(Math.exp(clamp(event.deltaY, -200, 200) / 400), usOf(xIn(event)));
  }, { passive: false });

  /** Marks a stretch given in pixels, or nothing. */
  function mark(left = null, right = null) {
    $("brush").hidden = left === null;
    left = clamp(left, box.left, box.left + box.width);
    Object.assign($("brush").style, { left: `${left}px`, width: `${Math.max(2, clamp(right, left, box.left + box.width) - left)}px` });
  }

  let press = null;
  canvas.onpointerdown = (event) => {
    press = { x: xIn(event), from: state.from, touch: event.pointerType === "touch", moved: false };
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    const x = xIn(event);
    hover(x, event.offsetY);
    if (!press || (!press.moved && Math.abs(x - press.x) < 5)) return;
    press.moved = true;
    const length = state.to - state.from, from = press.from - ((x - press.x) / box.width) * length;
    if (press.touch) show(from, from + length);
    else mark(Math.min(x, press.x), Math.max(x, press.x));
  };
  canvas.onpointerup = (event) => {
    const x = xIn(event);
    if (press && !press.moved && x >= box.left) on.go(usOf(x), state.hero);
    else if (press?.moved && !press.touch) show(usOf(Math.min(x, press.x)), usOf(Math.max(x, press.x)));
    canvas.onpointercancel();
  };
  canvas.onpointercancel = () => { press = null; mark(); };
  canvas.onpointerleave = () => { $("hover").hidden = $("tip").hidden = true; };

  function hover(x, y) {
    $("hover").hidden = $("tip").hidden = x < box.left;
    if (x < box.left) return;
    const us = usOf(x), moment = momentAt(state.hero, us), pause = axis.breaks.find((b) => b.start <= us && us < b.end);
    const lines = [pause ? `${lengthOf(pause.idle)} without turns`
      : `${at(us)} · ${moment ? inShort(moment) : `nothing ${written ? "written" : "recorded"}`}`];
    if (moment && moment.affect.valence !== null)
      lines.push(figures([["valence", moment.affect.valence], ["arousal", moment.affect.arousal]]));
    const stage = call.stages[lastBefore(call.stages, us)];
    if (stage && !pause) lines.push(`${stage.name} (${likelihood(stage.confidence)})`);
    const face = moment && faceOf(moment);
    if (face) lines.push(face.label ? `face looks ${face.label}` : `face not judged: ${face.reason}`);
    const speaking = partyIds.filter((id) => speechOf.get(id).some((s) => s.span.start_us <= us && us < s.span.end_us));
    if (speaking.length) lines.push(speaking.length > 1 ? `both ${written ? "write" : "speak"}` : `${nameOf(speaking[0])} ${verb}`);
    const cut = call.interruptions.find(({ span }) => span.start_us <= us && us < span.end_us);
    if (cut) lines.push(`${nameOf(cut.by)} cuts in for ${briefly(cut.overlap_us)}${cut.successful ? " and takes the floor" : ""}`);
    $("tip").textContent = lines.join("\n");
    $("hover").style.left = `${x}px`;
    Object.assign($("tip").style, {
      left: `${clamp(x + 12, 0, box.left + box.width - $("tip").offsetWidth)}px`,
      top: `${Math.max(24, y - $("tip").offsetHeight - 12)}px` });
  }
  const inShort = (m) => !isKnown(m) ? gapReason(m)
    : m.affect.label === "unknown" ? "too weak to name" : `${written ? "reads" : "sounds"} ${m.affect.label} (${likelihood(m.affect.probability)})`;

  /** Marks the time of a span of the call, or nothing. */
  const point = (span) => (span && isVisible(span.start_us, span.end_us) ? mark(xOf(span.start_us), xOf(span.end_us)) : mark());

  const redraw = () => { layOut(); draw(); };
  take(source);
  new ResizeObserver(redraw).observe($("chart"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  for (const [name, on] of [["beforeprint", true], ["afterprint", false]])
    addEventListener(name, () => { document.documentElement.classList.toggle("printing", on); redraw(); });
  redraw();
  return { draw, show, fit, zoom, reveal, point, update: (next) => { take(next); redraw(); } };
}
