"""Find image files in a folder, and account for every file that is not one."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from gan_lab.data.cache import cache_folder, decoded_once, describe_states, hash_file_stats
from gan_lab.data.facts import FileCounts
from gan_lab.data.image_reader import HEIF_BRANDS, UNSUPPORTED_MAGIC_NUMBERS, silence_pillow
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import MARKER_NAME
from gan_lab.utils.output import EXPORT_CONFIG, MANIFEST_NAME, find_outputs, list_recorded
from gan_lab.utils.provenance import SUFFIX, find_recorded_images
from gan_lab.utils.track import track

# fmt: off
IMAGE_SUFFIXES = frozenset([
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".ico",
])
# Image formats that Pillow does not decode.
UNSUPPORTED_SUFFIXES = frozenset([
    ".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef",
    ".srw", ".raw", ".psd", ".psb", ".xcf", ".svg", ".eps", ".ai", ".jxl", ".exr", ".hdr",
])
# fmt: on
# The metadata files of a Hugging Face image folder.
METADATA_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Folders of operating systems and of network storage, such as trash and thumbnails, in lower case.
SYSTEM_FOLDERS = frozenset(
    [
        "__macosx",
        "@eadir",
        "#recycle",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
    ]
)
# The first bytes of formats that Pillow decodes.
MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
# Of more files with one extension, such as captions, an evenly spaced sample is opened.
MAX_SNIFFED_PER_SUFFIX = 1000
MIN_FILES_FOR_PROGRESS = 500

NO_SUFFIX = "without extension"

OTHER_FILES = "other"
HIDDEN_FILES = "hidden"
LABEL_FILES = "metadata"
UNSUPPORTED_FORMAT = "in an unsupported format"
MISNAMED_IMAGES = "images with an unknown extension"
BROKEN_LINKS = "broken links"
SPECIAL_FILES = "no regular files"
REPEATED_LINKS = "links to images that are listed anyway"
UNREADABLE_IMAGES = "unreadable"
GAN_LAB_OUTPUT = "written by gan-lab"
INACCESSIBLE_FOLDERS = "inaccessible folders"
HIDDEN_FOLDERS = "hidden folders"
RUN_FOLDERS = "folders of gan-lab runs"
REPEATED_FOLDERS = "links to folders that are searched anyway"
SINGULAR_FORMS = {
    MISNAMED_IMAGES: "image with an unknown extension",
    BROKEN_LINKS: "broken link",
    SPECIAL_FILES: "no regular file",
    INACCESSIBLE_FOLDERS: "inaccessible folder",
    HIDDEN_FOLDERS: "hidden folder",
    RUN_FOLDERS: "folder of gan-lab runs",
    REPEATED_FOLDERS: "link to a folder that is searched anyway",
}
REASON_HINTS = {
    UNSUPPORTED_FORMAT: "convert to PNG or JPEG",
    MISNAMED_IMAGES: "rename to .png or .jpg",
}
# A warning reports these: images may be lost.
WARNED_REASONS = (
    UNSUPPORTED_FORMAT,
    MISNAMED_IMAGES,
    BROKEN_LINKS,
    INACCESSIBLE_FOLDERS,
    RUN_FOLDERS,
    GAN_LAB_OUTPUT,
)


@dataclass
class Inventory:
    """Everything under a folder: the image files, and the others by the reason they are left out.

    Every file is counted once. The reasons map to details, such as extensions or names, with their
    number of files.
    """

    folder: Path
    # Sorted by their parts, as paths are.
    images: list[str] = field(default_factory=list)
    left_out: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # Folders that were not searched, by reason. Their files are not counted.
    unsearched: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    # Number of files, used or not.
    seen: int = 0
    # The files by extension, without hidden ones.
    suffixes: Counter[str] = field(default_factory=Counter)
    # Metadata files of a Hugging Face image folder, at any depth.
    metadata: list[str] = field(default_factory=list)
    # Images that are symbolic links to another image of the list.
    links: set[str] = field(default_factory=set)
    # The folders with files that may list what the lab wrote.
    folders_with_records: set[Path] = field(default_factory=set)
    # See ``cache.describe_states``, for ``decoding.open_items``; empty if it was not needed.
    states: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [Path(path) for path in self.images]

    @property
    def folders_with_images(self) -> set[str]:
        """The folders that contain images, relative to the folder; '' is the folder itself."""
        start = len(_prefix(self.folder))
        return {path[start:].rpartition(os.sep)[0] for path in self.images}

    def relative(self, path: str) -> str:
        """Return a path relative to the folder."""
        return path[len(_prefix(self.folder)) :]

    def under(self, folder: Path) -> list[str]:
        """Return the images under a folder, which is this one or lies in it."""
        # The paths of the working folder are absolute.
        prefix = _prefix(Path.cwd() / folder if self.folder.is_absolute() else folder)
        return [path for path in self.images if path.startswith(prefix)]

    def use(self, images: Iterable[str], reason: str) -> None:
        """Use these images only. The others are left out for a reason."""
        used = set(images)
        for path in self.images:
            if path not in used:
                first, separator, _ = self.relative(path).partition(os.sep)
                self.left_out[reason][first if separator else suffix_of(path)] += 1
        # Metadata may list files that have no image extension, or lie outside of the folder.
        for path in used.difference(self.images):
            suffix = suffix_of(path)
            counted = [
                r
                for r in (OTHER_FILES, MISNAMED_IMAGES, UNSUPPORTED_FORMAT)
                if self.left_out[r][suffix] > 0
            ]
            if counted and path.startswith(os.path.realpath(self.folder) + os.sep):
                self.left_out[counted[0]][suffix] -= 1
            else:
                self.seen += 1
        self.images = [path for path in self.images if path in used]

    def drop_links(self) -> None:
        """Leave out links to images that are listed: they would be in two classes or splits."""
        if self.links:
            self.left_out[REPEATED_LINKS].update(self.relative(path) for path in self.links)
            self.images = [path for path in self.images if path not in self.links]

    def drop_outputs(self, cache: Path | None = None) -> None:
        """Leave out images that the lab wrote, unless it wrote all images.

        They are recognized by the manifest of their folder, and copies by their own record.

        Args:
            cache: Where the data set is cached. Without one, the header of each PNG file is read.
        """
        marked = self._find_marked(cache)
        recorded = self._list_paths(list_recorded) | marked
        # Files are hashed only if they could be left out.
        if recorded.isdisjoint(self.images) or recorded.issuperset(self.images):
            return
        written = self._list_paths(find_outputs) | marked
        self.use([path for path in self.images if path not in written], GAN_LAB_OUTPUT)

    def _find_marked(self, cache: Path | None) -> set[str]:
        """Return the images with a record of the lab; read unchanged files only once."""
        candidates = [path for path in self.images if path.lower().endswith(SUFFIX)]
        if cache is None or not candidates:
            return find_recorded_images(candidates)
        self.states = describe_states(self.images)

        def find_rows() -> dict[str, np.ndarray]:
            marked = find_recorded_images(candidates)
            return {"rows": np.array([path in marked for path in candidates]).nonzero()[0]}

        key = hash_file_stats(candidates, self.states)
        arrays, _ = decoded_once(cache, "recorded", key, find_rows)
        return {candidates[row] for row in arrays["rows"]}

    def _list_paths(self, find_names: Callable[[Path], set[str]]) -> set[str]:
        """Return the paths of the names that are found in each folder with records."""
        return {
            os.path.join(folder, name)
            for folder in self.folders_with_records
            for name in find_names(folder)
        }

    def warn_of_losses(self) -> None:
        """Warn of files that may be images and are not read."""
        counts = [
            _describe_reason(reason, details)
            for reason, details in (*self.left_out.items(), *self._unsearched_counts())
            if reason in WARNED_REASONS and details.total()
        ]
        if counts:
            warnings.warn(f"skipped in {self.folder}: {', '.join(sorted(counts))}", stacklevel=3)

    def count(self, used: int, unreadable: Iterable[str] = ()) -> FileCounts:
        """Return the account of all files.

        Args:
            used: Number of files that the data set consists of.
            unreadable: The images that failed to decode.
        """
        reasons = {**self.left_out, UNREADABLE_IMAGES: Counter(unreadable)}
        duplicates = reasons.pop(REPEATED_LINKS, Counter())
        return FileCounts(
            seen=self.seen,
            used=used,
            left_out={
                _describe_reason(reason, details, with_count=False): details.total()
                for reason, details in reasons.items()
                if details.total()
            },
            duplicates=duplicates.total(),
            unsearched={
                _describe_reason(reason, details, with_count=False): details.total()
                for reason, details in self._unsearched_counts()
            },
        )

    def describe_suffixes(self) -> str:
        """Describe the files by extension, as in '12 .txt, 1 without extension'."""
        most = sorted(self.suffixes.items(), key=lambda item: (-item[1], item[0]))[:12]
        return ", ".join(f"{count:,} {suffix}" for suffix, count in most) or "no files"

    def _unsearched_counts(self) -> list[tuple[str, Counter[str]]]:
        return [(reason, Counter(names)) for reason, names in self.unsearched.items()]


def _describe_reason(reason: str, details: Counter[str], with_count: bool = True) -> str:
    """Describe why files are left out, as in '3 in an unsupported format (2 .heic; .psd; ...)'."""
    most = sorted(details.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {name}" if count > 1 else name for name, count in most if count]
    notes = [join_and_count(shown), REASON_HINTS.get(reason, "")]
    name = SINGULAR_FORMS.get(reason, reason) if details.total() == 1 else reason
    text = f"{name} ({'; '.join(filter(None, notes))})"
    return f"{details.total():,} {text}" if with_count else text


def _prefix(folder: Path) -> str:
    """Return what the paths of the files in a folder begin with."""
    return os.path.join(folder, "")


def suffix_of(name: str) -> str:
    """Return the extension in lower case, or 'without extension'."""
    return os.path.splitext(name)[1].lower() or NO_SUFFIX


def take_inventory(
    folder: Path,
    exclude: Path | None = None,
    with_outputs: bool = False,
    cache: Path | None = None,
) -> Inventory:
    """Find the image files at any depth, and count all others.

    The folder is searched once, without a system call for each regular file. Hidden folders, runs,
    the decoded cache and the folder ``exclude`` are not searched. Symbolic links are followed, but
    each folder is visited once, so cycles end.

    Args:
        folder: The folder.
        exclude: A folder to ignore.
        with_outputs: See ``find_images``.
        cache: Where the data set is cached, see ``Inventory.drop_outputs``.
    """
    # So that all paths begin with the folder.
    folder = Path.cwd() if str(folder) == "." else folder
    found = Inventory(folder)
    others: defaultdict[str, list[str]] = defaultdict(list)
    inodes: set[tuple[int, int]] = set()
    links: list[tuple[str, tuple[int, int]]] = []
    for entry, device, linked in _walk(folder, exclude, found):
        found.seen += 1
        name = entry.name
        if name in (MANIFEST_NAME, EXPORT_CONFIG):
            found.folders_with_records.add(Path(entry.path).parent)
        if name.startswith("."):
            found.left_out[HIDDEN_FILES][name] += 1
            continue
        _, dot, ending = name.rpartition(".")
        suffix = f".{ending.lower()}" if dot else NO_SUFFIX
        found.suffixes[suffix] += 1
        is_file = stat.S_ISREG(linked.st_mode) if linked else entry.is_file(follow_symlinks=False)
        if not is_file:
            reason = BROKEN_LINKS if linked is None and entry.is_symlink() else SPECIAL_FILES
            found.left_out[reason][found.relative(entry.path)] += 1
        elif suffix in IMAGE_SUFFIXES:
            found.images.append(entry.path)
            if linked:
                links.append((entry.path, (linked.st_dev, linked.st_ino)))
            else:
                inodes.add((device, entry.inode()))
        elif suffix in UNSUPPORTED_SUFFIXES:
            found.left_out[UNSUPPORTED_FORMAT][suffix] += 1
        elif name in METADATA_FILES:
            found.metadata.append(entry.path)
            found.left_out[LABEL_FILES][name] += 1
        else:
            others[suffix].append(entry.path)
    for suffix, paths in others.items():
        for reason, n in _sniff_all(paths).items():
            found.left_out[reason][suffix] = n
    for path, inode in sorted(links):
        if inode in inodes:
            found.links.add(path)
        inodes.add(inode)
    # The order of paths, which are compared by their parts.
    found.metadata.sort()
    # no character sorts before the one that no name contains
    found.images.sort(key=lambda path: path.replace(os.sep, "\0"))
    if not with_outputs:
        found.drop_outputs(cache)
    return found


def find_images(
    folder: Path, exclude: Path | None = None, with_outputs: bool = False
) -> list[Path]:
    """Find the image files at any depth, sorted. A warning counts skipped files that may be images.

    Args:
        folder: The folder, see ``take_inventory``.
        exclude: A folder to ignore.
        with_outputs: Include images that the lab wrote, such as samples and translations. Otherwise
            they are skipped among other images; without others they are the data.
    """
    found = take_inventory(folder, exclude, with_outputs)
    found.warn_of_losses()
    return found.paths


def list_images(source: Path, exclude: Path | None = None) -> list[Path]:
    """Return an image file, or those of a folder. Raises UserError if there are none."""
    if not source.exists():
        raise UserError(f"{source} does not exist. Pass an image or a folder of images.")
    paths = [source] if source.is_file() else find_images(source, exclude, with_outputs=True)
    if not paths:
        raise UserError(
            f"no images in {source} (found: {count_suffixes(source)}). Pass an image or a folder "
            "of images."
        )
    return paths


def count_suffixes(folder: Path) -> str:
    """Count the files under a folder by extension, as in '12 .txt, 1 without extension'."""
    return take_inventory(folder).describe_suffixes()


def _walk(
    folder: Path, exclude: Path | None, found: Inventory
) -> Iterator[tuple[os.DirEntry[str], int, os.stat_result | None]]:
    """Yield every file with the device of its folder and, for a link, the status of its target."""
    cache = cache_folder(folder)
    # A class may be called "cache" too; only the decoded cache has lock files.
    is_decoded_cache = next(cache.glob(".*.lock"), None) is not None
    excluded = (exclude, cache if is_decoded_cache else None)
    # Whether a folder was visited as data.
    visited = {_get_inode(path): False for path in excluded if path and path.is_dir()}
    # Links last: a file that is reachable twice gets the path of its real folder.
    queue = [os.fspath(folder)]
    while queue:
        stack = [queue.pop(0)]
        while stack:
            here = stack.pop()
            name = found.relative(here) or here
            try:
                inode = _get_inode(here)
                if inode in visited:
                    if visited[inode]:
                        found.unsearched[REPEATED_FOLDERS].append(name)
                    continue
                with os.scandir(here) as listing:
                    entries = list(listing)
            except OSError:
                if here != os.fspath(folder) or os.path.isdir(here):
                    found.unsearched[INACCESSIBLE_FOLDERS].append(name)
                continue
            folders, names, files = [], [], []
            for entry in entries:
                target = None
                is_link = entry.is_symlink()
                if is_link:
                    # A broken link, or a cycle of links.
                    with contextlib.suppress(OSError):
                        target = entry.stat()
                if stat.S_ISDIR(target.st_mode) if target else not is_link and entry.is_dir():
                    folders.append((entry.name, is_link))
                else:
                    names.append(entry.name)
                    files.append((entry, inode[0], target))
            if here != os.fspath(folder) and _is_run_folder([name for name, _ in folders], names):
                found.unsearched[RUN_FOLDERS].append(name)
                continue
            visited[inode] = True
            for child, is_link in sorted(folders, reverse=True):
                path = os.path.join(here, child)
                if is_hidden_folder(child):
                    found.unsearched[HIDDEN_FOLDERS].append(found.relative(path))
                elif is_link:
                    queue.append(path)
                else:
                    stack.append(path)
            yield from files


def is_hidden_folder(name: str) -> bool:
    """True for a folder that is hidden or belongs to the system: its images are no data."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _is_run_folder(folders: list[str], names: list[str]) -> bool:
    """True for a run or a folder of runs: their sample grids are not data."""
    return MARKER_NAME in names or ("config.yaml" in names and "checkpoints" in folders)


def _sniff_all(paths: Sequence[str]) -> Counter[str]:
    """Count why the files of an unknown extension are left out, by their first bytes."""
    sample = paths[:: max(1, len(paths) // MAX_SNIFFED_PER_SUFFIX)]
    counts = Counter(map(_sniff, sample))
    if len(sample) == len(paths):
        return counts
    return (
        Counter({OTHER_FILES: len(paths)})
        if counts.keys() == {OTHER_FILES}
        else Counter(map(_sniff, paths))
    )


def _sniff(path: str) -> str:
    """Return why a file of an unknown extension is left out: it may begin like an image."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            if start.startswith(MAGIC_NUMBERS):
                return MISNAMED_IMAGES
            if start.startswith(UNSUPPORTED_MAGIC_NUMBERS) or start[4:].startswith(HEIF_BRANDS):
                return UNSUPPORTED_FORMAT
            if formats := _list_pillow_formats(start):
                file.seek(0)
                with silence_pillow(), Image.open(file, formats=formats):
                    return MISNAMED_IMAGES
    # Pillow can raise anything for a file of another format.
    except Exception:
        return OTHER_FILES
    return OTHER_FILES


def _list_pillow_formats(start: bytes) -> list[str]:
    """List the image formats of Pillow that a file with these first bytes may have."""
    Image.init()
    formats = []
    for name, (factory, accept) in Image.OPEN.items():
        # Videos and scientific containers, which Pillow only identifies.
        is_stub = isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile)
        if accept is None or is_stub or name == "MPEG":
            continue
        with contextlib.suppress(IndexError, struct.error):
            # A text is a reason for which Pillow cannot read the format.
            if accept(start) is True:
                formats.append(name)
    return formats


def _get_inode(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
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
    found = take_inventory(root)
    paths = found.paths
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
    facts = {"extensions": found.describe_suffixes()}
    if sizes:
        facts["modes"] = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        for name, sides in zip(("widths", "heights"), zip(*sizes, strict=True), strict=True):
            facts[name] = f"{min(sides)} to {max(sides)}, median {int(np.median(sides))}"
    if unreadable:
        facts["unreadable"] = join_and_count(
            [f"{paths[i].name} ({reason})" for i, reason in unreadable]
        )
    return facts


def join_names(names: Sequence[str], most: int = 10) -> str:
    """Join up to ``most`` names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def join_and_count(names: list[str], most: int = 3) -> str:
    """Join the first names, and count the rest."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
