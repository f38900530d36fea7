from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gan_lab.config.schema import MetricsConfig
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.metrics import lpips
from gan_lab.metrics.base import Setting
from gan_lab.metrics.selection import select_metrics


def names(spec: ImageSpec, final: bool = True) -> set[str]:
    setting = Setting(
        spec,
        MetricsConfig(inception_weights="off"),
        ("generated", "back"),
        reals=1000,
        fakes=1000,
        final=final,
    )
    return {name for metric in select_metrics(setting) for name in metric.names}


def test_lpips_is_measured_at_the_end_where_its_weights_are_and_the_truth_is_known(
    alexnet_weights: Path,
) -> None:
    pairs = ImageSpec(3, 64, 64, source_channels=3, pairs="all")
    both = {"lpips", "back_lpips"}
    assert both <= names(pairs)
    for spec, full in (
        (pairs, False),
        (ImageSpec(3, 32, 64, source_channels=3, pairs="all"), True),
        (ImageSpec(3, 64, 64, source_channels=3, pairs="none"), True),
        (ImageSpec(3, 64, 64), True),
    ):
        assert not both & names(spec, full)
    alexnet_weights.unlink()
    assert not both & names(pairs)


def test_lpips_is_the_mean_over_the_images_of_equation_1(alexnet_weights: Path) -> None:
    images, sources, made = (
        torch.randint(
            0, 256, (3, c, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(c)
        )
        for c in (3, 1, 3)
    )
    metric = lpips.LPIPS(("generated", "back"))
    seen = metric.update_fake(
        {"generated": made.flip(0), "back": sources}, Batch(images, None, sources)
    )
    scores = metric.compute({}, seen)
    assert scores["back_lpips"] == 0
    net = metric.network
    expected = []
    with torch.no_grad():
        scaled = [net.scaling_layer(to_unit(x)) for x in (made.flip(0), images)]
        for number in range(3):
            total = 0.0
            for a, b, weigh in zip(
                *(net.net(x[number : number + 1]) for x in scaled), net.lins, strict=True
            ):
                unit = [x / x.norm(dim=1, keepdim=True).clamp(min=1e-8) for x in (a, b)]
                total += float(weigh.model[-1]((unit[0] - unit[1]).square()).mean())
            expected.append(total)
    assert scores["lpips"] == pytest.approx(sum(expected) / 3, rel=1e-4)
    assert scores["lpips"] > 1e-4
