"""Data sets in Hugging Face's formats: every layout gives equal images, labels, splits."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets as hugging_face
import numpy as np
import pandas
import pytest
from PIL import Image

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data.base import GANDataModule
from gan_lab.data.split import Subset
from gan_lab.utils.errors import UserError

COUNT = 24
PIXELS = np.random.default_rng(1).integers(256, size=(COUNT, 10, 10, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 3
NAMES = ["cat", "dog", "owl"]
TEXTS = [NAMES[label] for label in LABELS]
LABEL_OF = {
    image.transpose(2, 0, 1).tobytes(): text for image, text in zip(PIXELS, TEXTS, strict=True)
}


@pytest.fixture(autouse=True)
def _no_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hugging_face.disable_progress_bars()
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))


def load(root: Path, **keys: Any) -> GANDataModule:
    return datasets.load(
        DataConfig(**{"name": "huggingface", "root": str(root), "size": 10, **keys}), seed=0
    )


def table(rows: slice = slice(None), label: Any = None, **columns: Sequence[Any]) -> Any:
    """A ``datasets.Dataset`` of PIXELS; its labels are those of a ClassLabel, or ``label``."""
    made = {"image": [Image.fromarray(image) for image in PIXELS[rows]]}
    features = {"image": hugging_face.Image()}
    if label is None:
        made["label"] = LABELS[rows].tolist()  # type: ignore[assignment]
        features["label"] = hugging_face.ClassLabel(names=NAMES)
    elif label:
        made["label"] = list(label)
        features["label"] = hugging_face.Value("string" if isinstance(label[0], str) else "int64")
    for name, values in columns.items():
        made[name] = list(values)  # type: ignore[assignment]
        features[name] = hugging_face.Value("string" if isinstance(values[0], str) else "int64")
    return hugging_face.Dataset.from_dict(made, features=hugging_face.Features(features))


def image_folder(
    root: Path, rows: Sequence[dict[str, Any]], file: str = "metadata.csv", first: int = 0
) -> None:
    """Write images 00.png, 01.png ... of PIXELS and one row of metadata for each."""
    root.mkdir(parents=True, exist_ok=True)
    named = [
        {"file_name": f"{number:02}.png", **row} for number, row in enumerate(rows, start=first)
    ]
    for number, row in enumerate(named, start=first):
        Image.fromarray(PIXELS[number]).save(root / row["file_name"])
    if file.endswith(".csv"):
        with (root / file).open("w", newline="", encoding="utf-8") as opened:
            writer = csv.DictWriter(opened, list(named[0]))
            writer.writeheader()
            writer.writerows(named)
    elif file.endswith(".parquet"):
        pandas.DataFrame(named).to_parquet(root / file)
    else:
        (root / file).write_text("\n".join(json.dumps(row) for row in named), encoding="utf-8")


def pixels_of(subset: Subset) -> list[bytes]:
    return [image.tobytes() for image in subset.images[np.arange(len(subset))]]


def check_labels(data: GANDataModule) -> None:
    """Every image has its own label, the splits add up, and no image is on two sides."""
    assert data.class_names == NAMES
    seen: list[bytes] = []
    for split in ("train", "validation", "test"):
        subset = data.subset(split)
        assert subset.labels is not None
        images = pixels_of(subset)
        assert [LABEL_OF[image] for image in images] == [NAMES[label] for label in subset.labels]
        seen += images
    assert sorted(seen) == sorted(LABEL_OF)


def write_layout(layout: str, root: Path) -> None:
    if layout == "saved data set":
        table().save_to_disk(root)
    elif layout == "saved with a format":
        table().with_format("numpy").save_to_disk(root)
    elif layout == "saved texts":
        table(label=TEXTS).save_to_disk(root)
    elif layout == "Parquet":
        root.mkdir()
        table(slice(0, 9)).to_parquet(root / "part-0.parquet")
        table(slice(9, None)).to_parquet(root / "part-1.parquet")
    elif layout == "Parquet of pandas":
        root.mkdir()
        paths = [root / f"{number}.png" for number in range(COUNT)]
        for path, image in zip(paths, PIXELS, strict=True):
            Image.fromarray(image).save(path)
        content = [path.read_bytes() for path in paths]
        pandas.DataFrame({"image": content, "label": TEXTS}).to_parquet(root / "all.parquet")
    elif layout == "metadata.csv":
        image_folder(root, [{"label": text} for text in TEXTS])
    elif layout == "metadata.jsonl":
        rows = [{"animal": text, "caption": f"photo {i}"} for i, text in enumerate(TEXTS)]
        image_folder(root, rows, "metadata.jsonl")
    elif layout == "metadata.parquet":
        image_folder(root, [{"label": text} for text in TEXTS], "metadata.parquet")


LAYOUTS = (
    "saved data set",
    "saved with a format",
    "saved texts",
    "Parquet",
    "Parquet of pandas",
    "metadata.csv",
    "metadata.jsonl",
    "metadata.parquet",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_images_with_their_labels(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_layout(layout, root)
    data = load(root)
    check_labels(data)
    assert (len(data.held_out), data.spec.shape) == (4, (3, 10, 10))
    assert f"of {root}" in data.facts.about
    again = load(root)  # from the cache
    assert again.facts == data.facts
    assert pixels_of(again.test) == pixels_of(data.test)
    passed = datasets.load(DataConfig(size=10), 0, dataset=table())
    if not layout.startswith("metadata"):
        assert data.facts.fingerprint == passed.facts.fingerprint
    assert pixels_of(data.test) == pixels_of(passed.test)


@pytest.mark.parametrize(
    "layout", ["DatasetDict", "Parquet", "Parquet in folders", "metadata", "metadata at the top"]
)
def test_splits_are_kept(layout: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    parts = {"train": slice(0, 12), "validation": slice(12, 18), "test": slice(18, 24)}
    if layout == "DatasetDict":
        hugging_face.DatasetDict({name: table(rows) for name, rows in parts.items()}).save_to_disk(
            root
        )
    top = []
    for name, rows in parts.items():
        if layout == "Parquet":
            (root / "data").mkdir(parents=True, exist_ok=True)
            table(rows).to_parquet(root / "data" / f"{name}-00000-of-00001.parquet")
        elif layout == "Parquet in folders":
            (root / name).mkdir(parents=True)
            table(rows).to_parquet(root / name / "0000.parquet")
        elif layout.startswith("metadata"):
            image_folder(root / name, [{"label": text} for text in TEXTS[rows]], first=rows.start)
            top += [f"{name}/{i:02}.png,{TEXTS[i]}" for i in range(rows.start, rows.stop)]
    if layout == "metadata at the top":
        for file in root.rglob("metadata.csv"):
            file.unlink()
        (root / "metadata.csv").write_text("file_name,label\n" + "\n".join(top))
    data = load(root)
    check_labels(data)
    for name, rows in parts.items():
        assert pixels_of(data.subset(name)) == [
            image.transpose(2, 0, 1).tobytes() for image in PIXELS[rows]
        ]


def test_a_single_parquet_file_and_pairs_are_read(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "test.parquet")
    check_labels(load(tmp_path / "test.parquet"))
    images = [Image.fromarray(image) for image in PIXELS]
    features = hugging_face.Features(
        {"source": hugging_face.Image(), "target": hugging_face.Image()}
    )
    made = {"source": [image.convert("L") for image in images], "target": images}
    hugging_face.Dataset.from_dict(made, features=features).save_to_disk(tmp_path / "pairs")
    data = load(tmp_path / "pairs")
    assert (data.spec.channels, data.spec.source_channels, data.spec.pairs) == (3, 1, "all")
    assert "pairs of" in data.facts.about
    assert load(tmp_path / "pairs", direction="BtoA").spec.channels == 1


def test_labels_are_the_only_categorical_column_or_none(tmp_path: Path) -> None:
    table(label=[], species=TEXTS, caption=[f"photo {i}" for i in range(COUNT)]).save_to_disk(
        tmp_path / "one"
    )
    check_labels(load(tmp_path / "one"))
    table(label=[], caption=[f"photo {i}" for i in range(COUNT)]).save_to_disk(tmp_path / "none")
    assert load(tmp_path / "none").spec.classes == 0
    table(label=[], species=TEXTS, place=["a", "b"] * 12).save_to_disk(tmp_path / "two")
    with pytest.raises(UserError, match="the columns species, place could all be labels"):
        load(tmp_path / "two")
    assert load(tmp_path / "two", labels=False).spec.classes == 0
    image_folder(tmp_path / "numbers", [{"label": number} for number in (2, 10, 100) * 8])
    assert load(tmp_path / "numbers").class_names == ["2", "10", "100"]
    image_folder(tmp_path / "score", [{"score": f"{i % 4 / 8}"} for i in range(COUNT)])
    assert load(tmp_path / "score").spec.classes == 0


def test_a_changed_set_is_read_again(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "all.parquet")
    before = load(tmp_path).facts.fingerprint
    table(slice(0, 20)).to_parquet(tmp_path / "all.parquet")
    data = load(tmp_path)
    assert data.facts.fingerprint != before
    assert len(data.train) + len(data.held_out) == 20


def test_the_license_of_a_saved_set_is_kept(tmp_path: Path) -> None:
    made = table()
    made.info.license = "CC0"
    made.save_to_disk(tmp_path / "set")
    assert load(tmp_path / "set").facts.license == load(tmp_path / "set").facts.license == "CC0"


def test_images_that_the_metadata_do_not_list_are_left_out(tmp_path: Path) -> None:
    image_folder(tmp_path, [{"label": text} for text in TEXTS])
    Image.new("RGB", (10, 10)).save(tmp_path / "extra.png")
    data = load(tmp_path)
    check_labels(data)
    assert "24 used; left out: 1 metadata (metadata.csv), 1 not listed by the metadata (.png)" in (
        data.facts.about
    )


def test_a_folder_says_that_its_metadata_are_not_read(tmp_path: Path) -> None:
    image_folder(tmp_path, [{"label": text} for text in TEXTS])
    said = r"metadata\.csv is ignored\. Set data\.name=huggingface to use its labels\."
    with pytest.warns(UserWarning, match=said):
        datasets.load(DataConfig(name="folder", root=str(tmp_path), size=10), 0)
    datasets.load(DataConfig(name="folder", root=str(tmp_path), size=10, labels=False), 0)


METADATA = {
    "file_name;label\n00.png;cat\n": r"row 1 .*file_name;label\). Separate the columns by commas",
    "file_name\tlabel\n00.png\tcat\n": r"row 1 has no file_name .*. Separate the columns by commas",
    "File_Name,label\n00.png,cat\n": "Rename the column File_Name to file_name",
    'file_name,label\n"00.png,cat\n': "unexpected end of data. Check its quotation marks",
    "name,label\n00.png,cat\n": r"row 1 has no file_name \(columns: name, label\)",
    "file_name,label\n00.png,cat\n00.png,dog\n": "00.png is listed twice",
    "file_name,label\n00.png,cat\n99.png,dog\n": (
        "files listed in the metadata are missing: 99.png. Add them"
    ),
    "file_name,label\n00.png,a,b\n": "row 1 has more values than columns",
    "file_name,label\n": "lists no images",
    "file_name,label\n00.png,\n01.png,cat\n": (
        "1 images have no label in the column label, such as row 0"
    ),
}


@pytest.mark.parametrize("text", METADATA)
def test_wrong_metadata_are_refused_by_name(text: str, tmp_path: Path) -> None:
    image_folder(tmp_path, [{"label": "cat"}] * 4)
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(UserError, match=METADATA[text]):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"file_name": "00.png"}\n{bad\n', "line 2 is no JSON. Write one object per line"),
     ('[{"file_name": "00.png"}]', "row 1 has no file_name and is no JSON object. Write one")],
)  # fmt: skip
def test_wrong_json_metadata_are_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    """A list in one line is JSON, but not what the loaders of image folders read."""
    image_folder(tmp_path, [{"label": "cat"}] * 4)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("header", "separator", "prefix"),
    [
        ("file_name, label", ", ", ""),
        ("file_name ,label ", " ,", ""),
        ("file_name,label", ",", ".\\"),
    ],
)
def test_metadata_of_spreadsheets_are_read(
    header: str, separator: str, prefix: str, tmp_path: Path
) -> None:
    """Spaces around commas are no part of labels; Windows writes backslashes in paths."""
    image_folder(tmp_path, [{"label": text} for text in TEXTS])
    lines = [f"{prefix}{i:02}.png{separator}{text}" for i, text in enumerate(TEXTS)]
    (tmp_path / "metadata.csv").write_text("\n".join([header, *lines]))
    check_labels(load(tmp_path))


def test_wrong_folders_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos" / "a.png")
    with pytest.raises(
        UserError,
        match=r"no data set \(found: 1 \.png\)\. Expected .* data\.name=folder reads",
    ):
        load(tmp_path / "photos")
    with pytest.raises(UserError, match=r"data\.root=.*typo does not exist"):
        load(tmp_path / "typo")
    with pytest.raises(UserError, match=r"data\.source=sample does not read data\.root"):
        load(tmp_path / "photos", source="sample")
    (tmp_path / "all.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"all\.parquet cannot be read: .* Write or copy it again"):
        load(tmp_path / "all.parquet")
    (tmp_path / "mixed").mkdir()
    for name in ("train", "other"):
        table().to_parquet(tmp_path / "mixed" / f"{name}.parquet")
    with pytest.raises(UserError, match=r"other\.parquet belong to no split"):
        load(tmp_path / "mixed")
    hugging_face.DatasetDict({"test": table()}).save_to_disk(tmp_path / "test only")
    with pytest.raises(UserError, match="the splits are test, and none is train"):
        load(tmp_path / "test only")


def test_wrong_columns_are_refused_by_name(tmp_path: Path) -> None:
    table().rename_column("image", "photo").map(lambda row: {"other": row["photo"]}).save_to_disk(
        tmp_path / "two"
    )
    with pytest.raises(UserError, match="2 columns of images among photo, label, other"):
        load(tmp_path / "two")
    pandas.DataFrame({"image": ["a.png"] * 4}).to_parquet(tmp_path / "paths.parquet")
    with pytest.raises(UserError, match="text instead of images in the column: image"):
        load(tmp_path / "paths.parquet")
    pandas.DataFrame({"image": [b"a"] * 4, "label": [0.5] * 4}).to_parquet(
        tmp_path / "floats.parquet"
    )
    with pytest.raises(UserError, match=r"invalid label in the column label: 0\.5"):
        load(tmp_path / "floats.parquet")
    pandas.DataFrame({"image": [b"a"] * 4, "label": ["a", None, "b", "b"]}).to_parquet(
        tmp_path / "missing.parquet"
    )
    with pytest.raises(
        UserError, match="1 images have no label in the column label, such as row 1"
    ):
        load(tmp_path / "missing.parquet")
    unknown = (
        table()
        .cast_column("label", hugging_face.Value("int64"))
        .map(lambda row: {"label": row["label"] - 1})
    )
    unknown.cast_column("label", hugging_face.ClassLabel(names=NAMES)).save_to_disk(
        tmp_path / "unknown"
    )
    with pytest.raises(
        UserError, match="8 images have no label in the column label, such as row 0"
    ):
        load(tmp_path / "unknown")
    pandas.DataFrame({"image": [b"damaged"] * 4, "label": [0, 1] * 2}).to_parquet(
        tmp_path / "damaged.parquet"
    )
    with pytest.raises(UserError, match="image 0 cannot be read"):
        load(tmp_path / "damaged.parquet")


def test_without_the_package_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table().to_parquet(tmp_path / "all.parquet")
    real = importlib.import_module

    def import_without(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", import_without)
    with pytest.raises(
        UserError,
        match=r"package datasets is not installed: make extras, or pip install '.\[datasets\]'",
    ):
        load(tmp_path)
    image_folder(tmp_path / "images", [{"label": text} for text in TEXTS])
    check_labels(load(tmp_path / "images"))  # which needs no package


def test_metadata_that_list_files_elsewhere_keep_the_account(tmp_path: Path) -> None:
    """Listed files outside of the folder, or with an unknown extension, are used and counted."""
    root = tmp_path / "root"
    root.mkdir()
    names = [*(f"{i}.png" for i in range(8)), "m.mpo", "../out.png", "sub/../9.png"]
    (root / "sub").mkdir()
    for i, name in enumerate([*names, "extra.png", "n.mpo"]):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(root / name, format="PNG")
    lines = [f"{name},{'ab'[i % 2]}" for i, name in enumerate(names)]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    with pytest.warns(UserWarning, match=r"skipped in .*: 1 image with an unknown extension"):
        data = datasets.load(DataConfig(name="huggingface", root=str(root), size=8), 0)
    counts = data.facts.files
    assert counts is not None
    assert (counts.seen, counts.used) == (14, 11)
    assert counts.left_out == {
        "metadata (metadata.csv)": 1,
        "image with an unknown extension (.mpo; rename to .png or .jpg)": 1,
        "not listed by the metadata (.png)": 1,
    }


def test_damaged_parquet_metadata_are_named(tmp_path: Path) -> None:
    """The advice is not to write it as UTF-8."""
    image_folder(tmp_path, [{"label": text} for text in TEXTS])
    (tmp_path / "metadata.csv").rename(tmp_path / "metadata.parquet")
    with pytest.raises(UserError, match=r"metadata\.parquet cannot be read: .* Write or copy it"):
        load(tmp_path)
