from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from gan_lab.families.r3gan import R3GAN, R3GANConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream


def make_model(classes: int = 0, **changed: Any) -> Any:
    """A family whose steps only record: ``descended`` has the losses by network."""
    torch.manual_seed(0)
    config = R3GANConfig(**({"z_dim": 5, "width": 4, "blocks": 1} | changed))
    family: Any = R3GAN(spec=ImageSpec(1, 8, 8, classes=classes), config=config).double()
    family.descended = {}
    family.minimize = lambda loss, name: family.descended.update({name: float(loss.detach())})
    family.optimizer_list = lambda: ["discriminator", "generator"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.stream = lambda purpose: Stream(0, purpose)
    return family


def images(n: int = 8) -> Tensor:
    """The reals of both steps, alternating."""
    return (
        torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
        - 1
    )


@pytest.mark.parametrize("classes", [0, 3])
def test_the_losses_are_those_of_pairs_with_half_gamma_times_both_penalties(classes: int) -> None:
    family, both = make_model(classes, gamma=3.0), images()
    labels = torch.tensor([2, 1, 0, 1, 1, 0, 2, 2]) if classes else None
    x, other = both[::2], both[1::2]
    y, y_g = (None, None) if labels is None else (labels[::2], labels[1::2])
    D = family.discriminator
    with torch.no_grad():
        for weight in D.parameters():
            weight += 0.1
        first = family.generator(Stream(0, "latent d").normal(4, 5, like=x), y)
        second = family.generator(Stream(0, "latent g").normal(4, 5, like=x), y_g)
        pairs_d = -logsigmoid(D(x, y) - D(first, y)).mean()
        pairs_g = -logsigmoid(
            D(second, y_g) - D(other, y_g)
        ).mean()  # other reals than the discriminator's
    squares = []
    for shown in (x.clone(), first.clone()):
        (slope,) = torch.autograd.grad(D(shown.requires_grad_(), y).sum(), shown)
        squares.append(float(slope.square().sum()) / 4)
    assert min(squares) > 0
    family.step(Batch(both, labels))
    assert family.descended == pytest.approx(
        {"discriminator": float(pairs_d) + 1.5 * sum(squares), "generator": float(pairs_g)},
        rel=1e-10,
    )


def test_a_step_passes_each_batch_through_the_discriminator_once() -> None:
    """The penalties reuse the loss's logits; the generator step has one pass of reals and fakes."""
    family, passes = make_model(), []
    family.discriminator.register_forward_pre_hook(lambda *_: passes.append("call"))
    forward = family.discriminator.forward
    family.discriminator.forward = lambda *args: (passes.append("forward"), forward(*args))[1]
    family.step(Batch(images()))
    assert passes.count("forward") == 4
    assert passes.count("call") == 2


def test_gamma_falls_along_a_cosine_to_a_share_of_its_own_and_then_stays() -> None:
    family = make_model(
        lr_d=1e-3, lr_g=1e-3, gamma=2.0, decay_images=1000, decay_to=0.2, gamma_to=0.6
    )
    shares = {}
    for seen in (0, 250, 500, 1000, 9000):
        family.images_seen = seen
        family.step(Batch(images()))
        penalties = 0.5 * float(family.logged_scalars["r1"] + family.logged_scalars["r2"])
        weight = (
            family.descended["discriminator"] - float(family.logged_scalars["loss_d"])
        ) / penalties
        shares[seen] = weight / 2.0
    assert shares == pytest.approx(
        {0: 1, 250: 0.6 + 0.4 * (0.5 + 0.5**1.5), 500: 0.8, 1000: 0.6, 9000: 0.6}
    )
