"""Anyone's image files: found under a folder, and each read as RGB or refused with its name and the reason."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from gan_lab.data.cache import cache_folder

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".avif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".jp2",
        ".ico",
    ]
)
MANY = 500  # files that take long enough for a progress line


class UnreadableError(ValueError):
    """A file that holds no image, or not the whole of one."""


def find(folder: Path, apart_from: Path | None = None) -> list[Path]:
    """Every file with the name of an image, at any depth, sorted.

    Hidden ones are left out, and so are the decoded cache and the folder ``apart_from``. Links are followed, each
    folder is entered once: a link to a folder above ends there.
    """
    return sorted(path for path in _every(folder, apart_from) if path.suffix.lower() in SUFFIXES)


def seen(folder: Path) -> str:
    """What lies under a folder by the ending of the names, as '12 .txt, 1 without ending'."""
    endings = Counter(path.suffix.lower() or "without ending" for path in _every(folder, None))
    most = sorted(endings.items(), key=lambda item: (-item[1], item[0]))[:12]
    return ", ".join(f"{count:,} {ending}" for ending, count in most) or "no files at all"


def _every(folder: Path, apart_from: Path | None) -> Iterator[Path]:
    cache = cache_folder(folder)
    left_out = (apart_from, cache if next(cache.glob(".*.lock"), None) else None)  # a class may be called cache too
    entered = {_identity(other) for other in left_out if other and other.is_dir()}
    waiting = [folder]
    while waiting:  # links last, so that a file is known by its own folder's name
        for place, folders, names in os.walk(waiting.pop(0)):
            here = Path(place)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            if _identity(here) in entered:
                folders.clear()
                continue
            entered.add(_identity(here))
            waiting += [here / name for name in folders if (here / name).is_symlink()]
            yield from (here / name for name in names if not name.startswith(".") and (here / name).is_file())


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def read(path: Path) -> np.ndarray:
    """An image of any mode as uint8 RGB [3, H, W]. Raises UnreadableError, which names the file."""
    with quiet():
        return np.array(opened(path)).transpose(2, 0, 1)


def square(path: Path, size: int, crop: int | None = None) -> np.ndarray:
    """The middle of an image as uint8 RGB [3, size, size]: the largest square, or that of ``crop`` pixels if it has it.

    Resized with antialias, as the whole image would be. Raises UnreadableError. Pillow's warnings are the caller's to silence, by ``quiet``.
    """
    return squared(opened(path, least=0 if crop else 2 * size), size, crop)


def squared(image: Image.Image, size: int, crop: int | None = None) -> np.ndarray:
    """The middle of an RGB image as uint8 [3, size, size]."""
    side = min(*image.size, crop or image.width)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    if crop:
        left, top = round(left), round(top)  # whole pixels: a crop of the right size is not interpolated
    box = (left, top, left + side, top + side)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


def opened(path: Path, least: int = 0) -> Image.Image:
    """An image as RGB, turned as its EXIF says, transparency over white; 16-bit levels are scaled to 8 bits.

    With ``least``, large JPEG files may be read at a fraction of their size, not below so many pixels a side. Pillow's
    limit on pixels holds, its warning included. Raises UnreadableError.
    """
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit and image.width * image.height > limit:
                raise ValueError(f"{image.width} x {image.height} is more than {limit:,} pixels")
            if least:
                image.draft(None, (least, least))
            with contextlib.suppress(KeyError, TypeError, SyntaxError, ZeroDivisionError):  # EXIF that is not EXIF
                ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except Exception as error:  # a damaged file makes Pillow raise whatever it meets
        reason = str(error).replace(str(path), "").replace(" ''", "").strip() or type(error).__name__
        raise UnreadableError(f"{path}: {reason.splitlines()[0]}") from None


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit or 32-bit gray, which Pillow would clip
        levels = np.nan_to_num(np.asarray(image, dtype=np.float64))
        tops = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0,)
        peak = levels.max(initial=0)
        top = next((top for top in tops if peak <= top), peak)
        image = Image.fromarray((levels * (255 / top)).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        solid = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert("RGB")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings about files that can be read all the same. Not to be entered by several threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def in_threads(work: Callable[[int], str | None], n: int, description: str) -> list[tuple[int, str]]:
    """Call ``work`` for 0..n-1, and return those for which it has something to say, with what it says."""

    def share(numbers: range) -> list[tuple[int, str]]:
        said = ((number, work(number)) for number in numbers)
        return [(number, words) for number, words in said if words is not None]

    shares = [range(i, min(i + 64, n)) for i in range(0, n, 64)]
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        with quiet():
            done: Iterable[list[tuple[int, str]]] = pool.map(share, shares)
            line = track(
                done,
                description,
                len(shares),
                console=Console(stderr=True, markup=False),
                transient=True,
                disable=n < MANY,
            )
            return [one for said in line for one in said]
    finally:
        pool.shutdown(cancel_futures=True)


def survey(root: Path) -> dict[str, str]:
    """What lies under a folder: files by ending, and of the images the modes, the sizes and which have no readable
    header. The pixels themselves are not looked at."""
    paths = find(root)
    modes: Counter[str] = Counter()
    sizes: list[tuple[int, int]] = []

    def look(number: int) -> str | None:
        try:
            with Image.open(paths[number]) as image:
                modes[image.mode] += 1
                sizes.append(image.size)
        except Exception as error:  # as in opened()
            return type(error).__name__
        return None

    bad = in_threads(look, len(paths), "looking")
    found = {"images": f"{len(paths):,}", "files": seen(root)}
    if sizes:
        found["modes"] = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        for name, sides in zip(("widths", "heights"), zip(*sizes, strict=True), strict=True):
            found[name] = f"{min(sides)} to {max(sides)}, median {int(np.median(sides))}"
    if bad:
        found["unreadable"] = listed([f"{paths[number].name} ({reason})" for number, reason in bad])
    return found


def listed(names: list[str], most: int = 3) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
