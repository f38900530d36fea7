"""On a ring of eight Gaussians each family with point networks (MLPs) finds the modes.

A training ends at the second evaluation in a row at which it has: most need a third of their
budget.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from gan_lab.config import loading
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from tests.helpers.families import FAMILIES, keys_of

# Overrides in addition to those of ring.yaml, whose learning rates are the keys of another family;
# a new family needs none.
WORDS = {
    "wgan": ["model.lr_d=5e-4", "model.lr_g=5e-4", "model.clip=0.03", "data.batch_size=64",
             "ema.half_life_images=5000", "run.images=150000"],
    "wgan_gp": ["model.lr_d=1e-3", "model.lr_g=1e-3", "model.gp_weight=0.1",
                "ema.half_life_images=10000", "model.betas=[0,0.9]", "model.critic_norm=none"],
}  # fmt: skip
RING = ["data.name=toy", "model.network=mlp", "model.norm=none", "model.z_dim=2", "model.width=32",
        "data.batch_size=128", "run.images=100000", "run.evaluate_every_images=10000",
        "ema.half_life_images=2000"]  # fmt: skip
TWO_SPEEDS = ["model.lr_d=1e-3", "model.lr_g=2e-4", "model.betas=[0.5,0.9]"]

MIN_MODES = 7


class StopAtCoverage(Callback):
    """Stops a training that has found the modes in two consecutive evaluations."""

    def __init__(self, built: builder.Experiment) -> None:
        self.built = built
        self.modes: list[float] = []
        self.latest: dict[str, float] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        scores = self.built.evaluation.scores
        if scores != self.latest:
            self.latest = dict(scores)
            self.modes.append(scores["modes_covered"])
        trainer.should_stop = min([0, 0, *self.modes][-2:]) >= MIN_MODES


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:collapse at"
)  # inside the modes, of which the conditional one makes points
@pytest.mark.parametrize("family", [family for family in FAMILIES if "network" in keys_of(family)])
def test_each_family_covers_seven_of_eight_modes(family: str, tmp_path: Path) -> None:
    words = [
        f"run.root={tmp_path}",
        "log.wandb=off",
        "log.progress_bar=false",
        *RING,
        *WORDS.get(family, TWO_SPEEDS),
    ]
    (tmp_path / "checkpoints").mkdir()
    built = builder.build(
        *builder.load_data(loading.load(family, words).config), RunFolder(tmp_path)
    )
    built.trainer.callbacks.append(StopAtCoverage(built))  # type: ignore[attr-defined]
    built.trainer.fit(built.family, datamodule=built.data)
    assert built.evaluation.scores["modes_covered"] >= MIN_MODES, built.evaluation.scores
