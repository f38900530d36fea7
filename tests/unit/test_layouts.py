"""Users' data: roots without a data set, layouts, skipped files, levels, classes, moved data."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data import cache, decoding, folder, horse2zebra, image_files, layouts, pairs
from gan_lab.utils.files import MARKER_NAME
from tests.helpers.pictures import flat


@pytest.fixture(autouse=True)
def _cache_apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("gan_lab.data.download.is_reachable", lambda url: False)
    monkeypatch.setattr("gan_lab.data.mnist.is_reachable", lambda url: False)


def cfg(name: str, root: Path, **keys: Any) -> DataConfig:
    return DataConfig(**{"name": name, "root": str(root), "size": 8} | keys)


def levels(images: Any) -> list[int]:
    return images[np.arange(len(images))][:, 0, 0, 0].tolist()


# of the others some have no sample, and some no place: they are drawn
SAMPLED = [
    name
    for name in datasets.names()
    if name not in ("folder", "toy", "idx", "cifar10", "emoji", "emoji_pairs", "huggingface")
]


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@pytest.mark.parametrize("name", SAMPLED)
def test_a_place_that_somebody_typed_holds_the_set_or_is_an_error_and_stays_as_it_was(
    name: str, tmp_path: Path
) -> None:
    photos = flat(tmp_path / "photos" / "holiday" / "a.jpeg", 0).parent.parent
    before = tree(tmp_path)
    said = (
        rf"^data.root={photos} does not contain {name} \(found: 1 .jpeg\). "
        r"Expected .* with data.source=sample"
    )
    with pytest.raises(ValueError, match=said):
        datasets.load(cfg(name, photos), 0)
    with pytest.raises(ValueError, match=rf"^data.root={tmp_path}/typo does not exist. Expected "):
        datasets.load(cfg(name, tmp_path / "typo"), 0)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "does not exist, and"), ("file", "is a file, but"), ("images", "contains images, but")],
)
def test_sample_with_a_typed_root_is_an_error(
    name: str, content: str, problem: str, tmp_path: Path
) -> None:
    """Either the folder or the sample is a mistake; a folder for the cache is none."""
    root = tmp_path / "typed"
    if content == "file":
        root.touch()
    elif content == "images":
        flat(root / "cat" / "1.png", 0)
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=f"^data.root={root} {problem}.*Remove data.source=sample"):
        datasets.load(cfg(name, root, source="sample"), 0)
    assert tree(tmp_path) == before


def test_a_new_data_set_with_a_sample_says_whether_it_is_there() -> None:
    for name in SAMPLED:
        module = __import__(f"gan_lab.data.{name}", fromlist=["is_present"])
        assert module.LAYOUT
        assert module.SAMPLE
        assert module.DOWNLOADS in (True, False)
        assert not module.is_present(Path("/nonexistent"))


@pytest.mark.parametrize(
    ("train", "held"),
    [("train", "test"), ("Train", "VAL"), ("training", "validation"), ("train", "")],
)
def test_training_and_held_out_folders_are_no_classes(
    tmp_path: Path, train: str, held: str
) -> None:
    for part, first in ((train, 0), (held, 100)):
        for i in range(10 * bool(part)):
            flat(tmp_path / part / ("cat" if i % 2 else "dog") / f"{i}.png", (first + i,) * 3)
    made = folder.decode(cfg("folder", tmp_path))
    assert made.class_names == ["cat", "dog"]
    assert "2 classes (cat, dog; " in made.about
    if held:
        assert levels(made.train_images) == [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]
        assert made.train_labels.tolist() == [0] * 5 + [1] * 5
        assert sorted(levels(made.test_images)) == [*range(100, 110)]
        assert f"10 held out (folder {held})" in made.about


def test_of_test_and_val_one_is_held_out_and_the_other_named(tmp_path: Path) -> None:
    for part, value in (("train", 1), ("val", 2), ("test", 3)):
        for i in range(3):
            flat(tmp_path / part / f"{i}.png", (value,) * 3)
    made = folder.decode(cfg("folder", tmp_path))
    assert (levels(made.train_images), levels(made.test_images)) == ([1] * 3, [3] * 3)
    assert made.about.endswith(
        "9 files: 6 used; left out: 3 outside of the training and held-out folders (3 val)"
    )


SIDES = ["trainA trainB testA testB", "train/A train/B test/A test/B",
         "A/train B/train A/val B/val", "A B", "TrainA TRAINB TestA testb",
         "Train/a train/b"]  # fmt: skip


@pytest.mark.parametrize("name", ["pairs", "horse2zebra"])
@pytest.mark.parametrize("sides", SIDES)
def test_two_sides_are_found_in_every_usual_layout(tmp_path: Path, name: str, sides: str) -> None:
    if "Train/a" in sides:
        sides = "Train/a Train/b"
    for place, value in zip(sides.split(), (10, 20, 30, 40), strict=False):
        for i in range(12):
            flat(tmp_path / place / f"{i}.png", (value,) * 3)
    made = datasets.load(cfg(name, tmp_path), 0).decoded
    assert made.source == "full"
    assert set(levels(made.train_sources)) | set(levels(made.train_images)) == {10, 20}
    held = {30, 40} if len(sides.split()) == 4 else {10, 20}
    assert set(levels(made.test_sources)) | set(levels(made.test_images)) == held


@pytest.mark.parametrize(("places", "said"), [
    ("trainA trainB train/A train/B",
     "has two layouts: trainA and trainB, as well as train/A and train/B. Keep one"),
    ("trainA", "contains trainA, but not trainB. Use one of these layouts: trainA and trainB, or"),
    ("A a B", "contains both A and a. Keep one of them as A."),
])  # fmt: skip
def test_what_is_ambiguous_is_refused_by_name(tmp_path: Path, places: str, said: str) -> None:
    for place in places.split():
        flat(tmp_path / place / "1.png", 0)
    for name in ("pairs", "horse2zebra"):
        with pytest.raises(ValueError, match=said.replace("?", r"\?")):
            datasets.load(cfg(name, tmp_path), 0)


def test_sides_of_different_shape_are_no_pair_and_of_different_size_are(tmp_path: Path) -> None:
    for i in range(4):
        flat(tmp_path / "A" / f"{i}.png", (10,) * 3, size=(32, 32))
        flat(tmp_path / "B" / f"{i}.png", (20,) * 3, size=(64, 32))
    with pytest.raises(
        ValueError,
        match=r"4 of 4 images are unreadable: "
        r"A/0.png \(32 x 32\) and B/0.png \(64 x 32\) have diff",
    ):
        pairs.decode(cfg("pairs", tmp_path))
    for i in range(4):
        flat(tmp_path / "B" / f"{i}.png", (20,) * 3, size=(64, 64))
    assert len(pairs.decode(cfg("pairs", tmp_path)).train_images) == 2


def test_names_that_a_mac_writes_otherwise_correspond_and_two_endings_of_one_name_do_not(
    tmp_path: Path,
) -> None:
    for i in range(3):
        flat(tmp_path / "A" / f"caf\u00e9{i}.png", 0)
        flat(tmp_path / "B" / f"cafe\u0301{i}.png", 0)
    assert len(pairs.decode(cfg("pairs", tmp_path)).train_images) == 2
    flat(tmp_path / "B" / "caf\u00e91.bmp", 0)
    with pytest.raises(ValueError, match=r"B: .* and .* have the same name"):
        pairs.decode(cfg("pairs", tmp_path))


@pytest.mark.parametrize("inside", ["", "photos"])
def test_a_zip_file_is_what_is_in_it_and_nothing_appears_beside_it(
    tmp_path: Path, inside: str
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as packed:
        for name in ("cat", "dog"):
            for i in range(6):
                packed.write(
                    flat(tmp_path / "made" / f"{name}{i}.png", (i,) * 3),
                    f"{inside}/{name}/{i}.png".lstrip("/"),
                )
    shutil.rmtree(tmp_path / "made")
    for _ in range(2):
        made = datasets.load(cfg("folder", tmp_path / "photos.zip"), 0).decoded
        assert made.class_names == ["cat", "dog"]
        assert tree(tmp_path) == ["photos.zip"]
    (tmp_path / "other.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"other.zip is not a zip file"):
        datasets.load(cfg("folder", tmp_path / "other.zip"), 0)


def test_runs_among_the_photos_are_no_photos(tmp_path: Path) -> None:
    for i in range(3):
        flat(tmp_path / f"{i}.png", 0)
    flat(tmp_path / "runs" / "dcgan" / "seed0" / "samples" / "0.png", 0)
    (tmp_path / "runs" / "dcgan" / "seed0" / "checkpoints").mkdir()
    (tmp_path / "runs" / "dcgan" / "seed0" / "config.yaml").touch()
    flat(tmp_path / "out" / "dcgan" / "data-folder.png", 0)
    (tmp_path / "out" / MARKER_NAME).touch()
    counts = r"2 folders of gan-lab runs \(out; runs/dcgan/seed0\)"
    with pytest.warns(UserWarning, match=f"^skipped in {tmp_path}: {counts}$"):
        found = image_files.find_images(tmp_path)
    assert [path.name for path in found] == ["0.png", "1.png", "2.png"]
    assert (
        len(image_files.find_images(tmp_path / "out")) == 1
    )  # where that is the configured folder


def test_images_beside_class_folders_are_named_as_the_reason_that_there_are_no_labels(
    tmp_path: Path,
) -> None:
    for name in ("cat/1.png", "dog/2.png", "dog/3.png", "cover.png"):
        flat(tmp_path / name, 0)
    with pytest.warns(
        UserWarning,
        match=rf"{tmp_path}: training without labels, "
        r"because cover.png is outside of the class folders cat, dog",
    ):
        assert folder.decode(cfg("folder", tmp_path)).spec.classes == 0
    folder.decode(cfg("folder", tmp_path, labels=False))  # says nothing: warnings are errors here


def test_what_is_left_out_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        flat(tmp_path / f"{i}.png", 0)
        (tmp_path / f"{i}.HEIC").touch()
        (tmp_path / f"l{i}.jpg").symlink_to("/gone/l.jpg")
    (tmp_path / "noend").write_bytes((tmp_path / "0.png").read_bytes())
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match="skipped") as said:
        assert len(image_files.find_images(tmp_path)) == 3
    assert [str(one.message) for one in said] == [
        f"skipped in {tmp_path}: 1 image with an unknown extension (without extension; "
        "rename to .png or .jpg), 1 inaccessible folder (closed), 3 broken links (l0.jpg; l1.jpg; "
        "l2.jpg), 3 in an unsupported format (3 .heic; convert to PNG or JPEG)"
    ]


@pytest.mark.parametrize(("dtype", "peaks", "white"), [
    ("float32", [250, 260, 0.9, 1.1], 511), ("float32", [0.5, 0.8], 1),
    ("uint16", [4000, 16], 4095), ("uint16", [60_000], 65_535),
])  # fmt: skip
@pytest.mark.parametrize("lazy", [False, True])
def test_images_of_many_levels_have_one_scale(
    tmp_path: Path, dtype: str, peaks: list[float], white: float, lazy: bool
) -> None:
    for i in range(12):
        Image.fromarray(np.full((8, 8), peaks[i % len(peaks)], dtype)).save(
            tmp_path / f"{i:02}.tif"
        )
    flat(tmp_path / "x.png", (77,) * 3)
    made = folder.decode(cfg("folder", tmp_path, cache_gb=0.0 if lazy else 1.0))
    found = levels(made.train_images) + levels(made.test_images)
    expected = {round(min(255, 255 * float(np.dtype(dtype).type(peak)) / white)) for peak in peaks}
    assert set(found) == expected | {77}
    assert f"12 with more than 8 bits, black to white: 0 to {white:g}" in made.about


@pytest.mark.parametrize(
    ("sizes", "held"),
    [([9] * 100, 90), ([20, 20, 1], 4), ([5, 5], 4), ([1, 1, 1], 1), ([3], 1), ([2000, 5], 200)],
)
def test_a_tenth_is_held_out_whatever_the_sizes_of_the_classes(sizes: list[int], held: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    train, test = decoding.split_train_test(len(labels), labels)
    assert len(test) == held
    assert sorted([*train, *test]) == [*range(len(labels))]
    counts = np.bincount(labels[test], minlength=len(sizes))
    shares = np.array(sizes) * held / len(labels)
    if min(sizes) > 1:
        assert (abs(counts - shares) < 1).all()
    if sizes != [1, 1, 1]:
        assert set(labels[train]) == set(labels)


@pytest.mark.parametrize("lazy", [False, True])
def test_data_that_moved_are_the_same_and_one_other_byte_is_not(tmp_path: Path, lazy: bool) -> None:
    for i in range(12):
        flat(tmp_path / "one" / f"{i:02}.png", (i,) * 3)
    (tmp_path / "one" / "bad.png").touch()
    shutil.copytree(tmp_path / "one", tmp_path / "deep" / "other")  # with other times
    found = []
    for root in (tmp_path / "one", tmp_path / "deep" / "other"):
        with pytest.warns(UserWarning, match=r"1 of 13 images are unreadable: bad.png: "):
            found.append(
                folder.decode(
                    cfg("folder", root, max_unreadable=0.5, cache_gb=0.0 if lazy else 1.0)
                ).fingerprint
            )
    assert found[0] == found[1]
    flat(tmp_path / "one" / "03.png", (99,) * 3)
    with pytest.warns(UserWarning, match="unreadable"):
        changed = folder.decode(
            cfg("folder", tmp_path / "one", max_unreadable=0.5, cache_gb=0.0 if lazy else 1.0)
        ).fingerprint
    assert changed != found[0]


def test_a_disk_without_room_is_said_with_the_folder_and_the_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        flat(tmp_path / f"{i:02}.png", (i,) * 3)
    monkeypatch.setattr(
        cache.shutil,
        "disk_usage",
        lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 2 * 10**6, 2 * 10**6),
    )
    with pytest.raises(
        OSError,
        match=r"no space left in .*: the decoded images take 38 MB, 2 MB are free. "
        r"Set GAN_LAB_CACHE .*cache_gb=0",
    ):
        folder.decode(cfg("folder", tmp_path, size=1024))
    assert not list(layouts.cache_folder(tmp_path).glob("folder-*"))


@pytest.mark.parametrize("images", [40, 4])
def test_each_class_has_a_row_of_the_grid_however_few_are_held_out(
    tmp_path: Path, images: int
) -> None:
    for label, name in enumerate("abcd"):
        for i in range(images):
            flat(tmp_path / name / f"{i}.png", (50 * label + i,) * 3)
    served = datasets.load(cfg("folder", tmp_path), 0)
    for held_out in (True, False):
        batch, columns = served.grid_batch(held_out, by_class=True)
        assert batch.labels.view(4, columns).tolist() == [[label] * 10 for label in range(4)]  # type: ignore[union-attr]
        shown = ((batch.images[:, 0, 0, 0] + 1) * 127.5).round().int().view(4, 10)
        for label, row in enumerate(shown.tolist()):
            assert all(50 * label <= level < 50 * label + images for level in row)
            assert len(set(row)) >= min(images, 10) - (
                images == 4 and not held_out
            )  # one may be held out


@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_cut_and_what_is_enlarged_is_counted(tmp_path: Path, lazy: bool) -> None:
    for i, size in enumerate([(8, 8)] * 5 + [(16, 8)] * 4 + [(6, 6)] * 2 + [(9, 5)]):
        flat(tmp_path / f"{i}.png", (i,) * 3, size=size)
    made = folder.decode(cfg("folder", tmp_path, cache_gb=0.0 if lazy else 1.0))
    assert "(5 center-cropped; 3 upsampled to 8 pixels)" in made.about


def make_tree(root: Path, *folders: str, n: int = 4) -> Path:
    """Write n different images into each folder."""
    for number, name in enumerate(folders):
        for i in range(n):
            flat(root / name / f"{i}.png", (number, i, 0))
    return root


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ("train2017 val2017", "Set data.layout=splits to train on train2017 and hold out val2017"),
        ("train test unlabeled", "Set data.layout=splits to train on train and hold out test, or"),
        ("TrainImages TestImages", "to train on TrainImages and hold out TestImages"),
        ("my-train x_dev", "to train on my-train and hold out x_dev"),
        ("imagesTrain imagesVal", "to train on imagesTrain and hold out imagesVal"),
        ("trainA trainB testA testB", "Set data.layout=splits to train on trainA and hold out"),
        ("testset cat", "Set data.root to the folder to train on, or data.layout=classes"),
        ("test", "Set data.root to the folder to train on, or data.layout=classes"),
        ("test val", "test, val may be splits or classes"),
        ("train2017", "Set data.layout=splits to train on train2017 only"),
        ("trn tst", "to train on trn and hold out tst"),
        ("Trng-Data x.VLD.2", "to train on Trng-Data and hold out x.VLD.2"),
        ("tr te va", "to train on tr and hold out te"),
        ("images Evaluation", "images may be splits or classes. Set data.root"),
        ("cat evalset2", "Set data.root to the folder to train on"),
        ("fold1 holdout", "fold1, holdout may be splits or classes. Set data.root to the folder"),
        ("photos Held-Out_3", "Held-Out_3, photos may be splits"),
        ("x-train-256 x-val-256", "to train on x-train-256 and hold out x-val-256"),
        ("celebA.training.v2 other", "to train on celebA.training.v2 only"),
        ("fold1 fold2 fold3", "fold1, fold2, fold3 may be splits or classes"),
        ("labeled unlabeled", "labeled, unlabeled may be splits or classes"),
        ("Entraînement essais", "to train on Entraînement and hold out essais"),
        ("训练集 测试集", "to train on 训练集 and hold out 测试集"),
        ("1/cat 1/dog 1/cow 2/cat 2/dog", "1, 2 contain the same folders cat, dog"),
        ("ds/trn ds/tst", "contains splits in a subfolder: trn, tst in {root}/ds"),
        ("photos/x/tr photos/x/va", "contains splits in a subfolder: tr, va in {root}/photos/x"),
        ("a/cat a/dog b/cat b/dog", "a, b contain the same folders cat, dog. Set data.root to one"),
        ("fold1/x/1 fold1/y fold2/x fold2/y", "fold1, fold2 contain the same folders x, y"),
        ("ds/train ds/test", "contains splits in a subfolder: train, test in {root}/ds. Set data"),
        ("a/b/Training a/b/dev", "Training, dev in {root}/a/b. Set data.root={root}/a/b"),
        ("train test ds/train ds/test", "contains splits in a subfolder: train, test in {root}/ds"),
        ("cat dog/test", "may be a held-out split: {root}/dog/test. Move it to {root}/test"),
        ("train/cat train/dog/val test/cat test/dog", "held-out split: {root}/train/dog/val"),
    ],
)
def test_layout_that_may_be_splits_or_classes_is_a_question(
    folders: str, message: str, tmp_path: Path
) -> None:
    """The error names the layouts and the key that settles it; data.layout=classes always does."""
    root = make_tree(tmp_path / "root", *folders.split())
    with pytest.raises(ValueError, match=r"^data\.root=") as raised:
        folder.decode(cfg("folder", root))
    assert message.format(root=root) in str(raised.value)
    assert "data.layout=classes" in str(raised.value) or "data.root" in str(raised.value)
    made = folder.decode(cfg("folder", root, layout="classes"))
    assert made.files is not None
    assert made.files.used == 4 * len(folders.split())


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        ("device valley devil", ["device", "devil", "valley"]),
        ("carnival festival", ["carnival", "festival"]),
        ("te tiger", ["te", "tiger"]),
        ("devices gym rhythm", ["devices", "gym", "rhythm"]),
        ("cat_rain folding-chair settle", ["cat_rain", "folding-chair", "settle"]),
        ("cat/tests dog/pest", ["cat", "dog"]),
        ("cat/images dog/images", ["cat", "dog"]),
        ("cat/a cat/b dog/a", ["cat", "dog"]),
        ("train/cat train/dog val/cat val/dog", ["cat", "dog"]),
        ("train/cat train/dog Testing/cat Testing/dog", ["cat", "dog"]),
    ],
)
def test_layout_that_is_clear_is_no_question(
    folders: str, classes: list[str], tmp_path: Path
) -> None:
    """Folders without images do not count."""
    root = make_tree(tmp_path / "root", *folders.split())
    (root / "annotations").mkdir()
    (root / "annotations" / "train.json").touch()
    (root / "test_results").mkdir()
    assert folder.decode(cfg("folder", root)).class_names == classes


@pytest.mark.parametrize(
    ("folders", "train", "held_out"),
    [
        ("train2017 val2017 test2017", "train2017", "test2017"),
        ("train test unlabeled", "train", "test"),
        ("train training val", "train", "val"),
        ("train_1 other", "train_1", ""),
    ],
)
def test_layout_splits_trains_on_one_folder(
    folders: str, train: str, held_out: str, tmp_path: Path
) -> None:
    """All other folders are left out, and counted."""
    root = make_tree(tmp_path, *folders.split(), n=12)
    made = folder.decode(cfg("folder", root, layout="splits"))
    names = folders.split()
    assert {*levels(made.train_images)} == {names.index(train)}
    assert {*levels(made.test_images)} == {names.index(held_out or train)}
    assert made.files is not None
    assert sum(made.files.left_out.values()) == 12 * (len(names) - 1 - bool(held_out))


@pytest.mark.parametrize("folders", ["train2016 train2017 val", "cat dog", "test val"])
def test_layout_splits_without_one_training_folder_is_an_error(
    folders: str, tmp_path: Path
) -> None:
    """Nobody guesses which folder to train on."""
    root = make_tree(tmp_path, *folders.split())
    with pytest.raises(ValueError, match=r"data.layout=splits: the folders of .* Name one"):
        folder.decode(cfg("folder", root, layout="splits"))


def test_folder_with_links_uses_each_image_once(tmp_path: Path) -> None:
    """A link in the test folder to a training image is no test image."""
    make_tree(tmp_path, "train", "test")
    for i in range(3):
        (tmp_path / "test" / f"l{i}.png").symlink_to(tmp_path / "train" / f"{i}.png")
        (tmp_path / "train" / f"l{i}.png").symlink_to(tmp_path / "test" / f"{i}.png")
    (tmp_path / "train" / "again").symlink_to(tmp_path / "test")
    made = folder.decode(cfg("folder", tmp_path))
    assert (levels(made.train_images), levels(made.test_images)) == ([0] * 4, [1] * 4)
    assert made.files is not None
    assert (made.files.seen, made.files.used, made.files.duplicates) == (14, 8, 6)
    assert made.about.endswith(
        "14 files: 8 used; 6 links to images that are used anyway; not searched: "
        "1 link to a folder that is searched anyway (train/again)"
    )


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("copies", [0, 1, 4])
def test_folder_with_copies_in_test_says_so(copies: int, lazy: bool, tmp_path: Path) -> None:
    """The first line of a training, which the report repeats, has their number."""
    make_tree(tmp_path, "train", "test")
    for i in range(copies):
        shutil.copy(tmp_path / "train" / f"{i}.png", tmp_path / "test" / f"copy{i}.png")
    served = datasets.load(cfg("folder", tmp_path, cache_gb=0.0 if lazy else 1.0), 0)
    text = f"; {copies} of {4 + copies} held-out images are exact copies of training images; "
    assert (text in served.facts.about) == (copies > 0)


def test_pairs_with_copies_in_test_say_so(tmp_path: Path) -> None:
    """A pair is a copy if both images are."""
    for i in range(6):
        for side, value in (("A", i), ("B", 100 + i)):
            flat(tmp_path / f"train{side}" / f"{i}.png", (value,) * 3)
            test = value if i < 2 or (i < 4 and side == "A") else value + 50
            flat(tmp_path / f"test{side}" / f"{i}.png", (test,) * 3)
    about = pairs.decode(cfg("pairs", tmp_path)).about
    assert "; 2 of 6 held-out images are exact copies of training images" in about
    assert "; A: (12 center-cropped); 4 of 6 held-out" in horse2zebra.decode(
        cfg("horse2zebra", tmp_path)
    ).about.replace("A:;", "A:")


@pytest.mark.parametrize("layout", ["train/{} test/{}", "{}"])
@pytest.mark.parametrize("metadata", ["metadata.csv", "train/metadata.jsonl", "a/b/metadata.csv"])
def test_folder_with_metadata_warns_at_any_depth(
    layout: str, metadata: str, tmp_path: Path
) -> None:
    """The labels of a Hugging Face image folder are not dropped without a word."""
    make_tree(tmp_path, *layout.format("x", "x").split())
    (tmp_path / metadata).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / metadata).write_text("file_name,label\n")
    with pytest.warns(UserWarning, match=f"{metadata} is ignored. Set data.name=huggingface"):
        folder.decode(cfg("folder", tmp_path))


@pytest.mark.parametrize("only", ["bird", "zebra"])
def test_folder_with_a_class_in_test_only_is_an_error(only: str, tmp_path: Path) -> None:
    """The line names the class."""
    make_tree(tmp_path, "train/cat", "train/dog", "test/cat", f"test/{only}")
    with pytest.raises(ValueError, match=f"no training image has the class {only}, but held-out"):
        folder.decode(cfg("folder", tmp_path))
    assert folder.decode(cfg("folder", tmp_path, labels=False)).spec.classes == 0


@pytest.mark.parametrize(
    ("folders", "link", "message"),
    [
        ("cat dog", "cow", "{root}/cow is a broken link: the class cow is missing."),
        ("cat", "dog.2024", "dog.2024 is a broken link: the class dog.2024 is missing."),
        ("cat dog", "dog/more", "dog/more is a broken link: images of the class dog are missing."),
        ("cat/a dog", "cow/1/2", "cow/1/2 is a broken link: the class cow is missing."),
        ("train/cat train/dog test/cat", "train/cow", "train/cow is a broken link: the class cow"),
        ("train/cat train/dog test/cat", "test/dog", "images of the class dog are missing."),
        ("train/cat train/dog", "Test", "{root}/Test is a broken link: a split is missing."),
    ],
)
def test_dead_link_to_a_folder_names_the_lost_class(
    folders: str, link: str, message: str, tmp_path: Path
) -> None:
    """Disks that are not mounted leave such links; one to a single image loses no class."""
    root = make_tree(tmp_path / "root", *folders.split())
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to("/nowhere/photos")
    (root / "a.png").symlink_to("/nowhere/a.png")
    with pytest.warns(UserWarning, match="missing|broken links") as caught:
        folder.decode(cfg("folder", root))
    about_loss = [str(each.message) for each in caught if "missing" in str(each.message)]
    assert len(about_loss) == 1
    assert message.format(root=root) in about_loss[0]


def test_dead_link_without_classes_loses_none(tmp_path: Path) -> None:
    make_tree(tmp_path, ".")
    (tmp_path / "backup").symlink_to("/nowhere")
    with pytest.warns(UserWarning, match="broken link") as caught:
        folder.decode(cfg("folder", tmp_path))
    assert [str(each.message) for each in caught] == [
        f"skipped in {tmp_path}: 1 broken link (backup)"
    ]


def test_pairs_in_subfolders_are_counted_as_left_out(tmp_path: Path) -> None:
    """Side-by-side images are read from the folder itself."""
    for i in range(5):
        flat(tmp_path / f"{i}.png", (i,) * 3, size=(16, 8))
        flat(tmp_path / "more" / f"{i}.png", (i,) * 3, size=(16, 8))
    made = pairs.decode(cfg("pairs", tmp_path))
    assert made.files is not None
    assert made.files.left_out == {"not part of a pair (5 more)": 5}


@pytest.mark.parametrize("layout", ["{}", "train/{}"])
def test_folder_with_a_class_without_images_names_it(layout: str, tmp_path: Path) -> None:
    """A class of which all files are left out is lost: only its folder shows that it was one."""
    make_tree(tmp_path, layout.format("cat"), layout.format("dog"))
    (tmp_path / layout.format("fox")).mkdir()
    (tmp_path / layout.format("fox") / "a.heic").touch()
    (tmp_path / layout.format("elk")).mkdir()
    with pytest.warns(UserWarning, match=r"skipped in .*: 1 in an unsupported format \(.heic;"):
        made = folder.decode(cfg("folder", tmp_path))
    assert "data.labels=false ignores them), no images in the folders elk, fox" in made.about


@pytest.mark.parametrize(
    ("magic", "recorded"),
    [(b"P6", "01a193c20dca18a7"), (b"P5", "9cb9a11a8f6b9ba6")],
    ids=["color", "gray"],
)
def test_lazy_fingerprint_equals_the_recorded_one(
    magic: bytes, recorded: str, tmp_path: Path
) -> None:
    """Runs of earlier versions resume: the fingerprints are those that they recorded."""
    pixels = 8 * 8 * (3 if magic == b"P6" else 1)
    for i in range(6):
        values = bytes((i + 1) * value % 256 for value in range(pixels))
        (tmp_path / f"{i}.ppm").write_bytes(magic + b" 8 8 255\n" + values)
    made = folder.decode(cfg("folder", tmp_path, cache_gb=0.0))
    assert made.fingerprint == recorded


@pytest.mark.parametrize(
    ("module", "folders"),
    [
        (folder, "cat dog"),
        (folder, "train/cat train/dog test/cat test/dog"),
        (horse2zebra, "trainA trainB testA testB"),
        (pairs, "trainA trainB"),
    ],
)
def test_root_may_be_the_working_folder(
    module: Any, folders: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """data.root=. is the same data set as its absolute path."""
    for i, name in enumerate(folders.split()):
        for j in range(6):
            flat(tmp_path / name / f"{j}.png", (20 * i + j,) * 3)
    name = module.__name__.rpartition(".")[2]
    expected = module.decode(cfg(name, tmp_path))
    monkeypatch.chdir(tmp_path)
    made = module.decode(cfg(name, Path(".")))
    assert made.fingerprint == expected.fingerprint
    assert made.class_names == expected.class_names
    assert made.files == expected.files
