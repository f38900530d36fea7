"""Data sets in the formats of Hugging Face's ``datasets``, read from disk: nothing is downloaded.

``data.root`` is a folder (or a zip file of one) of one of these kinds:

- a data set or ``DatasetDict`` that ``save_to_disk`` wrote;
- Parquet files, as data sets lie on the Hub: ``data/train-00000-of-00001.parquet``; or one such
  file;
- image files with ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``, whose column
  ``file_name`` names the images.

The splits train, validation and test are kept; without them 10% is held out. Labels are the column
``label``, or the only other column that is categorical; they may be text.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_lab.batches import IMAGE_KEYS
from gan_lab.config.schema import DataConfig
from gan_lab.data import decoding, from_python, image_files, layouts
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import USER_DATA_CACHE, Arrays, decoded_once, hash_file_stats
from gan_lab.data.folder import check_held_out_classes
from gan_lab.data.from_python import LABEL_KEYS
from gan_lab.data.image_files import join_names
from gan_lab.data.split import SelectedRows
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError, first_line, import_extra

SIZE = 64  # usual, in pixels
SAVE_TO_DISK_FILES = (
    "dataset_dict.json",
    "state.json",
)  # of DatasetDict.save_to_disk, and of Dataset.save_to_disk
FILE_NAME = "file_name"  # the column of image_files.METADATA
LAYOUT = (
    "a data set written by save_to_disk, Parquet files, or images with metadata.csv, "
    "metadata.jsonl or metadata.parquet; data.name=folder reads images without metadata"
)
SPLIT_OF_FILE = re.compile(
    r"(?:^|[-_./])("
    + "|".join(alias for aliases in layouts.SPLIT_NAMES.values() for alias in aliases)
    + r")(?=[-_./\d]|$)"
)


def decode(cfg: DataConfig) -> ArrayDataset:
    """Read the data set under ``data.root``. Raises UserError if there is none."""
    if cfg.source == "sample":
        raise UserError(
            "data.source=sample: data.name=huggingface has no sample. Set data.root to a folder."
        )
    path = Path(cfg.root)
    if path.is_file() and path.suffix.lower() == ".parquet":
        return _decode_tables(cfg, path)
    root = layouts.resolve_root(cfg.root)
    if any((root / name).is_file() for name in SAVE_TO_DISK_FILES):
        return _decode_tables(cfg, root)
    found = image_files.take_inventory(root, cache=USER_DATA_CACHE)
    if found.metadata:
        return _decode_image_folder(cfg, found)
    if _find_parquet(root):
        return _decode_tables(cfg, root)
    raise UserError(
        f"data.root={cfg.root}: no data set (found: {found.describe_suffixes()}). "
        f"Expected {LAYOUT}."
    )


# ------------------------------------------------------------------------------------------------
# image files with metadata


def _split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits by name; an empty dict if there is no train folder."""
    splits = layouts.match_splits(
        {child.name: child for child in sorted(root.iterdir()) if child.is_dir()}
    )
    return splits if "train" in splits else {}


def _decode_image_folder(cfg: DataConfig, found: image_files.Inventory) -> ArrayDataset:
    root = found.folder
    rows: dict[Path, Mapping[str, Any]] = {}
    for file in map(Path, found.metadata):
        for path, row in _read_metadata(file).items():
            if path in rows:
                raise UserError(
                    f"{file}: {path.name} is listed twice. Keep one row for each image."
                )
            rows[path] = row
    if not rows:
        raise UserError(
            f"{found.metadata[0]} lists no images. Add rows with the column {FILE_NAME}."
        )
    missing = [str(path.relative_to(root)) for path in rows if not path.is_file()]
    if missing:
        raise UserError(
            f"data.root={cfg.root}: files listed in the metadata are missing: "
            f"{image_files.join_and_count(missing)}. Add them, or remove their rows."
        )
    splits = _split_folders(root)
    of_split = {
        name: [path for path in rows if path.is_relative_to(folder)]
        for name, folder in splits.items()
    }
    outside = len(rows) - sum(len(paths) for paths in of_split.values())
    if not splits or outside or not of_split["train"]:
        of_split = {"train": list(rows)}
    paths = [path for listed in of_split.values() for path in sorted(listed)]
    column = None
    if cfg.labels:
        columns = {
            name: [rows[path].get(name) for path in paths]
            for name in dict.fromkeys(_names_of(rows.values()))
        }
        columns.pop(FILE_NAME)
        column = choose_label_column(columns, found.metadata[0])
    found.use(_match_files(found, paths), "not listed by the metadata")
    found.warn_of_losses()
    opened = decoding.open_items(
        cfg, [(path,) for path in paths], "huggingface", as_files=True, states=found.states
    )

    names: list[str] = []
    numbers = None
    if column:
        names, every = encode_labels([rows[path].get(column) for path in paths], column)
        numbers = every[opened.indices]
        if len(names) < 2:
            names, numbers, column = [], None, None
    split_names = [name for name, listed in of_split.items() for _ in listed]
    split_of_row = np.array(split_names)[opened.indices]
    train, held_out, validation = (
        np.flatnonzero(split_of_row == "train"),
        np.flatnonzero(split_of_row != "train"),
        None,
    )
    if not len(held_out):
        train, held_out = decoding.split_train_test(len(split_of_row), numbers)
    elif {"validation", "test"} <= set(split_of_row):
        validation = np.flatnonzero(split_of_row[held_out] == "validation")
    check_held_out_classes(names, numbers, train, held_out)
    counts = found.count(len(opened.indices), opened.unreadable)
    about = (
        f"{len(train):,} images of {cfg.root}, {len(held_out):,} held out"
        + (f", labels from {column}: {join_names(names)}" if column else ", without labels")
        + opened.note
        + opened.describe_copies(train, held_out, numbers)
        + f"; {counts}"
    )
    return ArrayDataset(
        spec=ImageSpec(opened.frame.channels, *cfg.shape, classes=len(names)),
        train_images=SelectedRows(opened.pixels, train),
        train_labels=None if numbers is None else numbers[train],
        test_images=SelectedRows(opened.pixels, held_out),
        test_labels=None if numbers is None else numbers[held_out],
        source="full",
        about=about,
        fingerprint=decoding.combine_fingerprints(
            opened.fingerprint, train, held_out, validation, numbers
        ),
        class_names=names,
        validation=validation,
        levels=opened.levels,
        files=counts,
    )


def _match_files(found: image_files.Inventory, listed: Sequence[Path]) -> list[str]:
    """Return the listed files as the inventory names them: through links and ``..`` as well."""
    by_target = {os.path.realpath(path): path for path in found.images}
    targets = map(os.path.realpath, listed)
    return [by_target.get(target, target) for target in targets]


def _names_of(rows: Any) -> list[str]:
    return [name for row in rows for name in row]


def _read_metadata(file: Path) -> dict[Path, Mapping[str, Any]]:
    """Return the row of each image file. Raises UserError for invalid or duplicate rows."""
    rows = _read_parquet_rows(file) if file.suffix == ".parquet" else _read_text_rows(file)
    found: dict[Path, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not row.get(FILE_NAME):
            raise UserError(f"{file}: row {number:,} has no {FILE_NAME} {_explain_columns(row)}")
        if None in row:
            raise UserError(
                f"{file}: row {number:,} has more values than columns. Quote values that contain "
                "a comma."
            )
        path = _find_listed(file.parent, str(row[FILE_NAME]))
        if path in found:
            raise UserError(
                f"{file}: {row[FILE_NAME]} is listed twice. Keep one row for each image."
            )
        found[path] = row
    return found


def _explain_columns(row: Any) -> str:
    """Say what a row without a file name has, and what to do about it."""
    if not isinstance(row, dict):
        return "and is no JSON object. Write one object per line, such as {...}"
    names = [str(name) for name in row]
    remedy = "Name the image of each row."
    for name in names:
        if name.lower() == FILE_NAME:
            remedy = f"Rename the column {name} to {FILE_NAME}."
        elif FILE_NAME in re.split(r"[;\t|]", name):
            remedy = "Separate the columns by commas."
    return f"(columns: {join_names(names)}). {remedy}"


def _find_listed(folder: Path, name: str) -> Path:
    """Return the path of a listed file; its name may have spaces, or backslashes of Windows."""
    if "\\" in name or name != name.strip():
        for spelling in (name, name.strip(), name.strip().replace("\\", "/")):
            if (folder / spelling).is_file():
                return folder / spelling
    return folder / name


def _read_text_rows(file: Path) -> list[Any]:
    """Return the rows of a file of JSON lines or CSV, without the spaces around commas."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}. Write it as UTF-8.") from None
    if file.suffix == ".csv":
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        except csv.Error as error:
            raise UserError(f"{file} cannot be read: {error}. Check its quotation marks.") from None
        return [_strip_values(row) for row in rows]
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except ValueError:
                raise UserError(
                    f"{file}: line {number:,} is no JSON. Write one object per line, "
                    f"such as {{...}}"
                ) from None
    return values


def _strip_values(row: Mapping[str | None, Any]) -> dict[str | None, Any]:
    """Remove the spaces around names and values of columns; a file name may begin with one."""
    stripped: dict[str | None, Any] = {}
    for key, value in row.items():
        name = key.strip() if key is not None else None
        is_text = isinstance(value, str) and name != FILE_NAME
        stripped[name] = value.strip() if is_text else value
    return stripped


def _read_parquet_rows(file: Path) -> list[Any]:
    parquet = import_extra("pyarrow.parquet", "datasets", str(file))
    try:
        rows: list[Any] = parquet.read_table(file).to_pylist()
    except Exception as error:  # a damaged file can make pyarrow raise anything
        raise UserError(
            f"{file} cannot be read: {first_line(error)}. Write or copy it again."
        ) from None
    return rows


# ------------------------------------------------------------------------------------------------
# tables: save_to_disk and Parquet


@dataclass
class LabeledImages:
    """One split in the form that ``from_python`` reads: one column of images, numbered labels."""

    images: Any  # a datasets.Dataset of one column
    key: str
    labels: np.ndarray | None
    classes: Sequence[str]
    info: Any

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index][self.key]
        return image if self.labels is None else (image, self.labels[index])


def _decode_tables(cfg: DataConfig, root: Path) -> ArrayDataset:
    """Decode a saved data set or Parquet files, once: the arrays are kept in the cache."""
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    applies = (cfg.shape, cfg.fit, cfg.channels, cfg.labels, cfg.direction)
    key = f"{applies}/1/{hash_file_stats(files)}"
    import_extra("datasets", "datasets", f"data.root={cfg.root}")

    def build() -> Arrays:
        splits = {name: _prepare(cfg, split) for name, split in _open_tables(cfg, root).items()}
        return _to_arrays(from_python.decode_dataset(_number_together(splits), cfg))

    arrays, _ = decoded_once(USER_DATA_CACHE, f"huggingface-{cfg.size}", key, build)
    return _from_arrays(cfg, arrays)


def _open_tables(cfg: DataConfig, root: Path) -> dict[str, Any]:
    """Return the ``datasets.Dataset`` of each split.

    Raises:
        UserError: A file is damaged, or there is no train split.
    """
    datasets = import_extra("datasets", "datasets", f"data.root={cfg.root}")
    try:
        if root.is_dir() and any((root / name).is_file() for name in SAVE_TO_DISK_FILES):
            opened = datasets.load_from_disk(str(root))
            tables = dict(opened) if isinstance(opened, Mapping) else {"train": opened}
        else:
            tables = _read_parquet(root)
    except UserError:
        raise
    except Exception as error:  # a damaged file can make pyarrow raise anything
        raise UserError(
            f"data.root={cfg.root} cannot be read: {first_line(error)}. Write or copy it again."
        ) from None
    splits = layouts.match_splits(tables)
    if "train" not in splits:
        raise UserError(
            f"data.root={cfg.root}: the splits are {join_names(list(map(str, tables)))}, and none "
            "is train. Rename the one to train on."
        )
    return splits


def _find_parquet(root: Path) -> list[Path]:
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    return [file for file in files if not file.name.startswith(".")]


def _read_parquet(root: Path) -> dict[str, Any]:
    """Read the Parquet files of each split into memory. Without split names, all are train."""
    from datasets import Dataset, concatenate_datasets
    from pyarrow import parquet

    named: dict[str, list[Path]] = {}
    for file in _find_parquet(root):
        inside = file.name if root.is_file() else file.relative_to(root).as_posix()
        aliases = (
            [] if root.is_file() else SPLIT_OF_FILE.findall(inside.lower().removesuffix(".parquet"))
        )
        named.setdefault(aliases[-1] if aliases else "", []).append(file)
    if named.keys() == {""}:
        named = {"train": named[""]}
    elif "" in named:
        raise UserError(
            f"data.root={root}: {image_files.join_and_count([file.name for file in named['']])} "
            "belong to no split, others do. Begin each file name with train, validation or test."
        )
    return {
        name: concatenate_datasets([Dataset(parquet.read_table(file)) for file in files])
        for name, files in named.items()
    }


def _prepare(cfg: DataConfig, table: Any) -> tuple[Any, str, list[Any] | None, Any]:
    """Return one split as images, the key of an image, raw labels, and the data set's info.

    A pair has the key ''. Raises UserError where the columns do not say which is the image, or the
    label.
    """
    from datasets import ClassLabel, Image

    table = table.with_format(None)
    features = table.features
    if {"source", "target"} <= features.keys():
        keys, key = ["source", "target"], ""
    else:
        key = _choose_image_column(cfg, features)
        keys = [key]
    images = table.select_columns(keys)
    for name in keys:
        if isinstance(features[name], Image):
            images = images.cast_column(
                name, Image(decode=False)
            )  # a damaged image is named by PixelStore
        elif type(features[name]).__name__.startswith("Array"):
            images = images.with_format("numpy")
    if not cfg.labels or not key:
        return images, key, None, table.info
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    column = next((name for name in LABEL_KEYS if name in features), None)
    if column is None and len(classes) == 1:
        column = classes[0]
    if column is None:
        texts = [name for name, feature in features.items() if name != key and _is_plain(feature)]
        column = choose_label_column(
            {name: list(table[name]) for name in texts}, f"data.root={cfg.root}"
        )
    if column is None:
        return images, key, None, table.info
    labels = list(table[column])
    if isinstance(features[column], ClassLabel):
        names = features[column].names
        _check_known(labels, len(names), column)
        labels = [_Named(label, names[label]) for label in labels]
    return images, key, labels, table.info


@dataclass(frozen=True, order=True)
class _Named:
    """A label of a ClassLabel: ordered by its number, shown by its name."""

    number: int
    name: str


def _check_known(labels: Sequence[Any], count: int, column: str) -> None:
    bad = [row for row, label in enumerate(labels) if label is None or not 0 <= label < count]
    if bad:
        raise UserError(
            f"data: {len(bad):,} images have no label in the column {column}, such as row "
            f"{bad[0]:,}. Remove them, or hide labels with data.labels=false."
        )


def _is_plain(feature: Any) -> bool:
    """True for a column of integers, booleans or text."""
    return bool(re.match(r"u?int|bool|string|large_string", str(getattr(feature, "dtype", ""))))


def _choose_image_column(cfg: DataConfig, features: Mapping[str, Any]) -> str:
    from datasets import Image

    for name in IMAGE_KEYS:
        if name in features:
            if str(getattr(features[name], "dtype", "")).endswith("string"):
                raise UserError(
                    f"data.root={cfg.root}: text instead of images in the column: {name}. Store "
                    "the images themselves, or list their files in metadata.csv."
                )
            return name
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    if len(images) == 1:
        return images[0]
    has = join_names(list(features))
    raise UserError(
        f"data.root={cfg.root}: {len(images)} columns of images among {has}. Name one of them "
        "image, or two of them source and target."
    )


def _number_together(
    splits: Mapping[str, tuple[Any, str, list[Any] | None, Any]],
) -> dict[str, Any]:
    """Number the labels of all splits together, and wrap each split for ``from_python``."""
    labeled = {name: labels for name, (_, _, labels, _) in splits.items() if labels is not None}
    if labeled and len(labeled) < len(splits):
        raise UserError(
            f"data: the splits {join_names(sorted(labeled))} have labels, and others have none. "
            "Hide labels with data.labels=false."
        )
    names: list[str] = []
    numbers: dict[str, np.ndarray] = {}
    if labeled:
        names, every = encode_labels(
            [label for labels in labeled.values() for label in labels], "label"
        )
        ends = np.cumsum([len(labels) for labels in labeled.values()])
        numbers = dict(zip(labeled, np.split(every, ends[:-1]), strict=True))
    wrapped: dict[str, Any] = {}
    for name, (images, key, _, info) in splits.items():
        if key:
            wrapped[name] = LabeledImages(images, key, numbers.get(name), names, info)
        else:
            wrapped[name] = images
    return wrapped


def _to_arrays(decoded: ArrayDataset) -> Arrays:
    """Convert to what the cache keeps; ``_facts`` holds the rest as JSON."""
    train, held_out = decoded.train_images, decoded.test_images
    assert isinstance(train, SelectedRows)
    assert isinstance(held_out, SelectedRows)
    arrays = {"images": np.asarray(train.pixels), "train": train.rows, "held_out": held_out.rows}
    if decoded.train_labels is not None and decoded.test_labels is not None:
        arrays |= {"train_labels": decoded.train_labels, "test_labels": decoded.test_labels}
    if isinstance(decoded.train_sources, SelectedRows):
        arrays["sources"] = np.asarray(decoded.train_sources.pixels)
    if decoded.validation is not None:
        arrays["validation"] = decoded.validation
    facts = {
        "spec": asdict(decoded.spec),
        "about": decoded.about,
        "fingerprint": decoded.fingerprint,
        "class_names": list(decoded.class_names),
        "license": decoded.license,
    }
    return arrays | {"_facts": np.array([json.dumps(facts)])}


def _from_arrays(cfg: DataConfig, arrays: Arrays) -> ArrayDataset:
    facts = json.loads(str(arrays["_facts"][0]))
    train, held_out = np.asarray(arrays["train"]), np.asarray(arrays["held_out"])
    sources = arrays.get("sources")
    kind = "images" if sources is None else "pairs"
    notes = facts["about"].partition(" held out")[2]
    return ArrayDataset(
        spec=ImageSpec(**facts["spec"]),
        train_images=SelectedRows(arrays["images"], train),
        train_labels=arrays.get("train_labels"),
        test_images=SelectedRows(arrays["images"], held_out),
        test_labels=arrays.get("test_labels"),
        source="full",
        about=f"{len(train):,} {kind} of {cfg.root}, {len(held_out):,} held out{notes}",
        fingerprint=facts["fingerprint"],
        train_sources=None if sources is None else SelectedRows(sources, train),
        test_sources=None if sources is None else SelectedRows(sources, held_out),
        class_names=facts["class_names"],
        validation=arrays.get("validation"),
        license=facts["license"],
    )


# ------------------------------------------------------------------------------------------------
# labels


def choose_label_column(columns: Mapping[str, Sequence[Any]], where: str) -> str | None:
    """Return the label column: ``label``, ``labels`` or the only categorical one; None without one.

    A column is categorical if its values are integers or text that repeat: at most half as many
    values as rows. Raises UserError where several columns are.
    """
    for name in LABEL_KEYS:
        if name in columns:
            return name
    candidates = [name for name, values in columns.items() if _is_categorical(values)]
    if len(candidates) > 1:
        raise UserError(
            f"{where}: the columns {join_names(candidates)} could all be labels. Name one of them "
            "label, or hide labels with data.labels=false."
        )
    return candidates[0] if candidates else None


def _is_categorical(values: Sequence[Any]) -> bool:
    if not all(isinstance(value, str | int) and value != "" for value in values):
        return False
    if any(
        isinstance(value, str) and re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", value)
        for value in values
    ):
        return False
    return 2 <= len(set(values)) <= len(values) / 2


def encode_labels(values: Sequence[Any], column: str) -> tuple[list[str], np.ndarray]:
    """Number labels 0..K-1: integers in ascending order, text alphabetically.

    Returns the K names and the labels [N] int64.

    Raises UserError for missing labels and for those that are neither whole numbers nor text.
    """
    missing = [
        row for row, value in enumerate(values) if value is None or value == "" or value != value
    ]
    if missing:
        raise UserError(
            f"data: {len(missing):,} images have no label in the column {column}, such as row "
            f"{missing[0]:,}. Add the labels, or hide them with data.labels=false."
        )
    bad = next((value for value in values if not isinstance(value, str | int | _Named)), None)
    if bad is not None:
        raise UserError(
            f"data: invalid label in the column {column}: {bad!r}. Use whole numbers or text, or "
            "hide labels with data.labels=false."
        )
    distinct: list[Any] = list(set(values))
    if all(isinstance(value, _Named) for value in distinct):
        distinct.sort()
    else:
        are_numbers = all(re.fullmatch(r"[-+]?\d+", str(value)) for value in distinct)
        distinct.sort(key=int if are_numbers else str)
    index = {value: number for number, value in enumerate(distinct)}
    names = [value.name if isinstance(value, _Named) else str(value) for value in distinct]
    return names, np.array([index[value] for value in values], dtype=np.int64)
