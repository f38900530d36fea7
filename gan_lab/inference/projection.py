"""Project images onto a trained generator: find the latent whose image is nearest, and say how far it stays."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from gan_lab.data import image_files, image_reader
from gan_lab.data.levels import complete_levels
from gan_lab.images import save_grid, to_unit
from gan_lab.inference.sampling import TrainedGenerator
from gan_lab.metrics.extractors.base import expand_gray
from gan_lab.metrics.extractors.lite0 import load_network
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import OutputFiles
from gan_lab.utils.track import track

CANDIDATES = 512  # samples of each class, of which the nearest are the starts
MIN_CANDIDATES = 16  # of each class, if there are many classes
LEARNING_RATE = 0.15  # of Adam at the start; it falls to 0 along a cosine
FEATURE_WEIGHT = (
    0.1  # of the squared feature distance, relative to the squared difference of pixels in [-1, 1]
)
SNAPSHOTS = 3  # of each of the two descents


@dataclass(frozen=True)
class Projection:
    """The latent z [Z] that was found for an image, its class, and the images [S, C, H, W] on the way to it.

    ``errors`` are those of the way: the root mean square of the difference of the pixels, in levels
    of 255.
    """

    z: Tensor
    label: int | None
    way: Tensor
    errors: list[float]


def project(
    generator: TrainedGenerator,
    image: Tensor,
    label: int | str | None = None,
    encoded: Tensor | None = None,
    starts: int = 8,
    steps: int = 400,
    seed: int = 0,
) -> Projection:
    """Find the latent whose image is nearest to an image [C, H, W] in [-1, 1].

    The starts are the nearest of many samples, of the class ``label`` or of all, and ``encoded``
    [Z], which an encoder has given. From each, ``steps`` of Adam descend the squared difference of
    pixels; from where the best has come, a quarter as many, which are dearer, descend the distance
    of features too. Raises UserError for fewer than one start or step, for latents with codes, and
    for a label that the generator does not have.

    Source: Zhu et al. 2016 (arXiv 1609.03552), section 3.1, has both terms and the encoder's start;
    several starts and these features are the lab's own.
    """
    if starts < 1 or steps < 1:
        raise UserError(f"Out of range: starts={starts}, steps={steps}. Both must be at least 1")
    if generator.network.codes:
        raise UserError(
            "Cannot project: a generator with discrete latent codes (infogan). Use a run of another "
            "family"
        )
    image = image.to(generator.device, generator.dtype)
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
    errors = _squared(way, image.cpu().float()).sqrt().mul(127.5).tolist()
    return Projection(latents[-1].cpu(), None if labels is None else int(labels), way, errors)


def _nearest_samples(
    generator: TrainedGenerator, image: Tensor, label: int | str | None, starts: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """Latents [starts, Z] and labels of the samples that are nearest to an image, on its device."""
    given = None if label is None else generator.labels_of(1, label)
    classes = torch.arange(generator.classes) if given is None else given
    each = max(MIN_CANDIDATES, min(CANDIDATES, 10 * CANDIDATES // max(1, len(classes))))
    z, labels = generator.latents(each, seed), None
    if generator.classes:
        labels, z = classes.repeat_interleave(each), z.repeat(len(classes), 1)
    apart = _squared(generator.images_of(z, labels), image.cpu().float())
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
    """Descend from latents [B, Z], each for itself; those of some steps, the last of all among them."""
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
        if step * SNAPSHOTS // steps > (step - 1) * SNAPSHOTS // steps:
            kept.append(z.detach().clone())
    return kept


def _make(generator: TrainedGenerator, z: Tensor, labels: Tensor | None) -> Tensor:
    made: Tensor = generator.network(z) if labels is None else generator.network(z, labels)
    return made


def _squared(images: Tensor, image: Tensor) -> Tensor:
    """The mean square [B] of the difference of images [B, C, H, W] from one."""
    return (images - image).square().flatten(1).mean(dim=1)


def _features(images: Tensor) -> Tensor:
    """The middle of EfficientNet-Lite0 [B, D, H', W'], each position normalized to length 1, of images in [-1, 1] at their own size."""
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
) -> list[tuple[str, Projection]]:
    """Project images onto a generator; return name and result of each.

    Writes a PNG file with one row per image (the image, the optimization steps and the remaining
    difference), and the latents as JSON next to it.

    Args:
        run: A run folder, a checkpoint file or an export.
        source: An image, or a folder of images; None: test images of the run.
        out: The PNG file.
        label: The class; None: the class with the lowest error.
        n: Number of test images.
        overrides: Where the data of the run are now.
        files: What may be replaced. Default: earlier output of the lab.
        weights: Of a run folder: best, last, raw or a number of training images.

    Raises:
        UserError: There is no image, or a file of the user would be replaced.
    """
    latents_path = out.with_suffix(".json")
    if latents_path == out:
        raise UserError(f"{out} is the path of the latents. Name a PNG file")
    files = files or OutputFiles(overwrite=True)
    files.check(out, latents_path)
    loaded = load_ema_networks(run, weights)
    generator, encoder = TrainedGenerator(loaded), loaded.networks.get("encoder")
    named = _load_held_out(run, n, overrides) if source is None else _read_files(loaded, source)
    found: list[tuple[str, Projection]] = []
    rows = []
    for name, image in track(named, "projecting"):
        encoded = None if encoder is None else encoder(image[None])[0][0]
        result = project(generator, image, label, encoded)
        found.append((name, result))
        rows += [image[None], result.way, (image - result.way[-1]).abs().sub(1)[None]]
    with files.write(out) as unfinished:
        columns = 1 + len(found[0][1].way) + 1
        record = {"output": "projection", **generator.record}
        save_grid(torch.cat(rows), columns, unfinished, record=record)
    latents = [
        {"image": name, "label": each.label, "rms_of_255": each.errors[-1], "z": each.z.tolist()}
        for name, each in found
    ]
    with files.write(latents_path) as unfinished:
        unfinished.write_text(json.dumps(latents), encoding="utf-8")
    return found


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
