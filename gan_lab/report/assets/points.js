// The player of 2-D points: generated points over the discriminator's output, at the moment of the slider of the grids.
(() => {
  const { player } = data;
  if (!player) return;
  const one = (name) => document.getElementById(name);
  const canvas = one("points"), picture = one("grid"), slider = one("when"), play = one("points-play"), fresh = one("points-fresh"), about = one("points-about");
  const { side, scale, isProbability, generator } = player, { width: size } = canvas;
  const frames = player.frames.map((frame) => frame && { points: engine.floats(frame.points, true), outputs: frame.outputs && engine.floats(frame.outputs, true) });
  const whole = (value) => value.toLocaleString("en-US");
  // New points of the generator in the page, and their seed; null: the fixed latents of the frame.
  let living = null, seed = -1;

  // The channels of a color of the style, which depends on the scheme.
  function channels(name) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1), digits = hex.length / 3;
    return [0, 1, 2].map((i) => parseInt(hex.slice(i * digits, (i + 1) * digits).repeat(3 - digits), 16));
  }
  // -1: looks generated, 0: undecided, 1: looks real.
  const decide = (output) => isProbability ? 2 / (1 + Math.exp(-output)) - 1 : Math.max(-1, Math.min(1, output / scale));

  function drawSurface(brush, outputs) {
    const [middle, low, high] = ["--sheet", "--c0", "--c1"].map(channels), pixels = new ImageData(side, side);
    outputs.forEach((output, p) => {
      const share = decide(output), end = share < 0 ? low : high;
      for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = Math.round(middle[c] + Math.abs(share) * (end[c] - middle[c]));
      pixels.data[4 * p + 3] = 255;
    });
    const small = Object.assign(document.createElement("canvas"), { width: side, height: side });
    engine.pen(small).putImageData(pixels, 0, 0);
    brush.imageSmoothingQuality = "high";
    // The outer points of the lattice are on the border of the plane.
    brush.drawImage(small, 0.5, 0.5, side - 1, side - 1, 0, 0, size, size);
  }

  function draw() {
    const at = Number(slider.value), frame = frames[at];
    // A moment without a frame has its grid.
    canvas.hidden = !frame;
    picture.hidden = Boolean(frame);
    if (!frame) { about.textContent = ""; return; }
    const brush = engine.pen(canvas), points = living ?? frame.points, [ink, sheet] = ["--ink", "--sheet"].map(channels);
    brush.fillStyle = `rgb(${sheet})`;
    brush.fillRect(0, 0, size, size);
    if (frame.outputs) drawSurface(brush, frame.outputs);
    brush.fillStyle = `rgb(${ink} / 60%)`.replaceAll(",", " ");
    for (let i = 0; i < points.length; i += 2) {
      brush.beginPath();
      brush.arc((points[i] + 1) / 2 * size, (1 - points[i + 1]) / 2 * size, 3, 0, 2 * Math.PI);
      brush.fill();
    }
    const seen = `${whole(data.seen[at])} images seen`, surface = frame.outputs ? " over the discriminator's output" : "";
    const kind = living ? "new" : "generated";
    canvas.setAttribute("aria-label", `${whole(points.length / 2)} ${kind} points in the plane${surface}, ${seen}`);
    about.textContent = living
      ? `New samples of the weights after ${whole(generator.images)} images: gan-lab sample --n ${generator.count} --seed ${seed}`
      : `${whole(points.length / 2)} samples of the same latents at each moment`;
  }

  // Draw new points at the moment of the generator's weights.
  async function sample() {
    canvas.setAttribute("aria-busy", "true");
    seed = (seed + 1) % generator.seeds;
    const latents = engine.floats(generator.z, false), { count, classes } = generator, length = latents.length / generator.seeds;
    const inputs = { z: engine.tensor([count, length / count], latents.slice(seed * length, (seed + 1) * length)) };
    if (classes) {
      inputs.y = engine.tensor([count, classes]);
      for (let i = 0; i < count; i++) inputs.y.data[i * classes + i % classes] = 1;
    }
    const points = (await runNetwork("points", generator.network, inputs)).data;
    stop();
    slider.value = Math.max(0, data.seen.findLastIndex((images) => images <= generator.images));
    slider.dispatchEvent(new Event("input"));
    living = points;
    draw();
    canvas.setAttribute("aria-busy", "false");
  }

  // One position of the slider each 0.4 seconds; with reduced motion, one per click.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null, isStepping = false;
  function step() {
    const last = frames.length - 1, at = Number(slider.value);
    isStepping = true;
    slider.value = at === last ? 0 : at + 1;
    slider.dispatchEvent(new Event("input"));
    isStepping = false;
    if (Number(slider.value) === last) stop();
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play?.setAttribute("aria-pressed", "false");
  }
  const name = () => { if (play) play.textContent = still.matches ? "Next moment" : "Play"; if (still.matches) stop(); };
  still.addEventListener("change", name);
  name();
  play?.addEventListener("click", () => {
    if (still.matches) return step();
    if (timer) return stop();
    step();
    timer = setInterval(step, 400);
    play.setAttribute("aria-pressed", "true");
  });
  slider.addEventListener("input", () => {
    if (!isStepping) stop();
    living = null;
    draw();
  });
  fresh?.addEventListener("click", sample);
  // Paper and the dark scheme have other colors.
  for (const query of ["print", "(prefers-color-scheme: dark)"]) matchMedia(query).addEventListener("change", draw);
  draw();
})();
