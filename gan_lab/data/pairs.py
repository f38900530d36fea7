"""Paired images, such as the pix2pix data sets of Isola et al. 2017 (arXiv 1611.07004).

``data.root`` contains either side-by-side images (left half A, right half B), in train and test or
val or without these folders; or one of ``layouts.DOMAIN_LAYOUTS`` with equal file names.
The sample is generated: brown horses (A) and the same horses with stripes (B).
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, horses, image_files, image_reader, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import USER_DATA_CACHE
from gan_lab.data.decoding import Item
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

# The default of data.size.
SIZE = 64
LAYOUT = (
    "side-by-side images (left A, right B) in train and test or val, or in the folder itself; or, "
    f"with equal file names, {layouts.DOMAIN_LAYOUTS}"
)
SAMPLE, DOWNLOADS = "generated horses", False
# Width divided by height of a side-by-side image.
MIN_ASPECT_RATIO, MAX_ASPECT_RATIO = 1.5, 3.5


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set of ``cfg.source``. Raises UserError if a required full set is missing."""
    root = Path(cfg.root)
    if cfg.source != "sample" and root.exists():
        found = image_files.take_inventory(layouts.resolve_root(cfg.root), cache=USER_DATA_CACHE)
        train, test = find_pairs(found, cfg.layout)
        if train:
            found.warn_of_losses()
            return _full(cfg, root, found, train, test)
    if cfg.source == "full":
        contents = "the folder does not exist"
        if root.is_dir():
            contents = f"found: {image_files.count_suffixes(root)}"
        raise UserError(f"data.source=full: no pairs in {root} ({contents}). Expected {LAYOUT}.")
    reason = "data.source=sample" if cfg.source == "sample" else f"no pairs in {root}"
    return horses.sample(cfg, paired=True, reason=reason)


def is_present(root: Path) -> bool:
    """True if a folder or zip file contains pairs. Raises UserError for ambiguous folders."""
    if not root.exists():
        return False
    found = image_files.take_inventory(layouts.resolve_root(str(root)), cache=USER_DATA_CACHE)
    return bool(find_pairs(found)[0])


def _full(
    cfg: DataConfig,
    root: Path,
    found: image_files.Inventory,
    train: list[Item],
    test: list[Item],
) -> ArrayDataset:
    opened = decoding.open_items(
        cfg, [*train, *test], "pairs", read_pair, "pairs", images=2, states=found.states
    )
    train_rows, test_rows = opened.split(len(train))
    channels = opened.frame.channels
    a, b = (0, channels), (channels, 2 * channels)
    source, target = (a, b) if cfg.direction == "AtoB" else (b, a)
    found.use((str(path) for item in (*train, *test) for path in item), "not part of a pair")
    files_per_pair = len(train[0])
    counts = found.count(
        files_per_pair * len(opened.indices), [*opened.unreadable] * files_per_pair
    )
    about = (
        f"{len(train_rows):,} pairs from {root}, {len(test_rows):,} held out{opened.note}"
        f"{opened.describe_copies(train_rows, test_rows)}; {counts}"
    )
    return ArrayDataset(
        spec=ImageSpec(channels, *cfg.shape, source_channels=channels, pairs="all"),
        train_images=SelectedRows(opened.pixels, train_rows, target),
        train_labels=None,
        test_images=SelectedRows(opened.pixels, test_rows, target),
        test_labels=None,
        source="full",
        about=about,
        fingerprint=decoding.combine_fingerprints(
            opened.fingerprint, train_rows, test_rows, cfg.direction
        ),
        train_sources=SelectedRows(opened.pixels, train_rows, source),
        test_sources=SelectedRows(opened.pixels, test_rows, source),
        levels=opened.levels,
        files=counts,
    )


def read_pair(
    item: Item, frame: image_reader.Frame, levels: image_reader.Levels | None = None
) -> np.ndarray:
    """Read a pair as uint8 [2 C, H, W]: two files of equal aspect ratio, or the halves of one file.

    Raises:
        UnreadableError: A file is damaged or is not a pair.
    """
    if len(item) == 2:
        min_side = 2 * max(frame.height, frame.width)
        a, b = (image_reader.open_image(path, min_side, levels) for path in item)
        cross_products = a.width * b.height, b.width * a.height
        if abs(cross_products[0] - cross_products[1]) > max(cross_products) / 20:
            raise image_reader.UnreadableError(
                f"{item[0]} ({a.width} x {a.height}) and {item[1]} ({b.width} x {b.height}) have "
                "different aspect ratios"
            )
    else:
        image = image_reader.open_image(item[0], levels=levels)
        width, height = image.size
        if not MIN_ASPECT_RATIO * height <= width <= MAX_ASPECT_RATIO * height:
            raise image_reader.UnreadableError(
                f"{item[0]}: {width} x {height} pixels cannot be two images side by side. Join "
                "input and target to one image of twice the width, or put them in folders A and B"
            )
        half = width // 2
        a = image.crop((0, 0, half, height))
        b = image.crop((width - half, 0, width, height))
    return np.concatenate([image_reader.put_into_frame(image, frame) for image in (a, b)])


def find_pairs(
    found: image_files.Inventory, layout: layouts.Layout = "auto"
) -> tuple[list[Item], list[Item]]:
    """Find the training pairs and the held-out pairs, which may be none.

    Raises:
        UserError: The files of folders A and B do not match.
    """
    train: list[Item] = []
    held_out: list[Item] = []
    root = found.folder
    domains = layouts.find_domains(root)
    splits = None if domains else layouts.find_splits(found, layout, ask=False)
    if domains:
        train = _match_names(found, *domains.train)
        if domains.held_out:
            held_out = _match_names(found, *domains.held_out)
    elif splits:
        train_folder, held_out_folder = splits
        train = [(path,) for path in found.under(train_folder)]
        if held_out_folder:
            held_out = [(path,) for path in found.under(held_out_folder)]
    else:
        train = [(path,) for path in found.images if os.sep not in found.relative(path)]
    return train, held_out


def _match_names(found: image_files.Inventory, a: Path, b: Path) -> list[Item]:
    """Pair the files of two folders by name, ignoring the extension."""
    root = found.folder
    files_of_a, files_of_b = _index_by_name(found, a), _index_by_name(found, b)
    missing = []
    if names := sorted(files_of_b.keys() - files_of_a.keys()):
        missing.append(f"{a.relative_to(root)} lacks {image_files.join_and_count(names)}")
    if names := sorted(files_of_a.keys() - files_of_b.keys()):
        missing.append(f"{b.relative_to(root)} lacks {image_files.join_and_count(names)}")
    if missing:
        raise UserError(
            f"{root}: the files of {a.relative_to(root)} and {b.relative_to(root)} do not match: "
            f"{'; '.join(missing)}. Give both files of a pair the same name."
        )
    return [(files_of_a[name], files_of_b[name]) for name in sorted(files_of_a)]


def _index_by_name(found: image_files.Inventory, folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in map(Path, found.under(folder)):
        # macOS stores é as two code points, other systems as one.
        name = unicodedata.normalize("NFC", str(path.relative_to(folder).with_suffix("")))
        if name in files:
            raise UserError(
                f"{folder}: {files[name].name} and {path.name} have the same name. Remove one of "
                "them."
            )
        files[name] = path
    return files
