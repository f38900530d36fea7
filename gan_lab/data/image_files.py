"""Find image files in a folder, and report the files that are skipped."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from gan_lab.data.cache import cache_folder
from gan_lab.data.image_reader import silence_pillow
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import MARKER
from gan_lab.utils.output import find_outputs
from gan_lab.utils.track import track

# fmt: off
SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".ico",
])
# Image formats that Pillow does not decode.
UNSUPPORTED_SUFFIXES = frozenset([
    ".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef",
    ".srw", ".raw", ".psd", ".psb", ".xcf", ".svg", ".eps", ".ai", ".jxl", ".exr", ".hdr",
])
# fmt: on
# The first bytes of image files.
MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*")
MIN_FILES_FOR_PROGRESS = 500


def find_images(
    folder: Path, exclude: Path | None = None, with_outputs: bool = False
) -> list[Path]:
    """Find the image files at any depth, sorted. A warning counts skipped files that may be images.

    Hidden files, runs, the decoded cache and the folder ``exclude`` are ignored. Symbolic links are
    followed, but each folder is visited once, so cycles end.

    Args:
        folder: The folder.
        exclude: A folder to ignore.
        with_outputs: Include images that the lab wrote, such as samples and translations. Otherwise
            they are skipped among other images; without others they are the data.
    """
    skipped: Counter[str] = Counter()
    files = list(_walk_files(folder, exclude, skipped))
    if not with_outputs:
        files = _skip_outputs(files, skipped)
    for path in files:
        suffix = path.suffix.lower()
        if suffix in UNSUPPORTED_SUFFIXES:
            skipped[f"{suffix} (unsupported format: convert to PNG or JPEG)"] += 1
        elif not suffix and _has_magic_number(path):
            skipped["without a file extension (add .png or .jpg)"] += 1
    if skipped:
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(skipped.items()))
        warnings.warn(f"skipped in {folder}: {counts}", stacklevel=2)
    return sorted(path for path in files if path.suffix.lower() in SUFFIXES)


def list_images(source: Path, exclude: Path | None = None) -> list[Path]:
    """Return an image file, or those of a folder. Raises UserError if there are none."""
    paths = [source] if source.is_file() else find_images(source, exclude, with_outputs=True)
    if not paths:
        raise UserError(
            f"no images in {source} (found: {count_suffixes(source)}). Pass an image or a folder "
            "of images."
        )
    return paths


def count_suffixes(folder: Path) -> str:
    """Count the files under a folder by extension, as in '12 .txt, 1 without extension'."""
    suffixes = Counter(
        path.suffix.lower() or "without extension" for path in _walk_files(folder, None, Counter())
    )
    most = sorted(suffixes.items(), key=lambda item: (-item[1], item[0]))[:12]
    return ", ".join(f"{count:,} {suffix}" for suffix, count in most) or "no files"


def _walk_files(folder: Path, exclude: Path | None, skipped: Counter[str]) -> Iterator[Path]:
    cache = cache_folder(folder)
    # A class may be called "cache" too; only the decoded cache has lock files.
    is_decoded_cache = next(cache.glob(".*.lock"), None) is not None
    excluded = (exclude, cache if is_decoded_cache else None)
    visited = {_get_inode(path) for path in excluded if path and path.is_dir()}
    queue = [folder]

    def count_inaccessible(error: OSError) -> None:
        if Path(error.filename) != folder or folder.is_dir():
            skipped[f"inaccessible folder ({Path(error.filename).name})"] += 1

    # Links last: a file that is reachable twice gets the path of its real folder.
    while queue:
        for parent, folders, names in os.walk(queue.pop(0), onerror=count_inaccessible):
            here = Path(parent)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and name != "__MACOSX"
            )
            is_run = here != folder and _is_run_folder(folders, names)
            if is_run:
                skipped[f"folder of gan-lab runs ({here.name})"] += 1
            if _get_inode(here) in visited or is_run:
                folders.clear()
                continue
            visited.add(_get_inode(here))
            queue += [here / name for name in folders if (here / name).is_symlink()]
            for path in (here / name for name in names if not name.startswith(".")):
                if path.is_file():
                    yield path
                elif path.is_symlink() and path.suffix.lower() in SUFFIXES | UNSUPPORTED_SUFFIXES:
                    skipped["broken links"] += 1


def _skip_outputs(files: list[Path], skipped: Counter[str]) -> list[Path]:
    """Return the files without images that the lab wrote, unless it wrote all images."""
    outputs: dict[Path, set[str]] = {}
    for path in files:
        if path.parent not in outputs:
            outputs[path.parent] = find_outputs(path.parent)
    others = [path for path in files if path.name not in outputs[path.parent]]
    count = _count_images(files) - _count_images(others)
    if not count or not _count_images(others):
        return files
    skipped["written by gan-lab"] += count
    return others


def _count_images(files: list[Path]) -> int:
    return sum(path.suffix.lower() in SUFFIXES for path in files)


def _is_run_folder(folders: list[str], names: list[str]) -> bool:
    """True for a run or a folder of runs: their sample grids are not data."""
    return MARKER in names or ("config.yaml" in names and "checkpoints" in folders)


def _has_magic_number(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(MAGIC_NUMBERS)
    except OSError:
        return False


def _get_inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def run_in_threads(
    work: Callable[[int], str | None], n: int, description: str
) -> list[tuple[int, str]]:
    """Call ``work(i)`` for i in 0..n-1; return the indices with a problem, and the problem."""

    def work_on_chunk(indices: range) -> list[tuple[int, str]]:
        problems = ((i, work(i)) for i in indices)
        return [(i, problem) for i, problem in problems if problem is not None]

    chunks = [range(i, min(i + 64, n)) for i in range(0, n, 64)]
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        with silence_pillow():
            results: Iterable[list[tuple[int, str]]] = pool.map(work_on_chunk, chunks)
            is_shown = len(chunks) >= MIN_FILES_FOR_PROGRESS // 64
            problems = []
            for found in track(results, description, len(chunks), shown=is_shown):
                problems += found
            return problems
    finally:
        pool.shutdown(cancel_futures=True)


def survey(root: Path) -> dict[str, str]:
    """Summarize a folder: files by extension, image modes and sizes, and unreadable headers.

    Pixels are not decoded.
    """
    paths = find_images(root)
    modes: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []

    def read_header(i: int) -> str | None:
        try:
            with Image.open(paths[i]) as image:
                modes[image.mode] += 1
                sizes.append(image.size)
        # Pillow can raise anything for a damaged file.
        except Exception as error:
            return type(error).__name__
        return None

    unreadable = run_in_threads(read_header, len(paths), "reading headers")
    facts = {"images": f"{len(paths):,}", "files": count_suffixes(root)}
    if sizes:
        facts["modes"] = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        for name, sides in zip(("widths", "heights"), zip(*sizes, strict=True), strict=True):
            facts[name] = f"{min(sides)} to {max(sides)}, median {int(np.median(sides))}"
    if unreadable:
        facts["unreadable"] = join_names(
            [f"{paths[i].name} ({reason})" for i, reason in unreadable]
        )
    return facts


def join_names(names: list[str], most: int = 3) -> str:
    """Join the first names, and count the rest."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
