"""On a ring of eight Gaussians each family that can make points (its networks may be MLPs) finds the modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lab import runs
from tests.families import FAMILIES, keys_of
from tests.processes import train

# Words beside those of ring.yaml, whose learning rates are the keys of another family; a new family needs none.
WORDS = {
    "wgan": ["model.lr=2e-4", "model.clip=0.02", "data.batch_size=64", "ema.half_life_images=5000"],
    "wgan_gp": ["model.lr=1e-3", "model.gp_weight=0.1", "ema.half_life_images=10000", "model.betas=[0,0.9]"],
}
RING = ["data.name=toy", "model.network=mlp", "model.norm=none", "model.z_dim=2", "data.batch_size=128",
        "run.images=300000", "run.evaluate_every=50000", "ema.half_life_images=2000"]  # fmt: skip
TWO_SPEEDS = ["model.lr_d=1e-3", "model.lr_g=2e-4", "model.betas=[0.5,0.9]"]


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in FAMILIES if "network" in keys_of(family)])
def test_each_family_covers_seven_of_eight_modes(family: str, tmp_path: Path) -> None:
    words = [f"run.root={tmp_path}", "run.id=ring", "log.wandb=off", "log.bar=false", *RING]
    words += WORDS.get(family, TWO_SPEEDS)
    assert train(family, words, tmp_path / "log") == 0, (tmp_path / "log").read_text()
    state = runs.summary(tmp_path / family / "ring")
    assert state["last"]["modes_covered"] >= 7, state["last"]
