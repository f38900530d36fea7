// Shared by both scripts of the page; parsed once because it includes the networks.
const data = JSON.parse(document.getElementById("data").textContent);
const say = (text) => { document.getElementById("said").textContent = text; };

// Run a network on inputs: a promise of a tensor. Networks, each with its own name, run in a worker, or in the page as a fallback.
const runNetwork = (() => {
  const script = document.currentScript.textContent, waiting = new Map(), opened = {};
  let worker, next = 0;
  function start() {
    try {
      const started = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
      started.onmessage = ({ data: { id, result } }) => { waiting.get(id)(result); waiting.delete(id); };
      started.onerror = ({ message }) => { say(`Cannot run the network: ${message}`); };
      return started;
    } catch { return null; /* Some browsers do not allow workers from a page that was opened as a file. */ }
  }
  return (name, network, inputs) => {
    if (worker === undefined) worker = start();
    if (!(name in opened)) {
      opened[name] = worker ?? engine.open(network);
      worker?.postMessage({ name, network });
    }
    if (!worker) return Promise.resolve(engine.run(opened[name], inputs));
    return new Promise((done) => { waiting.set(++next, done); worker.postMessage({ id: next, name, inputs }); });
  };
})();

// The state of the page before it reloaded itself (reload.js); used once.
const before = history.state?.page ?? {};
if (before.parts) history.replaceState(null, "");
const kept = {};
// Let a part of the page keep its state: save returns it as plain data, restore sets it.
function keep(name, save, restore) {
  kept[name] = save;
  const state = before.parts?.[name];
  if (state === undefined || state === null) return false;
  restore(state);
  return true;
}

(() => {
  const whole = (value) => Math.round(value).toLocaleString("en-US");
  const short = (value) => value === null ? "–" : String(Number(value.toPrecision(4)));

  // ---- grids: one image per slider position; the last one is in the HTML

  const slider = document.getElementById("when");
  if (slider) {
    const grid = document.getElementById("grid");
    const frames = [...data.frames, grid.src];
    const seen = document.getElementById("seen");
    slider.value = frames.length - 1; // a browser may restore another position
    slider.addEventListener("input", () => {
      const at = Number(slider.value);
      grid.src = frames[at];
      seen.textContent = whole(data.seen[at]);
      grid.alt = `Grid of generated images after ${whole(data.seen[at])} images seen`;
      slider.setAttribute("aria-valuetext", `${whole(data.seen[at])} images seen`);
    });
    // The last grid stays the last one; another one is found again by its images.
    keep("grid", () => Number(slider.value) === frames.length - 1 ? null : data.seen[Number(slider.value)], (images) => {
      const at = data.seen.indexOf(images);
      if (at < 0) return;
      slider.value = at;
      slider.dispatchEvent(new Event("input"));
    });
  }
  // ---- grids of several runs: each shows its latest one at the chosen moment

  const moment = document.getElementById("moment");
  if (moment) {
    const pictures = [...document.querySelectorAll("img.shot")], labels = [...document.querySelectorAll(".shot-seen")];
    const { shots, moments } = data;
    pictures.forEach((picture, i) => shots[i].frames.push(picture.src));
    moment.value = moments.length - 1;
    moment.addEventListener("input", () => {
      const images = moments[Number(moment.value)];
      document.getElementById("moment-seen").textContent = whole(images);
      moment.setAttribute("aria-valuetext", `${whole(images)} images seen`);
      shots.forEach(({ seen, frames }, i) => {
        const at = Math.max(0, seen.findLastIndex((each) => each <= images));
        pictures[i].src = frames[at];
        pictures[i].alt = pictures[i].alt.replace(/after [\d,]+ images$/, `after ${whole(seen[at])} images`);
        labels[i].textContent = whole(seen[at]);
      });
    });
  }
  keep("details", () => [...document.querySelectorAll("details")].map((each) => each.open), (open) => {
    document.querySelectorAll("details").forEach((each, i) => { each.open = open[i]; });
  });
  // Upsampled images stay pixelated; downsampled ones are smoothed.
  const measure = () => document.querySelectorAll("figure img").forEach((img) => {
    img.classList.toggle("enlarged", img.naturalWidth > 0 && img.clientWidth > img.naturalWidth);
  });
  window.addEventListener("load", measure);
  window.addEventListener("resize", measure);

  // ---- sortable tables

  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    const key = (row, column) => {
      const cell = row.cells[column];
      const number = "value" in cell.dataset ? Number(cell.dataset.value) : NaN;
      return Number.isNaN(number) ? cell.textContent.trim() : number;
    };
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numbers = head.classList.contains("number");
      const lacking = (value) => value === "" || (numbers && typeof value !== "number");
      const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
      rows.sort(([a], [b]) => {
        if (lacking(a) || lacking(b)) return lacking(a) - lacking(b); // without a value: always last
        const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        return up ? order : -order;
      });
      table.tBodies[0].append(...rows.map(([, row]) => row));
    }));
  });

  // ---- copy buttons of commands

  document.querySelectorAll("button.copy").forEach((button) => button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    say("Copied");
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }));

  // ---- charts: all share one view of images seen, [from, to]

  const HEIGHT = 208, LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 22;
  const end = Math.max(1, ...data.charts.flatMap((chart) => chart.series.map((one) => one.x.at(-1) ?? 0)));
  const view = { from: 0, to: end };
  const charts = [];
  let waiting = false;

  const element = (name, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };
  const look = (i) => `s${i % 8} d${Math.floor(i / 8) % 3}`;

  const show = (from, to) => {
    const width = Math.min(end, Math.max(end / 5000, to - from));
    view.from = Math.min(Math.max(0, from), end - width);
    view.to = view.from + width;
    draw();
  };
  const zoom = (factor, around = (view.from + view.to) / 2) => show(around - (around - view.from) * factor, around + (view.to - around) * factor);
  const move = (share) => show(view.from + share * (view.to - view.from), view.to + share * (view.to - view.from));
  const deeds = { in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.25), right: () => move(0.25), reset: () => show(0, end) };
  document.querySelectorAll("[data-zoom]").forEach((button) => button.addEventListener("click", deeds[button.dataset.zoom]));

  function ticks(low, high, most) {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? 10 * power;
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high * (1 + 1e-12) && found.length < 20; i++) found.push(Number((i * step).toPrecision(12)));
    return found;
  }
  const brief = (value, thousands = 1e4) => {
    const size = Math.abs(value);
    if (size >= 1e9 || (size > 0 && size < 1e-3)) return value.toExponential(1).replace("e+", "e");
    if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
    if (size >= thousands) return `${Number((value / 1e3).toPrecision(4))}k`;
    return String(Number(value.toPrecision(4)));
  };

  // The first point at or after x.
  function first(xs, x) {
    let low = 0, high = xs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle + 1; else high = middle;
    }
    return low;
  }
  function nearest(xs, x) {
    const i = first(xs, x);
    if (i === 0) return 0;
    if (i === xs.length) return i - 1;
    return x - xs[i - 1] <= xs[i] - x ? i - 1 : i;
  }

  class Chart {
    constructor(box, chart) {
      this.series = chart.series.map((one, i) => ({ ...one, look: look(one.place ?? i), shown: true }));
      this.box = box;
      this.cursor = null;
      this.fingers = new Map();
      this.svg = element("svg", { tabindex: 0, role: "group", "aria-label": `Chart of ${chart.title}`, "aria-describedby": "keys" }, box);
      this.legend = document.createElement("div");
      this.legend.className = "legend";
      box.append(this.legend);
      this.values = this.series.map((one) => this.entry(one));
      this.at = document.createElement("span");
      this.at.className = "at";
      this.legend.append(this.at);
      this.listen();
    }

    entry(one) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      button.title = "show or hide";
      const mark = element("svg", { viewBox: "0 0 21 10", "aria-hidden": "true" }, button);
      element("line", { x1: 0, x2: 21, y1: 5, y2: 5, "stroke-width": 3, class: one.look }, mark);
      const value = document.createElement("b");
      button.append(one.name, value);
      button.addEventListener("click", () => {
        one.shown = !one.shown;
        button.setAttribute("aria-pressed", String(one.shown));
        this.draw();
      });
      this.legend.append(button);
      return value;
    }

    x(images) { return LEFT + (images - view.from) / (view.to - view.from) * (this.width - LEFT - RIGHT); }
    images(x) { return view.from + (x - LEFT) / (this.width - LEFT - RIGHT) * (view.to - view.from); }
    place(event) { return event.clientX - this.svg.getBoundingClientRect().left; }

    extent() {
      let low = Infinity, high = -Infinity;
      for (const one of this.series.filter((other) => other.shown)) {
        // Include one point beyond each border, so that the line reaches it.
        const from = Math.max(0, first(one.x, view.from) - 1), to = Math.min(one.x.length, first(one.x, view.to) + 1);
        for (let i = from; i < to; i++) if (one.y[i] !== null) { low = Math.min(low, one.y[i]); high = Math.max(high, one.y[i]); }
      }
      if (low > high) return [0, 1];
      const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
      return [low - pad, high + pad];
    }

    draw() {
      this.width = this.svg.clientWidth || 400;
      const [low, high] = this.extent();
      const y = (value) => HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
      this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
      this.svg.replaceChildren();
      for (const value of ticks(low, high, 6)) {
        element("line", { x1: LEFT, x2: this.width - RIGHT, y1: y(value), y2: y(value), class: "grid" }, this.svg);
        element("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, this.svg).textContent = brief(value);
      }
      const steps = ticks(view.from, view.to, Math.max(2, this.width / 90));
      for (const value of steps) {
        const x = this.x(value), anchor = x > this.width - 30 ? "end" : "middle";
        element("text", { x: anchor === "end" ? this.width - 2 : x, y: HEIGHT - 6, "text-anchor": anchor, class: "x" }, this.svg).textContent = brief(value, view.to >= 1e4 ? 1e3 : 1e4);
      }
      const name = `clip${charts.indexOf(this)}`;
      const clip = element("clipPath", { id: name }, element("defs", {}, this.svg));
      element("rect", { x: LEFT - 3, y: 0, width: Math.max(0, this.width - LEFT - RIGHT + 6), height: HEIGHT - BOTTOM + 3 }, clip);
      const lines = element("g", { "clip-path": `url(#${name})` }, this.svg);
      this.series.forEach((one, i) => { if (one.shown) this.line(one, y, lines); });
      this.rule = element("line", { y1: TOP, y2: HEIGHT - BOTTOM, class: "cursor", visibility: "hidden" }, this.svg);
      this.chosen = element("rect", { y: TOP, height: HEIGHT - TOP - BOTTOM, width: 0, class: "chosen", visibility: "hidden" }, this.svg);
      this.read();
    }

    line(one, y, parent) {
      const from = Math.max(0, first(one.x, view.from) - 1), to = Math.min(one.x.length, first(one.x, view.to) + 1);
      let path = "", pen = "M";
      for (let j = from; j < to; j++) {
        if (one.y[j] === null) { pen = "M"; continue; } // not finite: a gap
        path += `${pen}${this.x(one.x[j]).toFixed(1)} ${y(one.y[j]).toFixed(1)}`;
        pen = "L";
      }
      element("path", { d: path, class: `line ${one.look}` }, parent);
      if (to - from > 40) return;
      for (let j = from; j < to; j++) {
        if (one.y[j] !== null) element("circle", { cx: this.x(one.x[j]), cy: y(one.y[j]), r: 2.4, class: one.look }, parent);
      }
    }

    // The values at the cursor, or the last ones in view.
    read() {
      const at = this.cursor;
      this.series.forEach((one, i) => {
        const j = at === null ? Math.max(0, first(one.x, view.to + 1e-9) - 1) : nearest(one.x, at);
        this.values[i].textContent = one.x.length ? short(one.y[j]) : "";
      });
      this.at.textContent = at === null ? "" : `at ${whole(at)} images`;
      this.rule.setAttribute("visibility", at === null || at < view.from || at > view.to ? "hidden" : "visible");
      if (at !== null) for (const end of ["x1", "x2"]) this.rule.setAttribute(end, this.x(at));
    }

    // The nearest recorded x.
    snap(images) {
      const found = this.series.filter((one) => one.shown && one.x.length).map((one) => one.x[nearest(one.x, images)]);
      return found.length ? found.reduce((a, b) => Math.abs(b - images) < Math.abs(a - images) ? b : a) : null;
    }

    step(direction) {
      const every = [...new Set(this.series.filter((one) => one.shown).flatMap((one) => one.x))].sort((a, b) => a - b);
      if (!every.length) return;
      const from = this.cursor ?? (direction > 0 ? view.from - 1 : view.to + 1);
      const next = direction > 0 ? every.find((x) => x > from) : every.findLast((x) => x < from);
      if (next === undefined) return;
      this.cursor = next;
      if (next < view.from || next > view.to) show(next - (view.to - view.from) / 2, next + (view.to - view.from) / 2);
      this.read();
      say(`${whole(next)} images: ` + this.series.map((one, i) => `${one.name} ${this.values[i].textContent}`).join(", "));
    }

    listen() {
      const svg = this.svg;
      svg.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        svg.setPointerCapture(event.pointerId);
        this.fingers.set(event.pointerId, this.place(event));
        this.started = this.fingers.size === 1 ? this.place(event) : null;
        if (this.fingers.size === 2) this.held = [...this.fingers.values()].map((x) => this.images(x));
      });
      svg.addEventListener("pointermove", (event) => {
        const x = this.place(event);
        if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, x);
        if (this.fingers.size === 2) return this.pinch();
        this.cursor = this.snap(this.images(x));
        this.read();
        if (this.fingers.size !== 1 || this.started === null) return;
        this.chosen.setAttribute("x", Math.min(this.started, x));
        this.chosen.setAttribute("width", Math.abs(x - this.started));
        this.chosen.setAttribute("visibility", "visible");
      });
      svg.addEventListener("pointerup", (event) => {
        const x = this.place(event);
        const wide = this.fingers.size === 1 && this.started !== null && Math.abs(x - this.started) > 8;
        this.release(event);
        if (wide) show(...[this.images(this.began), this.images(x)].sort((a, b) => a - b));
      });
      svg.addEventListener("pointercancel", (event) => this.release(event));
      svg.addEventListener("pointerleave", () => { if (!this.fingers.size) { this.cursor = null; this.read(); } });
      svg.addEventListener("dblclick", deeds.reset);
      svg.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey && document.activeElement !== svg) return; // the page scrolls
        event.preventDefault();
        zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), this.images(this.place(event)));
      }, { passive: false });
      svg.addEventListener("keydown", (event) => {
        const left = event.key === "ArrowLeft", right = event.key === "ArrowRight";
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (event.key === "+" || event.key === "=") zoom(0.5, this.cursor ?? undefined);
        else if (event.key === "-") zoom(2, this.cursor ?? undefined);
        else if (event.key === "0" || event.key === "Escape") deeds.reset();
        else if ((left || right) && event.shiftKey) move(left ? -0.25 : 0.25);
        else if (left || right) this.step(left ? -1 : 1);
        else return;
        event.preventDefault();
      });
    }

    release(event) {
      this.began = this.started;
      this.started = null;
      this.fingers.delete(event.pointerId);
      this.chosen.setAttribute("visibility", "hidden");
    }

    // Keep the points under the two fingers fixed.
    pinch() {
      const [a, b] = [...this.fingers.values()], [p, q] = this.held;
      if (Math.abs(a - b) < 10 || p === q) return;
      const scale = (p - q) / (a - b), from = p - (a - LEFT) * scale, width = scale * (this.width - LEFT - RIGHT);
      if (width > 0) show(from, from + width);
    }
  }

  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      charts.forEach((chart) => chart.draw());
      document.getElementById("range").textContent = `${whole(view.from)} to ${whole(view.to)} images`;
    });
  }

  document.querySelectorAll("[data-chart]").forEach((box) => {
    const chart = new Chart(box, data.charts[Number(box.dataset.chart)]);
    charts.push(chart);
  });
  if (charts.length) {
    keep("charts", () => ({ view: view.from > 0 || view.to < end ? view : null, hidden: charts.flatMap((chart) => chart.series).filter((one) => !one.shown).map((one) => one.name) }), (saved) => {
      if (saved.view) show(saved.view.from, saved.view.to);
      charts.forEach((chart) => chart.series.forEach((one, i) => { if (saved.hidden.includes(one.name)) chart.legend.children[i].click(); }));
    });
    new ResizeObserver(draw).observe(document.querySelector(".charts"));
    draw();
  }
  keep("scroll", () => scrollY, (top) => addEventListener("load", () => scrollTo({ top, behavior: "instant" })));
  keep("focus", () => document.activeElement?.id || null, (id) => document.getElementById(id)?.focus({ preventScroll: true }));
})();
