"""Sensitivity of metrics: distortions in closed form, detection, known results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from gan_lab import cli
from gan_lab import data as datasets
from gan_lab.cli import console
from gan_lab.config.schema import DataConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.images import ImageSpec
from gan_lab.sensitivity import detection, distortions, sensitivity_page, style_loss
from gan_lab.sensitivity.detection import DetectionResult, Measures, is_detected
from gan_lab.sensitivity.distortions import Distortion, apply_distortion

BY_NAME = {one.name: one for one in distortions.DISTORTIONS}


def pixels(n: int = 6, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(
        256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def blocks_of(image: Tensor, side: int) -> set[tuple[int, ...]]:
    """The square blocks of an image [C, H, W]."""
    blocks = image.unfold(1, side, side).unfold(2, side, side).flatten(1, 2).unbind(1)
    return {tuple(block.flatten().tolist()) for block in blocks}


def test_changes_match_their_closed_form() -> None:
    flat = torch.full((4, 3, 40, 40), 100, dtype=torch.uint8)
    assert torch.equal(
        apply_distortion(flat, BY_NAME["blur"], 50), flat
    )  # a blur leaves one color unchanged
    edge = flat.clone()
    edge[..., 20:] = 200
    blurred = apply_distortion(edge, BY_NAME["blur"], 50).float()  # 2 pixels
    slope = (blurred[..., 20] - blurred[..., 19]).mean()
    assert slope == pytest.approx(
        100 * (2 / np.pi**0.5) * 0.5 / (2 * 2**0.5), rel=0.05
    )  # the density at 0, times 100
    noisy = apply_distortion(flat, BY_NAME["noise"], 16).float() - 100
    assert abs(float(noisy.mean())) < 1
    assert float(noisy.std()) == pytest.approx(16, rel=0.05)
    images = pixels()
    for blocks in (2, 4, 8):
        mixed = apply_distortion(images, BY_NAME["shuffled blocks"], blocks)
        assert torch.equal(
            mixed.flatten(2).sort().values, images.flatten(2).sort().values
        )  # the same pixels elsewhere
        part = 16 // blocks
        assert blocks_of(mixed[0], part) == blocks_of(images[0], part)
    moved = apply_distortion(images, BY_NAME["shift"], 25)
    assert torch.equal(moved[..., 4:], images[..., :-4])
    assert torch.equal(moved[..., :4], images[..., :1].expand(-1, -1, -1, 4))
    assert torch.equal(
        apply_distortion(images, BY_NAME["darkness"], 50),
        (images.float() / 2).round().to(torch.uint8),
    )


def draw_strokes() -> Tensor:
    """Ten straight strokes on black that differ in slant, length and width, [10, 1, 28, 28]."""
    y, x = torch.meshgrid(torch.arange(280) + 0.5, torch.arange(280) + 0.5, indexing="ij")
    images = []
    for i in range(10):
        slant, length, width = 0.06 * i - 0.3, 120 + 8 * (i * 7 % 10), 20 + 3 * (i * 3 % 10)
        inside = (x - 140 - slant * (y - 140)).abs() < width / 2
        images.append(255.0 * (inside & ((y - 140).abs() < length / 2)))
    return torch.nn.functional.avg_pool2d(torch.stack(images)[:, None], 10)


STYLES = {
    "slant": lambda images: style_loss.measure_strokes(images).slant,
    "size": lambda images: style_loss.measure_strokes(images).size.log(),
    "stroke width": lambda images: style_loss.measure_stroke_width(images).log(),
}


# The width comes out less exactly than the others, because a dilation also lengthens strokes.
@pytest.mark.parametrize(
    ("name", "tolerance"), [("slant", 0.03), ("size", 0.06), ("stroke width", 0.35)]
)
def test_lost_style_leaves_stated_share(name: str, tolerance: float) -> None:
    images = draw_strokes()
    for severity in (0, 25, 50, 75, 100):
        changed = apply_distortion(images.to(torch.uint8), BY_NAME[name], severity).float()
        before, after = STYLES[name](images), STYLES[name](changed)
        expected = before.mean() + (1 - severity / 100) * (before - before.mean())
        assert float((after - expected).std()) < tolerance * float(before.std()), severity
        if name != "slant":
            slants = STYLES["slant"](images)
            assert float((STYLES["slant"](changed) - slants).std()) < 0.03 * float(slants.std())


def test_measured_style_is_that_of_drawn_strokes() -> None:
    strokes = style_loss.measure_strokes(draw_strokes())
    slants = torch.arange(10) * 0.06 - 0.3
    # the corners of a stroke are cut horizontally, which does not move the regression of x on y
    assert torch.allclose(strokes.slant, slants, atol=0.01)
    assert torch.allclose(strokes.center, torch.full((10, 2), 13.5), atol=0.02)
    widths = style_loss.measure_stroke_width(draw_strokes())
    drawn = torch.tensor([2 + 0.3 * (i * 3 % 10) for i in range(10)])
    assert torch.corrcoef(torch.stack([widths, drawn]))[0, 1] > 0.95


def test_choices_keep_the_number_of_fakes() -> None:
    fakes, reals, labels = np.arange(100, 200), np.arange(100), np.tile(np.arange(10), 20)
    chosen = distortions.lose_classes(fakes, reals, labels, 3)
    assert len(chosen) == 100
    assert set(labels[chosen]) == set(range(3, 10))
    assert set(chosen) <= set(fakes)
    assert np.isin(distortions.copy_reals(fakes, reals, None, 25), reals).sum() == 25
    for severity, left in ((25, 75), (90, 10), (98, 2)):
        chosen = distortions.collapse(fakes, reals, None, severity)
        assert len(chosen) == 100
        assert len(set(chosen)) == left


def test_kernel_distance_is_the_unbiased_estimator() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    distorted = torch.randn(20, 5, generator=generator, dtype=torch.float64) + 0.5
    measures = Measures(clean, frechet=True)
    measures.prepare(distorted)
    reals, fakes = np.array([3, 1, 4, 15, 9, 2]), np.array([5, 5, 8, 0, 7, 11])
    value = measures(distorted, reals, fakes)["kd"]

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 5 + 1) ** 3)

    own = sum(
        k(clean[i], clean[j]) for a, i in enumerate(reals) for b, j in enumerate(reals) if a != b
    )
    own += sum(
        k(distorted[i], distorted[j])
        for a, i in enumerate(fakes)
        for b, j in enumerate(fakes)
        if a != b
    )
    cross = sum(k(clean[i], distorted[j]) for i in reals for j in fakes)
    assert value == pytest.approx(own / 30 - 2 * cross / 36)


def test_is_detected_ignores_chance() -> None:
    rng = np.random.default_rng(0)
    null = rng.normal(size=detection.NULL_REPEATS)
    chance = [
        is_detected(
            rng.normal(size=detection.DISTORTED_REPEATS), rng.normal(size=detection.NULL_REPEATS)
        )
        for _ in range(2000)
    ]
    assert not any(chance)
    assert is_detected(rng.normal(size=detection.DISTORTED_REPEATS) + 6, null)
    assert is_detected(
        rng.normal(size=detection.DISTORTED_REPEATS) - 6, null
    )  # copies are nearer than real images are
    assert not is_detected(
        np.concatenate([np.full(10, 6.0), np.full(10, -6.0)]), null
    )  # no one direction


@pytest.mark.parametrize(
    ("detected", "threshold"),
    [
        ([True] * 4, 1),
        ([False, True, True, True], 2),
        ([True, False, True, True], 4),
        ([False] * 4, None),
        ([True, True, True, False], None),
    ],
)
def test_threshold_is_smallest_severity_detected_upward(
    detected: list[bool], threshold: int | None
) -> None:
    """The threshold is the smallest severity from which all larger ones are detected."""
    answer = DetectionResult("random", "kd", Distortion("x", "", (1, 2, 4, 8)), [0.0] * 4, detected)
    assert answer.threshold == threshold


def test_lite0_detects_more_than_random_features(data_root: Path) -> None:
    """lite0 detects distortions of faces that random features miss."""
    severities = {"blur": (50,), "noise": (16,), "shuffled blocks": (2,), "collapse": (90,)}
    given = tuple(
        replace(BY_NAME[name], severities=severity) for name, severity in severities.items()
    )
    faces = datasets.load(
        DataConfig(name="celeba", source="sample", root=str(data_root), size=32), seed=0
    )
    report = detection.measure_sensitivity(faces, 50, ["lite0_mid", "random"], distortions=given)
    assert report.n == 50  # all 100 faces
    assert {name: report.get_result("kd_lite0_mid", name).threshold for name in severities} == {
        name: severity for name, (severity,) in severities.items()
    }
    assert report.get_result("kd_random", "noise").threshold is None


def few(n: int, classes: int = 0) -> GANDataModule:
    images = pixels(n, seed=1).numpy()
    labels = np.arange(n) % classes if classes else None
    spec = ImageSpec(3, 16, 16, classes=classes)
    held = labels[:4] if labels is not None else None
    made = ArrayDataset(
        spec,
        images[4:],
        labels[4:] if labels is not None else None,
        images[:4],
        held,
        "full",
        "",
        "x",
    )
    return GANDataModule(made, DataConfig(name="folder", size=16), seed=0)


def test_page_has_a_row_per_score_and_a_chart_per_distortion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = detection.measure_sensitivity(few(24, classes=3), 50, ["random"])
    assert report.n == 12
    assert report.notes == ["n is 12, not 50: there are 24 images"]
    assert report.get_result("kd_random", "lost classes").distortion.severities == (
        1,
        2,
    )  # of three classes
    text = sensitivity_page.write_page(report, tmp_path / "there" / "page.html").read_text(
        encoding="utf-8"
    )
    assert text.count("<figure") == len(report.distortions) == 8
    for name in report.scores:
        assert f">{name}</th>" in text
    console.print_sensitivity(report)
    assert all(name in capsys.readouterr().out for name in ["kd_random"])
    assert "lost classes" not in {
        one.name for one in detection.measure_sensitivity(few(24), 6, ["random"]).distortions
    }
    with pytest.raises(ValueError, match="Too few images to measure sensitivity: 8"):
        detection.measure_sensitivity(few(8), 6, ["random"])
    with pytest.raises(ValueError, match="unknown extractor 'eyes'"):
        detection.measure_sensitivity(few(24), 6, ["eyes"])


def test_the_command_writes_the_page_and_refuses_points(tmp_path: Path, data_root: Path) -> None:
    words = [
        f"run.root={tmp_path}",
        f"data.root={data_root}",
        "metrics.extractors=[random]",
        "--n",
        "10",
    ]
    done = CliRunner().invoke(cli.app, ["judge", "mnist", "data.source=sample", *words])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "judge" / "mnist-n10-source=sample-extractors=random.html").is_file()
    refused = CliRunner().invoke(cli.app, ["judge", "ring", *words])
    assert isinstance(refused.exception, ValueError)
    assert "has points, not images" in str(refused.exception)
