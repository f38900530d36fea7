from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from gan_lab.families.acgan import ACGAN, ACGANConfig, split_heads
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream

LABELS = torch.tensor([2, 0, 1, 2])


def make_model() -> ACGAN:
    torch.manual_seed(0)
    return ACGAN(
        spec=ImageSpec(1, 8, 8, classes=3), config=ACGANConfig(z_dim=5, width=4, norm="none")
    ).double()


def step(family: Any, of: Batch) -> dict[str, float]:
    """What one step would descend, by the network that it moves."""
    descended: dict[str, float] = {}
    family.minimize = lambda loss, name: descended.update({name: float(loss.detach())})
    family.optimizer_list = lambda: ["discriminator", "generator"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    family.step(of)
    return descended


def test_the_losses_are_minus_the_log_likelihoods_of_the_right_source_and_of_the_right_class() -> (
    None
):
    family = make_model()
    x = (
        torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
        - 1
    )

    def likelihoods(images: Tensor) -> tuple[Tensor, Tensor]:
        source, classes = split_heads(family.discriminator(images))
        return source.sigmoid(), classes.softmax(dim=1)[range(4), LABELS]

    with torch.no_grad():
        first, second = (
            family.generator(Stream(0, purpose).normal(4, 5, like=x), LABELS)
            for purpose in ("latent d", "latent g")
        )
        (real, real_class), (fake, fake_class), (later, later_class) = (
            likelihoods(of) for of in (x, first, second)
        )
        L_S = real.log().mean() + (1 - fake).log().mean()  # equation 2
        L_C = real_class.log().mean() + fake_class.log().mean()  # equation 3
    assert step(family, Batch(x, LABELS)) == pytest.approx(
        {
            "discriminator": float(-L_S - L_C),
            "generator": float(-later.log().mean() - later_class.log().mean()),  # non-saturating
        },
        rel=1e-10,
    )


def test_the_discriminator_is_not_shown_the_label_but_asked_for_it() -> None:
    family = make_model()
    logits = family.discriminator(torch.zeros(2, 1, 8, 8).double())
    source, classes = split_heads(logits)
    assert torch.equal(torch.cat([source[:, None], classes], dim=1), logits)
    assert classes.shape == (2, 3)


def test_data_without_labels_are_refused() -> None:
    with pytest.raises(
        ValueError, match="acgan is conditional on labels, but the data has 0 classes"
    ):
        ACGAN(spec=ImageSpec(1, 8, 8), config=ACGANConfig())
