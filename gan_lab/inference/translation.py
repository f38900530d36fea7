"""Translate a folder of photos with a trained image-to-image run; every picture keeps its size."""

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

    "AtoB" is the direction in which the run was trained, whatever ``data.direction`` said.
    """

    def __init__(self, checkpoint: Path, direction: str = "AtoB") -> None:
        content = read_checkpoint(checkpoint)
        if direction not in NETWORKS:
            raise ValueError(f"direction={direction}: there are {', '.join(NETWORKS)}")
        with explain_mismatch(checkpoint):
            recipes = content["recipes"]
            self.channels = recipes["generator"]["arguments"].get("source_channels")
            if self.channels is None:
                raise ValueError(f"{checkpoint} is no image-to-image run: its generator makes images of latents")
            if NETWORKS[direction] not in recipes:
                raise ValueError(f"{checkpoint} translates AtoB only")
            if direction == "BtoA":
                self.channels = recipes["generator_back"]["arguments"]["source_channels"]
            self.network = networks.from_recipe(recipes[NETWORKS[direction]])
            self.network.load_state_dict(content["ema"][NETWORKS[direction]])
        self.device = here()
        self.network.requires_grad_(False).eval().to(self.device)

    def __call__(self, images: Tensor) -> Tensor:
        """Images [B, 1 or 3, H, W] in [-1, 1] of any size, translated at that size, on the CPU.

        They are reflected at the edges up to the next multiple that the network needs, and cropped again.
        """
        if self.channels == 1:
            images = to_gray(images)
        elif images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        height, width = images.shape[-2:]
        multiple, least = int(self.network.multiple), int(self.network.least)  # type: ignore[arg-type]
        images = _reflect(images, *(max(-(-side // multiple) * multiple, least) for side in (height, width)))
        translated: Tensor = self.network(images.to(self.device))
        return translated[..., :height, :width].cpu()


def _reflect(images: Tensor, height: int, width: int) -> Tensor:
    while images.shape[-2:] != (height, width):  # one reflection adds less than a whole side
        down, right = (
            min(want - side, max(side - 1, 0)) for want, side in zip((height, width), images.shape[-2:], strict=True)
        )
        thin = [side == 1 for side in images.shape[-2:]]
        if any(thin):
            images = images.expand(-1, -1, *(2 if t else -1 for t in thin))
            continue
        images = pad(images, (0, right, 0, down), mode="reflect")
    return images


def translate(folder: Path, source: Path, out: Path, direction: str = "AtoB") -> tuple[int, int]:
    """Translate every image under ``source`` into ``out`` as PNG; how many were made, and how many were passed over.

    A file that cannot be read, or is too large for the memory, is named and passed over. Raises ValueError if there is
    no image at all, or if one of them would be written over.
    """
    translator = TrainedTranslator(find_checkpoint(folder), direction)
    if out.resolve() == source.resolve():
        raise ValueError(f"the images of {source} would be written over: choose another folder than {out}")
    paths = [source] if source.is_file() else image_files.find(source, apart_from=out)
    if not paths:
        raise ValueError(f"there is no image in {source}: {image_files.seen(source)}")
    targets = _targets(paths, source if source.is_dir() else source.parent, out)
    bad = 0
    for path, target in track(list(zip(paths, targets, strict=True)), description="translating", transient=True):
        try:
            pixels = reading.read(path)
        except (OSError, ValueError) as error:
            logger.info(f"passed over: {error}")
            bad += 1
            continue
        try:
            translated = translator(to_unit(torch.from_numpy(pixels)[None]))
        except (MemoryError, RuntimeError) as error:
            if not no_memory(error):
                raise
            logger.info(f"passed over: {path}: {pixels.shape[2]} x {pixels.shape[1]} pixels are more than the memory can hold: "
                "make a smaller copy")  # fmt: skip
            bad += 1
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        save_image(to_uint8(translated[0]).float() / 255, target)
    return len(paths) - bad, bad


def _targets(paths: list[Path], base: Path, out: Path) -> list[Path]:
    """Choose the output path of each image: a.jpg goes to a.png, and to a.jpg.png if there is another a."""
    names = [path.relative_to(base) for path in paths]
    count = Counter(name.with_suffix("") for name in names)
    targets = [
        out / (name.with_suffix(".png") if count[name.with_suffix("")] == 1 else f"{name}.png") for name in names
    ]
    if len(set(targets)) < len(targets):
        raise ValueError(f"two images of {base} would be written as one PNG: rename one, or translate them apart")
    if {path.resolve() for path in paths} & {target.resolve() for target in targets}:
        raise ValueError(f"the images of {base} would be written over: choose another folder than {out}")
    return targets
