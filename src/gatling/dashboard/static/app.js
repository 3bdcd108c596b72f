// What pages do beyond showing: load their content again, draw charts with a cursor, follow a log.
"use strict";

const style = getComputedStyle(document.documentElement);
const colour = (name) => style.getPropertyValue(name).trim();

// What improves a page that can be read already is loaded when it has been painted.
const own = document.currentScript;
const painted = new Promise((done) => {
  new PerformanceObserver((list) => {
    if (list.getEntriesByName("first-contentful-paint").length) done();
  }).observe({ type: "paint", buffered: true });
  setTimeout(done, 1000); // a tab in the background is not painted
});
painted.then(() => Promise.all(own.dataset.later.split(" ").filter(Boolean).map(fetched)))
  .then(drawAll, unseen);

function fetched(name) {
  const sheet = name.endsWith(".css");
  const made = document.createElement(sheet ? "link" : "script");
  if (sheet) made.rel = "stylesheet";
  made[sheet ? "href" : "src"] = new URL(name, own.src).href;
  return new Promise((done, failed) => {
    made.onload = done;
    made.onerror = failed;
    if (sheet) document.head.prepend(made); else document.head.append(made); // before our own style
  });
}

// Load the content again, as often as the page says, while somebody looks at it.
let loaded = Date.now();
setInterval(() => {
  const main = document.getElementById("main");
  const every = Number(main.dataset.every || 0) * 1000;
  if (!every || document.hidden || Date.now() - loaded < every) return;
  loaded = Date.now();
  main.dispatchEvent(new Event("refresh"));
}, 200);
document.addEventListener("htmx:after:swap", () => { seen(); drawAll(); });
document.addEventListener("htmx:error", unseen);

// Without an answer, what is shown is old, and looks as if it were not.
let latest = new Date();

function seen() {
  latest = new Date();
  document.getElementById("lost").hidden = true;
}

function unseen() {
  const note = document.getElementById("lost");
  if (!note.hidden) return;
  note.querySelector("time").textContent = latest.toLocaleTimeString([], { hourCycle: "h23" });
  note.hidden = false;
}

// A second click is no second change.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  if (form.hasAttribute("aria-busy")) event.preventDefault();
  form.setAttribute("aria-busy", "true");
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
});

const units = {
  rate: (v) => (v >= 10 || v === 0 ? v.toFixed(0) : v.toPrecision(2)) + "/s",
  ms: (v) => v.toFixed(v < 10 ? 1 : 0) + " ms",
  bytes: (v) => (v >= 1e6 ? (v / 1e6).toFixed(0) + " MB" : (v / 1e3).toFixed(0) + " kB"),
};
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const moment = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const HEIGHT = 140;
const charts = new Map();

function drawAll() {
  if (typeof uPlot === "undefined") return;
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const data = JSON.parse(figure.dataset.chart);
    const plot = figure.querySelector(".plot");
    const before = charts.get(plot.id);
    if (!before || before.root.parentNode !== plot) {
      if (before) before.destroy();
      charts.set(plot.id, drawn(plot, figure, data));
    } else {
      before.marks = data.marks;
      before.span = data.span;
      before.top = data.top;
      before.setData(data.values);
    }
    figure.classList.add("drawn");
  }
}

function drawn(plot, figure, data) {
  const first = figure.classList.contains("errors") ? colour("--bad") : colour("--l1");
  const lines = [first, colour("--l2")];
  const write = units[data.unit] || String;
  const self = new uPlot({
    width: plot.clientWidth || 300,
    height: HEIGHT,
    padding: [6, 14, 0, 14],
    legend: { live: true },
    cursor: { y: false, sync: { key: "charts" } },
    scales: {
      x: { range: (u, min, max) => (u.zoomed ? [min, max] : u.span || data.span) },
      y: { range: (u) => [0, u.top || data.top] },
    },
    axes: [
      { stroke: colour("--dim"), grid: { show: false }, ticks: { show: false }, size: 22, font: "11px system-ui", space: 60,
        values: (u, at) => at.map((each) => (data.span[1] - data.span[0] > 100000 ? day : clock).format(each * 1000)) },
      { size: 0, values: () => [], ticks: { show: false }, grid: { stroke: colour("--edge"), width: 1 },
        splits: (u, axis, min, max) => [max / 4, max / 2, (3 * max) / 4] },
    ],
    series: [
      { label: "", value: (u, at) => (at == null ? "" : moment.format(at * 1000)) },
      ...data.names.map((name, i) => ({
        label: name, stroke: lines[i], width: 1.6, points: { show: false },
        fill: i ? undefined : lines[0] + "22", value: (u, v) => (v == null ? "" : write(v)),
      })),
    ],
    hooks: {
      setSelect: [(u) => { u.zoomed = u.select.width > 0; }],
      drawClear: [(u) => marks(u, u.marks || data.marks)],
    },
  }, data.values, plot);
  self.over.addEventListener("dblclick", () => { self.zoomed = false; self.setData(self.data); });
  return self;
}

function marks(plot, found) {
  const pen = plot.ctx;
  pen.save();
  pen.setLineDash([4, 4]);
  pen.lineWidth = devicePixelRatio;
  for (const [at, kind] of found) {
    const x = Math.round(plot.valToPos(at, "x", true)) + 0.5;
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
    pen.strokeStyle = colour(kind === "alert" || kind === "instance" ? "--bad" : "--mark");
    pen.beginPath();
    pen.moveTo(x, plot.bbox.top);
    pen.lineTo(x, plot.bbox.top + plot.bbox.height);
    pen.stroke();
  }
  pen.restore();
}

addEventListener("resize", () => {
  for (const [id, chart] of charts) {
    const plot = document.getElementById(id);
    if (plot && plot.clientWidth) chart.setSize({ width: plot.clientWidth, height: HEIGHT });
  }
});
addEventListener("DOMContentLoaded", followed);

// The log: new lines are added as text, and the newest stay in sight.
const MOST = 5000;

function followed() {
  const button = document.getElementById("follow");
  if (!button) return;
  const lines = document.getElementById("lines");
  let stream = null;
  lines.scrollTop = lines.scrollHeight;
  button.hidden = false;
  const stop = () => { if (stream) stream.close(); stream = null; };
  const start = () => {
    stream = new EventSource(button.dataset.stream);
    stream.onopen = seen;
    stream.onerror = unseen;
    stream.onmessage = (event) => {
      const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 60;
      lines.append(document.createTextNode(JSON.parse(event.data) + "\n"));
      while (lines.childNodes.length > MOST) lines.firstChild.remove();
      if (atEnd) lines.scrollTop = lines.scrollHeight;
    };
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    if (on) start(); else stop();
  });
  document.addEventListener("visibilitychange", () => {
    if (button.getAttribute("aria-pressed") !== "true") return;
    if (document.hidden) stop(); else if (!stream) start();
  });
}
