"""DINOv2 and CLIP: weights are loaded correctly; FD-DINOv2 and CMMD match the reference."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from torch import Tensor
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear
from torch_fidelity import feature_extractor_dinov2
from torch_fidelity.metric_kid import kernel_mmd

from gan_lab.config.schema import MetricsConfig
from gan_lab.images import Batch
from gan_lab.metrics import extractors, kernel
from gan_lab.metrics.extractors.dinov2 import build_network
from gan_lab.metrics.feature_scores import FeatureScores
from tests.helpers.pictures import smooth_noise
from tests.helpers.weights import LAYERS, dinov2_weights, write_weights


def forward(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """A DINOv2 step by step, as the paper and its program have it: the reference of this file."""
    width, side = weights["cls_token"].shape[-1], x.shape[-1] // 14
    norm = functools.partial(layer_norm, normalized_shape=(width,), eps=1e-6)
    x = conv2d(x, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=14)
    x = torch.cat(
        [weights["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1
    )
    learned = weights["pos_embed"]
    grid = round((learned.shape[1] - 1) ** 0.5)
    maps = learned[0, 1:].view(grid, grid, width).permute(2, 0, 1)[None]
    if grid != side:
        maps = interpolate(
            maps, scale_factor=((side + 0.1) / grid,) * 2, mode="bicubic", antialias=False
        )
    x = x + torch.cat(
        [learned[:, :1], maps[0].permute(1, 2, 0).reshape(1, side * side, width)], dim=1
    )
    for layer in range(LAYERS):
        w = {name.removeprefix(f"blocks.{layer}."): value for name, value in weights.items()}
        queries = linear(
            norm(x, weight=w["norm1.weight"], bias=w["norm1.bias"]),
            w["attn.qkv.weight"],
            w["attn.qkv.bias"],
        )
        q, k, v = queries.view(len(x), -1, 3, width // 64, 64).permute(2, 0, 3, 1, 4)
        attention = (q @ k.transpose(-2, -1) / 64**0.5).softmax(dim=-1) @ v
        attended = attention.transpose(1, 2).reshape(x.shape)
        x = x + w["ls1.gamma"] * linear(attended, w["attn.proj.weight"], w["attn.proj.bias"])
        hidden = gelu(
            linear(
                norm(x, weight=w["norm2.weight"], bias=w["norm2.bias"]),
                w["mlp.fc1.weight"],
                w["mlp.fc1.bias"],
            )
        )
        x = x + w["ls2.gamma"] * linear(hidden, w["mlp.fc2.weight"], w["mlp.fc2.bias"])
    return norm(x, weight=weights["norm.weight"], bias=weights["norm.bias"])[:, 0]


def two_sets(folder: Path) -> list[Tensor]:
    return [smooth_noise(folder / str(seed), seed, n=24, size=40) for seed in (0, 1)]


def scores(name: str, sets: list[Tensor], weights: Path) -> tuple[dict[str, float], list[Tensor]]:
    """The lab's scores of the second set against the first, and the features of both."""
    extractor = extractors.load(name, MetricsConfig(**{f"{name}_weights": str(weights)}))
    metric = FeatureScores(extractor, False, 10_000, final=True)
    real = metric.update_real(Batch(sets[0]))
    fake = metric.update_fake({"generated": sets[1]}, Batch(sets[1]))
    return metric.compute(real, fake), [real["features"], fake["features"]]


@pytest.mark.parametrize("grid", [37, 16])
def test_torchvisions_network_with_the_factors_in_its_weights_is_a_dinov2(grid: int) -> None:
    weights = dinov2_weights(grid)
    images = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        build_network(weights)(images), forward(weights, images), rtol=1e-4, atol=1e-4
    )


def test_registers_are_refused() -> None:
    with pytest.raises(ValueError, match="registers"):
        build_network(dinov2_weights() | {"register_tokens": torch.zeros(1, 4, 128)})


def test_fd_dinov2_and_its_kernel_distance_equal_torch_fidelity_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network comes from the authors' repository; here the reference above replaces it."""
    weights = dinov2_weights()

    class Network(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(weights, x)

    monkeypatch.setattr(feature_extractor_dinov2.torch.hub, "load", lambda *_: Network())
    ours, features = scores("dinov2", two_sets(tmp_path), write_weights("dinov2", tmp_path))
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "1"), input2=str(tmp_path / "0"), cuda=False, fid=True, kid=True,
        kid_subset_size=12, feature_extractor="dinov2-vit-s-14", verbose=False, save_cpu_ram=True,
        cache=False,
    )  # fmt: skip
    assert len(features[0]) == 24
    assert ours["fd_dinov2"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours["kd_dinov2"] == pytest.approx(
        theirs["kernel_inception_distance_mean"], rel=1e-4, abs=1e-6
    )


@pytest.mark.filterwarnings(
    "ignore:.torch.jit.load:FutureWarning"
)  # torch-fidelity reads the file so
def test_fd_clip_and_cmmd_equal_torch_fidelity_s(tmp_path: Path) -> None:
    weights = write_weights("clip", tmp_path)
    ours, (real, fake) = scores("clip", two_sets(tmp_path), weights)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(tmp_path / "1"), input2=str(tmp_path / "0"), cuda=False, fid=True,
        feature_extractor="clip-vit-b-32", feature_extractor_weights_path=str(weights),
        verbose=False, save_cpu_ram=True, cache=False,
    )  # fmt: skip
    assert ours["fd_clip"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    unit = [(x / x.norm(dim=1, keepdim=True)).double().numpy() for x in (fake, real)]
    assert ours["cmmd"] == pytest.approx(
        1000 * kernel_mmd(*unit, kid_kernel="rbf", kid_kernel_rbf_sigma=10), rel=1e-4
    )
    assert "cmmd_sd" not in ours


def test_cmmd_is_unbiased_and_streams_over_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """For equal distributions it is around 0, on both sides; parts of rows give the same value."""
    generator = np.random.default_rng(0)
    draws = [torch.from_numpy(generator.normal(size=(2, 30, 8))) for _ in range(200)]
    values = torch.tensor([kernel.gaussian_kernel_distance(x, y, 1.0) for x, y in draws])
    assert abs(values.mean()) < 3 * values.std() / 200**0.5
    assert 0.2 < (values < 0).float().mean() < 0.8
    whole = kernel.gaussian_kernel_distance(*draws[0], 10.0)
    monkeypatch.setattr(kernel, "BLOCK_ROWS", 7)
    assert kernel.gaussian_kernel_distance(*draws[0], 10.0) == pytest.approx(whole, rel=1e-9)
