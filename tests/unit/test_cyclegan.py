from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lab.families.cyclegan import CycleGAN, CycleGANConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.seeding import Stream


def make_model(source_channels: int = 3, **changed: Any) -> CycleGAN:
    torch.manual_seed(0)
    spec = ImageSpec(3, 16, 16, source_channels=source_channels)
    cfg = CycleGANConfig(**({"width": 2, "blocks": 1, "layers": 1} | changed))
    return CycleGAN(spec=spec, config=cfg)


def batch(n: int = 2, source_channels: int = 3) -> Batch:
    draws = torch.Generator().manual_seed(1)
    images, sources = (
        torch.rand(n, c, 16, 16, generator=draws) - 0.5 for c in (3, source_channels)
    )
    return Batch(images, None, sources)


class Shift(nn.Module):
    """A translator that makes everything brighter by a constant."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


class Says(nn.Module):
    """A discriminator of one opinion, which remembers what it was shown."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit, self.shown = logit, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return torch.full((len(x), 1, 2, 2), self.logit)


def step(family: Any, of: Batch) -> list[float]:
    """The losses that one step would descend, in its order."""
    descended: list[float] = []
    family.minimize = lambda loss, optimizer: descended.append(float(loss.detach()))
    family.optimizer_list = lambda: ["d", "g"]
    family.toggled_optimizer = lambda optimizer: nullcontext()
    family.all_gather = lambda fakes: fakes
    family.stream = lambda purpose: Stream(0, purpose, family.iteration)
    family.step(of)
    return descended


def test_the_losses_are_those_of_equations_1_to_3_and_section_5_2() -> None:
    family, real = make_model(cycle_weight=10.0, identity_weight=0.5), batch()
    family.generator, family.generator_back = Shift(0.3), Shift(-0.1)
    family.discriminator, family.discriminator_back = Says(0.25), Says(-0.5)
    loss_g, loss_d = step(family, real)
    adversarial = (0.25 - 1) ** 2 + (-0.5 - 1) ** 2
    cycle, identity = 0.2 + 0.2, 0.3 + 0.1
    assert loss_g == pytest.approx(adversarial + 10 * cycle + 5 * identity, rel=1e-5)
    # each discriminator's of the same logit for real and fake, halved
    assert loss_d == pytest.approx(sum(((a - 1) ** 2 + a**2) / 2 for a in (0.25, -0.5)))
    recorded = {name: float(value) for name, value in family.logged_scalars.items()}
    verdicts = {
        "d_real": 0.25,
        "d_fake": 0.25,
        "accuracy_real": 0,
        "accuracy_fake": 1,
    }  # it says fake of both
    verdicts |= {
        "d_real_back": -0.5,
        "d_fake_back": -0.5,
        "accuracy_real_back": 0,
        "accuracy_fake_back": 1,
    }
    assert recorded == pytest.approx(
        {"loss_d": loss_d, "loss_g": adversarial, "loss_cycle": cycle, "loss_identity": identity}
        | verdicts,
        rel=1e-5,
    )


def test_inverse_translators_have_no_cycle_loss_and_no_weight_no_identity_loss() -> None:
    family = make_model(identity_weight=0.0)
    family.generator, family.generator_back = Shift(0.3), Shift(-0.3)
    family.discriminator, family.discriminator_back = Says(1.0), Says(1.0)
    assert step(family, batch())[0] == pytest.approx(0, abs=1e-5)
    assert "loss_identity" not in family.logged_scalars


def test_each_discriminator_judges_its_own_set_and_fakes_of_it_out_of_the_pool() -> None:
    family, real = make_model(pool_size=1), batch(n=1)
    family.generator, family.generator_back = Shift(0.3), Shift(-0.1)
    family.discriminator, family.discriminator_back = Says(0.0), Says(0.0)
    x, y = real.sources, real.images
    assert x is not None
    step(family, real)
    for D, truth, fake in (
        (family.discriminator, y, x + 0.3),
        (family.discriminator_back, x, y - 0.1),
    ):
        assert all(torch.equal(a, b) for a, b in zip(D.shown, (fake, truth, fake), strict=True))
    brighter = real.map(lambda images: images + 1)
    seen = {True: 0, False: 0}
    # a pool of one image returns, at random, this step's fake or an older one
    for family.iteration in range(1, 41):
        step(family, brighter if family.iteration % 2 else real)
        now, judged = family.discriminator.shown[-3], family.discriminator.shown[-1]
        seen[torch.equal(now, judged)] += 1
    assert min(seen.values()) >= 8


def test_two_ranks_hold_one_pool_and_query_their_own_rows_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fakes = torch.rand(30, 4, 3, 16, 16)
    alone, left, right = (make_model(pool_size=3) for _ in range(3))
    monkeypatch.setattr(CycleGAN, "global_rank", property(lambda family: int(family is right)))

    def from_pool(
        family: Any, iteration: int, mine: Tensor, every: Tensor, rank: int = 0, world: int = 1
    ) -> Tensor:
        family.all_gather = lambda _: every
        family.stream = lambda purpose: Stream(0, purpose, iteration, rank, world)
        return family.sample_pool(family.pool, mine, "pool")

    given = []
    for iteration, now in enumerate(fakes):
        every = now.unflatten(0, (2, 2))  # as it is gathered: [world, B, C, H, W]
        given.append(from_pool(alone, iteration, now, now))
        halves = (
            from_pool(left, iteration, now[:2], every, 0, 2),
            from_pool(right, iteration, now[2:], every, 1, 2),
        )
        assert torch.equal(torch.cat(halves), given[-1])
    assert torch.equal(left.pool.images, alone.pool.images)
    assert torch.equal(right.pool.images, alone.pool.images)
    assert not torch.equal(torch.stack(given), fakes)  # some were older ones


def test_the_pools_are_in_the_state_and_move_no_weights() -> None:
    family = make_model(pool_size=2)
    names = {name for name in family.state_dict() if name.startswith("pool")}
    assert names == {"pool.images", "pool.count", "pool_back.images", "pool_back.count"}
    optimized = {
        id(p)
        for optimizer in family.configure_optimizers()
        for g in optimizer.param_groups
        for p in g["params"]
    }
    assert optimized == {id(p) for p in family.parameters()}


def test_outputs_and_picture_go_both_ways_and_back() -> None:
    family, real = (
        make_model(source_channels=1, identity_weight=0.0).eval(),
        batch(source_channels=1),
    )
    G, F = family.generator, family.generator_back
    x, y = real.sources, real.images
    assert x is not None
    with torch.no_grad():
        made_here = family.outputs(real, Stream(0, "grid"))
        expected = {"generated": G(x), "back": F(y), "cycled": F(G(x)), "back_cycled": G(F(y))}
        assert tuple(made_here) == family.output_names
        assert all(torch.equal(made_here[name], expected[name]) for name in expected)
        picture = family.sample_grid(real, Stream(0, "grid"))
    there_and_back = [
        x,
        expected["generated"],
        expected["cycled"],
        y,
        expected["back"],
        expected["back_cycled"],
    ]
    for shown, image in zip(picture, there_and_back, strict=True):
        assert torch.equal(shown, image)
    # near copies of held-out images
    cycled, back_cycled = (picture[i] for i in family.reconstructed_sets)
    assert torch.equal(cycled, expected["cycled"])
    assert torch.equal(back_cycled, expected["back_cycled"])


def test_data_that_do_not_suit_it_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"translates between two domains, but the data has one\. Choose data\.name=",
    ):
        make_model(source_channels=0)
    with pytest.raises(
        ValueError, match=r"equally many channels, not 1 and 3\. Set model\.identity_weight=0"
    ):
        make_model(source_channels=1)
