"""Projection onto a trained generator: the latents of the nearest image and its error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import avg_pool2d, normalize
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from gan_lab.data import image_files, image_reader
from gan_lab.data.levels import complete_levels
from gan_lab.images import save_grid, to_unit
from gan_lab.inference import style_projection
from gan_lab.inference.sampling import TrainedGenerator
from gan_lab.metrics.extractors.base import expand_gray
from gan_lab.metrics.extractors.lite0 import load_network
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import OutputFiles
from gan_lab.utils.track import track

SAMPLES_PER_CLASS = 512  # samples of each class, of which the nearest are the starts
MIN_CANDIDATES = 16  # of each class, if there are many classes
# of the samples that are generated at once
MAX_BATCH, MAX_BATCH_PIXELS = 64, 64 * 128**2
LEARNING_RATE = 0.15  # of Adam at the start; it falls to 0 along a cosine
FEATURE_WEIGHT = (
    0.1  # of the squared feature distance, relative to the squared difference of pixels in [-1, 1]
)
NUM_SNAPSHOTS = 3  # of each of the two descents
# default number of steps by latent space
STEPS_BY_SPACE = {"z": 400, "w": 1000, "w+": 1000}
# larger images are reduced to about this side before features are computed
MAX_FEATURE_SIDE = 256


@dataclass(frozen=True)
class Projection:
    """The latents that were found for an image, and the images on the way to them.

    Attributes:
        z: The latent [Z]; None in W and W+.
        label: The class; None without classes.
        way: Images [S, C, H, W], from the start to the result.
        errors: Root mean square of the difference of the pixels of each image of the way, in levels
            of 255.
        space: z, w or w+.
        ws: In W and W+ one w per layer, [num_ws, w_dim]; in W all are equal.
        noise: In W and W+ the noise image [h, w] of each layer.
    """

    z: Tensor | None
    label: int | None
    way: Tensor
    errors: list[float]
    space: str = "z"
    ws: Tensor | None = None
    noise: list[Tensor] = field(default_factory=list)


def project(
    generator: TrainedGenerator,
    image: Tensor,
    label: int | str | None = None,
    encoded: Tensor | None = None,
    starts: int = 8,
    steps: int | None = None,
    seed: int = 0,
    space: str | None = None,
) -> Projection:
    """Find the latents whose image is nearest to an image [C, H, W] in [-1, 1].

    In Z the starts are the nearest of many samples, of the class ``label`` or of all, and
    ``encoded``. From each, ``steps`` of Adam descend the squared difference of pixels. From the
    best result a quarter as many steps, which are slower, also descend the distance of features.

    In W and W+ the start is the mean w of the class; without ``label`` that of the nearest sample.
    ``steps`` of Adam descend both terms over w and noise images, see ``style_projection.py``.

    Args:
        generator: The generator.
        image: The image.
        label: The class.
        encoded: A start in Z [Z], the output of an encoder.
        starts: Number of starts in Z.
        steps: Number of steps. Default: ``STEPS_BY_SPACE``.
        seed: Of the samples, and of the noise on w.
        space: z, w or w+. Default: w for StyleGAN2, z for others.

    Raises:
        UserError: There is less than one start or step, the latents have codes, or the generator
            has no such label or space.

    Source: Zhu et al. 2016 (arXiv 1609.03552), section 3.1, has both terms and the encoder's start;
    several starts and these features are the lab's own.
    """
    space = choose_space(generator, space)
    steps = STEPS_BY_SPACE[space] if steps is None else steps
    if starts < 1 or steps < 1:
        raise UserError(f"Out of range: starts={starts}, steps={steps}. Both must be at least 1")
    if generator.network.codes:
        raise UserError(
            "Cannot project: a generator with discrete latent codes (infogan). "
            "Use a run of another family"
        )
    image = image.to(generator.device, generator.dtype)
    if space != "z":
        return _project_styles(generator, image, label, steps, seed, space)
    z, labels = _nearest_samples(generator, image, label, starts, seed)
    if encoded is not None:
        z = torch.cat([z, encoded[None].to(z)])
        labels = None if labels is None else torch.cat([labels, labels[:1]])
    first = _descend(generator, image, z, labels, steps, 0.0)
    with torch.no_grad():
        best = int(_squared(_make(generator, first[-1], labels), image).argmin())
    labels = None if labels is None else labels[best : best + 1]
    second = _descend(
        generator, image, first[-1][best : best + 1], labels, math.ceil(steps / 4), FEATURE_WEIGHT
    )
    latents = torch.stack([z[best], *(each[best] for each in first), *(each[0] for each in second)])
    way = generator.images_of(latents, None if labels is None else labels.expand(len(latents)))
    return Projection(
        latents[-1].cpu(), None if labels is None else int(labels), way, _list_errors(way, image)
    )


def choose_space(generator: TrainedGenerator, space: str | None) -> str:
    """Return the latent space of a projection.

    Args:
        generator: The generator.
        space: z, w or w+. None: w if the generator has a mapping network, else z.

    Raises:
        UserError: There is no such space.
    """
    has_mapping = isinstance(generator.network, StyleGANGenerator)
    if space is None:
        return "w" if has_mapping else "z"
    if space not in STEPS_BY_SPACE:
        raise UserError(f"Unknown latent space: {space}. Use {', '.join(STEPS_BY_SPACE)}")
    if space != "z" and not has_mapping:
        raise UserError(f"No latent space {space}: only generators of stylegan2 have one. Use z")
    return space


def _project_styles(
    generator: TrainedGenerator,
    image: Tensor,
    label: int | str | None,
    steps: int,
    seed: int,
    space: str,
) -> Projection:
    """Project an image [C, H, W] in W or W+."""
    network = generator.network
    assert isinstance(network, StyleGANGenerator)
    number = None
    if label is not None:
        given = generator.labels_of(1, label)
        number = None if given is None else int(given)
    elif generator.classes:
        _, labels = _nearest_samples(generator, image, None, 1, seed)
        number = None if labels is None else int(labels)
    found = style_projection.descend_styles(
        network, _make_loss(image), number, space == "w+", steps, seed
    )
    way = torch.cat(
        [
            generator.synthesize(each.ws[None], [noise[None, None] for noise in each.noise])
            for each in found
        ]
    )
    last = found[-1]
    noise = [each.cpu() for each in last.noise]
    errors = _list_errors(way, image)
    return Projection(None, number, way, errors, space, last.ws.cpu(), noise)


def _make_loss(image: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function of an image [1, C, H, W]: its distance from an image [C, H, W]."""
    factor = max(1, min(image.shape[1:]) // MAX_FEATURE_SIDE)
    wanted = _features(avg_pool2d(image[None], factor))

    def measure(made: Tensor) -> Tensor:
        features = _features(avg_pool2d(made, factor))
        distance = (features - wanted).square().sum(dim=1).mean()
        return (made - image).square().mean() + FEATURE_WEIGHT * distance

    return measure


def _list_errors(way: Tensor, image: Tensor) -> list[float]:
    """List the RMS differences of images [S, C, H, W] from an image, in levels of 255."""
    errors: list[float] = _squared(way, image.cpu().float()).sqrt().mul(127.5).tolist()
    return errors


def _nearest_samples(
    generator: TrainedGenerator, image: Tensor, label: int | str | None, starts: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Latents [starts, Z] and labels of the samples that are nearest to an image, on its device."""
    given = None if label is None else generator.labels_of(1, label)
    classes = torch.arange(generator.classes) if given is None else given
    each = max(
        MIN_CANDIDATES, min(SAMPLES_PER_CLASS, 10 * SAMPLES_PER_CLASS // max(1, len(classes)))
    )
    z, labels = generator.latents(each, seed), None
    if generator.classes:
        labels, z = classes.repeat_interleave(each), z.repeat(len(classes), 1)
    # only the distances of all samples are kept, so that memory is bounded for large images
    batch_size = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (image.shape[-2] * image.shape[-1])))
    wanted = image.cpu().float()
    apart = torch.cat(
        [
            _squared(
                generator.images_of(
                    z[i : i + batch_size], None if labels is None else labels[i : i + batch_size]
                ),
                wanted,
            )
            for i in range(0, len(z), batch_size)
        ]
    )
    nearest = apart.topk(min(starts, len(z)), largest=False).indices
    return z[nearest].to(image.device), None if labels is None else labels[nearest].to(image.device)


def _descend(
    generator: TrainedGenerator,
    image: Tensor,
    z: Tensor,
    labels: Tensor | None,
    steps: int,
    weight: float,
) -> list[Tensor]:
    """Descend from latents [B, Z], each for itself; return those of some steps and the last."""
    z = z.clone().requires_grad_()
    optimizer = Adam([z], lr=LEARNING_RATE)
    schedule = CosineAnnealingLR(optimizer, steps)
    wanted = _features(image[None]) if weight else None
    kept = []
    for step in range(1, steps + 1):
        made = _make(generator, z, labels)
        loss = _squared(made, image)
        if wanted is not None:
            loss = loss + weight * (_features(made) - wanted).square().sum(dim=1).flatten(1).mean(
                dim=1
            )
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
        if step * NUM_SNAPSHOTS // steps > (step - 1) * NUM_SNAPSHOTS // steps:
            kept.append(z.detach().clone())
    return kept


def _make(generator: TrainedGenerator, z: Tensor, labels: Tensor | None) -> Tensor:
    made: Tensor = generator.network(z) if labels is None else generator.network(z, labels)
    return made


def _squared(images: Tensor, image: Tensor) -> Tensor:
    """The mean square [B] of the difference of images [B, C, H, W] from one."""
    return (images - image).square().flatten(1).mean(dim=1)


def _features(images: Tensor) -> Tensor:
    """Features [B, D, H', W'] of images in [-1, 1] from the middle of EfficientNet-Lite0.

    Images keep their size. Each position is normalized to length 1.
    """
    network = load_network().to(images.device, images.dtype)
    return normalize(network.middle((127.5 * expand_gray(images) + 0.5) / 128), dim=1)


def project_files(
    run: Path,
    source: Path | None,
    out: Path,
    label: str | None = None,
    n: int = 8,
    overrides: Sequence[str] = (),
    files: OutputFiles | None = None,
    weights: str = "best",
    space: str | None = None,
    steps: int | None = None,
) -> list[tuple[str, Projection]]:
    """Project images onto a generator; return name and result of each.

    Writes a PNG file with one row per image (the image, the optimization steps and the remaining
    difference), and the latents as JSON next to it. In W and W+ a safetensors file next to both
    contains ``ws`` [N, num_ws, w_dim] and ``noise.0`` [N, 1, h, w], ``noise.1``, and so on.

    Args:
        run: A run folder, a checkpoint file, an export or a snapshot.
        source: An image, or a folder of images; None: test images of the run.
        out: The PNG file.
        label: The class; None: the class with the lowest error.
        n: Number of test images.
        overrides: Where the data of the run are now.
        files: What may be replaced. Default: earlier output of the lab.
        weights: Of a run folder: best, last, raw or a number of training images.
        space: z, w or w+; None: see ``project``.
        steps: Number of steps; None: see ``project``.

    Raises:
        UserError: There is no image, or a file of the user would be replaced.
    """
    latents_path = out.with_suffix(".json")
    if latents_path == out:
        raise UserError(f"{out} is the path of the latents. Name a PNG file")
    loaded = load_ema_networks(run, weights)
    generator, encoder = TrainedGenerator(loaded), loaded.networks.get("encoder")
    space = choose_space(generator, space)
    styles_path = out.with_suffix(".safetensors")
    files = files or OutputFiles(overwrite=True)
    files.check(out, latents_path, *([styles_path] if space != "z" else []))
    named = _load_held_out(run, n, overrides) if source is None else _read_files(loaded, source)
    found: list[tuple[str, Projection]] = []
    rows = []
    for name, image in track(named, "projecting"):
        encoded = None if encoder is None else encoder(image[None])[0][0]
        result = project(generator, image, label, encoded, steps=steps, space=space)
        found.append((name, result))
        rows += [image[None], result.way, (image - result.way[-1]).abs().sub(1)[None]]
    with files.write(out) as unfinished:
        columns = 1 + len(found[0][1].way) + 1
        record = {"output": "projection", "space": space, **generator.record}
        record |= {"n": n} if source is None else {"source": source.name}
        if steps is not None:
            record["steps"] = steps
        if label is not None:
            record["class"] = label
        save_grid(torch.cat(rows), columns, unfinished, record=record)
    latents = [{"image": name, **_describe(each)} for name, each in found]
    with files.write(latents_path) as unfinished:
        unfinished.write_text(json.dumps(latents), encoding="utf-8")
    if space != "z":
        with files.write(styles_path) as unfinished:
            unfinished.write_bytes(save(_stack_styles([each for _, each in found])))
    return found


def _describe(result: Projection) -> dict[str, Any]:
    """Describe a projection as JSON; noise images are in another file."""
    described: dict[str, Any] = {
        "label": result.label,
        "rms_of_255": result.errors[-1],
        "space": result.space,
    }
    if result.z is not None:
        described["z"] = result.z.tolist()
    elif result.ws is not None:
        described["w"] = (result.ws[0] if result.space == "w" else result.ws).tolist()
    return described


def _stack_styles(results: Sequence[Projection]) -> dict[str, Tensor]:
    """Stack ws and noise of projections in W or W+."""
    ws = [each.ws for each in results if each.ws is not None]
    layers = zip(*(each.noise for each in results), strict=True)
    noise = {f"noise.{i}": torch.stack(layer).unsqueeze(1) for i, layer in enumerate(layers)}
    return {"ws": torch.stack(ws), **noise}


def _load_held_out(run: Path, n: int, overrides: Sequence[str]) -> list[tuple[str, Tensor]]:
    (batch,) = Run(run).restore(overrides, weights=None).data.reference(n, size=n)
    return [(f"held out {i}", image) for i, image in enumerate(to_unit(batch.images))]


def _read_files(loaded: EMANetworks, source: Path) -> list[tuple[str, Tensor]]:
    channels, height, width = loaded.networks["generator"].recipe["arguments"]["shape"]
    fit: Any = loaded.values.get("data.fit") or "crop"
    frame = image_reader.Frame(height, width, fit, channels == 1)
    paths = image_files.list_images(source)
    # The targets of unpaired sets come last.
    levels = complete_levels(loaded.levels[-image_reader.MAX_LEVELS :], source, paths)
    return [
        (
            path.name,
            to_unit(torch.from_numpy(image_reader.read_framed(path, frame, levels=levels))),
        )
        for path in paths
    ]


def typical_error(found: Sequence[tuple[str, Projection]]) -> float:
    """The median of what is left, as the root mean square in levels of 255."""
    return median(each.errors[-1] for _, each in found)
