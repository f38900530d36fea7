"""Translate a folder of photos with a trained image-to-image run.

Each image keeps its size, or becomes larger by the factor of a super-resolution run.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from gan_lab.data import image_files, image_reader
from gan_lab.data.levels import complete_levels
from gan_lab.degradations import cut_hole, upsample
from gan_lab.device import get_default_device
from gan_lab.images import save_rgb, to_gray, to_unit
from gan_lab.runs.ema_networks import DIGEST_CHARACTERS, load_ema_networks
from gan_lab.utils.errors import UserError, first_line, is_out_of_memory
from gan_lab.utils.files import fold_case
from gan_lab.utils.output import OutputFiles, hash_file
from gan_lab.utils.track import track

logger = logging.getLogger("gan_lab")

# pixels: the side of a tile; how much of its inner edges is thrown away, since the network saw no
# neighbors there; and how wide the seam is across which one tile passes into the next
TILE, MARGIN, SEAM = 768, 96, 64
NETWORK_BY_DIRECTION = {"AtoB": "generator", "BtoA": "generator_back"}
# of a mask, whose lighter pixels count as white
MAX_BLACK_LEVEL = 127


class TrainedTranslator:
    """One direction of a run folder, a checkpoint file or an export, in evaluation mode.

    "AtoB" is the direction in which the run was trained, for either value of ``data.direction``.

    Attributes:
        channels: Channels of the network's inputs.
        fills_holes: Whether the last of them is a mask.
        factor: The factor by which images are enlarged.
    """

    fills_holes = False
    factor = 1

    def __init__(self, path: Path, direction: str = "AtoB", weights: str = "best") -> None:
        loaded = load_ema_networks(path, weights)
        if direction not in NETWORK_BY_DIRECTION:
            raise UserError(
                f"Unknown direction: {direction}. Choose {' or '.join(NETWORK_BY_DIRECTION)}"
            )
        if "source_channels" not in loaded.networks["generator"].recipe["arguments"]:
            raise UserError(
                f"Not an image-to-image generator: {loaded.checkpoint}. Use `gan-lab sample`"
            )
        if NETWORK_BY_DIRECTION[direction] not in loaded.networks:
            raise UserError(f"No {direction} generator: {loaded.checkpoint}. Use AtoB")
        self.device = get_default_device()
        # of the images, see ``utils/provenance.py``
        self.record = {
            "output": "translation",
            **loaded.describe_source(),
            "direction": direction,
        }
        self.network = loaded.networks[NETWORK_BY_DIRECTION[direction]].to(self.device)
        first = image_reader.MAX_LEVELS * (direction == "BtoA")
        # Of unpaired sets, the config has the levels of the inputs and of the targets.
        self.levels = loaded.levels[first:][: image_reader.MAX_LEVELS] or loaded.levels
        arguments = self.network.recipe["arguments"]
        self.channels: int = arguments["source_channels"]
        self.fills_holes = self.channels == arguments["shape"][0] + 1
        if direction == "AtoB" and loaded.degradation.kind == "downsample":
            self.factor = loaded.degradation.factor

    def __call__(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Translate images [B, 1 or 3, H, W] in [-1, 1] of any size; the result is on the CPU.

        It has the size of the images; with super-resolution ``factor`` times their sides. ``mask``
        is bool [1, 1, H, W], True where a network that fills holes is to fill.

        What is larger than a tile is translated tile by tile, and these are faded into each other:
        memory does not grow with the image beyond the image itself. A network that normalizes over
        the whole image uses the tile instead.
        """
        image_channels = self.channels - self.fills_holes
        if image_channels == 1:
            images = to_gray(images)
        elif images.shape[1] == 1:
            images = images.expand(-1, image_channels, -1, -1)
        if self.fills_holes:
            assert mask is not None
            images = cut_hole(images, mask)
        if self.factor > 1:
            images = upsample(images, self.factor)
        rows, columns = (tiles(length, int(self.network.multiple)) for length in images.shape[-2:])  # type: ignore[arg-type]
        if len(rows) == len(columns) == 1:
            return self._whole(images)
        total: Tensor | None = None
        weights = torch.zeros(images.shape[-2:])
        for top, bottom in rows:
            for left, right in columns:
                made = self._whole(images[..., top:bottom, left:right])
                if total is None:
                    total = made.new_zeros(*made.shape[:2], *images.shape[-2:])
                down, across = (
                    fade(top, bottom, images.shape[-2]),
                    fade(left, right, images.shape[-1]),
                )
                share = down[:, None] * across
                total[..., top:bottom, left:right] += share * made
                weights[top:bottom, left:right] += share
        assert total is not None
        return total.div_(weights)

    def _whole(self, images: Tensor) -> Tensor:
        """Translate in one go: pad by reflection to a multiple that the network needs, and crop."""
        height, width = images.shape[-2:]
        multiple, min_side = int(self.network.multiple), int(self.network.min_side)  # type: ignore[arg-type]
        padded_height = max(-(-height // multiple) * multiple, min_side)
        padded_width = max(-(-width // multiple) * multiple, min_side)
        images = _pad_by_reflection(images, padded_height, padded_width)
        translated: Tensor = self.network(images.to(self.device))
        return translated[..., :height, :width].cpu()


def tiles(length: int, multiple: int) -> list[tuple[int, int]]:
    """List the start and stop of each tile along one axis; starts are multiples of ``multiple``."""
    if length <= TILE:
        return [(0, length)]
    step = (TILE - 2 * MARGIN - SEAM) // multiple * multiple
    last = -(-(length - TILE) // multiple) * multiple  # where it begins, so that none is smaller
    starts = [*range(0, last, step), last]
    return [(start, min(start + TILE, length)) for start in starts]


def fade(start: int, stop: int, length: int) -> Tensor:
    """Compute the weight of each row, or column, of a tile.

    It is 1 in the middle, decreases to 0 over the seam, and is 0 in the margin. At the border of
    the image it stays 1.
    """
    places = torch.arange(stop - start, dtype=torch.float32)
    weight = torch.ones(stop - start)
    if start > 0:
        weight = weight.minimum(((places + 1 - MARGIN) / (SEAM + 1)).clamp(0, 1))
    if stop < length:
        weight = weight.minimum(((stop - start - places - MARGIN) / (SEAM + 1)).clamp(0, 1))
    return weight


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


def translate(
    folder: Path,
    source: Path,
    out: Path,
    direction: str = "AtoB",
    overwrite: bool = True,
    weights: str = "best",
    mask: Path | None = None,
) -> tuple[int, int]:
    """Translate every image under ``source`` into ``out`` as PNG files.

    A file that cannot be read, or is too large for the memory, is logged and skipped. Names are
    kept, so the frames of a film stay in order.

    Args:
        folder: A run folder, a checkpoint file or an export.
        source: An image, or a folder of images.
        out: The folder for the translated images.
        direction: AtoB, the direction of training, or BtoA.
        overwrite: Replace earlier translations.
        weights: Of a run folder: best, last, raw or a number of training images.
        mask: An image that is white where a run of ``data.degradation=mask`` is to fill.

    Returns:
        The numbers of translated and of skipped images.

    Raises:
        UserError: There is no image, none can be read, a file of the user would be replaced, or a
            mask is missing, not needed, or of another size.
    """
    translator = TrainedTranslator(folder, direction, weights)
    hole, mask_record = _read_mask(translator, mask)
    if out.resolve() == source.resolve():
        raise UserError(
            f"The images of {source} would be overwritten: {out}. Choose another folder"
        )
    paths = image_files.list_images(source, exclude=out)
    targets = _choose_targets(paths, source if source.is_dir() else source.parent, out)
    files = OutputFiles(overwrite)
    files.check(*targets)
    skipped = 0
    problem = ""
    levels = complete_levels(translator.levels, source, paths)
    for path, target in track(list(zip(paths, targets, strict=True)), "translating"):
        try:
            pixels = image_reader.read_image(path, levels)
        except (OSError, ValueError) as error:
            problem = problem or first_line(error)
            logger.info(f"Skipping {error}")
            skipped += 1
            continue
        if hole is not None and hole.shape[2:] != pixels.shape[1:]:
            problem = (
                f"{mask} has {hole.shape[3]} x {hole.shape[2]} pixels, but {path} has "
                f"{pixels.shape[2]} x {pixels.shape[1]}"
            )
            if len(paths) == 1:
                raise UserError(f"{problem}. Pass a mask of the size of the image")
            logger.info(f"Skipping {path}: {problem}")
            skipped += 1
            continue
        try:
            translated = translator(to_unit(torch.from_numpy(pixels)[None]), hole)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            logger.info(
                f"Skipping {path}: {pixels.shape[2]} x {pixels.shape[1]} pixels do not fit in "
                "memory. Make a smaller copy"
            )
            skipped += 1
            continue
        source_record = {"source": path.name, "source_sha256": hash_file(path)[:DIGEST_CHARACTERS]}
        with files.write(target) as unfinished:
            record = translator.record | source_record | mask_record
            save_rgb(translated[0], unfinished, record)
    if problem and skipped == len(paths):
        raise UserError(f"no image was translated: {problem}. Pass an image or a folder of images")
    return len(paths) - skipped, skipped


def _read_mask(
    translator: TrainedTranslator, path: Path | None
) -> tuple[Tensor | None, dict[str, str]]:
    """Read the mask of a run that fills holes, bool [1, 1, H, W], and its record.

    Raises:
        UserError: There is no mask, or it cannot be read, selects nothing or is not needed.
    """
    if path is None:
        if translator.fills_holes:
            raise UserError(
                "This run fills holes, but there is no mask. Pass --mask FILE, "
                "an image of the same size that is white where pixels are to be filled"
            )
        return None, {}
    if not translator.fills_holes:
        raise UserError(f"--mask {path}: this run does not fill holes. Remove the option")
    try:
        # transparent pixels are not painted
        pixels = torch.from_numpy(image_reader.read_image(path, background="black")).float()
    except (OSError, ValueError) as error:
        raise UserError(f"--mask {path} cannot be read: {error}. Choose an image file") from None
    hole = to_gray(pixels[None]) > MAX_BLACK_LEVEL
    if not hole.any():
        raise UserError(f"--mask {path} has no white pixels. Paint what is to be filled white")
    if hole.all():
        raise UserError(f"--mask {path} is white everywhere. Leave black what is to be kept")
    return hole, {"mask": path.name, "mask_sha256": hash_file(path)[:DIGEST_CHARACTERS]}


def _choose_targets(paths: list[Path], base: Path, out: Path) -> list[Path]:
    """Choose the output path of each image, distinct also where file systems ignore case.

    a.jpg goes to a.png, and to a.jpg.png if there is another a. Names that are still the same get a
    hash of the name of their image.
    """
    names = [path.relative_to(base) for path in paths]
    count = Counter(fold_case(name.with_suffix("")) for name in names)
    targets = [
        name.with_suffix(".png")
        if count[fold_case(name.with_suffix(""))] == 1
        else Path(f"{name}.png")
        for name in names
    ]
    count = Counter(map(fold_case, targets))
    for i, (name, target) in enumerate(zip(names, targets, strict=True)):
        if count[fold_case(target)] > 1:
            digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:10]
            targets[i] = target.with_name(f"{target.stem}-{digest}.png")
    targets = [out / target for target in targets]
    if {path.resolve() for path in paths} & {target.resolve() for target in targets}:
        raise UserError(f"The images of {base} would be overwritten: {out}. Choose another folder")
    return targets
