"""The judge of judges: disturbances in closed form, what counts as told, and what is known of two extractors."""

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
from gan_lab.sensitivity import detection, distortions, sensitivity_page
from gan_lab.sensitivity.detection import Answer, Measures, is_told
from gan_lab.sensitivity.distortions import Disturbance, disturbed

BY_NAME = {one.name: one for one in distortions.DISTURBANCES}


def pixels(n: int = 6, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(
        256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def test_each_change_is_its_closed_form() -> None:
    flat = torch.full((4, 3, 40, 40), 100, dtype=torch.uint8)
    assert torch.equal(disturbed(flat, BY_NAME["blur"], 50), flat)  # a blur leaves one colour alone
    edge = flat.clone()
    edge[..., 20:] = 200
    blurred = disturbed(edge, BY_NAME["blur"], 50).float()  # 2 pixels
    slope = (blurred[..., 20] - blurred[..., 19]).mean()
    assert slope == pytest.approx(
        100 * (2 / np.pi**0.5) * 0.5 / (2 * 2**0.5), rel=0.05
    )  # the density at 0, times 100
    noisy = disturbed(flat, BY_NAME["noise"], 16).float() - 100
    assert abs(float(noisy.mean())) < 1
    assert float(noisy.std()) == pytest.approx(16, rel=0.05)
    images = pixels()
    for blocks in (2, 4, 8):
        mixed = disturbed(images, BY_NAME["shuffled blocks"], blocks)
        assert torch.equal(
            mixed.flatten(2).sort().values, images.flatten(2).sort().values
        )  # the same pixels elsewhere
        part = 16 // blocks
        there = {
            tuple(block.flatten().tolist())
            for block in images[0]
            .unfold(1, part, part)
            .unfold(2, part, part)
            .flatten(1, 2)
            .unbind(1)
        }
        here = {
            tuple(block.flatten().tolist())
            for block in mixed[0]
            .unfold(1, part, part)
            .unfold(2, part, part)
            .flatten(1, 2)
            .unbind(1)
        }
        assert here == there
    moved = disturbed(images, BY_NAME["shift"], 25)
    assert torch.equal(moved[..., 4:], images[..., :-4])
    assert torch.equal(moved[..., :4], images[..., :1].expand(-1, -1, -1, 4))
    assert torch.equal(
        disturbed(images, BY_NAME["darkness"], 50), (images.float() / 2).round().to(torch.uint8)
    )


def test_each_choice_keeps_the_number_and_gives_what_it_says() -> None:
    fakes, reals, labels = np.arange(100, 200), np.arange(100), np.tile(np.arange(10), 20)
    chosen = distortions.lose_classes(fakes, reals, labels, 3)
    assert len(chosen) == 100
    assert set(labels[chosen]) == set(range(3, 10))
    assert set(chosen) <= set(fakes)
    assert np.isin(distortions.copy(fakes, reals, None, 25), reals).sum() == 25
    for dose, left in ((25, 75), (90, 10), (98, 2)):
        chosen = distortions.collapse(fakes, reals, None, dose)
        assert len(chosen) == 100
        assert len(set(chosen)) == left


def test_the_kernel_distance_is_the_unbiased_estimator() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    spoiled = torch.randn(20, 5, generator=generator, dtype=torch.float64) + 0.5
    measures = Measures(clean, frechet=True)
    measures.prepare(spoiled)
    reals, fakes = np.array([3, 1, 4, 15, 9, 2]), np.array([5, 5, 8, 0, 7, 11])
    value = measures(spoiled, reals, fakes)["kd"]

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 5 + 1) ** 3)

    own = sum(
        k(clean[i], clean[j]) for a, i in enumerate(reals) for b, j in enumerate(reals) if a != b
    )
    own += sum(
        k(spoiled[i], spoiled[j])
        for a, i in enumerate(fakes)
        for b, j in enumerate(fakes)
        if a != b
    )
    cross = sum(k(clean[i], spoiled[j]) for i in reals for j in fakes)
    assert value == pytest.approx(own / 30 - 2 * cross / 36)


def test_what_chance_does_is_not_told_and_what_lies_beyond_is() -> None:
    rng = np.random.default_rng(0)
    null = rng.normal(size=detection.NULL)
    chance = [
        is_told(rng.normal(size=detection.REPEATS), rng.normal(size=detection.NULL))
        for _ in range(2000)
    ]
    assert not any(chance)
    assert is_told(rng.normal(size=detection.REPEATS) + 6, null)
    assert is_told(
        rng.normal(size=detection.REPEATS) - 6, null
    )  # copies are nearer than real images are
    assert not is_told(
        np.concatenate([np.full(10, 6.0), np.full(10, -6.0)]), null
    )  # no one direction


@pytest.mark.parametrize(
    ("told", "smallest"),
    [([True] * 4, 1), ([False, True, True, True], 2), ([True, False, True, True], 4), ([False] * 4, None),
     ([True, True, True, False], None)],
)  # fmt: skip
def test_the_smallest_dose_is_that_from_which_on_all_are_told(
    told: list[bool], smallest: int | None
) -> None:
    answer = Answer("random", "kd", Disturbance("x", "", (1, 2, 4, 8)), [0.0] * 4, told)
    assert answer.smallest == smallest


def test_on_faces_the_network_that_knows_photographs_tells_what_random_features_do_not(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doses = {"blur": (50,), "noise": (16,), "shuffled blocks": (2,), "collapse": (90,)}
    given = tuple(replace(BY_NAME[name], doses=dose) for name, dose in doses.items())
    monkeypatch.setattr(detection, "DISTURBANCES", given)
    faces = datasets.load(
        DataConfig(name="celeba", source="sample", root=str(data_root), size=32), seed=0
    )
    judged = detection.judge(faces, 50, ["lite0_mid", "random"])
    assert judged.n == 50  # all 100 faces
    assert {name: judged.of("kd_lite0_mid", name).smallest for name in doses} == {
        name: dose for name, (dose,) in doses.items()
    }
    assert judged.of("kd_random", "noise").smallest is None


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


def test_a_page_has_a_row_for_each_judge_and_a_chart_for_each_disturbance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = detection.judge(few(24, classes=3), 50, ["random"])
    assert judged.n == 12
    assert judged.notes == ["n is 12, not 50: there are 24 images"]
    assert judged.of("kd_random", "lost classes").disturbance.doses == (1, 2)  # of three classes
    text = sensitivity_page.write(judged, tmp_path / "there" / "page.html").read_text(
        encoding="utf-8"
    )
    assert text.count("<figure") == len(judged.disturbances) == 8
    for name in judged.judges:
        assert f">{name}</th>" in text
    console.print_judgement(judged)
    assert all(name in capsys.readouterr().out for name in ["kd_random"])
    assert "lost classes" not in {
        one.name for one in detection.judge(few(24), 6, ["random"]).disturbances
    }
    with pytest.raises(ValueError, match="8 images are too few to judge by: at least 12"):
        detection.judge(few(8), 6, ["random"])
    with pytest.raises(ValueError, match="unknown extractor 'eyes'"):
        detection.judge(few(24), 6, ["eyes"])


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
    assert (tmp_path / "judge" / "mnist-n10.html").is_file()
    refused = CliRunner().invoke(cli.app, ["judge", "ring", *words])
    assert isinstance(refused.exception, ValueError)
    assert "points are no images" in str(refused.exception)
