from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gan_lab.seeding import Stream, key, permutation, seed_torch

LIKE = torch.empty(0)
DRAWS: list[Callable[..., Tensor]] = [Stream.normal, Stream.uniform]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_slices_of_ranks_equal_single_process(draw: Callable[..., Tensor], world: int) -> None:
    """The numbers of all ranks together are those of a single process."""
    alone = draw(Stream(3, "latents", 7), 16, 5, 2, like=LIKE)
    slices = [
        draw(Stream(3, "latents", 7, rank, world), 16 // world, 5, 2, like=LIKE)
        for rank in range(world)
    ]
    assert torch.equal(torch.cat(slices), alone)
    assert len(alone.unique()) > 155  # of 160: no rank repeats another's


@pytest.mark.parametrize("draw", DRAWS)
def test_stream_depends_on_seed_purpose_and_index(draw: Callable[..., Tensor]) -> None:
    """Another seed, purpose or index gives other numbers."""
    streams = [
        Stream(*arguments) for arguments in product((0, 1), ("latent d", "latent g"), (0, 1))
    ]
    drawn = [draw(stream, 1000, like=LIKE) for stream in streams]
    for i in range(len(drawn)):
        for j in range(i):
            assert abs(np.corrcoef(drawn[i], drawn[j])[0, 1]) < 0.15  # 4.7 standard deviations


@pytest.mark.parametrize("draw", DRAWS)
def test_stream_begins_with_shorter_sample(draw: Callable[..., Tensor]) -> None:
    """A sample begins with every shorter one."""
    stream = Stream(5, "sample")
    for k in (1, 7, 64):
        assert torch.equal(draw(stream, 100, 3, like=LIKE)[:k], draw(stream, k, 3, like=LIKE))


def test_stream_values_are_equal_for_each_dtype() -> None:
    """Samples have the dtype of ``like`` and the same values in each."""
    single = Stream(0, "x").normal(9, like=LIKE)
    double = Stream(0, "x").normal(9, like=LIKE.double())
    assert double.dtype == torch.float64
    assert torch.equal(double, single.double())


def test_no_global_generator_is_touched_or_used() -> None:
    def everything() -> list[Tensor]:
        drawn = [draw(Stream(1, "p"), 8, like=LIKE) for draw in DRAWS]
        return [*drawn, torch.from_numpy(permutation(1, "p", 0, 8))]

    torch.manual_seed(0), np.random.seed(0)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1]
    first = everything()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)
    torch.manual_seed(1), np.random.seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, everything(), strict=True))


def test_keys_are_unique_and_have_128_bits() -> None:
    """Keys differ for all arguments and have 128 bits."""
    seeds, purposes, numbers = (0, 1, 11), ("a", "a/1", "a/1/1", "1", "1/a", ""), (0, 1, 11)
    keys = [key(*arguments) for arguments in product(seeds, purposes, numbers, numbers)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= value < 2**128 for value in keys)
    assert max(keys) > 2**120


def test_permutation_is_complete_and_deterministic() -> None:
    """A permutation has every row once and depends only on its arguments."""
    order = permutation(0, "order", 3, 1001)
    assert sorted(order.tolist()) == list(range(1001))
    permutation(0, "order", 4, 50)
    assert np.array_equal(permutation(0, "order", 3, 1001), order)
    for other in ((1, "order", 3), (0, "grid", 3), (0, "order", 4)):
        assert (permutation(*other, 1001) == order).mean() < 0.02


def test_streams_have_their_distributions() -> None:
    """Normal numbers are standard normal, uniform ones fill the unit interval."""
    normal = Stream(0, "statistics").normal(20_000, like=LIKE).numpy()
    uniform = Stream(0, "statistics").uniform(20_000, like=LIKE).numpy()
    assert stats.kstest(normal, "norm").pvalue > 0.001
    assert stats.kstest(uniform, "uniform").pvalue > 0.001
    assert uniform.min() >= 0
    assert uniform.max() < 1


def test_seed_torch_depends_on_iteration_and_rank() -> None:
    """Torch's generator is seeded for each iteration and rank."""

    def first_numbers(*arguments: object) -> list[float]:
        seed_torch(*arguments)  # type: ignore[arg-type]
        return torch.rand(4).tolist()

    assert first_numbers(0, "networks", 5, 1) == first_numbers(0, "networks", 5, 1)
    others = [first_numbers(0, "networks", i, r) for i in (5, 6) for r in (0, 1)]
    assert len({tuple(numbers) for numbers in others}) == 4


def test_normal_and_uniform_numbers_are_independent() -> None:
    """Normal and uniform numbers use different keys; with the same key they would correlate."""
    drawn = [
        (Stream(0, "noise", i).normal(30, like=LIKE), Stream(0, "noise", i).uniform(30, like=LIKE))
        for i in range(400)
    ]
    for place in (0, 29):
        z, u = (torch.stack([pair[kind][place] for pair in drawn]) for kind in (0, 1))
        for of_z in (z, z.abs()):
            assert abs(stats.spearmanr(of_z, u).statistic) < 0.24  # 4.7 standard deviations
