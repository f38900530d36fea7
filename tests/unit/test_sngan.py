from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gan_lab.families.sngan import SNGAN, SNGANConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream
from tests.helpers.networks import draw, resnet_discriminator


def make_model(classes: int, **changed: Any) -> SNGAN:
    torch.manual_seed(0)
    config = SNGANConfig(**({"z_dim": 5, "width": 4, "norm": "none"} | changed))
    return SNGAN(spec=ImageSpec(1, 8, 8, classes=classes), config=config).double()


@pytest.mark.parametrize("classes", [0, 3])
def test_the_losses_are_equations_16_and_17_with_and_without_labels(classes: int) -> None:
    family: Any = make_model(classes, n_critic=1)
    family.discriminator.eval()  # no power iteration between the step and the expected values
    x = (
        torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
        - 1
    )
    y = torch.tensor([2, 0, 1, 2]) if classes else None
    D = family.discriminator
    D.judge.parametrizations.weight.original.data *= 5
    with torch.no_grad():
        D.judge.bias += 0.3
        first, second = (
            family.generator(Stream(0, purpose).normal(4, 5, like=x), y)
            for purpose in ("latent d", "latent g")
        )
        hinge = (1 - D(x, y)).clamp(min=0).mean() + (1 + D(first, y)).clamp(min=0).mean()
        climb = -D(second, y).mean()
    descended: dict[str, float] = {}
    family.minimize = lambda loss, name: descended.update({name: float(loss.detach())})
    family.optimizer_list = lambda: ["discriminator", "generator"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    family.step(Batch(x, y))
    assert descended == pytest.approx(
        {"discriminator": float(hinge), "generator": float(climb)}, rel=1e-10
    )


@pytest.mark.parametrize("classes", [0, 3])
def test_it_is_conditional_where_there_are_labels(classes: int) -> None:
    family = make_model(classes)
    assert family.conditional == (classes > 0)
    assert (family.discriminator.embedding is not None) == (classes > 0)  # type: ignore[union-attr]
    batch = Batch(torch.zeros(3, 1, 8, 8).double(), torch.arange(3) if classes else None)
    assert family.generate(batch, Stream(0, "test")).shape == (3, 1, 8, 8)


def test_without_spectral_norm_only_the_norm_is_missing() -> None:
    normed, plain = (
        resnet_discriminator(classes=3, spectral=spectral) for spectral in (True, False)
    )
    layers = [each for each in plain.modules() if isinstance(each, nn.Conv2d | nn.Linear)]
    assert not any(parametrize.is_parametrized(layer) for layer in layers)
    # the same initial weights, and sum pooling in both
    before = {
        name.replace("parametrizations.weight.original", "weight"): value
        for name, value in normed.named_parameters()
    }
    after = dict(plain.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in after)
    x = draw(0, 2, 1, 28, 28)
    maps = plain.blocks(x)
    assert torch.equal(plain.features(x), maps.sum(dim=(2, 3)))
