"""Measures of studies are what their formulas say, and the program of the texts takes the steps of the texts."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torch.optim import Adam

from gan_lab import networks
from gan_lab.config import loading
from gan_lab.images import Batch
from gan_lab.runs.folder import RunFolder
from gan_lab.seeding import Stream
from gan_lab.studies.measures import Arm, colour, cycle, scores
from gan_lab.training import builder


def test_colourfulness_is_nothing_for_gray_and_what_its_formula_says_for_two_colours() -> None:
    gray = torch.rand(2, 1, 8, 8).mul(2).sub(1).expand(-1, 3, -1, -1)
    assert colour.colourfulness(gray).abs().max() < 1e-4
    red = torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1.0  # one colour: no spread, red - green = 255, yellow - blue = 127.5
    assert float(colour.colourfulness(red)) == pytest.approx(0.3 * math.hypot(255, 127.5), rel=1e-5)
    both = torch.cat([red, -red], dim=3)  # red and cyan: no mean, and those distances from it
    assert float(colour.colourfulness(both)) == pytest.approx(math.hypot(255, 127.5), rel=1e-5)


def test_what_hides_in_a_translation_is_told_by_noise_on_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A way there that shrinks the image a hundredfold, and a way back that enlarges what noise has been put on."""

    class Times(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return self.factor * x

    batch = Batch(torch.zeros(40, 3, 8, 8), None, torch.rand(40, 3, 8, 8))
    monkeypatch.setattr(scores, "of_run", lambda folder: {"gain_inside": 1.0})
    found = []
    for there, back in ((0.01, 99.0), (1.0, 0.99)):
        family = SimpleNamespace(
            generator=Times(there),
            generator_back=Times(back),
            device=torch.device("cpu"),
            dtype=None,
        )
        data = SimpleNamespace(reference=lambda n: [batch], available=lambda split: 40)
        run = SimpleNamespace(family=family, data=data, load=lambda weights: 0)
        monkeypatch.setattr(
            cycle, "Run", lambda folder, run=run: SimpleNamespace(restore=lambda: run)
        )
        found.append(cycle.measure(Arm("any", [], 0, lambda words: tmp_path)))
    assert batch.sources is not None
    error = 0.01**2 * float(batch.sources.square().mean())
    assert [each["cycle_error"] for each in found] == pytest.approx([error, error], rel=1e-3)
    noise = (2 / 127.5) ** 2
    for each, back in zip(found, (99.0, 0.99), strict=True):
        assert each["hidden"] == pytest.approx(1 + back**2 * noise / error, rel=0.05)


def test_the_program_of_the_texts_takes_its_steps(tmp_path: Path, data_root: Path) -> None:
    """Its loop once more, as the text has it: two steps of the discriminator, on half a batch each, and one of the generator."""
    words = ["family=gan_lab.studies.programs.keras", "model.eps=0.8", "data.name=mnist", "data.source=sample",
             "data.batch_size=16", "run.images=48", "run.evaluate_every_images=48", "log.wandb=off", "log.progress_bar=false",
             f"data.root={data_root}", f"run.root={tmp_path}"]  # fmt: skip
    built = builder.build(
        *builder.load_data(loading.load("gan", words).config), RunFolder(tmp_path / "gan" / "k")
    )
    built.evaluation.evaluator.metrics = []
    family: Any = built.family
    G, D = deepcopy(family.generator), deepcopy(family.discriminator)
    assert [layer.eps for layer in G.modules() if isinstance(layer, nn.BatchNorm1d)] == [0.8] * 3
    assert networks.from_recipe(G.recipe).layers[2].eps == 0.8  # type: ignore[index, union-attr]
    opt_d, opt_g = (Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (D, G))
    seen: list[Tensor] = []
    step = family.step
    family.step = lambda batch: (seen.append(batch.images.clone()), step(batch))[1]
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
    for mine, theirs in ((G, family.generator), (D, family.discriminator)):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-5)  # a tenth of a step
