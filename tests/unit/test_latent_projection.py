"""Projection finds the latent of a generated image, and reports the error for others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gan_lab.cli import app
from gan_lab.inference import projection
from gan_lab.inference.projection import project
from gan_lab.inference.sampling import TrainedGenerator, load_generator
from tests.integration.test_export import make_run
from tests.unit.test_sampling import checkpoint


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> TrainedGenerator:
    return load_generator(checkpoint(tmp_path_factory.mktemp("runs") / "best.ckpt", classes=3))


@pytest.mark.slow
def test_its_own_samples_are_found_again_and_so_are_their_classes(
    generator: TrainedGenerator,
) -> None:
    images = generator(3, seed=77)
    found = [project(generator, image) for image in images]
    assert max(each.errors[-1] for each in found) < 1  # of 255
    assert [each.label for each in found] == [0, 1, 2]
    for each, image in zip(found, images, strict=True):
        assert each.errors[-1] <= each.errors[0]
        labels = None if each.label is None else torch.tensor([each.label])
        assert each.z is not None
        again = generator.images_of(each.z[None], labels)[0]
        assert torch.allclose(again, each.way[-1], rtol=0, atol=1e-5)
        apart = float((again - image).square().mean().sqrt()) * 127.5
        assert apart == pytest.approx(each.errors[-1], rel=1e-3)


def test_another_image_stays_away_and_a_class_that_is_given_is_kept(
    generator: TrainedGenerator,
) -> None:
    image = -generator(1, seed=5)[0]  # white for black
    result = project(generator, image, label=2, starts=2, steps=20)
    assert result.label == 2
    assert result.errors[-1] > 30
    assert len(result.way) == len(result.errors) == 7


def test_what_an_encoder_gives_is_one_of_the_starts(generator: TrainedGenerator) -> None:
    z = generator.latents(600, seed=9)[-1]
    image = generator.images_of(z[None], torch.tensor([1]))[0]
    known = project(generator, image, label=1, encoded=z, starts=2, steps=8)
    assert known.errors[0] < 1e-3
    assert project(generator, image, label=1, starts=2, steps=8).errors[0] > 1


def test_what_cannot_be_projected_is_one_line(
    generator: TrainedGenerator, tmp_path: Path, data_root: Path
) -> None:
    image = generator(1)[0]
    with pytest.raises(ValueError, match="Out of range: starts=0, steps=5"):
        project(generator, image, starts=0, steps=5)
    with pytest.raises(ValueError, match=r"Invalid label: 7\. Use a number from 0 to 2"):
        project(generator, image, label=7)
    with pytest.raises(ValueError, match="discrete latent codes"):
        project(load_generator(make_run("infogan", tmp_path, data_root)), image)
    run = str(make_run("gan", tmp_path, data_root))
    refused = CliRunner().invoke(app, ["project", run, str(tmp_path / "none")])
    assert "does not exist" in str(refused.exception)
    refused = CliRunner().invoke(app, ["project", run, "data.root=elsewhere"])
    assert "is not a run folder" in str(
        refused.exception
    )  # the held-out images of a checkpoint alone are not known


def test_a_folder_of_images_becomes_a_picture_and_latents_of_which_the_encoder_s_is_a_start(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    real = projection.project

    def record_start(
        generator: TrainedGenerator,
        image: torch.Tensor,
        label: object,
        z: torch.Tensor,
        **_: object,
    ) -> object:
        encoded.append(z)
        return real(generator, image, None, z, starts=1, steps=12)

    monkeypatch.setattr(projection, "project", record_start)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)).save(
            tmp_path / "in" / name
        )
    run, out = make_run("vaegan", tmp_path, data_root), tmp_path / "way.png"
    said = CliRunner().invoke(app, ["project", str(run), str(tmp_path / "in"), "--out", str(out)])
    assert said.exit_code == 0, said.exception
    assert [line.partition(":")[0] for line in said.output.splitlines()[:2]] == ["a.png", "b.jpg"]
    assert [z.shape for z in encoded] == [(load_generator(run).z_dim,)] * 2
    with Image.open(out) as picture:
        assert picture.size == (2 + 9 * 30, 2 + 2 * 30)
    latents = json.loads(out.with_suffix(".json").read_text())
    assert [each["image"] for each in latents] == ["a.png", "b.jpg"]
    again = load_generator(run).images_of(torch.tensor([latents[0]["z"]]), None)
    assert again.shape == (1, 1, 28, 28)
