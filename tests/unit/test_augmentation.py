"""Augmentations against other ways to compute them; the probability of ADA in closed form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gan_lab.augmentation import (
    ADA_INTERVAL_ITERATIONS,
    NORMALS_PER_IMAGE,
    UNIFORMS_PER_IMAGE,
    Augmentation,
    Augmented,
    ada,
    diffaugment,
)
from gan_lab.config.schema import AugmentConfig
from gan_lab.seeding import Stream

NEVER, ALWAYS = 0.9, 0.0  # draws above and below p = 0.5
HALF = torch.tensor(0.5)


def images(n: int = 5, channels: int = 3, height: int = 12, width: int = 12) -> Tensor:
    return (
        2
        * torch.rand(
            n,
            channels,
            height,
            width,
            generator=torch.Generator().manual_seed(1),
            dtype=torch.float64,
        )
        - 1
    )


def changed(
    x: Tensor, chosen: list[int], values: dict[int, float] | None = None, normals: Any = None
) -> Tensor:
    """ADA with the chosen transformations alone, whose numbers are given."""
    u = torch.full((len(x), UNIFORMS_PER_IMAGE), NEVER, dtype=x.dtype)
    u[:, chosen] = ALWAYS
    for column, value in (values or {}).items():
        u[:, column] = value
    g = torch.zeros(len(x), NORMALS_PER_IMAGE, dtype=x.dtype)
    for column, value in (normals or {}).items():
        g[:, column] = value
    return ada(x, u, g, HALF)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 6, 9)])
def test_no_probability_is_no_change_and_every_draw_is_then_without_effect(
    shape: tuple[int, ...],
) -> None:
    x = images(7, *shape)
    stream = Stream(3, "test", 0)
    u, g = (
        stream.uniform(7, UNIFORMS_PER_IMAGE, like=x),
        stream.normal(7, NORMALS_PER_IMAGE, like=x),
    )
    assert torch.allclose(ada(x, u, g, torch.tensor(0.0)), x, rtol=0, atol=1e-12)
    assert not torch.allclose(ada(x, u, g, torch.tensor(0.8)), x, atol=1e-3)


def test_turns_mirrors_and_whole_shifts_are_torchs_and_numpys() -> None:
    x = images()
    for quarter in range(4):
        assert torch.allclose(
            changed(x, [0], {10: quarter / 4 + 0.1}),
            torch.rot90(x, quarter, dims=(2, 3)),
            atol=1e-12,
        )
    assert torch.allclose(changed(x, [1], {11: 0.7}), x.flip(3), atol=1e-12)
    assert torch.allclose(changed(x, [1], {11: 0.2}), x, atol=1e-12)
    # 12 / 8 = 1.5 pixels at most, to the nearest: 1 down and 1 to the left of what is read
    moved = changed(x, [4], {12: 0.9, 13: 0.1})
    reflected = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    assert np.allclose(moved.numpy(), reflected[:, :, 3:15, 1:13], atol=1e-12)


def test_scaling_and_shifting_read_where_grid_sample_reads() -> None:
    x = images(n=4, height=10, width=14)
    g = {2: 1.5, 3: -0.8, 4: 0.9, 5: -0.6}
    made = changed(x, [2, 3, 5], normals=g)
    scale, stretch = 2 ** (0.2 * 1.5), 2 ** (0.2 * -0.8)
    rows = (torch.arange(10.0, dtype=x.dtype) - 4.5) / (scale / stretch) + 4.5 + 10 / 8 * 0.9
    columns = (torch.arange(14.0, dtype=x.dtype) - 6.5) / (scale * stretch) + 6.5 + 14 / 8 * -0.6
    grid = torch.stack(torch.meshgrid(2 * columns / 13 - 1, 2 * rows / 9 - 1, indexing="xy"), dim=2)
    read = functional.grid_sample(
        x,
        grid.expand(4, -1, -1, -1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=True,
    )
    assert torch.allclose(made, read, atol=1e-10)


def test_colours_turn_about_gray() -> None:
    x = images()
    gray = x.mean(dim=1, keepdim=True).expand_as(x)
    third = changed(x, [8], {14: 5 / 6})  # hue by 120 degrees: red becomes green
    assert torch.allclose(third, x.roll(1, dims=1), atol=1e-12)
    assert torch.allclose(
        changed(x, [9], {15: 0.6}), x - 2 * gray, atol=1e-12
    )  # luma negated, colors kept
    assert torch.allclose(changed(x, [16], normals={0: 2.0}), gray + 4 * (x - gray), atol=1e-12)
    assert torch.allclose(changed(x, [6, 7], normals={6: 1.0, 7: 2.0}), (x + 0.2) * 2, atol=1e-12)


def test_diffaugment_is_that_of_its_paper() -> None:
    x = images(n=6, height=16, width=16)
    u = torch.rand(6, UNIFORMS_PER_IMAGE, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    made = diffaugment(x, u)
    for i in range(6):
        one = x[i] + u[i, 0] - 0.5
        one = (one - one.mean(dim=0)) * 2 * u[i, 1] + one.mean(dim=0)
        one = (one - one.mean()) * (u[i, 2] + 0.5) + one.mean()
        down, right = (int(5 * float(u[i, k])) - 2 for k in (3, 4))
        padded = functional.pad(one, (2, 2, 2, 2))
        one = padded[:, 2 + down : 18 + down, 2 + right : 18 + right].clone()
        top, left = (int(17 * float(u[i, k])) - 4 for k in (5, 6))
        one[:, max(0, top) : max(0, top + 8), max(0, left) : max(0, left + 8)] = 0
        assert torch.allclose(made[i], one, atol=1e-12)


@pytest.mark.parametrize("policy", ["diffaugment", "ada"])
def test_gradients_go_through_twice(policy: str) -> None:
    x = images(2, 3, 5, 5).requires_grad_()
    stream = Stream(0, "test", 0)
    u, g = (
        stream.uniform(2, UNIFORMS_PER_IMAGE, like=x),
        stream.normal(2, NORMALS_PER_IMAGE, like=x),
    )

    def change(x: Tensor) -> Tensor:
        return (
            diffaugment(x, u) if policy == "diffaugment" else ada(x, u, g, torch.tensor(0.7))
        ) ** 2

    assert torch.autograd.gradcheck(change, (x,))
    assert torch.autograd.gradgradcheck(change, (x,))


def test_the_probability_follows_the_sign_and_takes_so_many_images() -> None:
    cfg = AugmentConfig(policy="ada", target=0.6, speed_images=1_000)
    made = Augmentation(cfg).double()
    for iteration in range(12):  # all reals are known: 3 steps up
        made.update_probability(torch.tensor(1.0, dtype=torch.float64), iteration, 50)
    assert float(made.p) == pytest.approx(3 * 50 * ADA_INTERVAL_ITERATIONS / 1_000)
    for iteration in range(12, 40):
        made.update_probability(torch.tensor(1.0, dtype=torch.float64), iteration, 50)
    assert float(made.p) == 1.0  # not above
    for iteration in range(
        40, 48
    ):  # 0.8 are known: the mean sign is the target itself, and 0.79 is below it
        made.update_probability(torch.tensor(0.79, dtype=torch.float64), iteration, 50)
    assert float(made.p) == pytest.approx(1 - 2 * 0.2)
    signs = [0.7, 0.95, 0.95, 0.95]  # on average above
    for iteration, accuracy in enumerate(signs, start=48):
        made.update_probability(torch.tensor(accuracy, dtype=torch.float64), iteration, 50)
    assert float(made.p) == pytest.approx(0.8)


def test_parts_are_changed_alike_and_each_call_otherwise() -> None:
    x = images(4).float()
    made = Augmentation(AugmentConfig(policy="diffaugment"))

    class Network:
        def __call__(self, images: Tensor) -> Tensor:
            return images

        features = forward = __call__

    def stream(purpose: str) -> Stream:
        return Stream(0, purpose, 7)

    three = Augmented(Network(), made, stream, chunks=3)(torch.cat([x, x, x])).chunk(3)
    assert torch.equal(three[0], three[1])
    assert torch.equal(three[0], three[2])
    D = Augmented(Network(), made, stream, chunks=1)
    calls = [D(x), D(x), D.features(x)]
    assert torch.equal(calls[0], three[0])
    assert not any(torch.equal(a, b) for a, b in ((calls[0], calls[1]), (calls[1], calls[2])))
    # the penalties see what the logits were computed from: R1 the reals, R2 the fakes
    assert torch.equal(D.forward(x), calls[0])
    assert torch.equal(D.forward(x), calls[1])


def test_the_strengths_are_those_that_are_stated() -> None:
    """Over many samples: shifts up to an eighth of the side, scales in octaves, half mirrored."""
    n = 4_000
    x = torch.zeros(n, 1, 17, 17, dtype=torch.float64)
    x[:, :, 8, 8] = 1  # the middle
    stream = Stream(5, "test", 0)
    u, g = (
        stream.uniform(n, UNIFORMS_PER_IMAGE, like=x),
        stream.normal(n, NORMALS_PER_IMAGE, like=x),
    )
    only = torch.full_like(u, NEVER)
    only[:, 4], only[:, 12:14] = ALWAYS, u[:, 12:14]
    places = ada(x, only, 0 * g, HALF).flatten(1).argmax(dim=1)
    rows, columns = places // 17 - 8, places % 17 - 8
    assert sorted(set(rows.tolist())) == sorted(set(columns.tolist())) == [-2, -1, 0, 1, 2]
    assert abs(float(rows.double().mean())) < 4 * math.sqrt(2 / n)
    only = torch.full_like(u, NEVER)
    only[:, 6] = ALWAYS
    brightness = ada(x, only, g, HALF)[:, 0, 0, 0]
    assert float(brightness.std()) == pytest.approx(0.2, rel=0.05)
