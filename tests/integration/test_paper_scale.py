"""Experiments at the papers' sizes say that they are untrained, and take two small steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gan_lab.config import loading
from gan_lab.data import cifar10
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import ImageSpec
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from tests.helpers.families import model_words
from tests.helpers.pictures import noise

PAPERS = [name for name, about in loading.experiments().items() if "untrained here" in about]
NARROW = {"width": 4, "width_d": 0, "blocks": 1, "z_dim": 8}


def test_there_is_one_for_each_method_that_issues_ask_for() -> None:
    assert set(PAPERS) == {
        "cyclegan_256", "dcgan_celeba", "pix2pix_256", "r3gan_cifar10", "sngan_cifar10",
        "stylegan2_256", "stylegan2_cifar10", "wgan_gp_cifar10"
    }  # fmt: skip


@pytest.mark.parametrize("name", PAPERS)
def test_two_iterations_move_every_network(
    name: str, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, spec = np.random.default_rng(0), ImageSpec(3, 32, 32, classes=10)
    images, labels = rng.integers(0, 256, (80, 3, 32, 32), dtype=np.uint8), np.arange(80) % 10
    made = ArrayDataset(spec, images, labels, images[:20], labels[:20], "full", "made up", "cifar")
    monkeypatch.setattr(cifar10, "decode", lambda cfg: made)
    config = loading.load(name).config
    step = getattr(config.model, "n_critic", 1)
    batch = 2 if config.data.size > 64 else 4
    words = model_words(config.family, **NARROW)
    words += [f"data.batch_size={batch}", f"run.images={2 * step * batch}", "log.wandb=off",
              "log.progress_bar=false", "metrics.num_fakes=4", "metrics.num_reals=4",
              "metrics.inception_weights=off", f"data.root={data_root}",
              "ema.half_life_images=10"]  # fmt: skip
    if config.data.name in ("pairs", "horse2zebra"):
        for side, count in (("trainA", 4), ("trainB", 4), ("testA", 2), ("testB", 2)):
            (tmp_path / "sides" / side).mkdir(parents=True)
            for i in range(count):
                noise(256, 256, seed=i).save(tmp_path / "sides" / side / f"{i}.png")
        words += [f"data.root={tmp_path / 'sides'}"]
    words += [f"data.source={'sample' if config.data.name == 'celeba' else 'full'}"]
    loaded = loading.load(name, words)
    (tmp_path / "checkpoints").mkdir()
    built = builder.build(*builder.load_data(loaded.config), RunFolder(tmp_path))
    before = {key: value.clone() for key, value in built.family.named_parameters()}
    built.trainer.fit(built.family, datamodule=built.data)
    moved = {
        key.split(".")[0]
        for key, value in built.family.named_parameters()
        if not torch.equal(value, before[key])
    }
    assert moved == {key.split(".")[0] for key in before}
    assert built.family.iteration == 2 * step
    assert loaded.config.data.jitter == config.data.jitter
