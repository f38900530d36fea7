"""The counts of files of random folder trees: none is lost, no test image is trained on."""

from __future__ import annotations

import os
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gan_lab.config.schema import DataConfig
from gan_lab.data import folder
from gan_lab.utils.errors import UserError

N_TREES = 60
SIDE = 4
MODES = ("RGB", "L", "P", "RGBA", "1", "I;16")
SUFFIXES = (".png", ".PNG", ".tif", ".bmp", ".gif", ".webp")
STRANGE_SUFFIXES = (".heic", ".mpo", ".png~", ".jpg?w=5", "", ".txt", ".json", ".DNG", ".zip")
CLASSES = ("cat", "dog", "ünïcode", "with space", "on", "1", "$x", "device")
SPLITS = ("train", "Test", "val", "VALIDATION", "train2017", "test_b", "images-val", "unlabeled")


class Tree:
    """A random folder tree whose images have a code, so that they are recognized once decoded."""

    def __init__(self, root: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.root = root
        # The path of each image relative to the root by its code.
        self.codes: dict[int, str] = {}
        # Paths of images that are copies of or links to other images, by their code.
        self.copies: dict[int, list[str]] = {}
        self.closed: set[str] = set()
        has_splits = self.rng.random() < 0.3
        for part in ("train", "Val") if has_splits else ("",):
            self._build(root / part, depth=int(has_splits))

    def _build(self, here: Path, depth: int) -> None:
        here.mkdir(parents=True, exist_ok=True)
        self._fill(here)
        has_splits = depth == 0 and self.rng.random() < 0.4
        names = self.rng.sample(SPLITS if has_splits else CLASSES, 3)
        if self.rng.random() < 0.05:
            names[0] = self.rng.choice(SPLITS)
        for name in names[: self.rng.randint(0, 3)] if depth < 3 else []:
            self._build(here / name, depth + 1)

    def _fill(self, here: Path) -> None:
        here.mkdir(parents=True, exist_ok=True)
        rng = self.rng
        for _ in range(rng.choice((0, 2, 4))):
            self._write_image(here / f"{rng.randrange(10**6)}{rng.choice(SUFFIXES)}")
        if rng.random() < 0.4:
            name = f"x{rng.randrange(10**6)}{rng.choice(STRANGE_SUFFIXES)}"
            (here / name).write_bytes(rng.choice((b"text", b"\xff\xd8\xff\xe0" + bytes(20), b"")))
        if rng.random() < 0.15:
            (here / f"torn{rng.randrange(10**6)}.png").write_bytes(b"\x89PNG")
        if rng.random() < 0.15:
            (here / ".hidden").write_bytes(b"x")
        if rng.random() < 0.2:
            (here / f"dead{rng.randrange(100)}{rng.choice(('', '.png'))}").symlink_to("/nowhere/x")
        if rng.random() < 0.2 and self.codes:
            code = rng.choice([*self.codes])
            link = here / f"link{rng.randrange(10**6)}.png"
            target = self.root / self.codes[code]
            if link.parent != target.parent:
                link.symlink_to(target)
        if rng.random() < 0.1:
            folder_link = here / f"again{rng.randrange(100)}"
            if not folder_link.exists():
                folder_link.symlink_to(self.root)
        if rng.random() < 0.1 and here != self.root:
            closed = here / "closed"
            closed.mkdir(exist_ok=True)
            self._write_image(closed / "a.png")
            self.closed.add(str(closed))

    def _write_image(self, path: Path) -> None:
        """Write an image of one gray level in each quarter: a code of four levels."""
        code = len(self.codes)
        digits = [code // 6**k % 6 for k in range(4)]
        levels = np.array(digits, np.uint8).reshape(2, 2) * 51
        pixels = np.kron(levels, np.ones((SIDE, SIDE), np.uint8))
        mode = self.rng.choice(MODES if path.suffix.lower() == ".png" else ("RGB", "L"))
        if mode == "1" and not set(digits) <= {0, 5}:
            mode = "L"
        image = Image.fromarray(pixels)
        if mode == "I;16":
            image = Image.fromarray(pixels.astype(np.uint16) * 257)
        elif mode != "L":
            image = image.convert(mode)
        image.save(path, lossless=True) if path.suffix == ".webp" else image.save(path)
        self.codes[code] = str(path.relative_to(self.root))

    def count_files(self) -> int:
        """Count everything that is no folder, outside of closed folders and of links to folders."""
        return sum(
            len(names) + sum((Path(here) / name).is_symlink() and not (Path(here) / name).exists()
                             for name in folders)
            for here, folders, names in os.walk(self.root)
            if here not in self.closed
        )  # fmt: skip


def decode_codes(images: Any) -> list[int]:
    pixels = images[np.arange(len(images))][:, 0, [0, 0, SIDE, SIDE], [0, SIDE, 0, SIDE]].astype(
        int
    )
    return [int(code) for code in np.rint(pixels / 51).astype(int) @ 6 ** np.arange(4)]


@pytest.fixture
def closed_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders named closed cannot be listed, even by root."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def is_held_out(path: str) -> bool:
    """True if a user would say that an image is no training image, by the folders above it."""
    first, *deeper = Path(path.lower()).parts[:-1] or ("",)
    named = {"test", "val", "validation"}
    return first in {"test_b", "images-val", *named} or not named.isdisjoint(deeper)


def test_folder_random_trees_account_for_every_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_folders: None
) -> None:
    """Files seen = used + left out + duplicates; and no file of a test folder is trained on."""
    monkeypatch.setenv("GAN_LAB_CACHE", str(tmp_path / "cache"))
    decoded = refused = 0
    for seed in range(N_TREES):
        tree = Tree(tmp_path / f"tree{seed}", seed)
        cfg = DataConfig(
            name="folder",
            root=str(tree.root),
            size=2 * SIDE,
            max_unreadable=1.0,
            levels=[0, 65535],
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = folder.decode(cfg)
        except UserError:
            refused += 1
            continue
        decoded += 1
        counts = made.files
        assert counts is not None
        assert counts.seen == tree.count_files(), tree.root
        assert counts.seen == counts.used + sum(counts.left_out.values()) + counts.duplicates
        train, held_out = decode_codes(made.train_images), decode_codes(made.test_images)
        assert counts.used == len(train) + len(held_out)
        used = [*train, *held_out]
        assert len(used) == len(set(used)), tree.root
        assert not [tree.codes[code] for code in train if is_held_out(tree.codes[code])]
    # Neither is everything refused, nor are the trees so simple that nothing is.
    assert decoded >= N_TREES // 4
    assert refused >= N_TREES // 10
