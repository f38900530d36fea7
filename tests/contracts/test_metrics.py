"""The contract of every metric. Metrics are discovered, so that a new one is tested too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gan_lab.config.schema import MetricsConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.toy import SPREAD, centers
from gan_lab.degradations import Degradation
from gan_lab.images import Batch, ImageSpec
from gan_lab.metrics import leaks, lpips, nearest_neighbors
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.evaluator import Tally
from gan_lab.metrics.explanations import explain, list_explanations
from gan_lab.metrics.selection import find_metrics, list_metrics, select_metrics

CFG = MetricsConfig(inception_weights="off", allow_small_n=True)
DIGITS = ImageSpec(1, 28, 28, classes=10, content="digits")
HORSES = ImageSpec(3, 64, 64, content="horses", source_channels=3, pairs="held out")
GRAY = ImageSpec(3, 64, 64, source_channels=1, pairs="all")
POINTS = ImageSpec(2, 1, 1, content="points")


def class_of(name: str) -> type[Metric]:
    (kind,) = (kind for kind in find_metrics() if kind.__module__.rpartition(".")[2] == name)
    return kind


SETTINGS = [  # of which each metric must have one that it applies to
    Setting(
        DIGITS,
        CFG,
        ("generated", "logits", "baseline_logits", "code_logits", "reconstructed"),
        True,
        "test",
        100,
        100,
        True,
    ),
    Setting(
        HORSES, CFG, ("generated", "back", "cycled", "back_cycled"), False, "test", 100, 100, True
    ),
    Setting(GRAY, CFG, ("generated",), False, "test", 100, 100, True),
    Setting(POINTS, CFG, ("generated",), False, "test", 100, 100, True),
    *(
        Setting(
            Degradation(kind).describe_sources(ImageSpec(3, 64, 64)), CFG, reals=100, fakes=100,
            final=True, degradation=Degradation(kind),
        )
        for kind in ("mask", "downsample", "noise")
    ),
]  # fmt: skip
CASES = [
    (i, name) for i, setting in enumerate(SETTINGS) for name in list_metrics()
    if (setting.spec is HORSES if name == "lpips" else class_of(name).applies(setting))
]  # fmt: skip


def reals(spec: ImageSpec, sample: ArrayDataset) -> Batch:
    """100 digits or points, every class as often, or 20 larger images."""
    draws = np.random.default_rng(0)
    if spec.content == "digits":
        labels = np.asarray(sample.test_labels)
        rows = np.sort(
            np.concatenate([np.flatnonzero(labels == label)[:10] for label in range(10)])
        )
        return Batch(
            torch.from_numpy(np.asarray(sample.test_images)[rows]), torch.from_numpy(labels[rows])
        )
    if spec.content == "points":
        points = centers()[np.arange(104) % 8] + SPREAD * draws.standard_normal((104, 2))
        return Batch(torch.from_numpy(points.astype(np.float32)).view(-1, 2, 1, 1), None)
    images, sources = (
        torch.from_numpy(draws.integers(256, size=(20, channels, 64, 64), dtype=np.uint8))
        for channels in (spec.channels, spec.source_channels)
    )
    return Batch(images, None, sources)


def outputs(spec: ImageSpec, batch: Batch, good: bool) -> dict[str, Tensor]:
    """The outputs of a perfect family, or of an untrained one that always shows one image."""
    images, sources = batch.images, batch.images if batch.sources is None else batch.sources
    if not good:
        images, sources = (torch.zeros_like(part) for part in (images, sources))
    labels = (
        torch.zeros(len(images), dtype=torch.int64)
        if batch.labels is None or not good
        else batch.labels
    )
    logits = one_hot(labels, 10).float()
    return {
        "generated": images, "reconstructed": images, "back": sources, "cycled": sources,
        "back_cycled": images, "logits": logits, "baseline_logits": logits, "code_logits": logits,
    }  # fmt: skip


def batches(batch: Batch, size: int = 5) -> Iterator[tuple[int, Batch]]:
    size = max(size, len(batch.images) // 5)
    for i in range(0, len(batch.images), size):
        parts = (None if part is None else part[i : i + size] for part in batch[:3])
        yield i, Batch(*parts)  # type: ignore[arg-type]


def tallied(
    metric: Metric, spec: ImageSpec, batch: Batch, good: bool | None, ranks: int = 1
) -> dict[str, float]:
    """The scores of good fakes, of bad ones, or (None) of both in alternating batches."""
    shares = [Tally(metric, 1000) for _ in range(ranks)]
    for number, (place, part) in enumerate(batches(batch)):
        shares[number % ranks].add(
            place,
            metric.update_fake(
                outputs(spec, part, number % 2 == 0 if good is None else good), part
            ),
        )
    fake = (
        Tally.merge(shares[0], [(share.sums, share.rows) for share in shares])
        if ranks > 1
        else shares[0]
    )
    real = Tally(metric, 1000)
    for place, part in batches(batch) if metric.reals_key else ():
        real.add(place, metric.update_real(part))
    return metric.compute(real.statistics(), fake.statistics())


@pytest.fixture
def weights(request: pytest.FixtureRequest) -> Any:
    return (
        request.getfixturevalue("alexnet_weights")
        if request.node.callspec.params["case"][1] == "lpips"
        else None
    )


@pytest.mark.parametrize("kind", find_metrics(), ids=lambda kind: kind.__name__)
def test_a_metric_has_a_setting_that_it_applies_to(
    kind: type[Metric], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "is_available", lambda *_: True)
    assert any(kind.applies(setting) for setting in SETTINGS)


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_metric_scores_reals_best_and_two_processes_as_one(
    case: tuple[int, str], sample: ArrayDataset
) -> None:
    spec = SETTINGS[case[0]].spec
    for metric in class_of(case[1]).create(SETTINGS[case[0]]):
        batch = reals(spec, sample)
        good, bad = (tallied(metric, spec, batch, good) for good in (True, False))
        declared = metric.higher_is_better
        assert {name.removesuffix("_sd") for name in good} <= declared.keys()
        assert all(math.isfinite(value) for value in (good | bad).values())
        better = {
            name: higher
            for name, higher in declared.items()
            if higher is not None and name in good and name in bad
        }
        for name, higher in better.items():
            assert good[name] >= bad[name] - 1e-9 if higher else good[name] <= bad[name] + 1e-9, (
                name
            )
        assert any(good[name] != bad[name] for name in better)
        one, two = (tallied(metric, spec, batch, None, ranks) for ranks in (1, 2))
        assert two == pytest.approx(one, rel=1e-6, abs=1e-6)
        for name in declared:
            assert "extractor" in metric.protocol(name, 100)
        for name in (*declared, *metric.baseline_names, *metric.reference_names.values()):
            explained = explain(name)
            assert explained is not None, name
            # sentences that a page puts together
            assert not explained.meaning.endswith(".")
            assert explained.higher_is_better == declared.get(name), name


def test_no_score_has_two_metrics() -> None:
    for setting in SETTINGS:
        scores = [score for metric in select_metrics(setting) for score in metric.names]
        assert len(scores) == len(set(scores))


def test_explanations_read_from_source_are_those_of_the_classes() -> None:
    """They are read without importing the metrics, so they must be literals."""
    expected = nearest_neighbors.EXPLANATIONS | leaks.EXPLANATIONS
    for metric in find_metrics():
        expected |= metric.explanations
    assert list_explanations() == expected
