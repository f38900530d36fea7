"""Data sets passed from Python, as in ``gan_lab.train(experiment, data=my_dataset)``.

Their ``data.name`` is ``python``.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from gan_lab.batches import IMAGE_KEYS
from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.image_files import join_names
from gan_lab.data.pixel_store import PixelStore, is_image
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError
from gan_lab.utils.track import track

DATA_NAME = "python"  # data.name of such a run
MIN_IMAGES = 4  # two to train on, one to validate and one to test
MIN_IMAGES_WITH_BAR = 3_000  # from which reading shows a progress bar
USUAL_SIZE, MAX_NATIVE_SIZE = 64, 128  # in pixels, see ``usual_size``

# stricter than gan_lab.batches: a column named y or target of a table may be anything
LABEL_KEYS = ("label", "labels")


class Item(NamedTuple):
    """One image as the data set returns it; ``source`` is the input of an image-to-image pair."""

    image: Any
    label: Any = None
    source: Any = None


@dataclass(frozen=True)
class Split:
    """One map-style data set: the number of items, how to read item i, and the label names."""

    count: int
    read: Callable[[int], Any]
    class_names: Sequence[str]
    type_name: str
    license: str = ""


def decode_dataset(dataset: Any, cfg: DataConfig, test: Any = None) -> ArrayDataset:
    """Read a data set from Python into uint8 arrays of ``data.size``.

    Every item is read once, in order, and kept as uint8 in memory. Random transforms are therefore
    applied once, under a fixed seed, and not again in each epoch: augment with ``data.flip``,
    ``data.jitter`` or ``augment.policy``. Reading is repeated at each start and at the final
    evaluation; the fingerprint of pixels and labels shows whether the data set is still the same.

    Args:
        dataset: One of

            - a map-style data set (torchvision, ``torch.utils.data.Dataset``, Hugging Face
              ``datasets.Dataset``), or a list, of images, (image, label) or mappings with the keys
              ``image`` and ``label``;
            - an array or tensor of images [N, H, W], [N, H, W, C] or [N, C, H, W];
            - a tuple (images, labels) of arrays or sequences;
            - for image-to-image translation: items (source, target), mappings with the keys
              ``source`` and ``target``, or a tuple of two arrays; or, unpaired, a dict of two data
              sets ``{"A": ..., "B": ...}``;
            - a dict, or a ``datasets.DatasetDict``, of the splits ``train``, ``validation`` and
              ``test``.

            Images are PIL images, uint8 or boolean arrays, or floats in [0, 1] or [-1, 1]. Labels
            are integers;
            they are renumbered 0..K-1 in ascending order.
        cfg: The data config; ``size``, ``width``, ``fit``, ``channels``, ``labels``, ``direction``
            and ``cache_gb``
            apply.
        test: A data set of the same kind that is held out. Without it and without a validation or
            test split, 10% is
            held out, stratified by label.

    Returns:
        The data set, as every other ``decode`` returns it.

    Raises:
        UserError: for a data set that cannot be read by index, items of different types, fewer than
            4 images, labels that are not integers, and pixels that are NaN or in no clear range.
    """
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: a data set passed from Python has no sample. Remove data.source."
        )
    if _is_unpaired(dataset):
        return _decode_unpaired(dataset, cfg, test)
    splits = find_splits(dataset, test)
    count = sum(split.count for split in splits.values())
    if count < MIN_IMAGES:
        raise UserError(f"data: {count} images are too few. Pass at least {MIN_IMAGES}.")

    images, sources = PixelStore(count, cfg), PixelStore(count, cfg)
    labels: list[int] = []
    first: Item | None = None
    first_raw: Any = None
    with _fixed_randomness():
        for index, raw in enumerate(_read_all(splits, count)):
            item = _parse_item(raw, index, cfg)
            if first is None:
                first, first_raw = item, raw
            _check_same_form(item, first, index)
            images.add(index, item.image)
            if item.source is not None:
                sources.add(index, item.source)
            if item.label is not None:
                labels.append(_to_int(item.label, index))
    assert first is not None

    pixels = images.finish()
    source_pixels = None if first.source is None else sources.finish()
    train_count = splits["train"].count
    names, numbers = _number_classes(labels, splits, train_count)
    validation = None
    if len(splits) == 1:
        train, held_out = decoding.split_train_test(count, numbers)
    else:
        train, held_out = np.arange(train_count), np.arange(train_count, count)
        if "validation" in splits and "test" in splits:
            validation = np.arange(splits["validation"].count)

    notes = [f"labels: {join_names(names)}"] if names else []
    if labels and not names:
        notes.append("one class only, so the labels are not used")
    if cfg.labels and not labels and (ignored := _list_other_columns(first_raw)):
        notes.append(f"no column {' or '.join(LABEL_KEYS)}; ignored: {join_names(ignored)}")
    notes += images.notes
    digests = decoding.hash_rows(pixels)
    copies = decoding.describe_copies(digests[train], digests[held_out])
    copies += decoding.describe_conflicts(digests, numbers)
    about = (
        f"{len(train):,} {'images' if source_pixels is None else 'pairs'} passed from Python "
        f"({splits['train'].type_name}), {len(held_out):,} held "
        f"out{''.join(f'; {note}' for note in notes)}{copies}"
    )
    hashes = [_hash_array(part) for part in (pixels, source_pixels) if part is not None]
    has_sources = source_pixels is not None
    return ArrayDataset(
        spec=ImageSpec(
            pixels.shape[1],
            *cfg.shape,
            classes=len(names),
            source_channels=0 if source_pixels is None else source_pixels.shape[1],
            pairs="all" if has_sources else "none",
        ),
        train_images=SelectedRows(pixels, train),
        train_labels=None if numbers is None else numbers[train],
        test_images=SelectedRows(pixels, held_out),
        test_labels=None if numbers is None else numbers[held_out],
        source="full",
        about=about,
        fingerprint=decoding.combine_fingerprints(*hashes, train, held_out, validation, numbers),
        train_sources=None if source_pixels is None else SelectedRows(source_pixels, train),
        test_sources=None if source_pixels is None else SelectedRows(source_pixels, held_out),
        class_names=names,
        validation=validation,
        license=splits["train"].license,
    )


def usual_size(dataset: Any) -> int:
    """Return the default ``data.size``: that of small square images, else 64 pixels.

    Reads the first image only.
    """
    if _is_unpaired(dataset):
        dataset = next(iter(dataset.values()))
    with _fixed_randomness():
        first = _parse_item(
            find_splits(dataset)["train"].read(0), 0, DataConfig(labels=False)
        ).image
    width, height = PixelStore(1, DataConfig()).to_pil(first, 0).size
    return height if height == width <= MAX_NATIVE_SIZE else USUAL_SIZE


def find_splits(dataset: Any, test: Any = None) -> dict[str, Split]:
    """Return ``train`` and, where they are given, ``validation`` and ``test``, in this order.

    Raises UserError for a dict without a split ``train``, and for two test splits.
    """
    found: dict[str, Any] = {"train": dataset}
    if isinstance(dataset, Mapping):
        found = layouts.match_splits(dataset)
        if "train" not in found:
            has = join_names([str(key) for key in dataset])
            raise UserError(
                f"data: a dict with the keys {has}, but without train. Pass the data set to train "
                f"on, such as data=splits[{next(iter(dataset), '...')!r}], or a dict with train, "
                "validation and test."
            )
    if test is not None:
        if "test" in found:
            raise UserError(
                "data: the dict has a split test, and test= is given as well. Pass one of them."
            )
        found["test"] = test
    splits = {name: open_split(found[name], name) for name in layouts.SPLIT_NAMES if name in found}
    empty = [name for name, split in splits.items() if not split.count]
    if empty:
        raise UserError(
            f"data: the split {empty[0]} has no items. Remove it, or pass one that has."
        )
    return splits


def open_split(dataset: Any, name: str) -> Split:
    """Describe how to read one data set. Raises UserError for what cannot be read by index."""
    kind = type(dataset).__name__
    if isinstance(dataset, str | Path):
        raise UserError(
            f"data: {str(dataset)!r} is a path. Set data.name=folder and data.root={dataset} "
            "instead."
        )
    if isinstance(dataset, DataLoader):
        raise UserError("data: a DataLoader returns batches. Pass its data set: loader.dataset.")
    can_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    is_table = hasattr(dataset, "iloc")  # of pandas, whose index is a column
    if isinstance(dataset, IterableDataset | Mapping | bytes) or is_table or not can_index:
        raise UserError(
            f"data: the {name} split has the type {kind}, which cannot be read by index. Pass a "
            "map-style data set with __len__ and __getitem__, a list or an array."
        )
    names = find_class_names(dataset)
    license_text = str(getattr(getattr(dataset, "info", None), "license", None) or "")
    if not _is_pair_of_columns(dataset):
        _check_array_of_images(dataset)
        return Split(len(dataset), dataset.__getitem__, names, kind, license_text)
    images, seconds = dataset
    _check_array_of_images(images)
    if len(images) != len(seconds):
        raise UserError(
            f"data: a tuple of {len(images):,} images and {len(seconds):,} labels. Pass equally "
            "many."
        )
    return Split(
        len(images), lambda i: (images[i], seconds[i]), names, type(images).__name__, license_text
    )


def _check_array_of_images(dataset: Any) -> None:
    if _is_array(dataset) and dataset.ndim not in (3, 4):
        raise UserError(
            f"data: an array of the shape {list(dataset.shape)}. Pass images [N, H, W] or [N, C, "
            "H, W]."
        )


def find_class_names(dataset: Any) -> list[str]:
    """Return the label names: ``dataset.classes``, or those of a Hugging Face ClassLabel.

    ``Subset`` and ``ConcatDataset`` are looked through.
    """
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        names = next(
            (getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), None
        )
        return [str(name) for name in names or ()]
    classes = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        return [", ".join(name) if isinstance(name, tuple) else str(name) for name in classes]
    inner = getattr(dataset, "dataset", None) or next(
        iter(getattr(dataset, "datasets", None) or ()), None
    )
    return [] if inner is None else find_class_names(inner)


def _is_unpaired(dataset: Any) -> bool:
    """True for a dict of two domains, ``{"A": ..., "B": ...}``."""
    return isinstance(dataset, Mapping) and {str(key).upper() for key in dataset} == {"A", "B"}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _is_pair_of_columns(dataset: Any) -> bool:
    """True for (images, labels) and (sources, targets), as opposed to a sequence of two items."""
    if not isinstance(dataset, tuple) or len(dataset) != 2 or isinstance(dataset[0], Image.Image):
        return False
    return all(hasattr(column, "__len__") and hasattr(column, "__getitem__") for column in dataset)


def _read_all(splits: Mapping[str, Split], count: int) -> Iterator[Any]:
    """Yield every item of every split, with a progress bar if there are many."""

    def items() -> Iterator[Any]:
        for split in splits.values():
            for index in range(split.count):
                yield split.read(index)

    yield from track(
        items(), f"reading {count:,} images", count, shown=count >= MIN_IMAGES_WITH_BAR
    )


def _parse_item(raw: Any, index: int, cfg: DataConfig) -> Item:
    """Find image, label and source in an item of a data set. Raises UserError without an image."""
    item = _split_item(raw, index)
    if item.source is not None and cfg.direction == "BtoA":
        item = item._replace(image=item.source, source=item.image)
    for image in (item.image, item.source):
        if np.ma.is_masked(image):
            raise UserError(
                f"data: item {index:,} is a masked array, whose mask would be ignored. Pass "
                "array.filled(value)."
            )
        if (image is not None or item.image is None) and not is_image(image):
            shape = f" of the shape {list(image.shape)}" if _is_array(image) else ""
            raise UserError(
                f"data: item {index:,} has the type {type(image).__name__}{shape}, which is no "
                "image. Return a PIL image, an array or a tensor, alone or as (image, label)."
            )
    return item if cfg.labels else item._replace(label=None)


def _split_item(raw: Any, index: int) -> Item:
    if isinstance(raw, Mapping) and not is_image(raw):
        if "source" in raw and "target" in raw:
            return Item(raw["target"], None, raw["source"])
        key = next((key for key in IMAGE_KEYS if key in raw), None)
        if key is None:
            raise UserError(
                f"data: item {index:,} has the keys {join_names([str(key) for key in raw])}. Name "
                f"the image {IMAGE_KEYS[0]} and the label {LABEL_KEYS[0]}, or the images of a pair "
                "source and target."
            )
        return Item(raw[key], next((raw[key] for key in LABEL_KEYS if key in raw), None))
    if isinstance(raw, tuple | list):
        if len(raw) == 1:
            return Item(raw[0])
        if len(raw) != 2:
            raise UserError(
                f"data: item {index:,} has {len(raw)} parts. Return (image, label) or (source, "
                "target)."
            )
        image, second = raw
        return Item(second, None, image) if is_image(second) else Item(image, second)
    return Item(raw)


def _list_other_columns(raw: Any) -> list[str]:
    """List the keys of an item that are not read, which may be labels of another name."""
    if not isinstance(raw, Mapping) or is_image(raw) or "source" in raw:
        return []
    image = next((key for key in IMAGE_KEYS if key in raw), None)
    return [str(key) for key in raw if key != image]


def _check_same_form(item: Item, first: Item, index: int) -> None:
    for part in ("label", "source"):
        has = getattr(item, part) is not None
        if has != (getattr(first, part) is not None):
            does = (
                f"has a {part}, but item 0 has none"
                if has
                else f"has no {part}, but item 0 has one"
            )
            raise UserError(f"data: item {index:,} {does}. Return items of one form.")


def _to_int(label: Any, index: int) -> int:
    """Convert a label to an integer. Raises UserError for other types, and for -1 (unknown)."""
    value = label.item() if _is_array(label) and int(np.prod(label.shape)) == 1 else label
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int) or value > np.iinfo(np.int64).max:
        shown = f"an array of the shape {list(value.shape)}" if _is_array(value) else repr(value)
        remedy = (
            "Number texts with dataset.class_encode_column"
            if isinstance(value, str)
            else "Convert labels"
        )
        raise UserError(
            f"data: the label of item {index:,} is {shown}, not an integer. {remedy}, or hide them "
            "with data.labels=false."
        )
    if value < 0:
        raise UserError(
            f"data: the label of item {index:,} is {value}. Remove unlabeled items, or hide labels "
            "with data.labels=false."
        )
    return int(value)


def _number_classes(
    labels: Sequence[int], splits: Mapping[str, Split], train_count: int
) -> tuple[list[str], np.ndarray | None]:
    """Renumber labels to 0..K-1.

    Returns:
        The K names and the labels [N] int64; an empty list and None for fewer than two classes.
    """
    if not labels:
        return [], None
    raw = np.array(labels, dtype=np.int64)
    values, numbers = np.unique(raw, return_inverse=True)
    unseen = np.setdiff1d(values, raw[:train_count])
    if len(unseen):
        raise UserError(
            f"data: {join_names([f'label {value}' for value in unseen])} is held out, but no "
            "training image has it. Remove these images, or add some to the training split."
        )
    known = splits["train"].class_names
    if known and values[-1] >= len(known):
        raise UserError(
            f"data: label {values[-1]}, but the data set names {len(known)} classes. Correct one "
            "of them."
        )
    if len(values) < 2:
        return [], None
    return [known[value] if known else str(value) for value in values], numbers.astype(np.int64)


def _decode_unpaired(dataset: Mapping[Any, Any], cfg: DataConfig, test: Any) -> ArrayDataset:
    """Decode two data sets whose images do not correspond, for CycleGAN and CUT."""
    if test is not None:
        raise UserError(
            "data: test= and a dict of A and B. Pass a dict with train and test as A, and as B."
        )
    sides = {
        str(key).upper(): decode_dataset(side, replace(cfg, labels=False))
        for key, side in sorted(dataset.items())
    }
    if any(side.spec.source_channels for side in sides.values()):
        raise UserError(
            "data: A and B hold pairs of images. Pass images alone, or one data set of pairs."
        )
    source, target = (
        (sides["A"], sides["B"]) if cfg.direction == "AtoB" else (sides["B"], sides["A"])
    )
    return replace(
        target,
        spec=replace(target.spec, source_channels=source.spec.channels),
        about=f"A: {sides['A'].about}; B: {sides['B'].about}; unpaired",
        fingerprint=decoding.combine_fingerprints(target.fingerprint, source.fingerprint),
        train_sources=source.train_images,
        test_sources=source.test_images,
        validation=None,
    )


def _hash_array(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _fixed_randomness() -> Iterator[None]:
    """Seed the global random generators and restore them, so that random transforms repeat."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
