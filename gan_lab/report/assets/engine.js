"use strict";
// Runs the networks of a page: lists of torch operations from gan_lab/networks/graph.py.
// A tensor is { shape, data }; data is a row-major Float32Array.
const engine = (() => {
  const count = (shape) => shape.reduce((all, n) => all * n, 1);
  const tensor = (shape, data = new Float32Array(count(shape))) => ({ shape, data });
  const pair = (value, fallback) => value === undefined || value === null ? [fallback, fallback] : value.length === 1 ? [value[0], value[0]] : value;

  // out [m, n] += a [m, k] b [k, n], with row and column strides of a, and offsets of all three.
  function multiply(out, to, a, from, rowStep, columnStep, b, m, n, k) {
    for (let i = 0; i < m; i++) {
      const row = to + i * n;
      let j = 0, at = from + i * rowStep;
      for (; j + 4 <= k; j += 4, at += 4 * columnStep) {
        const a0 = a[at], a1 = a[at + columnStep], a2 = a[at + 2 * columnStep], a3 = a[at + 3 * columnStep];
        const b0 = j * n, b1 = b0 + n, b2 = b1 + n, b3 = b2 + n;
        for (let p = 0; p < n; p++) out[row + p] += a0 * b[b0 + p] + a1 * b[b1 + p] + a2 * b[b2 + p] + a3 * b[b3 + p];
      }
      for (; j < k; j++, at += columnStep) {
        const a0 = a[at], b0 = j * n;
        for (let p = 0; p < n; p++) out[row + p] += a0 * b[b0 + p];
      }
    }
  }

  // Calls visit(column row, index in the plane, index in the window grid) for all positions inside the plane.
  function windows(channels, [height, width], [kh, kw], [sy, sx], [py, px], [dy, dx], [oh, ow], visit) {
    for (let c = 0, row = 0; c < channels; c++) for (let ky = 0; ky < kh; ky++) for (let kx = 0; kx < kw; kx++, row++) {
      for (let y = 0; y < oh; y++) {
        const iy = y * sy - py + ky * dy;
        if (iy < 0 || iy >= height) continue;
        const plane = (c * height + iy) * width, target = (row * oh + y) * ow;
        for (let x = 0; x < ow; x++) {
          const ix = x * sx - px + kx * dx;
          if (ix >= 0 && ix < width) visit(target + x, plane + ix);
        }
      }
    }
  }

  function bias(out, b, channels, area) {
    if (b) for (let i = 0; i < out.length; i++) out[i] += b.data[Math.floor(i / area) % channels];
  }

  function convolve(x, w, b, stride, padding, dilation, groups = 1) {
    const [n, channels, height, width] = x.shape, [outputs, inputs, kh, kw] = w.shape;
    const s = pair(stride, 1), p = pair(padding, 0), d = pair(dilation, 1);
    const oh = Math.floor((height + 2 * p[0] - d[0] * (kh - 1) - 1) / s[0]) + 1;
    const ow = Math.floor((width + 2 * p[1] - d[1] * (kw - 1) - 1) / s[1]) + 1;
    const out = tensor([n, outputs, oh, ow]), rows = inputs * kh * kw, each = outputs / groups;
    const columns = new Float32Array(rows * oh * ow);
    for (let i = 0; i < n; i++) for (let g = 0; g < groups; g++) {
      const from = (i * channels + g * inputs) * height * width;
      columns.fill(0);
      windows(inputs, [height, width], [kh, kw], s, p, d, [oh, ow], (to, at) => { columns[to] = x.data[from + at]; });
      multiply(out.data, (i * outputs + g * each) * oh * ow, w.data, g * each * rows, rows, 1, columns, each, oh * ow, rows);
    }
    bias(out.data, b, outputs, oh * ow);
    return out;
  }

  function convolveBack(x, w, b, stride, padding, outputPadding, groups = 1, dilation = undefined) {
    const [n, channels, height, width] = x.shape, [, each, kh, kw] = w.shape;
    const s = pair(stride, 1), p = pair(padding, 0), o = pair(outputPadding, 0), d = pair(dilation, 1);
    const oh = (height - 1) * s[0] - 2 * p[0] + d[0] * (kh - 1) + o[0] + 1;
    const ow = (width - 1) * s[1] - 2 * p[1] + d[1] * (kw - 1) + o[1] + 1;
    const out = tensor([n, each * groups, oh, ow]), rows = each * kh * kw, inputs = channels / groups, area = height * width;
    const columns = new Float32Array(rows * area);
    for (let i = 0; i < n; i++) for (let g = 0; g < groups; g++) {
      const first = (i * channels + g * inputs) * area, to = (i * each * groups + g * each) * oh * ow;
      columns.fill(0);
      multiply(columns, 0, w.data, g * inputs * rows, 1, rows, x.data.subarray(first, first + inputs * area), rows, area, inputs);
      windows(each, [oh, ow], [kh, kw], s, p, d, [height, width], (from, at) => { out.data[to + at] += columns[from]; });
    }
    bias(out.data, b, each * groups, oh * ow);
    return out;
  }

  function linear(x, w, b) {
    const [outputs, inputs] = w.shape, rows = x.data.length / inputs;
    const out = tensor([...x.shape.slice(0, -1), outputs]);
    for (let i = 0; i < rows; i++) for (let j = 0; j < outputs; j++) {
      let sum = b ? b.data[j] : 0;
      for (let k = 0; k < inputs; k++) sum += x.data[i * inputs + k] * w.data[j * inputs + k];
      out.data[i * outputs + j] = sum;
    }
    return out;
  }

  const each = (x, change) => tensor(x.shape, x.data.map(change));

  // Combines a and b, tensors or numbers, with broadcasting.
  function together(a, b, join) {
    if (typeof b === "number") return each(a, (value) => join(value, b));
    if (typeof a === "number") return each(b, (value) => join(a, value));
    const sides = Math.max(a.shape.length, b.shape.length);
    const whole = (x) => [...Array(sides - x.shape.length).fill(1), ...x.shape];
    const sa = whole(a), sb = whole(b), shape = sa.map((n, i) => n === 1 ? sb[i] : n);
    const steps = (own) => own.map((n, i) => n === 1 ? 0 : count(own.slice(i + 1)));
    const ta = steps(sa), tb = steps(sb), out = tensor(shape), place = Array(sides).fill(0);
    for (let i = 0, pa = 0, pb = 0; i < out.data.length; i++) {
      out.data[i] = join(a.data[pa], b.data[pb]);
      for (let side = sides - 1; side >= 0; side--) {
        pa += ta[side];
        pb += tb[side];
        if (++place[side] < shape[side]) break;
        pa -= ta[side] * shape[side];
        pb -= tb[side] * shape[side];
        place[side] = 0;
      }
    }
    return out;
  }

  // A scale and a shift for each channel.
  function affine(x, of) {
    const [n, channels] = x.shape, area = x.data.length / n / channels, out = tensor(x.shape);
    for (let i = 0, at = 0; i < n; i++) for (let c = 0; c < channels; c++) {
      const [scale, shift] = of(c, i);
      for (let p = 0; p < area; p++, at++) out.data[at] = x.data[at] * scale + shift;
    }
    return out;
  }

  function batchNorm(x, w, b, mean, variance, training, momentum, eps) {
    return affine(x, (c) => {
      const scale = (w ? w.data[c] : 1) / Math.sqrt(variance.data[c] + eps);
      return [scale, (b ? b.data[c] : 0) - mean.data[c] * scale];
    });
  }

  function groupNorm(x, groups, w, b, eps = 1e-5) {
    const [n, channels] = x.shape, size = x.data.length / n / groups, moments = [];
    for (let g = 0; g < n * groups; g++) {
      let sum = 0, squares = 0;
      for (let i = g * size; i < (g + 1) * size; i++) sum += x.data[i];
      const mean = sum / size;
      for (let i = g * size; i < (g + 1) * size; i++) squares += (x.data[i] - mean) ** 2;
      moments.push([mean, 1 / Math.sqrt(squares / size + eps)]);
    }
    return affine(x, (c, i) => {
      const [mean, inverse] = moments[i * groups + Math.floor(c * groups / channels)], scale = inverse * (w ? w.data[c] : 1);
      return [scale, (b ? b.data[c] : 0) - mean * scale];
    });
  }

  // Resizes each plane [height, width] of x to [oh, ow] with from(data, offset, y, x).
  function planes(x, oh, ow, from) {
    const [height, width] = x.shape.slice(-2), number = x.data.length / height / width;
    const out = tensor([...x.shape.slice(0, -2), oh, ow]);
    for (let i = 0, at = 0; i < number; i++) for (let y = 0; y < oh; y++) for (let z = 0; z < ow; z++, at++) out.data[at] = from(x.data, i * height * width, y, z);
    return out;
  }

  function pad(x, [left, right, above, below], mode = "constant", value = 0) {
    const [height, width] = x.shape.slice(-2);
    const inside = (i, n) => mode !== "reflect" ? i : i < 0 ? -i : i >= n ? 2 * n - 2 - i : i;
    return planes(x, height + above + below, width + left + right, (data, offset, y, z) => {
      const iy = inside(y - above, height), iz = inside(z - left, width);
      return iy < 0 || iz < 0 || iy >= height || iz >= width ? value ?? 0 : data[offset + iy * width + iz];
    });
  }

  function nearest(x, size, scales) {
    const [height, width] = x.shape.slice(-2), [oh, ow] = size ?? [Math.floor(height * scales[0]), Math.floor(width * scales[1])];
    return planes(x, oh, ow, (data, offset, y, z) => data[offset + Math.floor(y * height / oh) * width + Math.floor(z * width / ow)]);
  }

  function bilinear(x, size, corners, scales) {
    const [height, width] = x.shape.slice(-2), [oh, ow] = size ?? [Math.floor(height * scales[0]), Math.floor(width * scales[1])];
    const place = (i, n, to) => {
      const at = corners ? (to > 1 ? i * (n - 1) / (to - 1) : 0) : Math.max(0, (i + 0.5) * n / to - 0.5);
      const low = Math.min(n - 1, Math.floor(at));
      return [low, Math.min(n - 1, low + 1), at - low];
    };
    const across = Array.from({ length: ow }, (_, i) => place(i, width, ow)), down = Array.from({ length: oh }, (_, i) => place(i, height, oh));
    return planes(x, oh, ow, (data, offset, y, z) => {
      const [top, bottom, v] = down[y], [left, right, u] = across[z], a = offset + top * width, b = offset + bottom * width;
      return (1 - v) * ((1 - u) * data[a + left] + u * data[a + right]) + v * ((1 - u) * data[b + left] + u * data[b + right]);
    });
  }

  function view(x, shape) {
    const known = shape.filter((n) => n !== -1).reduce((all, n) => all * n, 1);
    return tensor(shape.map((n) => n === -1 ? x.data.length / known : n), x.data);
  }

  function permute(x, order) {
    const steps = x.shape.map((_, i) => count(x.shape.slice(i + 1))), shape = order.map((side) => x.shape[side]), out = tensor(shape);
    const place = shape.map(() => 0), own = order.map((side) => steps[side]);
    for (let i = 0, at = 0; i < out.data.length; i++) {
      out.data[i] = x.data[at];
      for (let side = shape.length - 1; side >= 0; side--) {
        at += own[side];
        if (++place[side] < shape[side]) break;
        at -= own[side] * shape[side];
        place[side] = 0;
      }
    }
    return out;
  }

  function slice(x, side = 0, start = 0, end = Infinity, step = 1) {
    const n = x.shape[side], first = Math.min(n, (start ?? 0) < 0 ? start + n : start ?? 0), last = Math.min(n, (end ?? n) < 0 ? end + n : end ?? n);
    const kept = Math.max(0, Math.ceil((last - first) / step)), inner = count(x.shape.slice(side + 1)), outer = count(x.shape.slice(0, side));
    const out = tensor(x.shape.map((length, i) => i === side ? kept : length));
    for (let i = 0, at = 0; i < outer; i++) for (let j = 0; j < kept; j++, at += inner) {
      const from = (i * n + first + j * step) * inner;
      out.data.set(x.data.subarray(from, from + inner), at);
    }
    return out;
  }

  function cat(parts, side = 0) {
    const at = side < 0 ? side + parts[0].shape.length : side, outer = count(parts[0].shape.slice(0, at));
    const out = tensor(parts[0].shape.map((n, i) => i === at ? parts.reduce((all, part) => all + part.shape[at], 0) : n));
    for (let i = 0, to = 0; i < outer; i++) for (const part of parts) {
      const size = part.data.length / outer;
      out.data.set(part.data.subarray(i * size, (i + 1) * size), to);
      to += size;
    }
    return out;
  }

  // The mean over one side.
  function mean(x, [side], keep = false) {
    const at = side < 0 ? side + x.shape.length : side, n = x.shape[at], inner = count(x.shape.slice(at + 1)), outer = count(x.shape.slice(0, at));
    const out = tensor(keep ? x.shape.with(at, 1) : x.shape.toSpliced(at, 1));
    for (let i = 0; i < outer; i++) for (let j = 0; j < n; j++) for (let k = 0; k < inner; k++) out.data[i * inner + k] += x.data[(i * n + j) * inner + k] / n;
    return out;
  }

  // One element of a side.
  function select(x, side, index) {
    const at = side < 0 ? side + x.shape.length : side, first = index < 0 ? index + x.shape[at] : index;
    const { shape, data } = slice(x, at, first, first + 1);
    return tensor(shape.toSpliced(at, 1), data);
  }

  const operations = {
    "aten.add.Tensor": (a, b) => together(a, b, (x, y) => x + y),
    "aten.addcmul.default": (a, b, c) => together(a, together(b, c, (x, y) => x * y), (x, y) => x + y),
    "aten.batch_norm.default": batchNorm,
    "aten.cat.default": cat,
    "aten.clamp.default": (x, low, high) => each(x, (value) => Math.min(high ?? Infinity, Math.max(low ?? -Infinity, value))),
    "aten.conv2d.default": convolve,
    "aten.conv_transpose2d.input": convolveBack,
    "aten.group_norm.default": groupNorm,
    "aten.instance_norm.default": (x, w, b, mean, variance, own, momentum, eps) => groupNorm(x, x.shape[1], w, b, eps),
    "aten.leaky_relu.default": (x, slope = 0.01) => each(x, (value) => value < 0 ? slope * value : value),
    "aten.linear.default": linear,
    "aten.mean.dim": mean,
    "aten.mul.Tensor": (a, b) => together(a, b, (x, y) => x * y),
    "aten.pad.default": pad,
    "aten.permute.default": permute,
    "aten.relu.default": (x) => each(x, (value) => Math.max(0, value)),
    "aten.rsqrt.default": (x) => each(x, (value) => 1 / Math.sqrt(value)),
    "aten.select.int": select,
    "aten.sigmoid.default": (x) => each(x, (value) => 1 / (1 + Math.exp(-value))),
    "aten.slice.Tensor": slice,
    "aten.sym_size.int": (x, side) => x.shape[side],
    "aten.tanh.default": (x) => each(x, Math.tanh),
    "aten.unsqueeze.default": (x, side) => view(x, x.shape.toSpliced(side < 0 ? side + x.shape.length + 1 : side, 0, 1)),
    "aten.upsample_bilinear2d.vec": bilinear,
    "aten.upsample_nearest2d.vec": nearest,
    "aten.view.default": view,
  };

  // IEEE half precision.
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  }

  function bytes(base64) {
    const text = atob(base64), raw = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) raw[i] = text.charCodeAt(i);
    return raw.buffer;
  }

  const floats = (base64, halved) => halved ? Float32Array.from(new Uint16Array(bytes(base64)), half) : new Float32Array(bytes(base64));

  // A network of the page, ready to run.
  function open({ graph, tensors, weights, half: halved }) {
    const data = floats(weights, halved), values = {};
    let at = 0;
    for (const [name, shape] of tensors) values[name] = tensor(shape, data.subarray(at, at += count(shape)));
    return { graph, values };
  }

  // Run a network on inputs, by their names.
  function run({ graph, values: held }, inputs) {
    const values = { ...held, ...inputs };
    const value = (arg) => Array.isArray(arg) ? arg.map(value) : arg && arg.ref ? values[arg.ref] : arg ?? undefined;
    for (const { op, out, args } of graph.steps) values[out] = operations[op](...args.map(value));
    return values[graph.output];
  }

  // The w of each layer of StyleGAN2, [1, layers, W]: from a layer on that of another latent; all moved towards their mean.
  function layerStyles(w, mean, layers, truncation = 1, other = w, from = layers) {
    const size = w.length, ws = tensor([1, layers, size]);
    for (let layer = 0; layer < layers; layer++) {
      const own = layer < from ? w : other;
      for (let i = 0; i < size; i++) ws.data[layer * size + i] = mean[i] + truncation * (own[i] - mean[i]);
    }
    return ws;
  }

  const pen = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

  // An image [1, C, H, W] in [-1, 1] on a canvas, by images.to_uint8.
  function show(canvas, { shape: [, channels, height, width], data }) {
    canvas.width = width;
    canvas.height = height;
    const pixels = new ImageData(width, height), area = width * height;
    for (let p = 0; p < area; p++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * p + c] = Math.round(Math.min(255, Math.max(0, (data[channels === 1 ? p : c * area + p] + 1) * 127.5)));
      pixels.data[4 * p + 3] = 255;
    }
    pen(canvas).putImageData(pixels, 0, 0);
  }

  // The picture on a canvas as an image [1, C, H, W] in [-1, 1]; gray by images.to_gray.
  // With the canvas of a mask, its white pixels are a hole, and the mask is the last channel: degradations.cut_hole.
  function read(canvas, channels, mask = null) {
    const { width, height } = canvas, pixels = pen(canvas).getImageData(0, 0, width, height).data;
    const image = tensor([1, channels, height, width]), area = width * height, colors = channels - (mask ? 1 : 0);
    const unit = (value) => value / 127.5 - 1;
    for (let p = 0; p < area; p++) {
      const [red, green, blue] = pixels.subarray(4 * p, 4 * p + 3);
      if (colors === 1) image.data[p] = unit(0.299 * red + 0.587 * green + 0.114 * blue);
      else [red, green, blue].forEach((value, c) => { image.data[c * area + p] = unit(value); });
    }
    if (!mask) return image;
    const white = pen(mask).getImageData(0, 0, width, height).data;
    for (let p = 0; p < area; p++) {
      const isHole = white[4 * p] > 127;
      for (let c = 0; isHole && c < colors; c++) image.data[c * area + p] = 0;
      image.data[colors * area + p] = isHole ? 1 : -1;
    }
    return image;
  }

  // Bicubic upsampling of an image [1, C, H, W], as degradations.upsample: the kernel of Keys with a = -0.5.
  function enlarge(x, factor) {
    const [n, channels, height, width] = x.shape;
    const kernel = (d) => d < 1 ? (1.5 * d - 2.5) * d * d + 1 : d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
    // Positions and weights of the pixels that an enlarged pixel depends on; at the border there are fewer.
    const taps = (length) => Array.from({ length: length * factor }, (_, i) => {
      const at = (i + 0.5) / factor - 0.5, found = [];
      for (let k = Math.max(0, Math.floor(at) - 1); k <= Math.min(length - 1, Math.floor(at) + 2); k++) found.push([k, kernel(Math.abs(at - k))]);
      const sum = found.reduce((all, [, weight]) => all + weight, 0);
      return found.map(([k, weight]) => [k, weight / sum]);
    });
    const down = taps(height), across = taps(width), out = tensor([n, channels, height * factor, width * factor]);
    for (let c = 0, to = 0; c < n * channels; c++) for (const rows of down) for (const columns of across) {
      let sum = 0;
      for (const [y, v] of rows) for (const [z, u] of columns) sum += v * u * x.data[(c * height + y) * width + z];
      out.data[to++] = Math.min(1, Math.max(-1, sum));
    }
    return out;
  }

  return { open, run, floats, operations, tensor, layerStyles, pen, show, read, enlarge };
})();

if (typeof document === "undefined") { // In the worker, the same script runs without a document.
  const opened = {};
  onmessage = ({ data: { id, name, network, inputs } }) => {
    if (network) {
      opened[name] = engine.open(network);
    } else {
      const result = engine.run(opened[name], inputs);
      postMessage({ id, result });
    }
  };
}
