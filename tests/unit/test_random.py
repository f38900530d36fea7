"""The random extractor: always the same one, and its distance orders what is near and far."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gan_lab.images import Batch, to_uint8
from gan_lab.metrics.extractors.base import weights_hash
from gan_lab.metrics.extractors.random import NUM_FEATURES, Random, RandomNetwork
from gan_lab.metrics.feature_scores import FeatureScores


def photos(n: int = 200, seed: int = 0) -> Tensor:
    """Blurred color noise in [-1, 1]: smooth as photos are."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear")


def distance(metric: FeatureScores, made: Tensor, real: Tensor) -> float:
    reals = metric.update_real(Batch(to_uint8(real)))
    fakes = metric.update_fake({"generated": to_uint8(made)}, Batch(to_uint8(real)))
    (value,) = metric.compute(reals, fakes).values()
    return value


def test_the_network_is_always_the_same_and_leaves_the_global_numbers_alone() -> None:
    hashes = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        hashes.add(weights_hash(RandomNetwork()))
        assert torch.equal(torch.get_rng_state(), before)
    assert hashes == {Random().protocol()["weights_sha256"]}
    assert not any(parameter.requires_grad for parameter in RandomNetwork().parameters())


def test_the_distance_is_nothing_to_oneself_and_grows_with_what_is_done_to_the_images() -> None:
    metric, real = FeatureScores(Random(), False, 10_000, final=False), photos()
    assert distance(metric, real, real) < 1e-4
    other = distance(metric, photos(seed=1), real)
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(2))
    noisy = [distance(metric, real + spread * noise, real) for spread in (0.2, 0.5, 1.0)]
    darker = [distance(metric, real - shift, real) for shift in (0.2, 0.5, 1.0)]
    assert noisy == sorted(noisy)
    assert darker == sorted(darker)
    assert other < min(noisy[0], darker[0])  # other images of the same kind are nearest
    assert (
        distance(metric, real[:1].expand(200, -1, -1, -1), real) > 2 * other
    )  # one image two hundred times


def test_features_are_mean_and_spread_of_rectified_maps() -> None:
    network, images = RandomNetwork(), photos(4)
    features, x = network(images), images
    assert features.shape == (4, NUM_FEATURES)
    begin = 0
    for layer in network.layers:
        x = conv2d(x, layer.weight, layer.bias, stride=2, padding=1).clamp(min=0)
        maps = x.flatten(2).numpy()
        end = begin + 2 * maps.shape[1]
        expected = np.concatenate([maps.mean(axis=2), maps.std(axis=2, ddof=1)], axis=1)
        assert features[:, begin:end].numpy() == pytest.approx(expected, abs=1e-5)
        begin = end
    assert begin == NUM_FEATURES


def test_gray_is_seen_as_gray_colour_and_size_hardly_changes_what_is_seen() -> None:
    network, images = RandomNetwork(), photos(8)
    gray = images.mean(dim=1, keepdim=True)
    assert torch.allclose(network(gray), network(gray.expand(-1, 3, -1, -1)), atol=1e-6)
    larger = torch.nn.functional.interpolate(images, (128, 128), mode="bilinear")
    between = (network(images)[1:] - network(images)[:-1]).abs().mean()
    assert (network(larger) - network(images)).abs().mean() < between / 5
