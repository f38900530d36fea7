"""Generated horses: scikit-image's silhouette before its grass and gravel, the coat plain brown or black-and-white
striped.

The stripes are a fixed function of the animal's own coordinates: they move, grow and turn with it, so that each picture
has one true counterpart in the other coat. What differs from picture to picture (place, size, side, ground, light) is
the same in both coats, and drawn from one fixed seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from gan_lab import seeding
from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.cache import Arrays, decoded_once
from gan_lab.images import ImageSpec

COUNT, HELD_OUT = 1000, 200
VERSION = 2  # of the drawing; part of the cache's key
PERIOD = 44.0  # of the stripes on the flank, in pixels of the silhouette, which is 370 of them long: 8 pixels of 64
BAY, DARK = (142, 84, 44), (62, 38, 26)  # the plain coat; its mane, tail and lower legs
WHITE, BLACK = (238, 234, 226), (30, 27, 27)
GROUNDS = {
    "grass": (0.72, 1.06, 0.44),
    "gravel": (1.06, 0.98, 0.86),
}  # red, green and blue of the gray textures


def sample(cfg: DataConfig, paired: bool, reason: str) -> ArrayDataset:
    """The sample of ``horse2zebra`` and of ``pairs``: A are plain horses, B striped ones.

    Held-out picture i of A and of B are one animal; in training so only if ``paired``.
    """
    name = f"horses-{'paired' if paired else 'unpaired'}-{cfg.size}"
    arrays, fingerprint = decoded_once(
        Path(cfg.root), name, f"{name}/{VERSION}", lambda: _arrays(cfg.size, paired)
    )
    target, source = ("b", "a") if cfg.direction == "AtoB" else ("a", "b")
    about = (
        f"generated horses: {COUNT:,} {'in both coats' if paired else f'plain and {COUNT:,} other ones striped'}, "
        f"{HELD_OUT} held out in both: {reason}"
    )
    spec = ImageSpec(
        3,
        cfg.size,
        cfg.size,
        content="horses",
        source_channels=3,
        pairs="all" if paired else "held out",
    )
    return ArrayDataset(
        spec, arrays[f"train_{target}"], None, arrays[f"test_{target}"], None, "sample", about,
        f"{fingerprint}-{cfg.direction}", arrays[f"train_{source}"], arrays[f"test_{source}"],
    )  # fmt: skip


def _arrays(size: int, paired: bool) -> Arrays:
    painter = Painter(size)
    plain, held = views("A", COUNT), views("held out", HELD_OUT)
    striped = plain if paired else views("B", COUNT)
    return {
        "train_a": painter.pictures(plain, striped=False), "train_b": painter.pictures(striped, striped=True),
        "test_a": painter.pictures(held, striped=False), "test_b": painter.pictures(held, striped=True),
    }  # fmt: skip


class View(NamedTuple):
    """The scene of a picture, all in shares of its side but the ground, its corner and the light."""

    length: float  # of the animal, tail to muzzle
    across: float  # where in the free width it stands, 0 to 1
    down: float
    mirrored: bool
    ground: str
    corner: tuple[float, float]  # of the piece of ground, in shares of what is possible
    piece: float  # side of the piece of ground, in shares of the texture's
    light: float


def views(purpose: str, n: int) -> list[View]:
    """``n`` views, a pure function of the purpose: two domains of two purposes are different animals."""
    rng = np.random.Generator(np.random.Philox(key=seeding.key(0, f"horses/{purpose}")))
    drawn = rng.random((n, 9))
    return [
        View(0.88 + 0.2 * u[0], u[1], u[2], u[3] < 0.5, "grass" if u[4] < 0.5 else "gravel", (u[5], u[6]),
             0.25 + 0.25 * u[7], 0.75 + 0.4 * u[8]) for u in drawn
    ]  # fmt: skip


class Painter:
    """Paints views as uint8 RGB pictures of one size, in either coat."""

    def __init__(self, size: int) -> None:
        from skimage import data

        self.size = size
        shape = ~data.horse()
        rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
        shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self.height, self.length = shape.shape
        self.margin = self.length // 2  # more than any view shows around the animal
        self.coats = {striped: self._animal(shape, striped) for striped in (False, True)}
        self.grounds = {
            name: _ground(getattr(data, name)(), tint) for name, tint in GROUNDS.items()
        }

    def paint(self, view: View, striped: bool) -> np.ndarray:
        """One picture, uint8 [3, size, size]."""
        side = self.length / view.length  # of the picture, in pixels of the silhouette
        left = self.margin - view.across * (side - self.length)
        top = self.margin - view.down * (side - self.height)
        animal = self._seen(self.coats[striped], (left, top, left + side, top + side))
        if view.mirrored:
            animal = animal[:, ::-1]
        texture = self.grounds[view.ground]
        piece = view.piece * texture.width
        x, y = (share * (texture.width - piece) for share in view.corner)
        ground = self._seen(texture, (x, y, x + piece, y + piece))
        picture = view.light * (animal[..., :3] + (1 - animal[..., 3:] / 255) * ground)
        return picture.clip(0, 255).round().astype(np.uint8).transpose(2, 0, 1)

    def pictures(self, seen: list[View], striped: bool) -> np.ndarray:
        """Pictures of views, uint8 [n, 3, size, size]."""
        return np.stack([self.paint(view, striped) for view in seen])

    def _seen(self, picture: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
        return np.asarray(
            picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box), dtype=np.float32
        )

    def _animal(self, shape: np.ndarray, striped: bool) -> Image.Image:
        x, y = (
            axis / self.length
            for axis in np.meshgrid(np.arange(self.length), np.arange(self.height))
        )
        colours = _striped(x, y, self.length) if striped else _plain(x, y)
        pixels = np.dstack([colours, 255.0 * shape]).round().astype(np.uint8)
        canvas = np.pad(pixels, ((self.margin,) * 2, (self.margin,) * 2, (0, 0)))
        return Image.fromarray(canvas).convert(
            "RGBa"
        )  # colours times opacity, as they are averaged


def _ground(texture: np.ndarray, tint: tuple[float, float, float]) -> Image.Image:
    soft = 118 + 0.55 * (
        texture.astype(np.float32) - texture.mean()
    )  # as it is, it would drown the stripes
    return Image.fromarray((soft[..., None] * np.array(tint)).clip(0, 255).round().astype(np.uint8))


def _rise(values: np.ndarray, width: float) -> np.ndarray:
    """0 far below zero, the value itself far above, smooth over ``width``."""
    return width * np.logaddexp(0, values / width)


def _step(values: np.ndarray, width: float) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(values / width)


def _striped(x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
    """Bars across the flank, rings around neck and legs; x from tail (0) to muzzle (1), y from the ears down to 0.81."""
    phase = x - 0.9 * _rise(0.24 - y, 0.03) + 1.3 * _rise(y - 0.45, 0.03)
    white = _step(np.sin(2 * np.pi * phase * length / PERIOD), 0.25)[..., None]
    return white * np.array(WHITE) + (1 - white) * np.array(BLACK)


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bay: darker to the belly, the tail and the lower legs almost black."""
    dark = np.maximum(_step(y - 0.62, 0.05), _step(0.11 - x, 0.02))
    dark = np.maximum(dark, 0.35 * _step(y - 0.42, 0.08))[..., None]
    return dark * np.array(DARK) + (1 - dark) * np.array(BAY)
