"""Pairs of images, as in the sets of Isola et al. 2017 (arXiv 1611.07004): day and night, facades, edges, maps.

Under ``data.root`` lie either images whose left half is A and right half B, in the folders train, and test
or val, or simply there; or the two folders of ``layouts.TWO_SIDES``, with files of equal names.
The sample is generated: horses (A) in their plain coat and the same ones striped (B).
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, horses, image_files, image_reader, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.decoding import Item
from gan_lab.data.split import Rows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

SIZE = 64  # usual, in pixels
LAYOUT = (
    "images side by side (left A, right B) in train, and test or val, or in the folder itself; or, with files of equal "
    f"names, {layouts.TWO_SIDES}"
)
SAMPLE, DOWNLOADS = "generated horses", False
NARROWEST, WIDEST = 1.5, 3.5  # width by height of two images side by side


def decode(cfg: DataConfig) -> ArrayDataset:
    """The set that ``cfg.source`` asks for. Raises UserError if that is 'full' and it is not there."""
    root = Path(cfg.root)
    if cfg.source != "sample" and root.exists():
        train, test = find_pairs(layouts.place(cfg.root))
        if train:
            return _full(cfg, root, train, test)
    if cfg.source == "full":
        seen = image_files.seen(root) if root.is_dir() else "no such folder"
        raise UserError(f"data.source=full: no pairs in {root} ({seen}). There should be {LAYOUT}")
    reason = "data.source=sample" if cfg.source == "sample" else f"no pairs in {root}"
    return horses.sample(cfg, paired=True, reason=reason)


def is_present(root: Path) -> bool:
    """True if pairs lie in a folder, or a zip file. Raises UserError for ambiguous folders."""
    return root.exists() and bool(find_pairs(layouts.place(str(root)))[0])


def _full(cfg: DataConfig, root: Path, train: list[Item], test: list[Item]) -> ArrayDataset:
    opened = decoding.open_items(cfg, [*train, *test], "pairs", read_pair, "pairs", images=2)
    train_rows, test_rows = opened.parts(len(train))
    channels = opened.frame.channels
    a, b = (0, channels), (channels, 2 * channels)
    source, target = (a, b) if cfg.direction == "AtoB" else (b, a)
    about = f"{len(train_rows):,} pairs of {root}, {len(test_rows):,} held out{opened.note}"
    return ArrayDataset(
        ImageSpec(channels, *cfg.shape, source_channels=channels, pairs="all"),
        Rows(opened.pixels, train_rows, target), None, Rows(opened.pixels, test_rows, target), None, "full", about,
        decoding.combine_fingerprints(opened.fingerprint, train_rows, test_rows, cfg.direction),
        Rows(opened.pixels, train_rows, source), Rows(opened.pixels, test_rows, source),
    )  # fmt: skip


def read_pair(
    item: Item, frame: image_reader.Frame, whites: image_reader.Whites | None = None
) -> np.ndarray:
    """A and B as uint8 [2 C, H, W]: of two files of one shape, or the halves of one. Raises UnreadableError."""
    if len(item) == 2:
        a, b = (
            image_reader.open_image(path, 2 * max(frame.height, frame.width), whites)
            for path in item
        )
        if (
            abs(a.width * b.height - b.width * a.height)
            > max(a.width * b.height, b.width * a.height) / 20
        ):
            raise image_reader.UnreadableError(
                f"{item[0]}: {a.width} x {a.height}, and {item[1]}: {b.width} x {b.height}, are of different shape"
            )
        return np.concatenate([image_reader.put_into_frame(image, frame) for image in (a, b)])
    image = image_reader.open_image(item[0], whites=whites)
    width, height = image.size
    if not NARROWEST * height <= width <= WIDEST * height:
        raise image_reader.UnreadableError(
            f"{item[0]}: {width} x {height} are not two images side by side"
        )
    half = width // 2
    halves = image.crop((0, 0, half, height)), image.crop((width - half, 0, width, height))
    return np.concatenate([image_reader.put_into_frame(one, frame) for one in halves])


def find_pairs(root: Path) -> tuple[list[Item], list[Item]]:
    """The pairs for training and those held out (none: a tenth is to be taken). Raises UserError for folders A and B
    that do not correspond."""
    sides = layouts.two_sides(root)
    if sides:
        return _match_names(root, *sides.train), _match_names(
            root, *sides.held
        ) if sides.held else []
    parts = layouts.parts(root)
    if parts:
        return _halves(image_files.find(parts[0])), _halves(image_files.find(parts[1])) if parts[
            1
        ] else []
    return _halves([path for path in image_files.find(root) if path.parent == root]), []


def _halves(paths: list[Path]) -> list[Item]:
    return [(path,) for path in paths]


def _match_names(root: Path, a: Path, b: Path) -> list[Item]:
    sides: list[dict[str, Path]] = []
    for side in (a, b):
        named: dict[str, Path] = {}
        for path in image_files.find(side):  # a Mac writes é as two characters, others as one
            name = unicodedata.normalize("NFC", str(path.relative_to(side).with_suffix("")))
            if name in named:
                raise UserError(
                    f"{side}: {named[name].name} and {path.name} have one name: which of them is meant?"
                )
            named[name] = path
        sides.append(named)
    lacking = [
        (a, sorted(sides[1].keys() - sides[0].keys())),
        (b, sorted(sides[0].keys() - sides[1].keys())),
    ]
    if any(names for _, names in lacking):
        lacking_names = "; ".join(
            f"{side.relative_to(root)} lacks {image_files.join_names(names)}"
            for side, names in lacking
            if names
        )
        raise UserError(
            f"{root}: {a.relative_to(root)} and {b.relative_to(root)} should hold files of equal names: {lacking_names}"
        )
    return [(sides[0][name], sides[1][name]) for name in sorted(sides[0])]
