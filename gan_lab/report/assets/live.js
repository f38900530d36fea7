// The interactive networks of the page: controls, and canvases for their images.
(() => {
  const models = data.models ?? [];
  if (!models.length) return;
  const one = (name) => document.getElementById(name);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const run = (model, name, inputs) => runNetwork(`${model}/${name}`, models[model].networks[name], inputs);
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const { pen, show, read } = engine;

  // aria-busy marks the section as unfinished.
  let pending = 0;
  const section = one("live");
  async function marked(work) {
    pending++;
    section.setAttribute("aria-busy", "true");
    try { return await work; } finally { if (!--pending) section.setAttribute("aria-busy", "false"); }
  }
  // What was chosen last, or null if something else was chosen before this was ready: the order of clicks counts, not that of decoding.
  let choices = 0;
  async function newest(work) {
    const mine = ++choices, result = await marked(work);
    return mine === choices ? result : null;
  }
  // Redraw until the latest request is shown; the page stays responsive in between.
  function coalesced(draw) {
    let busy = false, again = false;
    return async () => {
      again = true;
      if (busy) return;
      busy = true;
      await marked((async () => {
        while (again) { again = false; await draw(); }
        busy = false;
      })());
    };
  }

  // A PNG file with a text chunk after its header, as gan_lab/utils/provenance.py writes it.
  function withText(png, keyword, text) {
    const escaped = text.replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
    const content = Uint8Array.from(`tEXt${keyword}\0${escaped}`, (c) => c.charCodeAt(0)), after = 33;
    let crc = -1;
    for (const byte of content) {
      crc ^= byte;
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >>> 1 ^ 0xedb88320 : crc >>> 1;
    }
    const chunk = new Uint8Array(content.length + 8), view = new DataView(chunk.buffer);
    view.setUint32(0, content.length - 4);
    chunk.set(content, 4);
    view.setUint32(content.length + 4, ~crc);
    const joined = new Uint8Array(png.length + chunk.length);
    joined.set(png.subarray(0, after));
    joined.set(chunk, after);
    joined.set(png.subarray(after), after + chunk.length);
    return joined;
  }

  const press = (buttons, chosen) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === chosen)));
  const decoded = (uri) => new Promise((done, failed) => { const picture = new Image(); picture.onload = () => done(picture); picture.onerror = failed; picture.src = uri; });

  // Other weights of the same run have its latents and directions. One of them is chosen, or all are side by side.
  models.push(...(models[0].others ?? []).map((other) => ({ ...models[0], ...other })));
  const canvases = all("canvas.made"), versions = all("button.weights"), sideBySide = one("live-side");
  let chosen = 0;
  const visible = () => [...canvases.entries()].filter(([, canvas]) => !canvas.closest("figure").hidden);
  function choose(index) {
    chosen = index;
    press(versions, versions[index]);
    if (versions.length) canvases.forEach((canvas, k) => { canvas.closest("figure").hidden = k !== chosen && !sideBySide.checked; });
  }
  function compare(changed) {
    versions.forEach((button, k) => button.addEventListener("click", () => { choose(k); changed(); }));
    sideBySide?.addEventListener("input", () => { choose(chosen); changed(); });
  }
  const version = (index) => models[index].record.weights;

  if ("z" in models[0]) latents(); else translator();

  function latents() {
    for (const model of models) {
      const drawn = engine.floats(model.z, false);
      const size = drawn.length / model.seeds;
      const more = engine.floats(model.images.z, false), { count } = model.images;
      // Image 0 of a seed; further images of the first seeds.
      model.latent = (seed, image = 0) => image ? more.slice((seed * count + image) * size, (seed * count + image + 1) * size) : drawn.slice(seed * size, (seed + 1) * size);
      if (model.styles) model.mean = engine.floats(model.styles.mean, false);
    }
    const seed = one("live-seed"), seeds = Number(seed.max) + 1, sliders = all("input.direction"), way = one("live-way"), walk = one("live-walk"), truncation = one("live-truncation");
    const index = one("live-index"), images = Math.min(...models.map((model) => model.images.seeds));
    const second = one("live-second"), layer = one("live-layer"), noise = one("live-noise"), otherClass = one("live-class"), blend = one("live-blend");
    // The fixed latents of the sample grids; only a page of one run has them.
    const { grid } = models[0], tiles = grid ? engine.floats(grid.z, false) : null;
    const tile = (number) => tiles.slice(number * tiles.length / grid.count, (number + 1) * tiles.length / grid.count);
    const state = { grid: null, label: 0, base: models.map((model) => model.latent(0)), ends: [null, null], moves: [null, null], move: null };

    // Interpolate between two latents: spherically, or linearly if the prior is not Gaussian.
    function between(a, b, t, straight) {
      const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
      const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))))), sine = Math.sin(angle);
      const [u, v] = straight || sine < 1e-6 ? [1 - t, t] : [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine];
      return a.map((value, i) => u * value + v * b[i]);
    }
    // The directions of gan-lab directions are in W of StyleGAN2, all others in Z.
    const { saved: named } = models[0], isInW = named?.space === "w";
    // The sum of the directions, weighted by the sliders, and of the movement between A and B.
    function sumDirections(index) {
      const sum = state.move ? state.move[index].slice() : new Float32Array(isInW ? models[index].mean.length : state.base[index].length);
      sliders.forEach((slider, k) => (models[index].directions[k] ?? []).forEach((x, i) => { sum[i] += Number(slider.value) * x; }));
      return sum;
    }
    const isBlended = () => Number(blend?.value ?? 0) > 0 && Number(otherClass.value) !== state.label;
    const isMixed = () => Boolean(second && second.value !== "" && second.checkValidity());
    // The directions move truncated latents, as in gan_lab/inference/sampling.py.
    async function make(index, latent, sum = []) {
      const { classes, styles, mean } = models[index], share = Number(truncation?.value ?? 1);
      const inputs = (z) => {
        const given = { z: engine.tensor([1, z.length], z) };
        if (classes.length) {
          const part = isBlended() ? Number(blend.value) : 0, last = classes.length - 1;
          given.y = engine.tensor([1, classes.length]);
          given.y.data[Math.min(state.label, last)] += 1 - part;
          if (part) given.y.data[Math.min(Number(otherClass.value), last)] += part;
        }
        return given;
      };
      const moved = (z) => isInW ? z : z.map((value, i) => value + (sum[i] ?? 0));
      if (!styles) return run(index, "generator", inputs(moved(latent.map((value) => share * value))));
      const w = (await run(index, "mapping", inputs(moved(latent)))).data;
      const other = isMixed() ? (await run(index, "mapping", inputs(models[index].latent(Number(second.value))))).data : w;
      const ws = engine.layerStyles(w, mean, styles.layers, share, other, Number(layer?.value ?? styles.layers));
      if (isInW && sum.length) ws.data.forEach((_, i) => { ws.data[i] += sum[i % sum.length]; });
      return run(index, "generator", { ws, noise: engine.tensor([1, 1, 1, 1], Float32Array.of(noise?.checked === false ? 0 : 1)) });
    }
    const draw = coalesced(async () => {
      for (const [index, canvas] of visible()) show(canvas, await make(index, state.base[index], sumDirections(index)));
      describe();
    });
    compare(() => { draw(); fill(); });
    // Only the first seeds have more than one image in the page.
    function limit() {
      index.disabled = seed.value === "" || Number(seed.value) >= images;
      if (index.disabled) index.value = 0;
    }
    function place(bases, number = null, move = null) {
      choices++;
      state.base = bases;
      state.move = move;
      state.grid = number;
      limit();
      draw();
    }
    // An image between seeds, or of a held-out image, has no seed.
    function placeBetween(bases, move = null) {
      seed.value = "";
      place(bases, null, move);
    }
    const level = () => sliders.forEach((slider) => { slider.value = 0; });

    seed.addEventListener("input", () => {
      if (seed.value === "" || !seed.checkValidity()) return;
      stop();
      level();
      limit();
      place(models.map((model) => model.latent(Number(seed.value), Number(index.value))));
    });
    index.addEventListener("input", () => {
      if (index.value === "" || !index.checkValidity()) return;
      stop();
      level();
      place(models.map((model) => model.latent(Number(seed.value), Number(index.value))));
    });
    for (const control of [second, layer, noise, otherClass, blend]) control?.addEventListener("input", () => { tell(); draw(); fill(); });
    // Show the number of the first layer of the second seed.
    function tell() {
      if (layer) one("live-layer-value").textContent = layer.value;
    }
    sliders.forEach((slider) => slider.addEventListener("input", draw));
    truncation?.addEventListener("input", () => { draw(); fill(); });
    one("live-zero").addEventListener("click", () => { level(); draw(); });
    const classes = all("button.class");
    classes.forEach((button) => button.addEventListener("click", () => {
      state.label = Number(button.dataset.class);
      press(classes, button);
      draw();
      fill();
    }));

    // Two stored latents with their movements, which truncation does not shorten, and the interpolation between them.
    all("button.end").forEach((button) => button.addEventListener("click", () => {
      state.ends[Number(button.dataset.end)] = state.base;
      state.moves[Number(button.dataset.end)] = models.map((_, index) => sumDirections(index));
      button.setAttribute("aria-pressed", "true");
      way.disabled = !state.ends.every(Boolean);
    }));
    way.addEventListener("input", () => {
      stop();
      level();
      const [a, b] = state.ends, [moveA, moveB] = state.moves, t = Number(way.value);
      placeBetween(
        models.map((model, index) => between(a[index], b[index], t, model.straight)),
        models.map((_, index) => between(moveA[index], moveB[index], t, true)),
      );
    });

    // A latent walk with forty steps per seed; with reduced motion, one step per click.
    let timer = null, from = 0, share = 0;
    function step() {
      if (share === 0 && seed.value !== "") from = Number(seed.value);
      share += 0.025;
      const next = (from + 1) % seeds;
      placeBetween(models.map((model) => between(model.latent(from), model.latent(next), Math.min(1, share), model.straight)));
      if (share >= 1) { share = 0; seed.value = next; limit(); }
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      share = 0;
      walk.setAttribute("aria-pressed", "false");
    }
    const name = () => { walk.textContent = still.matches ? "One step of a walk" : "Walk"; if (still.matches && timer) stop(); };
    still.addEventListener("change", name);
    name();
    walk.addEventListener("click", () => {
      level();
      if (still.matches) return step();
      if (timer) return stop();
      timer = setInterval(step, 80);
      walk.setAttribute("aria-pressed", "true");
    });
    document.addEventListener("visibilitychange", () => { if (document.hidden && timer) stop(); });

    // Held-out images of an autoencoder.
    all("button.held-out").forEach((button) => button.addEventListener("click", async () => {
      stop();
      level();
      press(all("button.held-out"), button);
      const canvas = document.createElement("canvas"), picture = button.firstElementChild, [channels, height, width] = models[0].networks.generator.shape;
      canvas.width = width;
      canvas.height = height;
      const encoded = await newest(decoded(picture.src).then((image) => {
        pen(canvas).drawImage(image, 0, 0);
        return Promise.all(models.map((_, k) => run(k, "encoder", { image: read(canvas, channels) })));
      }));
      if (encoded) placeBetween(encoded.map((latent) => latent.data));
    }));

    // The wall shows the next sixteen seeds; a click selects one.
    const wall = document.querySelector(".wall"), fresh = one("live-fresh");
    let first = 0;
    const places = wall ? Array.from({ length: 16 }, () => {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      button.type = "button";
      button.append(canvas);
      wall.append(button);
      button.addEventListener("click", () => {
        // The wall shows the first image of each seed.
        index.value = 0;
        seed.value = button.dataset.seed;
        seed.dispatchEvent(new Event("input"));
      });
      return [button, canvas];
    }) : [];
    const fill = coalesced(async () => {
      // Named before the first image is drawn, so that no button is ever without a name.
      places.forEach(([button], i) => {
        button.dataset.seed = (first + i) % seeds;
        button.setAttribute("aria-label", `Select seed ${button.dataset.seed}`);
      });
      for (const [button, canvas] of places) {
        show(canvas, await make(chosen, models[chosen].latent(Number(button.dataset.seed))));
      }
    });

    // The state in the address of the page, which opens it again, and the command that draws the image.
    const command = one("live-command"), about = one("live-about-command"), save = one("live-save");
    const quote = (text) => /^[\w.,=+-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", "'\\''")}'`;
    const isMoved = () => sliders.some((slider) => Number(slider.value) !== 0);
    const moves = () => sliders.map((slider, k) => [named.names[k], Number(slider.value)]).filter(([, amount]) => amount);
    const settings = () => ({ seed: seed.value === "" ? null : Number(seed.value), truncation: Number(truncation?.value ?? 1), ...(models[0].classes.length ? { class: models[0].classes[state.label] } : {}) });
    // Why no command draws the image; empty if one does.
    function whyNoCommand() {
      if (state.grid !== null) return "it has a latent of the training's sample grids";
      if (seed.value === "") return "it is between seeds, or of a held-out image";
      if (isMoved() && !named) return "it is moved along a direction";
      if (isMoved() && chosen) return "the directions are those of other weights";
      if (isMoved() && isMixed()) return "it is mixed and moved along a direction";
      if (isBlended()) return "it is between two classes";
      if (isMixed() && (Number(index.value) || noise.checked === false)) return "mixed styles have image 0 of each seed, and noise";
      return "";
    }
    // The options of the command that draws the image.
    function options() {
      const { seed: number, truncation: share, class: label } = settings(), image = Number(index.value);
      const drawn = isMixed() ? ["--n 1", `--mix ${number} ${second.value}`, `--layers ${layer.value}-`] : [`--n ${image + 1}`, `--seed ${number}`];
      if (label !== undefined) drawn.push(`--class ${quote(label)}`);
      if (share !== 1) drawn.push(`--truncation ${share}`);
      if (noise?.checked === false) drawn.push("--noise none");
      if (isMoved()) for (const [direction, amount] of moves()) drawn.push(`--move ${quote(`${direction}=${amount}`)}`);
      if (chosen) drawn.push(`--weights ${version(chosen)}`);
      return drawn.join(" ");
    }
    let used = false;
    section.addEventListener("input", () => { used = true; }, true);
    section.addEventListener("click", () => { used = true; }, true);
    function describe() {
      const { seed: number, truncation: share } = settings(), reason = whyNoCommand();
      if (command) {
        command.textContent = reason ? "" : `${command.dataset.command} ${options()}`;
        command.closest(".line").hidden = reason !== "";
        about.textContent = reason ? `No command draws this image: ${reason}` : isMixed() ? "The command that draws this image, at the lower right"
          : Number(index.value) ? "The command that draws this image as its last one" : "The command that draws this image";
      }
      if (!used) return;
      // An image between seeds has no address; one of another section stays.
      if (number === null && state.grid === null) {
        if (location.hash.startsWith("#live?")) address(location.pathname + location.search);
        return;
      }
      const shared = new URLSearchParams();
      if (state.grid === null) shared.set("seed", number); else shared.set("grid", state.grid + 1);
      if (Number(index.value)) shared.set("image", index.value);
      if (classes.length) shared.set("class", state.label);
      if (isBlended()) { shared.set("class2", otherClass.value); shared.set("blend", blend.value); }
      if (share !== 1) shared.set("truncation", share);
      if (isMixed()) { shared.set("second", second.value); shared.set("layer", layer.value); }
      if (noise?.checked === false) shared.set("noise", "none");
      sliders.forEach((slider, k) => { if (Number(slider.value)) shared.set(`d${k + 1}`, slider.value); });
      if (chosen) shared.set("weights", version(chosen));
      if (sideBySide?.checked) shared.set("side", 1);
      address(`#live?${shared}`);
    }
    // Some browsers forbid it for a page from disk.
    function address(url) {
      try { history.replaceState(history.state, "", url); } catch { /* The address stays as it is. */ }
    }
    function setClass(text) {
      if (text !== null && otherClass.options[text]) otherClass.value = text;
    }
    function restore() {
      if (!location.hash.startsWith("#live?")) return;
      const shared = new URLSearchParams(location.hash.slice("#live?".length)), number = Number(shared.get("seed") ?? 0), label = Number(shared.get("class") ?? 0);
      const tileNumber = Number(shared.get("grid") ?? 0) - 1, image = Number(shared.get("image") ?? 0);
      const isTile = grid && Number.isInteger(tileNumber) && tileNumber >= 0 && tileNumber < grid.count;
      if (sideBySide) sideBySide.checked = shared.has("side");
      choose(Math.max(0, versions.findIndex((_, k) => version(k) === shared.get("weights"))));
      if (isTile) {
        seed.value = "";
        Object.assign(state, { base: models.map(() => tile(tileNumber)), grid: tileNumber });
        limit();
      } else if (Number.isInteger(number) && number >= 0 && number < seeds) {
        seed.value = number;
        limit();
        index.value = !index.disabled && Number.isInteger(image) && image >= 0 && image <= Number(index.max) ? image : 0;
        Object.assign(state, { base: models.map((model) => model.latent(number, Number(index.value))), grid: null });
      }
      if (classes[label]) { state.label = label; press(classes, classes[label]); }
      if (truncation) truncation.value = shared.get("truncation") ?? 1;
      if (blend) { blend.value = shared.get("blend") ?? 0; setClass(shared.get("class2")); }
      if (second) { second.value = shared.get("second") ?? ""; layer.value = shared.get("layer") ?? layer.defaultValue; noise.checked = shared.get("noise") !== "none"; }
      tell();
      sliders.forEach((slider, k) => { slider.value = shared.get(`d${k + 1}`) ?? 0; });
      section.scrollIntoView();
    }
    limit();
    restore();
    // A link to another section stays in the address, which drawing would replace.
    addEventListener("hashchange", () => {
      if (!location.hash.startsWith("#live?")) return;
      restore();
      draw();
      fill();
    });
    save?.addEventListener("click", async () => {
      const { seed: number, ...others } = settings(), record = { output: "page image", ...models[chosen].record, ...others };
      if (!whyNoCommand()) {
        record.seed = number;
        if (Number(index.value)) record.index = Number(index.value);
        if (isMixed()) Object.assign(record, { second: Number(second.value), layers: `${layer.value}-` });
        if (noise?.checked === false) record.noise = "none";
        if (isMoved()) {
          record.move = Object.fromEntries(moves());
          record.directions = Object.fromEntries(moves().map(([name]) => [name, named.digests[named.names.indexOf(name)]]));
        }
      }
      const blob = await new Promise((done) => canvases[chosen].toBlob(done, "image/png"));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([withText(new Uint8Array(await blob.arrayBuffer()), "gan-lab", JSON.stringify(record))], { type: "image/png" }));
      link.download = `${["image", number === null ? "" : `seed${number}`, others.class === undefined ? "" : `class${others.class}`].filter(Boolean).join("-").replace(/[^\w.,=-]+/g, "_")}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    fresh?.addEventListener("click", () => { first = (first + 16) % seeds; fill(); });
    const plain = (latents) => latents && latents.map((z) => [...z]);
    // The page of a training has one generator, the one after it others too.
    const complete = (latents) => latents && models.map((_, k) => Float32Array.from(latents[k] ?? latents[0]));
    keep("latents", () => ({
      seed: seed.value, label: state.label, base: plain(state.base), ends: state.ends.map(plain), moves: state.moves.map(plain), move: plain(state.move), way: way.value,
      directions: sliders.map((slider) => slider.value), truncation: truncation?.value, first, grid: state.grid, index: index.value,
      second: second?.value, layer: layer?.value, noise: noise?.checked, otherClass: otherClass?.value, blend: blend?.value, weights: version(chosen), sideBySide: sideBySide?.checked, walk: timer && { from, share },
    }), (saved) => {
      state.label = saved.label;
      press(classes, classes[saved.label]);
      state.base = complete(saved.base);
      state.ends = saved.ends.map(complete);
      state.moves = (saved.moves ?? [null, null]).map(complete);
      state.move = complete(saved.move);
      if (sideBySide) sideBySide.checked = saved.sideBySide ?? false;
      choose(Math.max(0, versions.findIndex((_, k) => version(k) === saved.weights)));
      all("button.end").forEach((button, i) => button.setAttribute("aria-pressed", String(Boolean(state.ends[i]))));
      way.disabled = ![...state.ends, ...state.moves].every(Boolean);
      way.value = saved.way;
      sliders.forEach((slider, k) => { slider.value = saved.directions[k] ?? 0; });
      if (truncation) truncation.value = saved.truncation ?? 1;
      if (second) { second.value = saved.second ?? ""; layer.value = saved.layer ?? layer.value; noise.checked = saved.noise ?? true; }
      if (blend) { otherClass.value = saved.otherClass ?? otherClass.value; blend.value = saved.blend ?? 0; }
      tell();
      seed.value = saved.seed;
      state.grid = saved.grid ?? null;
      limit();
      if (!index.disabled) index.value = saved.index ?? 0;
      first = saved.first;
      if (saved.walk && !still.matches) {
        walk.click();
        ({ from, share } = saved.walk);
      }
    });
    // A tile of the sample grid opens its latent and class, with all other controls at their defaults.
    function openTile(number) {
      stop();
      level();
      if (truncation) truncation.value = 1;
      if (second) { second.value = ""; noise.checked = true; }
      if (blend) blend.value = 0;
      if (classes.length) { state.label = grid.labels[number]; press(classes, classes[state.label]); }
      seed.value = "";
      used = true;
      place(models.map(() => tile(number)), number);
      fill();
      section.scrollIntoView();
    }
    const picture = one("grid"), entry = one("grid-tile");
    if (grid && entry) {
      one("grid-open").addEventListener("click", () => { if (entry.value !== "" && entry.checkValidity()) openTile(Number(entry.value) - 1); });
      picture.classList.add("opens");
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect(), { padding, columns, tile: [height, width] } = grid;
        const column = Math.floor(((event.clientX - box.left) / box.width * grid.width - grid.left) / (width + padding));
        const row = Math.floor((event.clientY - box.top) / box.height * grid.height / (height + padding));
        const number = row * columns + column;
        if (column < 0 || column >= columns || row < 0 || number >= grid.count) return;
        entry.value = number + 1;
        openTile(number);
      });
    }
    draw();
    fill();
  }

  function translator() {
    const input = one("live-input"), { networks } = models[0];
    let network = "generator";
    const source = () => networks[network].source_channels;
    [, input.height, input.width] = networks.generator.shape;
    // A network that fills holes has a mask as one more channel. The pen paints the mask; the picture stays whole.
    const isFilling = networks.generator.source_channels === networks.generator.shape[0] + 1, factor = models[0].enlarged ?? 1;
    const sized = () => Object.assign(document.createElement("canvas"), { width: input.width, height: input.height });
    const whole = isFilling ? sized() : input, mask = isFilling ? sized() : null, painted = mask ?? input;
    const draw = coalesced(async () => {
      for (const [index, canvas] of visible()) show(canvas, await run(index, network, { image: read(whole, source(), mask) }));
    });
    compare(draw);
    function fillWith(canvas, color, x = 0, y = 0, width = canvas.width, height = canvas.height) {
      pen(canvas).fillStyle = color;
      pen(canvas).fillRect(x, y, width, height);
    }
    const clear = () => fillWith(isFilling ? mask : input, isFilling ? "black" : "white");
    // A hole as wide and as high as half of the image.
    const cutCenter = () => fillWith(mask, "white", input.width / 4, input.height / 4, input.width / 2, input.height / 2);
    // The input as it is shown: the picture, with holes.
    function paint() {
      if (isFilling) show(input, { shape: [1, source() - 1, input.height, input.width], data: read(whole, source(), mask).data });
    }
    // The largest center crop of an image, on a canvas.
    function crop(picture, canvas) {
      const { width: w, height: h } = picture, scale = Math.max(canvas.width / w, canvas.height / h), brush = pen(canvas);
      fillWith(canvas, "white");
      brush.imageSmoothingQuality = "high";
      brush.drawImage(picture, (canvas.width - scale * w) / 2, (canvas.height - scale * h) / 2, scale * w, scale * h);
    }
    // The ground truth is shown next to the translation of its held-out input, not of another image.
    const truth = one("live-truth");
    function showTruth(uri) {
      if (!truth) return;
      truth.hidden = !uri;
      if (uri) truth.firstElementChild.src = uri;
    }
    function take(picture, uri) {
      showTruth(uri);
      crop(picture, whole);
      if (networks[network].source_channels === 1) show(input, read(input, 1));
      if (isFilling) { clear(); cutCenter(); paint(); }
      draw();
    }
    // A picture of the user. For super-resolution it becomes as small as those of the training, and is enlarged like them.
    function takeOwn(picture) {
      if (factor === 1) return take(picture);
      showTruth();
      const small = Object.assign(document.createElement("canvas"), { width: input.width / factor, height: input.height / factor });
      crop(picture, small);
      show(input, engine.enlarge(read(small, source()), factor));
      draw();
    }
    async function open(file) {
      if (!file) return;
      try {
        const picture = await newest(createImageBitmap(file));
        if (picture) takeOwn(picture);
      } catch { say(`This browser cannot read ${file.name} as an image`); }
    }
    all("button.held-out").forEach((button) => button.addEventListener("click", async () => {
      const picture = await newest(decoded(button.firstElementChild.src));
      if (picture) take(picture, button.dataset.truth);
    }));
    const ways = all("button.way");
    ways.forEach((button) => button.addEventListener("click", () => {
      network = button.dataset.network;
      press(ways, button);
      all(".examples").forEach((box) => { box.hidden = box.dataset.network !== network; });
      draw();
    }));
    one("live-file").addEventListener("change", async ({ target }) => { await open(target.files[0]); target.value = ""; }); // so that the same file can be chosen again
    const stage = document.querySelector(".stage");
    stage.addEventListener("dragover", (event) => event.preventDefault());
    stage.addEventListener("drop", (event) => { event.preventDefault(); open(event.dataTransfer.files[0]); });
    // Another hole leaves the true image as it is, a drawing has none.
    const forgetTruth = () => { if (isFilling) return; choices++; showTruth(); };
    one("live-clear").addEventListener("click", () => { forgetTruth(); clear(); paint(); draw(); });

    // A pen, by pointer.
    let last = null;
    const at = (event) => { const box = input.getBoundingClientRect(); return [(event.clientX - box.left) * input.width / box.width, (event.clientY - box.top) * input.height / box.height]; };
    function line(event) {
      const [x, y] = at(event);
      const brush = pen(painted);
      Object.assign(brush, { strokeStyle: isFilling ? "white" : one("live-pen").value, lineWidth: Number(one("live-width").value), lineCap: "round" });
      brush.beginPath();
      brush.moveTo(...(last ?? [x, y]));
      brush.lineTo(x, y);
      brush.stroke();
      last = [x, y];
      paint();
    }
    input.addEventListener("pointerdown", (event) => { if (event.button === 0) { input.setPointerCapture(event.pointerId); forgetTruth(); line(event); draw(); } });
    input.addEventListener("pointermove", (event) => { if (last) { line(event); draw(); } });
    for (const end of ["pointerup", "pointercancel"]) input.addEventListener(end, () => { if (last) { last = null; draw(); } });
    fillWith(whole, "white");
    if (isFilling) { clear(); paint(); }
    const isRestored = keep("translator", () => ({ network, picture: whole.toDataURL(), hole: mask?.toDataURL() }), async ({ network: chosen, picture, hole }) => {
      ways.find((button) => button.dataset.network === chosen)?.click();
      const restored = await newest(Promise.all([picture, hole].filter(Boolean).map(decoded)));
      if (!restored) return;
      take(restored[0]);
      if (!isFilling) return;
      pen(mask).drawImage(restored[1], 0, 0);
      paint();
      draw();
    });
    const example = document.querySelector("button.held-out");
    if (isRestored) return;
    if (example) example.click(); else draw();
  }
})();
