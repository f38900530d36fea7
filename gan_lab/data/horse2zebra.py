"""Two sets of images without pairs: horses and zebras of Zhu et al. 2017 (arXiv 1703.10593), or any other two.

Under ``data.root``, or in ``horse2zebra`` there, lie the folders of ``layouts.TWO_SIDES``; without folders to hold out
a tenth is held out. The sample is generated: plain horses and other ones striped, of the held-out ones both coats.
"""

from __future__ import annotations

from pathlib import Path

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, download, horses, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.split import Rows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

SOURCES = (
    "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/horse2zebra.zip",
    "https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/horse2zebra.zip",
)
SHA256 = "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"  # of the archive
SIZE = 64  # usual, in pixels
LAYOUT = f"two folders of images: {layouts.TWO_SIDES}"
SAMPLE, DOWNLOADS = "generated horses", True


def decode(cfg: DataConfig) -> ArrayDataset:
    """The set that ``cfg.source`` asks for. Raises UserError if that is 'full' and it cannot be had."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if not problem:
        layout = _home(root)
        assert layout is not None
        return _full(cfg, *layout)
    if cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. Unpack {SOURCES[0]} into {root}, or name by data.root a folder with {LAYOUT}, "
            "or take data.source=sample"
        )
    return horses.sample(cfg, paired=False, reason=problem)


def _full(cfg: DataConfig, home: Path, folders: layouts.Sides) -> ArrayDataset:
    lists = [image_files.find(folder) for folder in (*folders.train, *(folders.held or ()))]
    for folder, paths in zip(folders.train, lists, strict=False):
        if not paths:
            raise UserError(f"{folder}: no images (seen: {image_files.seen(folder)})")
    sides = {}
    notes = ""
    for i, side in enumerate("AB"):
        train, test = lists[i], lists[i + 2] if folders.held else []
        items = [(path,) for path in (*train, *test)]
        opened = decoding.open_items(cfg, items, f"unpaired-{side}")
        sides[side] = (opened, *opened.parts(len(train)))
        notes += f"; of {side}{opened.note}" if opened.note else ""
    target, source = ("B", "A") if cfg.direction == "AtoB" else ("A", "B")
    images, train_images, test_images = sides[target]
    sources, train_sources, test_sources = sides[source]
    about = (
        f"{len(train_sources):,} images {source} and {len(train_images):,} {target} ({len(test_sources):,} and "
        f"{len(test_images):,} held out), unpaired: found in {home}{notes}"
    )
    return ArrayDataset(
        ImageSpec(images.frame.channels, *cfg.shape, source_channels=sources.frame.channels),
        Rows(images.pixels, train_images), None, Rows(images.pixels, test_images), None, "full", about,
        decoding.combine_fingerprints(images.fingerprint, sources.fingerprint, train_images, test_images, test_sources),
        Rows(sources.pixels, train_sources), Rows(sources.pixels, test_sources),
    )  # fmt: skip


def is_present(root: Path) -> bool:
    """True if two sets, or their archive, lie in a folder. Raises UserError for ambiguous folders."""
    return _home(root) is not None or (root / "horse2zebra.zip").is_file()


def _home(root: Path) -> tuple[Path, layouts.Sides] | None:
    if root.is_file():
        root = layouts.place(str(root))
    for home in (root, root / "horse2zebra"):
        if home.is_dir() and (sides := layouts.two_sides(home)):
            return home, sides
    return None


def find_full(root: Path) -> str:
    """Make sure that the two sets are in ``root``, downloading horses and zebras if need be; otherwise say why not."""
    return download.provide(root, _home, lambda: _archive(root), root, "horse2zebra", "trainA")


def _archive(root: Path) -> tuple[Path, str]:
    archive = root / "horse2zebra.zip"
    problem = download.fetch(SOURCES, archive, sha256=SHA256)
    return (
        archive,
        problem
        and f"no trainA and trainB in {root}, and the download of horse2zebra failed ({problem})",
    )
