"""What an evaluation reads, stores and leaves unchanged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.config.schema import DataConfig, MetricsConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.data.toy import SPREAD, centers
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.metrics import evaluator, extractors
from gan_lab.metrics.base import Metric, Setting
from gan_lab.metrics.classification_accuracy_score import ClassificationAccuracyScore
from gan_lab.metrics.evaluator import Evaluator, Tally, compute_real_statistics
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.metrics.frechet import moments
from gan_lab.metrics.nearest_neighbors import find_neighbors
from gan_lab.seeding import Stream
from gan_lab.training.final_evaluation import check_duration


class Shut:
    """Images that must not be read."""

    def __len__(self) -> int:
        return 240

    def __getitem__(self, rows: Any) -> np.ndarray:
        raise AssertionError("a real image was read")


def images(n: int, seed: int, shape: tuple[int, ...] = (1, 28, 28)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def data(
    root: Path, n: int = 240, content: Any = "digits", gray: bool = False, **spec: Any
) -> GANDataModule:
    made = ImageSpec(
        spec.pop("channels", 1), spec.pop("height", 28), spec.pop("width", 28), 10, content, **spec
    )
    arrays = [images(n, seed, made.shape) for seed in (0, 1)]
    labels = np.arange(n) % 10
    sides = (
        [images(n, seed, (1, *made.shape[1:])) for seed in (2, 3)]
        if made.source_channels
        else [None, None]
    )
    decoded = ArrayDataset(
        made, arrays[0], labels, arrays[1], labels, "sample", "made up", f"made-{n}-{made}", *sides
    )  # type: ignore[arg-type]
    return GANDataModule(
        decoded, DataConfig(root=str(root), degradation="gray" if gray else "none"), seed=0
    )


class Generator(torch.nn.Module):
    """Stands for a family whose fakes depend on the stream, the labels and the sources."""

    output_names = ("generated",)
    device, dtype = torch.device("cpu"), torch.float32

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        fakes = stream.normal(len(batch.images), *batch.images.shape[1:], like=batch.images) / 2
        if batch.labels is not None:
            fakes = fakes + batch.labels.view(-1, 1, 1, 1) / 10
        return fakes if batch.sources is None else (fakes + batch.sources) / 2

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        return {"generated": self.generate(batch, stream)}


FAMILY: Any = Generator()


def digits(final: bool = True, conditions: bool = True) -> FeatureScores:
    return FeatureScores(extractors.load("digits"), conditions, 10_000, final)


def evaluator_of(
    served: GANDataModule, metric: Metric, n: int, fakes: int | None = None, **keys: Any
) -> Evaluator:
    """Of n training images, and as many fakes if nothing else is said."""
    setting = Setting(served.spec, MetricsConfig(**keys), split="train", reals=n, fakes=fakes or n)
    return Evaluator(served, [metric], setting, seed=3)


@pytest.mark.parametrize(("bar", "terminal"), [(True, True), (True, False), (False, True)])
def test_evaluation_progress_is_shown_only_on_terminal(
    bar: bool,
    terminal: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An evaluation has a progress bar only on a terminal."""
    # Rich reads this variable.
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    setting = Setting(data(tmp_path).spec, MetricsConfig(), split="train", reals=60, fakes=60)
    Evaluator(data(tmp_path), [digits()], setting, seed=3, shared=False, bar=bar)(FAMILY)
    said = capsys.readouterr().err
    assert [f"scoring {kind}" in said for kind in ("reals", "fakes")] == [bar and terminal] * 2


@pytest.mark.parametrize("sides", [{}, {"source_channels": 1, "pairs": "none"}])
def test_second_evaluation_uses_cached_reals(sides: dict[str, Any], tmp_path: Path) -> None:
    """A second evaluation reads no real image and computes the same scores."""
    scores = []
    for number in range(2):
        served = data(tmp_path, **sides)
        if number:
            served.train.images = Shut()
        scores.append(evaluator_of(served, digits(), 150)(FAMILY))
    assert scores[0] == scores[1]
    assert len(list(tmp_path.glob("cache/reals-*"))) == 1


def test_cache_key_depends_on_reals_extractor_and_n(
    tmp_path: Path,
) -> None:
    """Cached statistics depend on the reals, the extractor and the number of images."""

    def known(
        metric: Metric, n: int, size: int = 240, split: Any = "test", cap: int = 10_000, **spec: Any
    ) -> Path:
        before = set(tmp_path.glob("cache/reals-*"))
        served = data(tmp_path, size, **spec)
        compute_real_statistics(
            served, served.reference(n, split=split), metric, torch.device("cpu"), cap
        )
        new = set(tmp_path.glob("cache/reals-*")) - before
        return new.pop() if new else Path()

    first = known(digits(), 100)
    assert first != Path()
    assert known(digits(final=False), 100) == Path()  # the end needs no second look at them
    labelled = ClassificationAccuracyScore(10, cap=10_000)
    others = [
        known(labelled, 100),
        known(digits(), 120),
        known(digits(), 100, size=260),
        known(digits(), 100, split="train"),
        known(digits(), 100, cap=50),
        known(FeatureScores(extractors.load("random"), False, 10_000, True), 100),
    ]
    assert len({first, *others}) == 7


def test_evaluation_is_equal_for_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every image counts once for any number of processes."""
    served = data(tmp_path)
    alone = evaluator_of(served, digits(), 120, fakes=230, max_features_kept=150)
    (whole,) = alone._compute_fake_statistics(FAMILY)
    assert len(whole["logits"]) == int(whole["count"]) == 230
    assert len(whole["logits"].unique(dim=0)) == 230  # none is another's repeat
    assert len(whole["features"]) == 150

    shares: list[Any] = []
    group = SimpleNamespace(get_world_size=lambda: 3)
    monkeypatch.setattr(evaluator, "distributed", group)
    monkeypatch.setattr(evaluator, "is_distributed", lambda: True)
    for rank in range(3):
        group.get_rank = lambda rank=rank: rank
        group.all_gather_object = lambda into, mine: (
            shares.append(mine),
            into.__setitem__(slice(None), shares + [mine] * (len(into) - len(shares))),
        )
        again = evaluator_of(served, digits(), 120, fakes=230, max_features_kept=150)
        together = again._compute_fake_statistics(FAMILY)[0]  # whole for the last of them
    assert together.keys() == whole.keys()
    for name, rows in whole.items():
        assert (
            torch.allclose(together[name], rows, rtol=1e-12, atol=0)
            if name in digits().sum_states
            else torch.equal(together[name], rows)
        )
    assert (
        sum(len(share[0][1]) for share in shares) == 4
    )  # batches of at most 100, each of one process


def test_frechet_statistics_do_not_grow_with_n(tmp_path: Path) -> None:
    """The statistics of a Fréchet distance do not grow with the number of images."""
    metric = FeatureScores(extractors.load("random"), False, 10_000, final=False)

    def count_bytes(n: int) -> int:
        (statistics,) = evaluator_of(data(tmp_path), metric, n)._compute_fake_statistics(FAMILY)
        return sum(value.numel() * value.element_size() for value in statistics.values())

    assert count_bytes(100) == count_bytes(240) == 8 * (1 + 64 + 64 * 64)


def test_limited_rows_do_not_exceed_cap() -> None:
    """Statistics with a limit keep up to that many rows."""
    metric = FeatureScores(extractors.load("random"), False, 150, final=True)
    tally = Tally(metric, 150)
    for place in range(0, 1000, 100):
        tally.add(place, moments(torch.zeros(2, 64)) | {"features": torch.ones(100, 64)})
    held = sum(rows["features"].untyped_storage().nbytes() for rows in tally.rows.values())
    assert held == 150 * 64 * 4
    assert tally.statistics()["features"].shape == (150, 64)


@pytest.mark.parametrize("extractor", ["digits", "random"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 20, 30), (3, 48, 32), (3, 256, 256)])
def test_gray_oblong_and_large_images_are_measured(
    shape: tuple[int, int, int], extractor: str, tmp_path: Path
) -> None:
    served = data(tmp_path, 70, "photos", channels=shape[0], height=shape[1], width=shape[2])
    metric = FeatureScores(extractors.load(extractor), False, 10_000, final=True)
    scores = evaluator_of(served, metric, 70)(FAMILY)
    assert all(np.isfinite(value) for value in scores.values())
    noise_to_noise = compute_real_statistics(
        served, served.reference(70, split="train"), metric, torch.device("cpu"), 10_000
    )
    same = metric.update_fake(
        {"generated": torch.from_numpy(served.train.images[np.arange(70)])}, Batch(torch.empty(0))
    )  # type: ignore[index]
    assert (
        metric.compute(noise_to_noise, same)[f"fd_{extractor}"] < 1e-3 < scores[f"fd_{extractor}"]
    )


def test_few_images_have_scores_without_neighbors(tmp_path: Path) -> None:
    """A few images have only the scores that need no neighbors."""
    served = data(tmp_path, 5)
    scores = evaluator_of(served, digits(), 5)(FAMILY)
    assert scores.keys() == {
        "fd_digits",
        "digit_score",
        "label_accuracy",
        "kd_digits",
        "kd_digits_sd",
    }
    few = ClassificationAccuracyScore(10, cap=10_000)
    assert evaluator_of(served, few, 5)(FAMILY) == {}
    assert "coverage_digits" in evaluator_of(data(tmp_path, 6), digits(), 6)(FAMILY)


@pytest.mark.parametrize("name", ["digits", "random"])
def test_autocast_changes_no_feature_of_fixed_images(name: str) -> None:
    pixels = torch.from_numpy(images(5, 0))
    extractor = extractors.load(name)
    features, logits = extractor(pixels)
    with torch.autocast("cpu", torch.bfloat16):
        again, logits_again = extractor(pixels)
    assert torch.equal(features, again)
    assert logits is None or torch.equal(logits, logits_again)  # type: ignore[arg-type]


def test_points_extractor_returns_points_and_modes() -> None:
    """Features are the coordinates, and the largest logit is the nearest mode."""
    around = centers() + SPREAD / 2
    features, logits = extractors.load("points")(torch.from_numpy(around).view(-1, 2, 1, 1))
    assert features.numpy() == pytest.approx(around)
    assert logits is not None
    assert logits.argmax(dim=1).tolist() == list(range(len(around)))
    densities = np.exp(-((around[0] - centers()) ** 2).sum(axis=1) / (2 * SPREAD**2))
    assert logits[0].exp().numpy() == pytest.approx(densities, abs=1e-6)


def test_neighbor_pairs_begin_with_copies(tmp_path: Path) -> None:
    """The pairs of nearest neighbors begin with copies."""
    served = data(tmp_path)
    learned = to_unit(torch.from_numpy(served.train.images[np.arange(240)]))

    class Copies(Generator):
        def generate(self, batch: Batch, stream: Stream) -> Tensor:
            fakes = super().generate(batch, stream)
            if stream.index == 1:
                fakes[7:12] = learned[50:55]
            return fakes

    extractor = extractors.load("digits")
    values, protocol, pairs = find_neighbors(Copies(), served, extractor, seed=0, shown=8)  # type: ignore[arg-type]
    assert pairs.shape == (16, 1, 28, 28)
    assert torch.equal(pairs[0:10:2], pairs[1:10:2])
    first = sorted(float(pair.sum()) for pair in pairs[0:10:2])
    assert first == pytest.approx(sorted(float(image.sum()) for image in learned[50:55]))
    assert not torch.equal(pairs[10], pairs[11])
    assert (protocol["train"], protocol["reals"], protocol["fakes"]) == (240, 240, 500)
    assert values["nearest_ratio_digits"] > 0.5
    assert values["near_copies_digits"] >= 0.01


def test_protocol_distinguishes_tasks_of_one_data_set(tmp_path: Path) -> None:
    """Two tasks on the same data set have different protocols."""
    served = [
        data(tmp_path, content="photos", source_channels=1, pairs=pairs)
        for pairs in ("all", "none")
    ]
    served.append(data(tmp_path, content="photos"))
    metric = FeatureScores(extractors.load("random"), False, 10_000, False)
    said = [
        evaluator_of(one, metric, 100).protocol("fd_random", "ema", "validation") for one in served
    ]
    assert [protocol.get("inputs") for protocol in said] == [
        "1 channels, pairs: all",
        "1 channels, pairs: none",
        None,
    ]


@pytest.mark.parametrize(
    ("reals", "fakes", "is_scored"),
    [
        ([40, 40, 0], [40, 40, 40], False),
        ([80, 0, 0], [80, 0, 0], False),
        ([40, 40, 4], [40, 40, 40], False),
        ([40, 40, 40], [116, 4, 0], False),
        ([40, 40, 5], [40, 40, 5], True),
    ],
)
def test_cas_needs_images_of_each_class(
    reals: list[int], fakes: list[int], is_scored: bool
) -> None:
    """With one class in the test set, every classifier would be perfect."""
    metric = ClassificationAccuracyScore(3, cap=10_000)
    statistics = []
    for counts in (reals, fakes):
        labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
        shown = torch.from_numpy(images(len(labels), 0, (1, 8, 8)))
        statistics.append({"images": shown, "labels": labels})
    assert ("cas" in metric.compute(*statistics)) == is_scored


def test_long_evaluation_without_weights_stops_until_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = evaluator_of(data(tmp_path), digits(), 60)
    scored.setting.missing.append("Skipping fid: there are no weights")
    monkeypatch.setattr(Evaluator, "estimate_seconds", lambda self, family: 61.0)
    with pytest.raises(ValueError, match=r"Skipping fid: .*fd_digits.* of 60 fakes .* 2 minutes"):
        check_duration(scored, FAMILY)
    monkeypatch.setattr(Evaluator, "estimate_seconds", lambda self, family: 59.0)
    check_duration(scored, FAMILY)


def test_duration_is_estimated_per_fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From 16 fakes: a thousand times as many take a thousand times as long."""
    scored = evaluator_of(data(tmp_path), digits(), 60, fakes=16_000)
    clock = iter([100.0, 102.0])
    monkeypatch.setattr(evaluator.time, "monotonic", lambda: next(clock))
    assert scored.estimate_seconds(FAMILY) == pytest.approx(2000)


@pytest.mark.parametrize(("options", "ask"), [([], True), (["--yes"], False)])
def test_evaluate_command_asks_unless_yes(
    options: list[str], ask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def stop(*_: Any, ask: bool) -> None:
        asked.append(ask)
        raise SystemExit(0)

    monkeypatch.setattr("gan_lab.training.final_evaluation.evaluate", stop)
    CliRunner().invoke(app, ["evaluate", str(tmp_path), "metrics=fid50k_full", *options])
    assert asked == [ask]
