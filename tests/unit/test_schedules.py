from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lab.config.schema import ModelConfig
from gan_lab.families.gan import GAN, GANConfig
from gan_lab.images import ImageSpec
from gan_lab.penalties import lazy_weight
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.schedules import decay_factor
from tests.contracts.test_families import fit


@pytest.mark.parametrize(
    ("kind", "seen", "left"),
    [
        ("linear", 0, 1), ("linear", 100, 1), ("linear", 150, 0.75), ("linear", 300, 0.2),
        ("linear", 10**9, 0.2),
        ("cosine", 100, 1), ("cosine", 150, 0.2 + 0.8 * (0.5 + 0.5 * math.cos(math.pi / 4))),
        ("cosine", 200, 0.6), ("cosine", 300, 0.2), ("cosine", 10**9, 0.2),
    ],
)  # fmt: skip
def test_what_is_left_falls_from_one_to_its_end_and_stays_there(
    kind: Any, seen: int, left: float
) -> None:
    cfg = ModelConfig(decay=kind, decay_from=100, decay_images=200)
    expected = {0.75: 0.8}.get(left, left)  # a quarter of the way from 1 to 0.2
    assert decay_factor(cfg, seen, to=0.2) == pytest.approx(expected)
    assert decay_factor(ModelConfig(decay=kind), seen, to=0.2) == 1


def test_every_optimizer_falls_from_its_own_rate_and_goes_on_from_a_checkpoint() -> None:
    family: Any = GAN(
        spec=ImageSpec(1, 8, 8),
        config=GANConfig(width=4, network="dcgan", lr_d=0.1, lr_g=0.3, decay_images=100),
    )
    optimizers = family.configure_optimizers()
    family.optimizer_list = lambda: optimizers
    rates = lambda: [optimizer.param_groups[0]["lr"] for optimizer in optimizers]  # noqa: E731
    family.decay_learning_rates()
    # rounded to float32, as on a device
    assert rates() == pytest.approx([0.1, 0.3], rel=1e-7)
    family.images_seen = 50
    family.decay_learning_rates()
    family.decay_learning_rates()  # from the first rate, not from the last
    assert rates() == pytest.approx([0.05, 0.15])
    states = [optimizer.state_dict() for optimizer in optimizers]
    optimizers = family.configure_optimizers()
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
    family.images_seen = 75
    family.decay_learning_rates()
    assert rates() == pytest.approx([0.025, 0.075])


def test_a_training_takes_its_steps_with_the_rates_that_are_left(
    tmp_path: Path, data_root: Path
) -> None:
    words = ("run.images=80", "model.decay_images=64", "model.decay_from=0", "model.decay_to=0.5")
    built, _ = fit("gan", tmp_path, data_root, *words)
    cfg: Any = built.config.model
    rates = [optimizer.param_groups[0]["lr"] for optimizer in built.family.optimizer_list()]
    assert rates == pytest.approx([0.5 * cfg.lr_d, 0.5 * cfg.lr_g])
    groups = read_checkpoint(tmp_path / "gan" / "checkpoints" / "last.ckpt")["optimizer_states"][0][
        "param_groups"
    ]
    assert groups[0]["initial_lr"] == cfg.lr_d


def test_a_lazy_penalty_weighs_as_much_in_the_long_run() -> None:
    weights = [lazy_weight(3.0, 4, iteration) for iteration in range(8)]
    assert weights == [12, 0, 0, 0] * 2
    assert [lazy_weight(3.0, 1, iteration) for iteration in range(3)] == [3, 3, 3]
    assert not any(lazy_weight(0.0, 4, iteration) for iteration in range(8))


@pytest.mark.parametrize("family", ["gan", "sngan"])
def test_r1_is_the_squared_gradient_at_the_reals_halved_and_lazy(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    plain, _ = fit(
        family, tmp_path / "plain", data_root, "run.images=16", "log.log_every_images=16"
    )
    words = ("run.images=48", "log.log_every_images=16", "model.r1_weight=2.0", "model.r1_every=2")
    built, _ = fit(family, tmp_path / "r1", data_root, *words)
    rows = (tmp_path / "r1" / family / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("r1")
    values = [row.split(",")[column] for row in rows[1:]]
    assert float(values[0]) > 0
    assert values[1] == ""  # the second iteration has none
    assert float(values[2]) > 0
    assert "r1" not in plain.family.logged_scalars
    assert SimpleNamespace(**vars(built.config.model)).r1_every == 2
