"""Two unpaired domains: the horses and zebras of Zhu et al. 2017 (arXiv 1703.10593), or your own.

``data.root``, or ``horse2zebra`` in it, contains one of ``layouts.DOMAIN_LAYOUTS``; without a test
or val folder, 10% are held out. The sample is generated: brown horses and other horses with
stripes; the held-out horses have both coats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, download, horses, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import USER_DATA_CACHE
from gan_lab.data.image_reader import MAX_LEVELS, Levels
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError

ARCHIVE_URLS = (
    "https://efrosgans.eecs.berkeley.edu/cyclegan/datasets/horse2zebra.zip",
    "https://people.eecs.berkeley.edu/~taesung_park/CycleGAN/datasets/horse2zebra.zip",
)
# Hash of the archive.
SHA256 = "a74d9d392eecca9966b51287a76ca126af473d9de4f3e8fc0e9cda08fa1730a1"
# The default of data.size.
SIZE = 64
LAYOUT = f"two folders of images: {layouts.DOMAIN_LAYOUTS}"
SAMPLE, DOWNLOADS = "generated horses", True


def decode(cfg: DataConfig) -> ArrayDataset:
    """Decode the set of ``cfg.source``. Raises UserError if a required full set is missing."""
    root = Path(cfg.root)
    problem = "data.source=sample" if cfg.source == "sample" else find_full(root)
    if not problem:
        layout = _find_domains(root)
        assert layout is not None
        return _full(cfg, *layout)
    if cfg.source == "full":
        raise UserError(
            f"data.source=full: {problem}. Unpack {ARCHIVE_URLS[0]} into {root}, set data.root to "
            f"a folder with {LAYOUT}, or set data.source=sample."
        )
    return horses.sample(cfg, paired=False, reason=problem)


def _full(cfg: DataConfig, home: Path, folders: layouts.DomainFolders) -> ArrayDataset:
    found = image_files.take_inventory(home, cache=USER_DATA_CACHE)
    found.warn_of_losses()
    lists = [found.under(folder) for folder in (*folders.train, *(folders.held_out or ()))]
    found.use((path for paths in lists for path in paths), "in neither domain")
    for folder, paths in zip(folders.train, lists, strict=False):
        if not paths:
            raise UserError(
                f"{folder}: no images (found: {image_files.count_suffixes(folder)}). Add images of "
                "this domain."
            )
    domains = {}
    notes = ""
    unreadable: list[str] = []
    for i, domain in enumerate("AB"):
        train, test = lists[i], lists[i + 2] if folders.held_out else []
        is_source = (domain == "A") == (cfg.direction == "AtoB")
        opened = decoding.open_items(
            replace(cfg, levels=_levels_of(cfg, is_source)),
            [(path,) for path in (*train, *test)],
            f"unpaired-{domain}",
            states=found.states,
        )
        try:
            rows = opened.split(len(train))
        except UserError as error:
            raise UserError(f"{folders.train[i]}: {error}") from None
        domains[domain] = (opened, *rows)
        unreadable += opened.unreadable
        note = opened.note + opened.describe_copies(*rows)
        notes += f"; {domain}:{note}" if note else ""
    target, source = ("B", "A") if cfg.direction == "AtoB" else ("A", "B")
    images, train_images, test_images = domains[target]
    sources, train_sources, test_sources = domains[source]
    about = (
        f"{len(train_sources):,} images of {source} and {len(train_images):,} of {target} "
        f"({len(test_sources):,} and {len(test_images):,} held out), unpaired, from {home}{notes}"
    )
    used = len(images.indices) + len(sources.indices)
    counts = found.count(used, unreadable)
    levels: Sequence[float] = ()
    if images.levels or sources.levels:
        levels = [level for domain in (sources, images) for level in domain.levels or Levels()]
    return ArrayDataset(
        spec=ImageSpec(images.frame.channels, *cfg.shape, source_channels=sources.frame.channels),
        train_images=SelectedRows(images.pixels, train_images),
        train_labels=None,
        test_images=SelectedRows(images.pixels, test_images),
        test_labels=None,
        source="full",
        about=f"{about}; {counts}",
        fingerprint=decoding.combine_fingerprints(
            images.fingerprint, sources.fingerprint, train_images, test_images, test_sources
        ),
        train_sources=SelectedRows(sources.pixels, train_sources),
        test_sources=SelectedRows(sources.pixels, test_sources),
        levels=levels,
        files=counts,
    )


def _levels_of(cfg: DataConfig, is_source: bool) -> list[float]:
    """Return the levels of the inputs or of the targets."""
    if len(cfg.levels) != 2 * MAX_LEVELS:
        return cfg.levels
    return cfg.levels[:MAX_LEVELS] if is_source else cfg.levels[MAX_LEVELS:]


def is_present(root: Path) -> bool:
    """True if a folder contains two domains or the archive. Raises UserError if ambiguous."""
    return _find_domains(root) is not None or (root / "horse2zebra.zip").is_file()


def _find_domains(root: Path) -> tuple[Path, layouts.DomainFolders] | None:
    if root.is_file():
        root = layouts.resolve_root(str(root))
    for home in (root, root / "horse2zebra"):
        if home.is_dir() and (folders := layouts.find_domains(home)):
            return home, folders
    return None


def find_full(root: Path) -> str:
    """Download horse2zebra into ``root`` if needed; return '' or the reason why it is missing."""
    return download.provide(
        root, _find_domains, lambda: _archive(root), root, "horse2zebra", "trainA"
    )


def _archive(root: Path) -> tuple[Path, str]:
    archive = root / "horse2zebra.zip"
    problem = download.fetch(ARCHIVE_URLS, archive, sha256=SHA256)
    if problem:
        problem = (
            f"no trainA and trainB in {root}, and the download of horse2zebra failed ({problem})"
        )
    return archive, problem
