"""Frames of a training on 2-D points: they have the discriminator's logits, and change nothing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.images import Batch
from gan_lab.report import point_player
from gan_lab.runs.point_frames import LATTICE_SIDE, PointFrame, read_frame, write_frame
from gan_lab.seeding import Stream
from gan_lab.training.builder import build_family
from gan_lab.training.callbacks.sample_grids import SampleGrids

RING = ["data.name=toy", "model.network=mlp", "model.norm=none", "model.z_dim=2", "model.width=4"]


def build(name: str, *overrides: str) -> tuple[Family, GANDataModule]:
    config = loading.load(name, [*RING, *overrides]).config
    data = datasets.load(config.data, 0)
    return build_family(config, data), data


def write_grid(folder: Path, family: Family, data: GANDataModule, by_class: bool) -> SampleGrids:
    """Write the grid and the frame after 16 images."""
    progress: Any = SimpleNamespace(images=16, iteration=1, iterations=2)
    ema: Any = SimpleNamespace(applied_here=lambda _: nullcontext())
    grids = SampleGrids(folder, 1, 1, data, by_class, 0, ema, progress)
    grids.write(family)
    return grids


def test_frame_has_samples_and_logits_of_the_plane(tmp_path: Path) -> None:
    """Dropout is off, and draws nothing from the generator of the training."""
    family, data = build("gan", "model.dropout=0.5", "model.loss=hinge")
    before = torch.get_rng_state()
    grids = write_grid(tmp_path, family, data, by_class=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert family.discriminator.training
    frame = read_frame(tmp_path / "samples" / "000000016.npz")
    assert frame is not None
    assert frame.loss == "hinge"
    family.eval()
    with torch.no_grad():
        points = family.generate(grids.batch, Stream(0, "samples")).flatten(1)
        # x grows to the right, y upwards: the corner at the lower right is (1, -1)
        corner = family.discriminator(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
        right = family.discriminator(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    assert np.allclose(frame.points, points.numpy(), atol=1e-6)
    assert frame.logits is not None
    assert frame.logits[-1, -1] == pytest.approx(float(corner), abs=1e-5)
    assert frame.logits[LATTICE_SIDE // 2, -1] == pytest.approx(float(right), abs=1e-5)


def test_conditional_discriminator_rates_a_point_as_its_best_class(tmp_path: Path) -> None:
    family, data = build("cgan")
    write_grid(tmp_path, family, data, by_class=True)
    frame = read_frame(tmp_path / "samples" / "000000016.npz")
    assert frame is not None
    assert frame.logits is not None
    origin = torch.zeros(8, 2, 1, 1)
    with torch.no_grad():
        logits = family.eval().rate_reals(Batch(origin, torch.arange(8)))
    assert logits is not None
    assert float(logits.max() - logits.min()) > 1e-3
    middle = LATTICE_SIDE // 2
    assert frame.logits[middle, middle] == pytest.approx(float(logits.max()), abs=1e-5)


def test_frames_after_the_checkpoint_are_removed(tmp_path: Path) -> None:
    """A resumed run repeats them, as it does its grids."""
    family, data = build("gan")
    grids = write_grid(tmp_path, family, data, by_class=False)
    (tmp_path / "reals.png").touch()
    later = tmp_path / "samples" / "000000032.npz"
    later.write_bytes((tmp_path / "samples" / "000000016.npz").read_bytes())
    grids.on_train_start(SimpleNamespace(is_global_zero=True), family)  # type: ignore[arg-type]
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["000000016.npz", "000000016.png"]


def test_damaged_frames_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    points, logits = torch.zeros(3, 2, 1, 1), torch.zeros(LATTICE_SIDE**2)
    write_frame(path, points, logits, "hinge")
    assert read_frame(path) is not None
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert read_frame(path) is None
    # compressed it is small
    write_frame(path, torch.zeros(200_000, 2, 1, 1), logits, "hinge")
    assert read_frame(path) is None
    write_frame(path, points * float("nan"), logits, "hinge")
    assert read_frame(path) is None
    np.savez(path, points=np.array([{}], dtype=object), loss="hinge")
    assert read_frame(path) is None


@pytest.mark.parametrize(
    ("loss", "center"), [("hinge", 0.0), ("least_squares", 0.5), ("wasserstein", 3.0)]
)
def test_surface_is_centered_at_the_decision(loss: str, center: float) -> None:
    """A critic's output has a meaning only relative to others: the median over the plane."""
    logits = np.array([[1.0, 3.0], [9.0, 3.0]], dtype=np.float32)
    centered = point_player._center_outputs(PointFrame(np.zeros((1, 2)), logits, loss))
    assert centered is not None
    assert centered.tolist() == (logits - center).tolist()
