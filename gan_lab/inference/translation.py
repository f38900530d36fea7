"""Translate a folder of photos with a trained image-to-image run; each image keeps its size."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import pad
from torchvision.utils import save_image

from gan_lab import networks
from gan_lab.data import image_files, reading
from gan_lab.device import here
from gan_lab.images import to_gray, to_uint8, to_unit
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.utils.terminal import no_memory

logger = logging.getLogger("gan_lab")

NETWORKS = {"AtoB": "generator", "BtoA": "generator_back"}


class TrainedTranslator:
    """One direction of a run, with its averaged weights, in evaluation mode.

    "AtoB" is the direction in which the run was trained, for either value of ``data.direction``.
    """

    def __init__(self, checkpoint: Path, direction: str = "AtoB") -> None:
        content = read_checkpoint(checkpoint)
        if direction not in NETWORKS:
            raise ValueError(f"direction={direction}: there are {', '.join(NETWORKS)}")
        with explain_mismatch(checkpoint):
            recipes = content["recipes"]
            self.channels = recipes["generator"]["arguments"].get("source_channels")
            if self.channels is None:
                raise ValueError(f"{checkpoint} is not an image-to-image run: its generator makes images of latents")
            if NETWORKS[direction] not in recipes:
                raise ValueError(f"{checkpoint} translates AtoB only")
            if direction == "BtoA":
                self.channels = recipes["generator_back"]["arguments"]["source_channels"]
            self.network = networks.from_recipe(recipes[NETWORKS[direction]])
            self.network.load_state_dict(content["ema"][NETWORKS[direction]])
        self.device = here()
        self.network.requires_grad_(False).eval().to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Translate images [B, 1 or 3, H, W] in [-1, 1] of any size at that size; the result is on the CPU.

        They are padded by reflection to the next multiple that the network needs, and cropped afterwards.
        """
        if self.channels == 1:
            images = to_gray(images)
        elif images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        height, width = images.shape[-2:]
        multiple, least = int(self.network.multiple), int(self.network.least)  # type: ignore[arg-type]
        padded_height = max(-(-height // multiple) * multiple, least)
        padded_width = max(-(-width // multiple) * multiple, least)
        images = _pad_by_reflection(images, padded_height, padded_width)
        translated: Tensor = self.network(images.to(self.device))
        return translated[..., :height, :width].cpu()


def _pad_by_reflection(images: Tensor, height: int, width: int) -> Tensor:
    while images.shape[-2:] != (height, width):  # one reflection adds less than a side
        rows, columns = images.shape[-2:]
        if 1 in (rows, columns):
            images = images.expand(-1, -1, 2 if rows == 1 else -1, 2 if columns == 1 else -1)
            continue
        down = min(height - rows, rows - 1)
        right = min(width - columns, columns - 1)
        images = pad(images, (0, right, 0, down), mode="reflect")
    return images


def translate(folder: Path, source: Path, out: Path, direction: str = "AtoB") -> tuple[int, int]:
    """Translate every image under ``source`` into ``out`` as PNG; return the numbers of translated and skipped images.

    A file that cannot be read, or is too large for the memory, is named and skipped. Raises ValueError if there is no
    image, or if one would be overwritten.
    """
    translator = TrainedTranslator(find_checkpoint(folder), direction)
    if out.resolve() == source.resolve():
        raise ValueError(f"the images of {source} would be overwritten: choose another folder than {out}")
    paths = [source] if source.is_file() else image_files.find(source, apart_from=out)
    if not paths:
        raise ValueError(f"there is no image in {source}: {image_files.seen(source)}")
    targets = _choose_targets(paths, source if source.is_dir() else source.parent, out)
    skipped = 0
    for path, target in track(list(zip(paths, targets, strict=True)), description="translating", transient=True):
        try:
            pixels = reading.read(path)
        except (OSError, ValueError) as error:
            logger.info(f"skipped: {error}")
            skipped += 1
            continue
        try:
            translated = translator(to_unit(torch.from_numpy(pixels)[None]))
        except (MemoryError, RuntimeError) as error:
            if not no_memory(error):
                raise
            logger.info(f"skipped: {path}: {pixels.shape[2]} x {pixels.shape[1]} pixels do not fit in memory: "
                "make a smaller copy")  # fmt: skip
            skipped += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        save_image(to_uint8(translated[0]).float() / 255, target)
    return len(paths) - skipped, skipped


def _choose_targets(paths: list[Path], base: Path, out: Path) -> list[Path]:
    """Choose the output path of each image: a.jpg goes to a.png, and to a.jpg.png if there is another a."""
    names = [path.relative_to(base) for path in paths]
    count = Counter(name.with_suffix("") for name in names)
    targets = [
        out / (name.with_suffix(".png") if count[name.with_suffix("")] == 1 else f"{name}.png") for name in names
    ]
    if len(set(targets)) < len(targets):
        raise ValueError(f"two images of {base} would be written to one PNG: rename one, or translate them separately")
    if {path.resolve() for path in paths} & {target.resolve() for target in targets}:
        raise ValueError(f"the images of {base} would be overwritten: choose another folder than {out}")
    return targets
