// Lines, bands and steps as SVG, from times in ms and values that may be null.

const NS = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A path that lifts the pen where values are null. */
function line(points, step = false) {
  let path = "", drawing = false;
  for (const [x, y] of points) {
    if (y === null) { drawing = false; continue; }
    if (!drawing) path += `M${x.toFixed(1)} ${y.toFixed(1)}`;
    else path += step ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `L${x.toFixed(1)} ${y.toFixed(1)}`;
    drawing = true;
  }
  return path;
}

function range(values) {
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (!known.length) return [0, 1];
  let low = Math.min(...known), high = Math.max(...known);
  if (low === high) { const room = Math.abs(low) * 0.1 || 1; low -= room; high += room; }
  const room = (high - low) * 0.06;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let at = Math.ceil(low / size) * size; at <= high + size * 1e-9; at += size) found.push(at);
  return found;
}

export function sparkline(times, values) {
  const [low, high] = range(values), width = 144, height = 34;
  const first = times[0] ?? 0, span = (times.at(-1) ?? 1) - first || 1;
  const points = values.map((value, i) => [
    2 + (width - 4) * (times[i] - first) / span,
    value === null ? null : height - 3 - (height - 6) * (value - low) / (high - low),
  ]);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, svg("path", { class: "measured", d: line(points) }));
}

/**
 * A chart over time.
 * lines: [{times, values, kind: "measured" | "predicted" | "step"}]; bands: [{times, low, high, inner}];
 * now: a time to mark; label: for those who do not see it; format: of values.
 */
export function chart({ lines, bands = [], now = null, label, format }) {
  const width = 560, height = 190, left = 66, right = 8, top = 8, bottom = 22;
  const times = [...lines, ...bands].flatMap((one) => one.times);
  const [first, last] = times.length ? [Math.min(...times), Math.max(...times)] : [0, 1];
  const [low, high] = range([...lines.flatMap((one) => one.values), ...bands.flatMap((one) => [...one.low, ...one.high])]);
  const x = (time) => left + (width - left - right) * (time - first) / (last - first || 1);
  const y = (value) => value === null ? null : top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const parts = [];
  for (const tick of ticks(low, high, 4)) {
    parts.push(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }));
    parts.push(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, format(tick)));
  }
  const hours = (last - first) / 3.6e6, every = [0.25, 0.5, 1, 2, 4, 6, 12, 24, 48].find((size) => hours / size <= 6) ?? 48;
  const zone = new Date(last).getTimezoneOffset() * 60000, size = every * 3.6e6;
  for (let at = Math.ceil((first - zone) / size) * size + zone; at <= last; at += size) {
    const text = new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    parts.push(svg("text", { x: x(at), y: height - 6, "text-anchor": "middle" }, text));
  }
  for (const band of bands) {
    const upper = band.times.map((time, i) => [x(time), y(band.high[i])]);
    const lower = band.times.map((time, i) => [x(time), y(band.low[i])]).reverse();
    const known = [...upper, ...lower].filter(([, at]) => at !== null);
    if (known.length) parts.push(svg("path", { class: band.inner ? "fan inner" : "fan", d: `${line(known)}Z` }));
  }
  if (now !== null) parts.push(svg("line", { class: "now", x1: x(now), x2: x(now), y1: top, y2: height - bottom }));
  for (const one of lines) {
    const points = one.times.map((time, i) => [x(time), y(one.values[i])]);
    parts.push(svg("path", { class: one.kind, d: line(points, one.kind === "step") }));
    if (one.dots) for (const [px, py] of points) if (py !== null) parts.push(svg("circle", { class: "dot", cx: px, cy: py, r: 2.2 }));
  }
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts);
}
