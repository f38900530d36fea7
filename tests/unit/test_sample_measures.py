"""Tests of the measures of studies about samples, scores and discriminators."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_lab.studies.measures import (
    Arm,
    across_generators,
    averaging,
    checkerboard,
    cpu_seconds,
    discriminator_gap,
    fine_tuning,
    fresh_discriminator,
    known_samples,
    late_scores,
    midpoints,
    sample_size,
    truncation,
)


def make_arm(*arguments: str, seed: int = 0) -> Arm:
    return Arm("arm", [*arguments], seed, lambda arguments: Path(" ".join(arguments)))


def test_checkerboard_of_patterns_equals_its_share() -> None:
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    stripes = (-1.0) ** columns
    wave = torch.cos(2 * math.pi * rows / 28)
    for image, share in (
        (stripes, 1.0),
        ((-1.0) ** (rows + columns), 1.0),
        (wave, 0.0),
        # a brightness that does not count, and energies of 0.09 and 0.5
        (0.7 + 0.3 * stripes + wave, 0.09 / 0.59),
    ):
        found = checkerboard.compute_checkerboard(image.expand(2, 1, 28, 28))
        assert found == pytest.approx(share, abs=1e-6)


def test_upsampling_of_constant_images_shows_uneven_overlap() -> None:
    """With equal weights 3 x 3 kernels overlap once, twice or four times, 4 x 4 kernels evenly."""
    x = torch.ones(1, 1, 7, 7)
    for kind, values in (
        ("transposed_3", {1.0, 2.0, 4.0}),
        ("transposed_4", {4.0}),
        ("resize", {9.0}),
    ):
        layer = checkerboard.build_upsampling(kind, 1, 1)
        for parameter in layer.parameters():
            nn.init.constant_(parameter, 1.0 if parameter.dim() > 1 else 0.0)
        output = layer(x)
        assert output.shape == (1, 1, 14, 14)
        assert {*output[0, 0, 2:-2, 2:-2].flatten().tolist()} == values


@pytest.fixture(scope="module")
def digits() -> Any:
    return sample_size.load_digits()


def test_known_samples_have_the_described_flaw(digits: Any) -> None:
    labels = digits.train.labels
    rows = known_samples.choose_rows(digits, "one_per_class", 650, seed=3)
    assert len(rows) == 650
    assert sorted(labels[np.unique(rows)]) == [*range(10)]
    rows = known_samples.choose_rows(digits, "five_classes", 650, seed=3)
    assert {*labels[rows]} == {*range(5)}
    assert len(np.unique(rows)) == 650
    copies = known_samples.choose_rows(digits, "copies", 650, seed=3)
    assert len(np.unique(copies)) == 650
    assert not np.array_equal(copies, known_samples.choose_rows(digits, "copies", 650, seed=4))


def test_sample_size_of_gaussian_features_follows_theory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bias of the Fréchet distance goes as 1/n, and the kernel distance has none."""
    generator = torch.Generator().manual_seed(0)
    extracted = iter(range(100))

    def extract(images: Tensor) -> Tensor:
        # Each second call is about noisy images, which are far away.
        features = torch.randn(len(images), 16, generator=generator, dtype=torch.float64)
        return features + next(extracted) % 2

    monkeypatch.setattr(sample_size, "DRAWS", 8)
    monkeypatch.setattr(sample_size, "extract_features", extract)
    few = SimpleNamespace(in_range=lambda batch: SimpleNamespace(images=batch))
    few.train = torch.zeros(1000, 1, 28, 28)
    few.train.__getitems__ = lambda rows: few.train  # type: ignore[method-assign]
    monkeypatch.setattr(sample_size, "load_digits", lambda: few)
    found = {n: sample_size.measure(make_arm(f"images={n}")) for n in (50, 500)}
    assert found[50]["log_fd"] - found[500]["log_fd"] == pytest.approx(math.log(10), abs=0.2)
    assert abs(found[50]["kd_share"]) < 0.03


def test_strength_across_generators_ignores_the_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(folder: Path) -> Any:
        rate = float(str(folder).rpartition("model.lr_g=")[2])
        rows = [(i, -1.0) for i in range(15)]
        # only the last quarter of the rows counts
        return SimpleNamespace(
            history={
                "loss": rows + [(15 + i, -rate) for i in range(5)],
                "fd": [(1, 0.0), (20, rate)],
            }
        )

    monkeypatch.setattr(across_generators, "Run", read)
    found = across_generators.measure(make_arm("dcgan", "column=loss", "score=fd"))
    assert found["correlation"] == pytest.approx(-1)
    assert found["strength"] == pytest.approx(1)
    assert found["score"] == pytest.approx(across_generators.LEARNING_RATES)
    few = across_generators.measure(make_arm("dcgan", "column=loss", "score=fd", "every=3"))
    assert few["score"] == pytest.approx(across_generators.LEARNING_RATES[::3])


def test_late_scores_are_means_of_the_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    history = {"fd": [(10, 1.0), (20, math.e), (30, math.e**2), (40, math.e**3)]}
    monkeypatch.setattr(late_scores, "Run", lambda folder: SimpleNamespace(history=history))
    found = late_scores.measure(make_arm("gan", "score=fd"))
    assert found["late_mean"] == pytest.approx((math.e**2 + math.e**3) / 2)
    assert found["mean_log"] == pytest.approx(1.5)


@pytest.mark.parametrize(("fake", "accuracy"), [(1.0, 1.0), (None, 0.5)])
def test_fresh_discriminator_finds_only_what_differs(
    monkeypatch: pytest.MonkeyPatch, digits: Any, fake: float | None, accuracy: float
) -> None:
    """White images are always detected. Against the test images themselves no network can win."""
    monkeypatch.setattr(fresh_discriminator, "STEPS", 20)
    monkeypatch.setattr(fresh_discriminator, "load_digits", lambda: digits)

    def generate(n: int, seed: int) -> Tensor:
        if fake is not None:
            return torch.full((n, 1, 28, 28), fake)
        return digits.in_range(digits.test.__getitems__([i % 650 for i in range(n)])).images

    monkeypatch.setattr(fresh_discriminator, "load_generator", lambda folder: generate)
    found = fresh_discriminator.measure(make_arm("dcgan"))["accuracy"]
    assert found == pytest.approx(accuracy, abs=0.01)


def test_averaging_compares_raw_with_ema_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"raw": 8.0, "last": 2.0}
    run = SimpleNamespace(scores_of=lambda name: {"fd": SimpleNamespace(value=scores[name])})
    monkeypatch.setattr(averaging, "Run", lambda folder: run)
    assert averaging.measure(make_arm("dcgan", "score=fd"))["log_ratio"] == pytest.approx(
        math.log(4)
    )


def test_truncation_to_one_image_loses_recall(monkeypatch: pytest.MonkeyPatch, digits: Any) -> None:
    reals = digits.in_range(digits.test.__getitems__(range(100))).images

    def generate(n: int, seed: int, truncation: float) -> Tensor:
        return reals[:1].expand(n, -1, -1, -1) if truncation == 0.5 else reals[:n]

    small = SimpleNamespace(test=torch.utils.data.Subset(digits.test, range(100)))
    small.test.__getitems__ = digits.test.__getitems__
    small.in_range = digits.in_range
    monkeypatch.setattr(truncation, "load_generator", lambda folder: generate)
    monkeypatch.setattr(truncation, "load_digits", lambda: small)
    found = {
        psi: truncation.measure(make_arm("dcgan", f"truncation={psi}")) for psi in ("1", "0.5")
    }
    assert found["1"]["recall"] == found["1"]["precision"] == 1
    assert found["0.5"]["precision"] == 1
    assert found["0.5"]["recall"] < 0.05


def test_discriminator_gap_is_in_standard_deviations(monkeypatch: pytest.MonkeyPatch) -> None:
    class Split:
        def __init__(self, *logits: float) -> None:
            self.logits = torch.tensor(logits)

        def __len__(self) -> int:
            return len(self.logits)

        def __getitems__(self, rows: range) -> SimpleNamespace:
            return SimpleNamespace(images=self.logits[list(rows)])

    data = SimpleNamespace(
        train=Split(3.0, 5.0), validation=Split(0.0), test=Split(2.0), in_range=lambda batch: batch
    )
    family = SimpleNamespace(discriminator=nn.Identity())
    loaded: list[str] = []
    restored = SimpleNamespace(data=data, family=family, load=loaded.append)
    monkeypatch.setattr(
        discriminator_gap, "Run", lambda folder: SimpleNamespace(restore=lambda: restored)
    )
    monkeypatch.setattr(discriminator_gap, "collect_scores", lambda folder: {"fd_digits": 7.0})
    # means 4 and 1, and a standard deviation of 1 in both groups
    values = discriminator_gap.measure(make_arm("dcgan"))
    assert values == {"gap": pytest.approx(3), "fd_digits": 7.0}
    assert loaded == ["raw"]


def test_midpoints_of_a_linear_generator_follow_the_path() -> None:
    """Latents that are their images: half a great circle keeps their length, a mean does not."""
    first = torch.eye(4)[[0, 1]]
    second = torch.eye(4)[[2, 3]]
    generator: Any = SimpleNamespace(
        latents=lambda n, seed: torch.cat([first, second]),
        images_of=lambda z, labels: z.view(-1, 1, 2, 2),
    )
    latent, pixels, samples = (
        midpoints.generate(generator, path, 2, 0).flatten(1)
        for path in ("latent", "pixels", "none")
    )
    assert torch.equal(samples, first)
    assert torch.equal(pixels, (first + second) / 2)
    assert latent.norm(dim=1) == pytest.approx([1, 1])
    assert torch.allclose(latent, pixels * math.sqrt(2))
    with pytest.raises(ValueError, match=r"path=straight\. Set latent, pixels or none"):
        midpoints.generate(generator, "straight", 2, 0)


def test_cpu_seconds_are_those_of_the_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU time of another process counts, time that a process sleeps or ran before does not."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    busy = "import time\nwhile time.process_time() < 0.5: pass"

    def train(arguments: list[str]) -> Path:
        run(f"{busy}\ntime.sleep(1)")
        return Path("run")

    monkeypatch.setattr(cpu_seconds, "collect_scores", lambda folder: {"fd": 1.0})
    run(busy)
    found = cpu_seconds.measure(Arm("arm", ["gan"], 0, train))
    assert found["fd"] == 1
    assert 0.5 <= found["cpu_seconds"] < 0.9


def test_fine_tuning_starts_from_the_first_training(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[list[str]] = []

    def train(arguments: list[str]) -> Path:
        trained.append(arguments)
        return Path(f"run{len(trained)}")

    monkeypatch.setattr(fine_tuning, "collect_scores", lambda folder: {"run": folder.name})
    overrides = ["data.source=sample", "run.images=100", "model.width=4", "metrics.num_fakes=9"]
    source = ["source=sngan_emoji", "source_images=400", "source_images=200"]
    source += ["source_overrides=data.channels=1,data.labels=false"]
    arm = Arm("arm", ["sngan_faces", *overrides, *source], 0, train)
    assert fine_tuning.measure(arm) == {"run": "run2"}
    first, second = trained
    assert first == [
        "sngan_emoji",
        "data.channels=1",
        "data.labels=false",
        "model.width=4",
        "metrics.num_fakes=9",
        "data.size=64",
        "run.images=200",
        "run.seed=0",
        "run.evaluate_every_images=200",
    ]
    assert second == ["sngan_faces", *overrides, "run.start_from=run1"]
    # from scratch, also where the budget sets source_images
    scratch = Arm("arm", ["sngan_faces", "source_images=200"], 0, train)
    assert fine_tuning.measure(scratch) == {"run": "run3"}
    assert trained[2] == ["sngan_faces"]
