"""Tests of the measures of studies against their formulas, and of the tutorial program."""

from __future__ import annotations

import colorsys
import math
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torch.optim import Adam

from gan_lab import data as datasets
from gan_lab import networks
from gan_lab.config import loading
from gan_lab.images import Batch
from gan_lab.runs.run_folder import RunFolder
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, colour, cycle, random_hues, sample_size, scores
from gan_lab.training import builder


def test_colorfulness_of_gray_and_of_two_colors() -> None:
    gray = torch.rand(2, 1, 8, 8).mul(2).sub(1).expand(-1, 3, -1, -1)
    assert colour.compute_colorfulness(gray).abs().max() < 1e-4
    red = torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1.0
    # One color: no spread, red - green = 255, yellow - blue = 127.5.
    distance = math.hypot(255, 127.5)
    assert float(colour.compute_colorfulness(red)) == pytest.approx(0.3 * distance, rel=1e-5)
    # Red and cyan: a mean of 0, and the same distances from it.
    both = torch.cat([red, -red], dim=3)
    assert float(colour.compute_colorfulness(both)) == pytest.approx(distance, rel=1e-5)


def test_colors_of_hues_equal_colorsys_and_have_a_gray_median() -> None:
    hues = torch.arange(3600) / 3600
    colors = random_hues.compute_colors(hues)
    expected = torch.tensor([colorsys.hsv_to_rgb(float(hue), 1, 1) for hue in hues])
    torch.testing.assert_close(colors, expected, rtol=0, atol=1e-5)
    # the color with the least expected L1 error
    assert colors.quantile(0.5, dim=0).tolist() == pytest.approx([0.5] * 3, abs=1e-3)
    pairs = random_hues.make_pairs(torch.full((3600, 1, 2, 2), 0.5), hues)
    assert float(pairs[..., :2].std()) == 0
    assert torch.equal(pairs[..., :2].amax((1, 2, 3)), pairs[..., 2:].amax((1, 2, 3)))
    brightest = 2 * 0.75 * expected - 1
    torch.testing.assert_close(pairs[:, :, 0, 2], brightest, rtol=0, atol=1e-5)


def test_pairs_of_random_hues_are_read_as_they_were_made(tmp_path: Path) -> None:
    path = tmp_path / "pairs.zip"
    random_hues.write_pairs(path)
    words = [f"data.root={path}", "data.source=full", "data.size=32"]
    data = datasets.load(loading.load("pix2pix", words).config.data, 0)
    digits = sample_size.load_digits()
    held_out = {each.numpy().tobytes() for each in sample_size.read_images(digits, digits.test)}
    batch = data.in_range(data.test.__getitems__(range(len(data.test))))
    assert batch.sources is not None
    assert len(batch.sources) > 300
    inner = batch.sources[:, :1, 2:-2, 2:-2].contiguous()
    assert {each.numpy().tobytes() for each in inner} <= held_out
    assert torch.equal(batch.sources, batch.sources[:, :1].expand_as(batch.sources))
    # a saturated color has the brightness in one channel and none in another
    assert torch.equal(batch.images.amax(1), batch.sources.amax(1))
    assert float(batch.images.amin(1).max()) == -1


def test_pairs_of_random_hues_are_written_once_by_two_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "new" / "pairs.zip"
    written = []

    def write(path: Path) -> None:
        written.append(path)
        time.sleep(0.2)
        path.touch()

    monkeypatch.setattr(random_hues, "write_pairs", write)
    monkeypatch.setattr(colour, "measure", lambda arm: {"colourfulness": 1.0})
    arm = Arm("both", ["pix2pix", f"data.root={root}"], 0, lambda arguments: tmp_path)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(random_hues.measure, [arm, arm]))
    assert found == [{"colourfulness": 1.0, "log_colourfulness": 0.0}] * 2
    assert written == [root]


def test_noise_on_translation_detects_hidden_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """G shrinks the image a hundredfold, and F enlarges it together with the noise."""

    class Scale(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x

    batch = Batch(torch.zeros(40, 3, 8, 8), None, torch.rand(40, 3, 8, 8))
    monkeypatch.setattr(scores, "collect_scores", lambda folder: {"gain_inside": 1.0})
    found = []
    for forward, backward in ((0.01, 99.0), (1.0, 0.99)):
        family = SimpleNamespace(
            generator=Scale(forward),
            generator_back=Scale(backward),
            device=torch.device("cpu"),
            dtype=None,
        )
        data = SimpleNamespace(reference=lambda n: [batch], available=lambda split: 40)
        run = SimpleNamespace(family=family, data=data, load=lambda weights: 0)
        monkeypatch.setattr(
            cycle, "Run", lambda folder, run=run: SimpleNamespace(restore=lambda: run)
        )
        found.append(cycle.measure(Arm("any", [], 0, lambda arguments: tmp_path)))
    assert batch.sources is not None
    error = 0.01**2 * float(batch.sources.square().mean())
    assert [each["cycle_error"] for each in found] == pytest.approx([error, error], rel=1e-3)
    noise = (2 / 127.5) ** 2
    for each, backward in zip(found, (99.0, 0.99), strict=True):
        assert each["hidden"] == pytest.approx(1 + backward**2 * noise / error, rel=0.05)


def test_keras_program_equals_reference_loop(tmp_path: Path, data_root: Path) -> None:
    """The tutorial's loop: two discriminator steps on half a batch each, and a generator step."""
    overrides = [
        "family=gan_lab.studies.programs.keras",
        "model.eps=0.8",
        "data.name=mnist",
        "data.source=sample",
        "data.batch_size=16",
        "run.images=48",
        "run.evaluate_every_images=48",
        "log.wandb=off",
        "log.progress_bar=false",
        f"data.root={data_root}",
        f"run.root={tmp_path}",
    ]
    built = builder.build(
        *builder.load_data(loading.load("gan", overrides).config), RunFolder(tmp_path / "gan" / "k")
    )
    built.evaluation.evaluator.metrics = []
    family: Any = built.family
    G, D = deepcopy(family.generator), deepcopy(family.discriminator)
    assert [layer.eps for layer in G.modules() if isinstance(layer, nn.BatchNorm1d)] == [0.8] * 3
    assert networks.from_recipe(G.recipe).layers[2].eps == 0.8  # type: ignore[index, union-attr]
    opt_d, opt_g = (Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (D, G))
    seen: list[Tensor] = []
    step = family.step

    def record_step(batch: Batch) -> None:
        seen.append(batch.images.clone())
        step(batch)

    family.step = record_step
    built.trainer.fit(family, datamodule=built.data)
    assert len(seen) == 3
    for iteration, x in enumerate(seen):
        z = [
            Stream(family.seed, purpose, iteration).normal(n, 100, like=x)
            for purpose, n in (("latent d", 8), ("latent g", 16))
        ]
        with torch.no_grad():
            fake = G(z[0])
        for images, target in ((x[:8], torch.ones(8)), (fake, torch.zeros(8))):
            opt_d.zero_grad()
            binary_cross_entropy(D(images).sigmoid(), target).backward()
            opt_d.step()
        opt_g.zero_grad()
        binary_cross_entropy(D(G(z[1])).sigmoid(), torch.ones(16)).backward()
        opt_g.step()
    for expected, trained in ((G, family.generator), (D, family.discriminator)):
        for a, b in zip(expected.parameters(), trained.parameters(), strict=True):
            # A tenth of a step.
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)
