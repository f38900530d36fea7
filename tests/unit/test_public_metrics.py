"""The public metrics: closed forms, accepted ranges, equal values on one and two ranks."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from lightning.pytorch import LightningModule
from torch import Tensor, distributed, nn

from gan_lab import metrics
from gan_lab.metrics.extractors.random import Random
from gan_lab.metrics.frechet import frechet_distance, moments
from gan_lab.metrics.inception_score import inception_score
from gan_lab.metrics.kernel import gaussian_kernel_distance, kernel_distance
from gan_lab.metrics.manifold import precision_recall_density_coverage
from gan_lab.utils.errors import UserError
from tests.helpers.processes import CONTEXT, ended


def pixels(n: int, seed: int, channels: int = 3, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, channels, 16, 16), dtype=torch.uint8, generator=generator)


def update(metric: torchmetrics.Metric, real: Tensor, fake: Tensor, batch_size: int = 7) -> Any:
    for batch in real.split(batch_size):
        metric.update(batch, real=True)
    for batch in fake.split(batch_size):
        metric.update(batch, real=False)
    return metric.compute()


def matched(mean: Sequence[float], deviations: Sequence[float], seed: int, n: int = 200) -> Tensor:
    """Features whose sample mean and covariance are exactly these."""
    x = torch.randn(
        n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    white = (x - x.mean(dim=0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white * torch.tensor(deviations, dtype=torch.float64) + torch.tensor(
        mean, dtype=torch.float64
    )


def test_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    real, fake = matched([0, 1, -2], [1, 2, 0.5], 0), matched([0.5, 1, 1], [2, 2, 3], 1)
    metric = metrics.FrechetDistance(nn.Identity(), num_features=3)
    closed_form = 0.5**2 + 3**2 + 1**2 + 2.5**2
    assert float(update(metric, real, fake)) == pytest.approx(closed_form, rel=1e-9)


def test_kernel_distance_of_two_points_is_the_closed_form() -> None:
    """All images of a set are one point, so each kernel mean is a single kernel value."""
    x, y = torch.tensor([[1.0, 0.0]]).repeat(8, 1), torch.tensor([[0.0, 1.0]]).repeat(8, 1)
    mean, deviation = update(metrics.KernelDistance(nn.Identity()), x, y)
    assert float(mean) == pytest.approx(1.5**3 + 1.5**3 - 2 * 1, rel=1e-6)
    assert float(deviation) == pytest.approx(0, abs=1e-6)
    mean, deviation = update(metrics.KernelDistance(nn.Identity(), sigma=2.0), x, y)
    assert float(mean) == pytest.approx(1000 * (2 - 2 * math.exp(-2 / 8)), rel=1e-5)
    assert torch.isnan(deviation)


def test_inception_score_of_balanced_classes_is_their_number() -> None:
    logits = 100 * torch.eye(5).repeat(40, 1)
    metric = metrics.InceptionScore(nn.Identity(), splits=1)
    metric.update(torch.full((7, 5), 3.0), real=True)
    metric.update(logits)
    mean, deviation = metric.compute()
    assert float(mean) == pytest.approx(5)
    assert float(deviation) == 0


def test_same_images_have_the_best_values() -> None:
    images = pixels(30, 0)
    assert float(update(metrics.FrechetDistance("random"), images, images)) < 1e-6
    values = update(metrics.PrecisionRecallDensityCoverage("random"), images, images)
    assert [float(values[name]) for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    mean, deviation = update(metrics.KernelDistance("random"), images, images)
    assert abs(float(mean)) < 3 * float(deviation)


def test_batches_give_the_values_of_the_formulas_on_all_features() -> None:
    images = pixels(40, 0), pixels(30, 1, high=200)
    real, fake = (Random()(each)[0] for each in images)
    assert float(update(metrics.FrechetDistance("random"), *images)) == pytest.approx(
        frechet_distance(moments(real), moments(fake)), rel=1e-4
    )
    mean, deviation = update(metrics.KernelDistance("random"), *images)
    assert (float(mean), float(deviation)) == pytest.approx(kernel_distance(real, fake), rel=1e-4)
    values = update(metrics.PrecisionRecallDensityCoverage("random"), *images)
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        precision_recall_density_coverage(real, fake), rel=1e-6
    )
    gaussian = metrics.KernelDistance("random", sigma=0.5)
    assert float(update(gaussian, *images)[0]) == pytest.approx(
        gaussian_kernel_distance(real, fake, 0.5), rel=1e-4
    )


def test_floats_in_zero_to_one_are_the_pixels_they_came_from() -> None:
    images, others = pixels(12, 0), pixels(12, 1)
    expected = update(metrics.FrechetDistance("random"), images, others)
    normalized = metrics.FrechetDistance("random", normalize=True)
    assert float(update(normalized, images / 255, others.double() / 255)) == float(expected)
    normalized.reset()
    assert float(update(normalized, images, others)) == float(expected)


@pytest.mark.parametrize(
    ("images", "normalize", "expected"),
    [
        (torch.rand(4, 3, 8, 8), False, r"torch.float32, whose range is ambiguous.*normalize=True"),
        (torch.rand(4, 3, 8, 8) * 2 - 1, True, r"outside \[0, 1\].*\(images \+ 1\) / 2"),
        (torch.rand(4, 3, 8, 8) * 255, True, r"outside \[0, 1\]"),
        (torch.full((4, 3, 8, 8), torch.nan), True, r"\[nan, nan\], outside"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.int64), False, r"torch.int64\. Pass uint8"),
        (
            torch.zeros(4, 8, 8, 3, dtype=torch.uint8),
            False,
            r"shape \[4, 8, 8, 3\]\. Pass \[N, C, H, W\]",
        ),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), False, r"shape \[3, 8, 8\]"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), False, r"shape \[0, 3, 8, 8\]"),
    ],
)
def test_images_of_another_range_or_shape_are_refused(
    images: Tensor, normalize: bool, expected: str
) -> None:
    metric = metrics.FrechetDistance("random", normalize=normalize)
    with pytest.raises(UserError, match=expected):
        metric.update(images, real=True)
    assert float(metric.real_count) == 0


def test_bad_arguments_name_the_remedy() -> None:
    with pytest.raises(UserError, match=r"unknown extractor 'lite1'\. Did you mean 'lite0'\?"):
        metrics.KernelDistance("lite1")
    with pytest.raises(UserError, match=r"unknown extractor 'points'"):
        metrics.KernelDistance("points")
    with pytest.raises(UserError, match=r"num_features is missing for Identity"):
        metrics.FrechetDistance(nn.Identity())
    with pytest.raises(UserError, match=r"returned 4 features, not 3\. Pass num_features=4"):
        metrics.FrechetDistance(nn.Identity(), num_features=3).update(torch.zeros(2, 4), real=True)
    with pytest.raises(UserError, match=r"The extractor random has no class logits"):
        metrics.InceptionScore("random")
    with pytest.raises(
        UserError, match=r"weights=w\.pth: the extractor lite0 ships with its weights"
    ):
        metrics.FrechetDistance("lite0", weights="w.pth")
    with pytest.raises(
        UserError, match=r"metrics\.dinov2_weights=/nowhere\.pth: there is no such file"
    ):
        metrics.FrechetDistance("dinov2", weights=Path("/nowhere.pth"))
    with pytest.raises(UserError, match=r"returned \[2\] for 2 images\. Return features \[N, D\]"):
        metrics.KernelDistance(Flat()).update(torch.zeros(2, 4), real=True)


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_too_few_images_are_one_sentence() -> None:
    for metric, expected in (
        (
            metrics.FrechetDistance("random"),
            "Too few images for a Fréchet distance: 0 real and 0 fake",
        ),
        (metrics.KernelDistance("random"), "needs real and fake images"),
        (metrics.PrecisionRecallDensityCoverage("random"), "need real and fake images"),
        (metrics.InceptionScore("digits"), "needs fake images"),
    ):
        with pytest.raises(UserError, match=expected):
            metric.compute()
    with pytest.raises(UserError, match="Too few images for 5 neighbors each: 5"):
        update(metrics.PrecisionRecallDensityCoverage("random"), pixels(5, 0), pixels(9, 1))
    with pytest.raises(UserError, match="Too few images for an inception score of 10 splits: 5"):
        update(metrics.InceptionScore("digits", splits=10), pixels(5, 0), pixels(5, 1))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize(
    "kind", ["FrechetDistance", "KernelDistance", "PrecisionRecallDensityCoverage"]
)
def test_reset_keeps_the_reals_if_asked(kind: str, kept: bool) -> None:
    real, first, second = pixels(20, 0), pixels(20, 1, high=100), pixels(20, 2, low=50)
    metric = getattr(metrics, kind)("random", reset_real_features=not kept)
    update(metric, real, first)
    metric.reset()
    if not kept:
        metric.update(real, real=True)
    metric.update(second, real=False)
    again, fresh = metric.compute(), update(getattr(metrics, kind)("random"), real, second)
    torch.testing.assert_close(again, fresh, rtol=1e-5, atol=1e-6)


def test_a_module_is_copied_in_evaluation_mode_and_left_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Dropout(0.9))
    metric = metrics.KernelDistance(network)
    images = torch.rand(6, 3, 2, 2)
    metric.update(images, real=True)
    with torch.no_grad():
        network[1].weight.zero_()
    metric.update(images, real=False)
    assert torch.equal(metric.real_features[0], metric.fake_features[0])
    assert network.training
    assert network[1].weight.requires_grad


def test_the_extractor_stays_out_of_checkpoints() -> None:
    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.fid = metrics.FrechetDistance("lite0")

    assert list(Model().state_dict()) == []
    metric = metrics.FrechetDistance("random")
    assert float(update(metric.clone(), pixels(9, 0), pixels(9, 1))) > 0
    assert float(metric.real_count) == 0


def test_importing_the_package_loads_neither_torch_nor_torchmetrics() -> None:
    program = (
        "import sys, gan_lab.metrics; assert 'FrechetDistance' in dir(gan_lab.metrics);"
        "assert not {'torch', 'torchmetrics'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="no attribute 'FrechetDistances'"):
        metrics.FrechetDistances  # noqa: B018


def create_all() -> dict[str, torchmetrics.Metric]:
    return {
        "frechet": metrics.FrechetDistance("digits"),
        "kernel": metrics.KernelDistance("digits"),
        "manifold": metrics.PrecisionRecallDensityCoverage("digits"),
        "inception": metrics.InceptionScore("digits", splits=3),
    }


def compute_rank(rank: int, folder: Path, order: str) -> None:
    """Compute all metrics on one rank's share of the images."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/{order}", rank=rank, world_size=2
    )
    real, fake = pixels(40, 0), pixels(31, 1, high=200)
    results = {}
    for name, metric in create_all().items():
        if order == "consecutive":
            shares = [(part[:16], part[16:])[rank] for part in (real, fake)]
        else:
            shares = [part[rank::2] for part in (real, fake)]
        results[name] = update(metric, *shares)
    torch.save(results, folder / f"{order}-{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_give_the_value_of_one(tmp_path: Path) -> None:
    alone = {
        name: update(metric, pixels(40, 0), pixels(31, 1, high=200))
        for name, metric in create_all().items()
    }
    for order in ("consecutive", "alternating"):
        processes = [
            CONTEXT.Process(target=compute_rank, args=(rank, tmp_path, order)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        assert ended(processes) == [0, 0]
        for rank in range(2):
            together = torch.load(tmp_path / f"{order}-{rank}.pt")
            for name, expected in alone.items():
                if order == "alternating" and name in ("kernel", "inception"):
                    # subsets and splits are drawn by position: equal within the spread
                    assert abs(together[name][0] - expected[0]) < expected[1]
                else:
                    torch.testing.assert_close(together[name], expected, rtol=1e-5, atol=1e-6)


def test_inception_score_uses_the_logits_of_the_extractor() -> None:
    from gan_lab.metrics.extractors.digits import Digits

    images = pixels(30, 3)
    logits = Digits()(images)[1]
    assert logits is not None
    mean, _ = update(metrics.InceptionScore("digits"), pixels(4, 0), images)
    assert float(mean) == pytest.approx(inception_score(logits, 1)[0], rel=1e-5)
