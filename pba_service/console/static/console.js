// The page: asks /api every few seconds and draws what it answers. It only reads.

import { chart, sparkline } from "./charts.js";

const EVERY_MS = 5000;
const TITLES = ["Bandwidth", "Round-trip time", "Packet loss", "Jitter"];
const main = document.getElementById("main"), state = document.getElementById("state");
const tokenForm = document.getElementById("token");
let round = 0, hours = 6, prefix = "", after = "", wanted = false;

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}

const three = (value) => value === 0 ? "0" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));
const FORMATS = [
  (value) => value >= 1000 ? `${three(value / 1000)} Gb/s` : `${three(value)} Mb/s`,
  (value) => `${three(value)} ms`,
  (value) => value > 0 && value < 1e-4 ? "<0.01 %" : `${three(value * 100)} %`,
  (value) => `${three(value)} ms`,
];
const show = (metric, value) => value === null || value === undefined ? "–" : FORMATS[metric](value);
const percent = (value) => value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`;
const bytes = (value) => value >= 1048576 ? `${three(value / 1048576)} MiB` : `${three(value / 1024)} KiB`;
function ago(time) {
  const seconds = Math.max(0, (Date.now() - time) / 1000);
  return seconds < 90 ? `${Math.round(seconds)} s ago` : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

async function ask(path, query = {}) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(`api/${path}?${new URLSearchParams(query)}`, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401 || answer.status === 403) tokenForm.hidden = false;
  if (!answer.ok) throw new Error(content.error ?? `${answer.status} ${answer.statusText}`);
  tokenForm.hidden = true;
  return content;
}

tokenForm.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", tokenForm.querySelector("input").value.trim());
  draw();
});

function confidence(prediction) {
  if (!prediction) return "–";
  const stale = prediction.target_ms < Date.now();
  return el("span", { class: stale ? "quiet" : "" }, stale ? "past" : percent(prediction.confidence));
}

async function links() {
  const found = await ask("links", { prefix, after });
  const rows = found.links.map((link) => el("a", { class: "row", href: `#/link/${encodeURIComponent(link.link_id)}` },
    el("div", { class: "id" }, link.link_id, el("small", {}, [link.node && `${link.node} → ${link.peer}`, link.region, link.newest_ms ? ago(link.newest_ms) : "no samples"].filter(Boolean).join(" · "))),
    el("div", { title: link.line.metric ?? "" }, sparkline(link.line.times_ms, link.line.values)),
    ...TITLES.map((_, metric) => el("div", { class: metric < 2 ? "num" : "num wide" }, show(metric, link.values[metric]),
      el("small", { class: "next" }, link.prediction ? show(metric, link.prediction.values[metric]) : ""))),
    el("div", { class: "num conf" }, confidence(link.prediction))));
  const filter = el("input", { type: "search", placeholder: "Link ids that begin with …", "aria-label": "Filter", value: prefix });
  filter.addEventListener("change", () => { prefix = filter.value; after = ""; draw(true); });
  const pages = el("div", { class: "bar" });
  if (after) { const first = el("button", {}, "First page"); first.onclick = () => { after = ""; draw(true); }; pages.append(first); }
  if (found.next) { const next = el("button", {}, "Next page"); next.onclick = () => { after = found.next; draw(true); }; pages.append(next); }
  return [
    el("div", { class: "bar" }, filter, el("span", { class: "quiet" }, "Newest measurement, and below it the prediction for 15 minutes later")),
    rows.length ? el("section", { class: "card rows" }, el("div", { class: "row head" }, el("div", {}, "Link"), el("div", {}, "Last two hours"),
      ...TITLES.map((title) => el("div", { class: "num" }, title)), el("div", { class: "num" }, "Confidence")), ...rows)
      : el("p", { class: "quiet" }, prefix ? "No link begins like that." : "No link has sent a sample yet."),
    pages,
  ];
}

function tile(title, value, note = "") {
  return el("div", { class: "card tile" }, el("h3", {}, title), el("b", {}, value), el("small", {}, note));
}

/** The fan: from the newest sample over the model's horizons, and the served, calibrated interval at its own. */
function fan(data, metric) {
  const prediction = data.prediction, newest = data.history.times_ms.length - 1;
  if (!prediction || newest < 0 || prediction.values[metric] === null) return { bands: [], lines: [] };
  const value = data.history.values[metric][newest], last = data.history.times_ms[newest];
  const points = [{ at: last, q: Array(5).fill(value) }];
  for (const point of data.path ?? []) {
    const at = prediction.made_at_ms + point.horizon_ms;
    if (at < prediction.target_ms && point.quantiles[metric][2] !== null) points.push({ at, q: point.quantiles[metric] });
  }
  points.push({ at: prediction.target_ms, q: prediction.quantiles[metric] });
  const times = points.map((point) => point.at), of = (level) => points.map((point) => point.q[level]);
  return {
    bands: [{ times, low: of(0), high: of(4) }, { times, low: of(1), high: of(3), inner: true }],
    lines: [{ times, values: [...of(2).slice(0, -1), prediction.values[metric]], kind: "predicted", dots: true }],
  };
}

async function link(id) {
  const data = await ask("link", { id, hours });
  const span = el("select", { "aria-label": "Time shown" }, ...[1, 6, 24, 72].map((value) => el("option", { value, ...(value === hours ? { selected: "" } : {}) }, `${value} h`)));
  span.addEventListener("change", () => { hours = Number(span.value); draw(true); });
  const prediction = data.prediction, how = data.parameters, summary = data.link;
  const charts = TITLES.map((title, metric) => {
    const measured = data.history.values[metric];
    if (measured.every((value) => value === null)) return null;
    const next = fan(data, metric), newest = data.history.times_ms.at(-1);
    return el("section", { class: "card" }, el("h3", {}, title), chart({
      label: `${title} of ${id}`, format: FORMATS[metric], now: next.lines.length ? newest : null,
      bands: next.bands,
      lines: [{ times: data.history.times_ms, values: measured, kind: "measured" },
        { times: data.ledger.target_ms, values: data.ledger.predicted[metric], kind: "predicted" }, ...next.lines],
    }));
  }).filter(Boolean);
  const advised = data.advised;
  const steps = advised.at_ms.length ? [["Streams", advised.streams, (value) => three(value)], ["Pace", advised.pacing_mbps, FORMATS[0]]]
    .filter(([, values]) => values.some((value) => value !== null))
    .map(([title, values, format]) => el("section", { class: "card" }, el("h3", {}, `${title}, as predictions advised`),
      chart({ label: `${title} of ${id}`, format, lines: [{ times: advised.at_ms, values, kind: "step" }] }))) : [];
  const weights = data.learned.experts.map((expert, i) => [expert, data.learned.weights.map((row) => row[i])])
    .filter(([, row]) => row.some((weight) => weight > 0.02))
    .sort(([, a], [, b]) => Math.max(...b) - Math.max(...a));
  return [
    el("div", { class: "bar" }, el("h2", {}, id), el("span", { class: "quiet" }, [summary.node && `${summary.node} → ${summary.peer}`, summary.region].filter(Boolean).join(" · ")), span),
    el("div", { class: "tiles" },
      ...(prediction ? TITLES.map((title, metric) => prediction.values[metric] === null ? null
        : tile(`${title} in ${Math.round((prediction.target_ms - Date.now()) / 60000)} min`, show(metric, prediction.values[metric]),
          `90 %: ${show(metric, prediction.quantiles[metric][0])} to ${show(metric, prediction.quantiles[metric][4])}`)) : [tile("No prediction", "–", data.why)]),
      prediction ? tile("Confidence", percent(prediction.confidence), `${percent(data.learned.hit_rate)} came true lately`) : null,
      tile("Send with", `${how.streams} streams`, [`${bytes(how.buffer_bytes)} each`, how.pacing_mbps === null ? "unpaced" : `pace ${show(0, how.pacing_mbps)}`, how.source].join(", "))),
    el("p", { class: "quiet" }, how.explanation),
    el("div", { class: "charts" }, ...charts, ...steps),
    el("p", { class: "legend" }, ...[["m", "measured"], ["p", "predicted, 15 minutes before"], ["p", "now and next, with 80 and 90 % intervals"], ["s", "parameters"]]
      .map(([kind, text]) => el("span", { class: kind }, el("i"), el("span", {}, text)))),
    el("section", { class: "card scroll" }, el("h3", {}, "What drives its forecasts: weights of the forecasters"),
      el("table", {}, el("tr", {}, el("th", {}, ""), ...TITLES.map((title) => el("th", {}, title))),
        ...weights.map(([expert, row]) => el("tr", {}, el("td", {}, expert), ...row.map((weight) => el("td", {}, el("meter", { min: 0, max: 1, value: weight ?? 0, title: percent(weight) }))))),
        el("tr", {}, el("td", { class: "quiet" }, "mean error"), ...data.learned.mean_absolute_error.map((error, metric) => el("td", { class: "quiet" }, show(metric, error)))))),
    data.outcomes.length ? el("section", { class: "card scroll" }, el("h3", {}, "What nodes report"), el("table", {},
      el("tr", {}, ...["When", "Streams", "Expected", "Achieved"].map((title) => el("th", {}, title))),
      ...data.outcomes.slice(-8).reverse().map((one) => el("tr", {}, el("td", {}, ago(one.ended_at_ms)), el("td", {}, String(one.streams)), el("td", {}, show(0, one.expected_mbps)), el("td", {}, show(0, one.achieved_mbps)))))) : null,
  ].filter(Boolean);
}

const STATUS = { running: "running", promoted: "challenger serves", rejected: "challenger rejected", expired: "undecided", stopped: "stopped", superseded: "overtaken by another activation" };

/** What an experiment has shown: bars from no evidence to a verdict, and the challenger's error relative to the champion's. */
function experiment(one) {
  const when = one.ended_at_ms ? `ended ${ago(one.ended_at_ms)}` : `began ${ago(one.started_at_ms)}`;
  const of = one.kind === "trial" ? `serves ${percent(one.share)} of the links` : "watch over a version just activated";
  const bar = (title, value) => el("tr", {}, el("td", {}, title), el("td", {}, el("meter", { min: 0, max: 1, value: value ?? 0, title: percent(value) })), el("td", { class: "num" }, percent(value)));
  return el("section", { class: "card scroll" },
    el("div", { class: "bar" }, el("h2", {}, one.name), el("span", { class: one.status === "running" ? "good" : "quiet" }, STATUS[one.status] ?? one.status)),
    el("p", { class: "quiet" }, `${one.challenger} beside ${one.champion}, ${of}; ${when}; ${one.targets.toLocaleString("en")} forecasts met their samples in ${one.periods} periods; ${one.automatic ? "its verdict is acted on" : "its verdict waits for somebody"}`),
    el("table", {}, bar("evidence that it is better", one.towards_promotion), bar("evidence that it is worse", one.towards_rejection),
      el("tr", {}, el("td", {}, "advantage, in usual errors"), el("td", { colspan: 2 }, one.periods ? `${one.advantage.toFixed(3)} (${one.low.toFixed(3)} to ${one.high.toFixed(3)})` : "–")),
      ...one.metrics.map((row) => el("tr", {}, el("td", {}, `error of ${row.metric}, relative`), el("td", { colspan: 2 }, row.ratio.toFixed(3))))));
}

async function models() {
  const { models: found, experiments } = await ask("models");
  const tried = experiments.length ? [el("h2", {}, "Experiments"), ...experiments.map(experiment)]
    : [el("h2", {}, "Experiments"), el("p", { class: "quiet" }, "None so far: pba ab start tries a model beside the one that serves.")];
  return [el("h2", {}, "Models"), ...found.map(model), ...tried];
}

function model(one, i) {
  const metrics = [...new Set(one.scores.map((score) => score.metric))], forecasters = [...new Set(one.scores.map((score) => score.forecaster))];
  const score = (metric, forecaster) => one.scores.find((row) => row.metric === metric && row.forecaster === forecaster)?.ratio;
  return el("section", { class: "card scroll" },
    el("div", { class: "bar" }, el("h2", {}, one.version), el("span", { class: i ? "quiet" : "good" }, i ? "loaded" : "serving")),
    el("p", { class: "quiet" }, `${one.parameters.toLocaleString("en")} parameters, reads ${one.window_slots} samples, made ${new Date(one.created_at_ms).toISOString().slice(0, 10)}; horizons ${one.horizons_ms.map((ms) => `${ms / 60000} min`).join(", ")}`),
    metrics.length ? el("table", {}, el("tr", {}, el("th", {}, "Error relative to the last value's"), ...metrics.map((metric) => el("th", {}, metric))),
      ...forecasters.map((forecaster) => el("tr", {}, el("td", {}, forecaster), ...metrics.map((metric) => el("td", {}, score(metric, forecaster) == null ? "–" : score(metric, forecaster).toFixed(3)))))) : el("p", { class: "quiet" }, "Its manifest has no scores."));
}

/** Whatever somebody is using stays as it is, unless they asked for more with it. */
async function draw(asked = false) {
  wanted ||= asked;
  const mine = ++round, [, page = "", id = ""] = location.hash.split("/");
  for (const anchor of document.querySelectorAll("nav a")) anchor.classList.toggle("here", anchor.dataset.page === (page === "models" ? "models" : "links"));
  try {
    const parts = page === "link" ? await link(decodeURIComponent(id)) : page === "models" ? await models() : await links();
    if (mine !== round) return;
    const focused = document.activeElement;
    if (!wanted && focused && main.contains(focused) && focused.tagName !== "A") return;
    wanted = false;
    main.replaceChildren(...parts);
    state.className = ""; state.textContent = new Date().toLocaleTimeString([], { hour12: false });
  } catch (error) {
    if (mine !== round) return;
    state.className = "bad"; state.textContent = "not up to date";
    if (main.querySelector(".quiet")?.textContent === "Loading …" || !main.dataset.page || main.dataset.page !== location.hash) main.replaceChildren(el("p", { class: "bad" }, error.message));
  }
  main.dataset.page = location.hash;
}

addEventListener("hashchange", () => { after = ""; document.activeElement?.blur?.(); draw(); });
setInterval(() => { if (!document.hidden) draw(); }, EVERY_MS);
draw();
