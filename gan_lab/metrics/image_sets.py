"""Sets of images to score, from folders, files, arrays, data loaders and data sets."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from gan_lab.data import archives, image_files, image_reader
from gan_lab.data.levels import CONVERT_THEM, choose_levels, inspect_files
from gan_lab.metrics.image_set_metric import to_pixels
from gan_lab.utils.errors import UserError
from gan_lab.utils.provenance import parse_record

ARRAY_SUFFIXES = (".npz", ".npy")
# names that other programs give to the images in an .npz file
ARRAY_NAMES = ("images", "arr_0")
IMAGE_SOURCES = (
    "a folder, a .zip, .npz or .npy file, an array, a tensor, a data set, or batches of images"
)


class ImageSet:
    """Images from anywhere as batches of uint8 [B, C, H, W], all of the same size.

    All batches except the last have ``batch_size`` images, so that the features do not depend on
    the batches of the source.

    Accepted sources:

    - a folder of image files at any depth, or a .zip file of them, in the order of their paths
    - an .npz file with an array ``images`` or ``arr_0``, else its first array; or an .npy file
    - a numpy array or tensor [N, C, H, W], [N, H, W, C] or, if gray, [N, H, W]
    - a torch data set of images, or of tuples that begin with the image
    - an iterable of batches, such as a DataLoader; tuples begin with the images

    Image files are read as RGB, with EXIF orientation applied and transparency over white; for more
    than 8 bits, see ``share_levels``. Arrays
    are uint8 in [0, 255] or, with ``normalize``, floats in [0, 1].

    Args:
        source: The images.
        name: Name of the set in errors, such as "fakes".
        batch_size: Images in each batch.
        normalize: Whether floats in [0, 1] are accepted.
    """

    def __init__(self, source: Any, name: str, batch_size: int, normalize: bool) -> None:
        self.source = source
        self.name = name
        self.batch_size = batch_size
        self.normalize = normalize
        # [C, H, W], known from the first image
        self.shape: list[int] = []
        self.count = 0
        self.description = _describe(source)
        # of image files with more than 8 bits, see ``share_levels``
        self.levels: image_reader.Levels | None = None
        # label of the first image, for the error about another size
        self._first = ""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the batches.

        Raises:
            UserError: The source cannot be read, or its images differ in size.
        """
        self.count = 0
        self.shape = []
        waiting: list[Tensor] = []
        for images, label in self._read():
            self._check_shape(images, label)
            # Another memory layout would change the last bits of the features.
            images = images.contiguous()
            self.count += len(images)
            waiting.append(images)
            while sum(map(len, waiting)) >= self.batch_size:
                joined = torch.cat(waiting)
                yield joined[: self.batch_size]
                rest = joined[self.batch_size :]
                waiting = [rest] if len(rest) else []
        if waiting:
            yield torch.cat(waiting)

    def _check_shape(self, images: Tensor, label: str) -> None:
        shape = list(images.shape[1:])
        if not self.shape:
            self.shape = shape
            self._first = label or "image 0"
        elif self.shape != shape:
            raise UserError(
                f"The {self.name} differ in size: {label or f'image {self.count}'} is {shape}, "
                f"{self._first} is {self.shape} (channels, height, width). Resize them to one size."
            )

    def _read(self) -> Iterator[tuple[Tensor, str]]:
        """Yield images uint8 [B, C, H, W] of any B, and a label of the first one for errors."""
        source = self.source
        if isinstance(source, str | Path):
            yield from self._read_path(Path(source).expanduser())
        elif isinstance(source, np.ndarray | Tensor):
            yield from self._split(source)
        elif isinstance(source, Dataset) and not isinstance(source, IterableDataset):
            yield from self._read_data_set(source)
        elif isinstance(source, Iterable):
            for item in source:
                yield self._to_batch(_first_of(item)), ""
        else:
            raise UserError(
                f"The {self.name} are of the type {type(source).__name__}. Pass {IMAGE_SOURCES}."
            )

    def inspect(self) -> np.ndarray:
        """Return the ``ImageFacts`` of the image files [N, 6]; of other sources, N is 0.

        Raises:
            UserError: The folder or zip file has no images, or the zip file is damaged.
        """
        path = Path(self.source).expanduser() if isinstance(self.source, str | Path) else None
        if path and path.is_dir():
            return inspect_files(self._files)
        if path and path.is_file() and path.suffix.lower() == ".zip":
            with self._open_zip(path) as (archive, members):
                facts = []
                for member in members:
                    with archive.open(member) as file:
                        facts.append(image_reader.inspect_image(file))
            return np.array(facts)
        return inspect_files([])

    @cached_property
    def _files(self) -> list[Path]:
        """The image files of a folder."""
        folder = Path(self.source).expanduser()
        # samples of the lab among photos are no reals
        paths = image_files.find_images(folder, with_outputs=self.name != "reals")
        if not paths:
            raise UserError(
                f"The {self.name} folder has no images: {folder} contains "
                f"{image_files.count_suffixes(folder)}. Pass a folder of image files."
            )
        return paths

    def _read_path(self, path: Path) -> Iterator[tuple[Tensor, str]]:
        if path.is_dir():
            for file in self._files:
                yield self._read_image(file, str(file)), str(file)
        elif not path.is_file():
            raise UserError(f"The {self.name} do not exist: {path}. Pass {IMAGE_SOURCES}.")
        elif path.suffix.lower() == ".zip":
            yield from self._read_zip(path)
        elif path.suffix.lower() in ARRAY_SUFFIXES:
            yield from self._split(self._load_array(path))
        else:
            raise UserError(f"The {self.name} cannot be read: {path}. Pass {IMAGE_SOURCES}.")

    def _read_image(self, path: Path, label: str) -> Tensor:
        """Read an image file as uint8 [1, 3, H, W]; ``label`` names it in errors."""
        try:
            return torch.from_numpy(image_reader.read_image(path, self.levels))[None]
        except image_reader.UnreadableError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise UserError(
                f"The {self.name} contain an unreadable image: {label} ({reason}). Remove or "
                "replace it."
            ) from None

    def _read_zip(self, path: Path) -> Iterator[tuple[Tensor, str]]:
        with self._open_zip(path) as (archive, members):
            for member in members:
                label = f"{path}: {member.filename}"
                # Extract one file at a time, so that a large archive does not fill the disk.
                with tempfile.TemporaryDirectory() as folder:
                    image = self._read_image(Path(archive.extract(member, folder)), label)
                yield image, label

    @contextmanager
    def _open_zip(self, path: Path) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
        """Open a zip file, and list its images; UserError if it has none or is damaged."""
        self._check_archive(archives.describe_problem(path, "pass"))
        try:
            with zipfile.ZipFile(path) as archive:
                self._check_archive(archives.check_contents(path, archive, "pass"))
                members = [each for each in archive.infolist() if _is_image_member(each.filename)]
                if not members:
                    raise UserError(
                        f"The {self.name} file has no images: {path}. Pass a .zip file of image "
                        "files."
                    )
                if self.name == "reals":
                    members = _drop_outputs(archive, members)
                yield archive, sorted(members, key=lambda member: Path(member.filename))
        except UserError:
            raise
        except archives.DAMAGE_ERRORS as error:
            if isinstance(error, OSError) and error.errno in archives.WRITE_ERRORS:
                raise
            self._check_archive(f"{path} is damaged ({error}). {archives.COPY_IT}.")

    def _check_archive(self, problem: str) -> None:
        """Raise UserError if an archive has a problem."""
        if problem:
            raise UserError(f"The {self.name} cannot be read: {problem}")

    def _load_array(self, path: Path) -> np.ndarray:
        try:
            loaded = np.load(path, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                names = loaded.files
                if not names:
                    raise UserError(
                        f"The {self.name} file has no arrays: {path}. Pass an .npz file of images."
                    )
                name = next((name for name in ARRAY_NAMES if name in names), names[0])
                array: np.ndarray = loaded[name]
                return array
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"The {self.name} cannot be read: {path} ({error}). Pass a valid {path.suffix} "
                "file."
            ) from None

    def _split(self, images: np.ndarray | Tensor) -> Iterator[tuple[Tensor, str]]:
        for i in range(0, len(images), self.batch_size):
            yield self._to_batch(images[i : i + self.batch_size]), ""

    def _read_data_set(self, data_set: Any) -> Iterator[tuple[Tensor, str]]:
        if not hasattr(data_set, "__len__"):
            raise UserError(
                f"The {self.name} have no length: {type(data_set).__name__}. Pass a DataLoader of "
                "it."
            )
        fetch_rows = getattr(data_set, "__getitems__", None)
        for i in range(0, len(data_set), self.batch_size):
            rows = list(range(i, min(i + self.batch_size, len(data_set))))
            items = fetch_rows(rows) if fetch_rows else [data_set[row] for row in rows]
            if isinstance(items, list):
                for item in items:
                    yield self._to_batch(_first_of(item)), ""
            else:
                # The lab's data sets return whole batches.
                yield self._to_batch(_first_of(items)), ""

    def _to_batch(self, images: Any) -> Tensor:
        """Convert a batch, or a single image, to uint8 [B, C, H, W]."""
        if isinstance(images, Image.Image):
            images = np.array(images.convert("RGB"))[None]
        elif isinstance(images, np.ndarray | Tensor) and images.ndim == 3:
            images = (
                images[:, None]
                if isinstance(self.source, np.ndarray | Tensor | str | Path)
                else images[None]
            )
        if not isinstance(images, np.ndarray | Tensor):
            raise UserError(
                f"The {self.name} contain {type(images).__name__} objects. Pass {IMAGE_SOURCES}."
            )
        # Copy, because torch warns about read-only arrays that are mapped from a file.
        batch = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images
        if batch.ndim == 4 and batch.shape[1] not in (1, 3) and batch.shape[3] in (1, 3):
            batch = batch.permute(0, 3, 1, 2)
        try:
            return to_pixels(batch.detach(), self.normalize)
        except UserError as error:
            raise UserError(f"The {self.name} cannot be used. {error}") from None


def share_levels(*sets: ImageSet) -> None:
    """Read all images with more than 8 bits at one scale, inferred from the files of all sets.

    Raises:
        UserError: The range of the values is ambiguous, or a source cannot be read.
    """
    facts = np.concatenate([each.inspect() for each in sets])
    subject = " and ".join(each.description for each in sets)
    levels, _ = choose_levels(None, facts, subject, CONVERT_THEM)
    for each in sets:
        each.levels = levels


def _first_of(item: Any) -> Any:
    """Return the images of a batch that may also have labels."""
    return item[0] if isinstance(item, tuple | list) and len(item) else item


def _is_image_member(name: str) -> bool:
    """Return True for an image in a zip file that is neither hidden nor a macOS resource."""
    path = Path(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in image_files.IMAGE_SUFFIXES and not hidden


def _drop_outputs(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]
) -> list[zipfile.ZipInfo]:
    """Leave out images that the lab wrote, unless it wrote all of them, as in folders."""
    others = []
    for member in members:
        with archive.open(member) as file:
            if parse_record(file) is None:
                others.append(member)
    if others and len(others) < len(members):
        warnings.warn(
            f"skipped in {archive.filename}: {len(members) - len(others):,} written by gan-lab",
            stacklevel=2,
        )
    return others or members


def _describe(source: Any) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, np.ndarray | Tensor):
        kind = "array" if isinstance(source, np.ndarray) else "tensor"
        return f"{kind} {list(source.shape)}"
    return f"{type(source).__module__}.{type(source).__qualname__}"
