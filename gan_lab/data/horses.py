"""Generated horses: scikit-image's silhouette on grass or gravel, with a brown or a striped coat.

The stripes are a fixed function of the animal's coordinates: they move, scale and turn with it, so
that each image has one ground truth in the other coat. Everything that varies between images
(position, size, direction, ground, light) is equal in both coats and sampled from a fixed seed.
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
# Version of the rendering, part of the cache key.
RENDERING_VERSION = 2
# Period of the stripes in pixels of the silhouette, which is 370 long: 8 pixels of an image of 64.
STRIPE_PERIOD_PX = 44.0
# The brown coat, and its mane, tail and lower legs.
BAY, DARK = (142, 84, 44), (62, 38, 26)
WHITE, BLACK = (238, 234, 226), (30, 27, 27)
# Red, green and blue tint of the gray textures.
GROUND_TINTS = {"grass": (0.72, 1.06, 0.44), "gravel": (1.06, 0.98, 0.86)}


def sample(cfg: DataConfig, paired: bool, reason: str) -> ArrayDataset:
    """Generate the sample of ``horse2zebra`` and ``pairs``: A are brown horses, B striped ones.

    Held-out images i of A and B show the same animal. Training images do so only if ``paired``.
    """
    name = f"horses-{'paired' if paired else 'unpaired'}-{cfg.size}"
    arrays, fingerprint = decoded_once(
        Path(cfg.root), name, f"{name}/{RENDERING_VERSION}", lambda: _arrays(cfg.size, paired)
    )
    target, source = ("b", "a") if cfg.direction == "AtoB" else ("a", "b")
    domains = f"{COUNT:,} brown and {COUNT:,} other striped ones"
    if paired:
        domains = f"{COUNT:,} pairs, brown and striped"
    about = f"generated horses: {domains} ({HELD_OUT} pairs held out): {reason}"
    return ArrayDataset(
        spec=ImageSpec(
            3,
            cfg.size,
            cfg.size,
            content="horses",
            source_channels=3,
            pairs="all" if paired else "held out",
        ),
        train_images=arrays[f"train_{target}"],
        train_labels=None,
        test_images=arrays[f"test_{target}"],
        test_labels=None,
        source="sample",
        about=about,
        fingerprint=f"{fingerprint}-{cfg.direction}",
        train_sources=arrays[f"train_{source}"],
        test_sources=arrays[f"test_{source}"],
    )


def _arrays(size: int, paired: bool) -> Arrays:
    painter = HorsePainter(size)
    plain, held_out = sample_scenes("A", COUNT), sample_scenes("held out", HELD_OUT)
    striped = plain if paired else sample_scenes("B", COUNT)
    return {
        "train_a": painter.paint_all(plain, striped=False),
        "train_b": painter.paint_all(striped, striped=True),
        "test_a": painter.paint_all(held_out, striped=False),
        "test_b": painter.paint_all(held_out, striped=True),
    }


class Scene(NamedTuple):
    """Parameters of an image.

    Attributes:
        length: Length of the animal from tail to muzzle, as a share of the image side.
        across: Horizontal position within the free space, 0 to 1.
        down: Vertical position within the free space, 0 to 1.
        mirrored: True if the animal looks to the other side.
        ground: The name of the texture.
        corner: Position of the crop of the texture within the free space, 0 to 1.
        piece: Side of the crop of the texture, as a share of the texture's side.
        light: Brightness.
    """

    length: float
    across: float
    down: float
    mirrored: bool
    ground: str
    corner: tuple[float, float]
    piece: float
    light: float


def sample_scenes(purpose: str, n: int) -> list[Scene]:
    """Sample ``n`` scenes, a pure function of the purpose: other purposes are other animals."""
    rng = np.random.Generator(np.random.Philox(key=seeding.key(0, f"horses/{purpose}")))
    return [
        Scene(
            length=0.88 + 0.2 * u[0],
            across=u[1],
            down=u[2],
            mirrored=u[3] < 0.5,
            ground="grass" if u[4] < 0.5 else "gravel",
            corner=(u[5], u[6]),
            piece=0.25 + 0.25 * u[7],
            light=0.75 + 0.4 * u[8],
        )
        for u in rng.random((n, 9))
    ]


class HorsePainter:
    """Paints scenes as uint8 RGB images of one size, with either coat."""

    def __init__(self, size: int) -> None:
        from skimage import data

        self.size = size
        shape = ~data.horse()
        rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
        shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        self.height, self.length = shape.shape
        # Larger than the surroundings that any scene shows.
        self.margin = self.length // 2
        self.coats = {striped: self._draw_animal(shape, striped) for striped in (False, True)}
        self.grounds = {
            name: _tint_ground(getattr(data, name)(), tint) for name, tint in GROUND_TINTS.items()
        }

    def paint(self, scene: Scene, striped: bool) -> np.ndarray:
        """Paint a scene as uint8 [3, size, size]."""
        # The side of the image in pixels of the silhouette.
        side = self.length / scene.length
        left = self.margin - scene.across * (side - self.length)
        top = self.margin - scene.down * (side - self.height)
        animal = self._crop(self.coats[striped], (left, top, left + side, top + side))
        if scene.mirrored:
            animal = animal[:, ::-1]
        texture = self.grounds[scene.ground]
        piece = scene.piece * texture.width
        x, y = (share * (texture.width - piece) for share in scene.corner)
        ground = self._crop(texture, (x, y, x + piece, y + piece))
        image = scene.light * (animal[..., :3] + (1 - animal[..., 3:] / 255) * ground)
        return image.clip(0, 255).round().astype(np.uint8).transpose(2, 0, 1)

    def paint_all(self, scenes: list[Scene], striped: bool) -> np.ndarray:
        """Paint scenes as uint8 [n, 3, size, size]."""
        return np.stack([self.paint(scene, striped) for scene in scenes])

    def _crop(self, image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
        return np.asarray(
            image.resize((self.size, self.size), Image.Resampling.BILINEAR, box), dtype=np.float32
        )

    def _draw_animal(self, shape: np.ndarray, striped: bool) -> Image.Image:
        columns, rows = np.meshgrid(np.arange(self.length), np.arange(self.height))
        x, y = columns / self.length, rows / self.length
        colors = _color_striped(x, y, self.length) if striped else _color_plain(x, y)
        pixels = np.dstack([colors, 255.0 * shape]).round().astype(np.uint8)
        canvas = np.pad(pixels, ((self.margin,) * 2, (self.margin,) * 2, (0, 0)))
        # Premultiplied alpha, so that resizing averages colors correctly.
        return Image.fromarray(canvas).convert("RGBa")


def _tint_ground(texture: np.ndarray, tint: tuple[float, float, float]) -> Image.Image:
    # At full contrast, the texture would hide the stripes.
    soft = 118 + 0.55 * (texture.astype(np.float32) - texture.mean())
    return Image.fromarray((soft[..., None] * np.array(tint)).clip(0, 255).round().astype(np.uint8))


def _softplus(values: np.ndarray, width: float) -> np.ndarray:
    return width * np.logaddexp(0, values / width)


def _smooth_step(values: np.ndarray, width: float) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(values / width)


def _color_striped(x: np.ndarray, y: np.ndarray, length: int) -> np.ndarray:
    """Color the striped coat: bars across the flank, rings around neck and legs.

    x runs from the tail (0) to the muzzle (1), y from the ears (0) down to 0.81.
    """
    phase = x - 0.9 * _softplus(0.24 - y, 0.03) + 1.3 * _softplus(y - 0.45, 0.03)
    white = _smooth_step(np.sin(2 * np.pi * phase * length / STRIPE_PERIOD_PX), 0.25)[..., None]
    return white * np.array(WHITE) + (1 - white) * np.array(BLACK)


def _color_plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Color the brown coat: darker toward the belly, tail and lower legs almost black."""
    dark = np.maximum(_smooth_step(y - 0.62, 0.05), _smooth_step(0.11 - x, 0.02))
    dark = np.maximum(dark, 0.35 * _smooth_step(y - 0.42, 0.08))[..., None]
    return dark * np.array(DARK) + (1 - dark) * np.array(BAY)
