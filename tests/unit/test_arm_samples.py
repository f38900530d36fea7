"""Tests of the samples of the arms on the pages of studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from gan_lab import load_generator, networks
from gan_lab.cli import app
from gan_lab.images import scatter, to_uint8
from gan_lab.studies import (
    Budget,
    Prediction,
    Study,
    engine,
    measurement_record,
    measures,
    study_page,
)
from gan_lab.studies.arm_samples import GAP, NUM_COLUMNS, PLOT_SIDE, POINTS, write_samples
from gan_lab.utils.errors import UserError
from gan_lab.utils.provenance import save_png


def write_checkpoint(path: Path, kind: str, shape: tuple[int, int, int], seed: int) -> None:
    torch.manual_seed(seed)
    generator = networks.generator(kind, z_dim=8, shape=shape, width=16, norm="none")
    path.parent.mkdir(parents=True)
    state = {
        "iteration": 1,
        "ema": {"generator": generator.state_dict()},
        "recipes": {"generator": generator.recipe},
    }
    torch.save(state, path)


def find_tile(picture: Image.Image, tile: np.ndarray) -> tuple[int, int]:
    """Return left and top of a gray tile in a picture; fail if it is not exactly once in it."""
    pixels = np.asarray(picture.convert("L"))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, tile.shape)
    # most windows differ in their first row, so only a few are compared as a whole
    tops, lefts = np.nonzero((windows[:, :, 0] == tile[0]).all(axis=2))
    found = [(x, y) for y, x in zip(tops, lefts, strict=True) if (windows[y, x] == tile).all()]
    assert len(found) == 1, f"the tile is {len(found)} times in the picture, not once"
    return found[0]


def test_each_arm_with_own_images_has_its_samples(tmp_path: Path) -> None:
    """Arms without a run, with an earlier arm's run or with a deleted run have none."""
    for seed, name in enumerate(("a", "b")):
        write_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt", "dcgan", (1, 28, 28), seed)
    write_checkpoint(tmp_path / "points" / "checkpoints" / "best.ckpt", "mlp", (2, 1, 1), 2)
    measured = {
        "first": {"runs": ["a"]},
        "none": {"runs": []},
        "again": {"runs": ["a"]},
        "points": {"runs": ["points"]},
        "deleted": {"runs": ["c"]},
        "second": {"runs": ["b"]},
    }
    picture = tmp_path / "full.samples.png"
    shown = ["first", "points", "second"]
    assert write_samples(measured, tmp_path, picture) == shown
    assert json.loads((tmp_path / "full.samples.json").read_text()) == shown
    places = {}
    with Image.open(picture) as image:
        for name in ("a", "b"):
            samples = to_uint8(load_generator(tmp_path / name)(NUM_COLUMNS))[:, 0].numpy()
            corners = [find_tile(image, sample) for sample in samples]
            assert len({top for _, top in corners}) == 1, "one row"
            assert [left for left, _ in corners] == sorted(left for left, _ in corners)
            places[name] = corners[0][1]
        plot = scatter(load_generator(tmp_path / "points")(POINTS), PLOT_SIDE)[0]
        places["points"] = find_tile(image, plot.mul(255).add(0.5).byte().numpy())[1]
    assert places["a"] < places["points"] < places["b"]


@pytest.mark.parametrize(
    "record",
    [
        {},
        # eight rows of two inputs with three images each, as a training on pairs records them
        {"count": 16, "columns": 6, "sets": ["real", "generated", "real"]},
    ],
    ids=["unknown", "recorded"],
)
def test_image_to_image_models_have_the_first_rows_of_their_last_grid(
    record: dict[str, Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    samples = tmp_path / "run" / "samples"
    samples.mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text("model: {}\n")
    for name in ("000.png", "640.png"):
        grid = rng.integers(0, 256, (80, 90), dtype=np.uint8)
        save_png(Image.fromarray(grid), samples / name, record)
    picture = tmp_path / "full.samples.png"
    assert write_samples({"pix2pix": {"runs": ["run"]}}, tmp_path, picture) == ["pix2pix"]
    with Image.open(picture) as image:
        assert np.array_equal(np.asarray(image.convert("L")), grid[:20]), "not the last grid"


def test_small_pictures_are_side_by_side_and_wide_ones_below_each_other(tmp_path: Path) -> None:
    for seed, name in enumerate("abcd"):
        write_checkpoint(tmp_path / name / "checkpoints" / "best.ckpt", "mlp", (2, 1, 1), seed)
    picture = tmp_path / "full.samples.png"
    write_samples({name: {"runs": [name]} for name in "abcd"}, tmp_path, picture)
    with Image.open(picture) as image:
        assert image.size == (3 * PLOT_SIDE + 2 * GAP, 2 * PLOT_SIDE + GAP)


def test_arms_without_images_write_no_picture(tmp_path: Path) -> None:
    assert write_samples({"real": {"runs": []}}, tmp_path, tmp_path / "full.samples.png") == []
    assert not [*tmp_path.iterdir()]


def test_samples_of_an_earlier_measurement_are_removed(tmp_path: Path) -> None:
    picture = tmp_path / "full.samples.png"
    for path in (picture, tmp_path / "full.samples.json"):
        path.touch()
    assert write_samples({"deleted": {"runs": ["c"]}}, tmp_path, picture) == []
    assert not [*tmp_path.iterdir()]


def test_samples_alone_need_only_the_first_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a study whose trainings were not kept; a shorter edition is named on the page."""
    measured = []

    def measure(arm: measures.Arm) -> dict[str, float]:
        measured.append((arm.name, arm.seed))
        return {"fd_digits": 1.0}

    shown: list[list[str]] = []

    def write(measured: Mapping[str, object], runs: Path, path: Path) -> list[str]:
        shown.append([*measured])
        path.touch()
        path.with_suffix(".json").write_text(json.dumps([*measured]))
        return [*measured]

    monkeypatch.setattr(measures, "find", lambda name: SimpleNamespace(measure=measure))
    monkeypatch.setattr(measurement_record, "hash_code", lambda study, budget: {"made": "1"})
    monkeypatch.setattr(engine, "write_samples", write)
    study = Study(
        name="made", measure="scores", arms={"a": "gan", "b": "dcgan"},
        predictions=[Prediction("fd_digits", "a", "above", other="b")],
        full=Budget(seeds=4), quick=Budget(seeds=3, first_seed=5, words="run.images=64"),
    )  # fmt: skip
    picture = engine.write_arm_samples(study, "quick", tmp_path)
    assert picture == tmp_path / "studies" / "made" / "quick.samples.png"
    assert measured == [("a", 5), ("b", 5)]
    assert shown == [["a", "b"]]
    engine.measure(study, "full", tmp_path)
    engine.collect(study, "full", tmp_path)
    assert shown[1] == ["a", "b"]
    found = study_page.read_results(tmp_path / "studies", study)["full"]
    page = study_page.render_page(study, found)
    assert "Samples of the trainings with the first seed: `a`, `b`, in this order." in page
    for kind in ("png", "json"):
        (tmp_path / "studies" / "made" / f"full.samples.{kind}").unlink()
    found = study_page.read_results(tmp_path / "studies", study)["full"]
    assert found.samples == picture
    page = study_page.render_page(study, found)
    assert "first seed of the quick edition, which are far shorter than those of the tables" in page
    assert "(`run.images=64`): `a`, `b`" in page


def test_command_draws_the_samples_of_one_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the picture, and refuses a missing name and options of a measurement."""
    drawn: list[tuple[str, str, Path]] = []

    def draw(study: Study, budget: str, root: Path) -> Path | None:
        drawn.append((study.name, budget, root))
        return root / "made.png" if study.name == "batch_norm" else None

    monkeypatch.setattr(engine, "write_arm_samples", draw)

    def call(*arguments: str) -> Result:
        samples = ["--samples-only", "--budget", "quick", "--root", str(tmp_path)]
        return CliRunner().invoke(app, ["study", *arguments, *samples])

    assert call("batch_norm").stdout == f"{tmp_path / 'made.png'}\n"
    assert call("sample_size").stdout == "sample_size: no arm trains a generator\n"
    assert drawn == [(name, "quick", tmp_path) for name in ("batch_norm", "sample_size")]
    for arguments in ((), ("batch_norm", "--workers", "2"), ("batch_norm", "--measure-only")):
        assert isinstance(call(*arguments).exception, UserError)
    assert len(drawn) == 2
