"use strict";
// Valence in a row of a table: a small area around a zero line, with gaps where nothing is known.

const SPARK = { width: 180, height: 36, points: 60 };

/** Builds an SVG element; attributes are numbers and names from here. */
function svgOf(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** @param values up to 60 of [-1, 1] or null, the newest last; fewer than 60 stand on the right, as on a moving strip */
function sparkline(values) {
  const { width, height, points } = SPARK, middle = height / 2, step = width / points;
  const shown = values.slice(-points), shift = points - shown.length;
  const x = (i) => ((shift + i + 0.5) * step).toFixed(1), y = (v) => (middle - v * (middle - 2)).toFixed(1);
  const known = shown.filter((v) => v !== null);
  const words = known.length ? `valence from ${signed(known[0])} to ${signed(known.at(-1))}, lowest ${signed(Math.min(...known))}` : "valence not known";
  const svg = svgOf("svg", { viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": words });
  svg.append(svgOf("title", {}, words));
  for (let i = 0; i < shown.length;) {
    let end = i;
    while (end < shown.length && (shown[end] === null) === (shown[i] === null)) end++;
    if (shown[i] === null) {
      svg.append(svgOf("rect", { class: "gap", x: ((shift + i) * step).toFixed(1), y: middle - 3, width: ((end - i) * step).toFixed(1), height: 6 }));
    } else {
      const run = shown.slice(i, end), ends = [`${x(i)},${middle}`, `${x(end - 1)},${middle}`];
      for (const [name, part] of [["above", Math.max], ["below", Math.min]])
        svg.append(svgOf("polygon", { class: name, points: [ends[0], ...run.map((v, k) => `${x(i + k)},${y(part(v, 0))}`), ends[1]].join(" ") }));
      svg.append(svgOf("polyline", { class: "trace", points: (run.length > 1 ? run : [run[0], run[0]]).map((v, k) => `${run.length > 1 ? x(i + k) : Number(x(i)) + (k - 0.5) * step},${y(v)}`).join(" ") }));
    }
    i = end;
  }
  svg.append(svgOf("line", { class: "zero", x1: 0, x2: width, y1: middle, y2: middle }));
  return svg;
}

/** Draws where the server left numbers: data-valence="0.1,,-0.3". */
function drawSparklines(root = document) {
  for (const place of root.querySelectorAll("[data-valence]"))
    place.replaceChildren(sparkline(place.dataset.valence.split(",").map((v) => (v === "" ? null : Number(v)))));
}
