// The networks of a run for other pages, after engine.js and `const model = {...};`.
const opened = {};
const network = (name) => opened[name] ??= engine.open(model.networks[name]);
const [, height, width] = model.networks.generator.shape;
const classes = model.classes ?? [];
const latents = model.z ? engine.floats(model.z, false) : null;
const mean = model.styles ? engine.floats(model.styles.mean, false) : null;

// Draw the first image of `gan-lab sample --seed SEED --class LABEL` on a canvas. A label is a name, or an index from 0.
function draw(canvas, { seed = 0, label = 0, truncation = 1 } = {}) {
  if (!latents) throw new Error("this network translates images: use ganLab.translate");
  if (!(Number.isInteger(seed) && seed >= 0 && seed < model.seeds)) throw new Error(`seed ${seed} is out of range: it must be from 0 to ${model.seeds - 1}`);
  if (truncation !== 1 && !model.truncates) throw new Error(`truncation ${truncation} does not apply to this network in a page: omit it`);
  const size = latents.length / model.seeds, z = latents.slice(seed * size, (seed + 1) * size).map((x) => mean ? x : truncation * x);
  const inputs = { z: engine.tensor([1, size], z) };
  if (classes.length) {
    const index = classes.includes(String(label)) ? classes.indexOf(String(label)) : label;
    if (!(Number.isInteger(index) && index >= 0 && index < classes.length)) throw new Error(`unknown label ${label}. Available: ${classes.join(", ")}`);
    inputs.y = engine.tensor([1, classes.length]);
    inputs.y.data[index] = 1;
  }
  if (!mean) return engine.show(canvas, engine.run(network("generator"), inputs));
  const ws = engine.layerStyles(engine.run(network("mapping"), inputs).data, mean, model.styles.layers, truncation);
  engine.show(canvas, engine.run(network("generator"), { ws, noise: engine.tensor([1, 1, 1, 1], [1]) }));
}

// The largest center crop of an image at a size.
function crop(image, width, height) {
  const cropped = Object.assign(document.createElement("canvas"), { width, height }), scale = Math.max(width / image.width, height / image.height);
  const pen = engine.pen(cropped);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, (width - scale * image.width) / 2, (height - scale * image.height) / 2, scale * image.width, scale * image.height);
  return cropped;
}

// Translate the center of an image, a bitmap or a canvas; direction: "AtoB", or "BtoA" where a run has it.
// A network that fills holes needs a mask, an image of the same size that is white where pixels are to be filled.
function translate(image, canvas, direction = "AtoB", mask = null) {
  const name = direction === "BtoA" ? "generator_back" : "generator";
  if (latents || !(name in model.networks)) throw new Error(`there is no translation ${direction}`);
  const { source_channels: channels, shape } = model.networks[name], factor = model.enlarged ?? 1;
  if (channels === shape[0] + 1 && !mask) throw new Error("this network fills holes: pass a mask, white where pixels are to be filled");
  let input = engine.read(crop(image, width / factor, height / factor), channels, mask && crop(mask, width, height));
  if (factor > 1) input = engine.enlarge(input, factor);
  engine.show(canvas, engine.run(network(name), { image: input }));
}

return { draw, translate, classes, seeds: model.seeds ?? 0, width, height };
