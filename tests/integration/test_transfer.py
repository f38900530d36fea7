"""A run that starts from the weights of another run, with frozen discriminator layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gan_lab.config import loading
from gan_lab.inference.export import export
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder, warm_start
from gan_lab.training.builder import Experiment
from gan_lab.training.loop import train
from tests.helpers.families import every_family, experiment_of, small
from tests.helpers.folders import run_folder

EVERY = ("discriminator", "discriminator_back")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A conditional GAN that was trained a little."""
    return run_folder("cgan", tmp_path_factory.mktemp("source"), data_root)


def build(family: str, root: Path, data_root: Path, *words: str) -> Experiment:
    loaded = loading.load(experiment_of(family), small(family, root, data_root, *words))
    run = RunFolder.of(loaded)
    (run.path / "checkpoints").mkdir(parents=True, exist_ok=True)
    return builder.build(*builder.load_data(loaded.config), run)


def read_weights(folder: Path, kind: str = "state_dict") -> dict[str, Tensor]:
    content = read_checkpoint(folder / "checkpoints" / "best.ckpt")[kind]
    return dict(content["generator"] if kind == "ema" else content)


def test_warm_start_has_raw_and_ema_weights_of_other_run(
    source: Path, tmp_path: Path, data_root: Path
) -> None:
    """Raw weights initialize the networks, EMA weights their EMA copies, also in the training."""
    checkpoint = read_checkpoint(source / "checkpoints" / "best.ckpt")
    averaged = {name: value + 1 for name, value in checkpoint["ema"]["generator"].items()}
    checkpoint["ema"]["generator"] = averaged
    torch.save(checkpoint, tmp_path / "other.ckpt")
    start = f"run.start_from={tmp_path / 'other.ckpt'}"
    built = build("cgan", tmp_path, data_root, start, "run.seed=5")
    drawn = {name: value.clone() for name, value in built.family.state_dict().items()}
    taken = warm_start.load_initial_weights(built.family, built.ema, built.config)
    assert taken is not None
    assert taken.initialized == []
    assert str(taken).endswith("tensors, and the EMA weights of generator")
    there = read_weights(source)
    for name, value in built.family.state_dict().items():
        assert torch.equal(value, there[name]), name
    assert not torch.equal(drawn["generator.layers.0.weight"], there["generator.layers.0.weight"])
    built.ema.setup(built.trainer, built.family, "fit")
    for name, value in built.ema.networks["generator"].state_dict().items():
        assert torch.equal(value, averaged[name]), name


def test_warm_start_from_export_has_the_generator_only(
    source: Path, tmp_path: Path, data_root: Path
) -> None:
    folder = export(source, tmp_path / "export")
    built = build("cgan", tmp_path, data_root, f"run.start_from={folder}", "run.seed=5")
    drawn = {name: value.clone() for name, value in built.family.state_dict().items()}
    taken = warm_start.load_initial_weights(built.family, built.ema, built.config)
    assert taken is not None
    assert taken.initialized == ["discriminator (not in the checkpoint)"]
    assert taken.ema_networks == []
    there = read_weights(source, "ema")
    drawn |= {f"generator.{name}": value for name, value in there.items()}
    for name, value in built.family.state_dict().items():
        assert torch.equal(value, drawn[name]), name
    for name, value in built.ema.networks["generator"].state_dict().items():
        assert torch.equal(value, there[name]), name


def test_classes_that_both_have_keep_their_weights(
    source: Path, tmp_path: Path, data_root: Path
) -> None:
    root, there = tmp_path / "four", read_weights(source)
    for label in range(4):
        (root / f"digit{label}").mkdir(parents=True)
        for i in range(8):
            Image.fromarray(np.full((28, 28), 60 * label + i, np.uint8)).save(
                root / f"digit{label}" / f"{i}.png"
            )
    words = ["data.name=folder", f"data.root={root}", "data.source=auto", "data.size=28"]
    built = build("cgan", tmp_path, data_root, *words, "run.start_from=x")
    assert built.data.spec.classes == 4
    best = source / "checkpoints" / "best.ckpt"
    taken = warm_start.load_matching_weights(built.family, built.ema, best)
    now = built.family.state_dict()
    assert taken.partial == ["generator.project.weight", "discriminator.embedding.weight"]
    assert torch.equal(
        now["generator.project.weight"], there["generator.project.weight"][:, :-6]
    )  # latents, then labels
    assert torch.equal(
        built.ema.networks["generator"].state_dict()["project.weight"],
        read_weights(source, "ema")["project.weight"][:, :-6],
    )
    assert torch.equal(
        now["discriminator.embedding.weight"], there["discriminator.embedding.weight"][:, :4]
    )
    assert all("in the checkpoint" in words for words in taken.initialized)  # the folder has colors
    assert {words.split(" (")[0] for words in taken.initialized} <= {
        "discriminator.layers.0.weight"
    } | {name for name in now if name.startswith("generator.layers")}


def test_warm_start_resamples_what_does_not_fit(
    source: Path, tmp_path: Path, data_root: Path
) -> None:
    best = source / "checkpoints" / "best.ckpt"
    built = build("cgan", tmp_path, data_root, f"run.start_from={source}", "model.z_dim=65")
    before = {name: value.clone() for name, value in built.family.state_dict().items()}
    taken = warm_start.load_matching_weights(built.family, built.ema, best)
    assert [words.split(" (")[0] for words in taken.initialized] == ["generator.project.weight"]
    assert torch.equal(
        built.family.state_dict()["generator.project.weight"], before["generator.project.weight"]
    )
    shapes = "(392 x 74 in the checkpoint, 392 x 75 here)"
    assert f"newly initialized: generator.project.weight {shapes}" in str(taken)
    wider = build("cgan", tmp_path / "wide", data_root, "model.width=8")
    with pytest.raises(
        ValueError,
        match=r"run\.start_from: .* has another architecture, only \d+ of \d+ tensors match: ",
    ):
        warm_start.load_matching_weights(wider.family, wider.ema, best)
    with pytest.raises(ValueError, match="There is no checkpoint"):
        build_and_begin(tmp_path / "nothing", data_root, f"run.start_from={tmp_path / 'nowhere'}")


def build_and_begin(root: Path, data_root: Path, *words: str) -> None:
    built = build("cgan", root, data_root, *words)
    warm_start.load_initial_weights(built.family, built.ema, built.config)


def test_warm_start_is_recorded_and_resumes_without_its_source(
    source: Path, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan_lab.training.loop.evaluate_all", lambda *_: None)
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / "best.ckpt").write_bytes(
        (source / "checkpoints" / "best.ckpt").read_bytes()
    )
    words = small(
        "cgan", tmp_path, data_root, f"run.start_from={other}", "run.id=tuned", "model.freeze_d=1"
    )
    assert train(loading.load("cgan", [*words, "run.images=32"]), words) == 0
    said = (tmp_path / "cgan" / "tuned" / "start_from.txt").read_text(encoding="utf-8")
    assert said.startswith(f"Warm start from {other / 'checkpoints' / 'best.ckpt'}, iteration ")
    (other / "checkpoints" / "best.ckpt").unlink()
    assert train(loading.load("cgan", [*words, "run.images=64"]), words) == 0
    newest = read_checkpoint(tmp_path / "cgan" / "tuned" / "checkpoints" / "last.ckpt")
    assert newest["iteration"] == 4
    first = "discriminator.layers.0.weight"
    assert torch.equal(newest["state_dict"][first], read_weights(source)[first])


@every_family
def test_frozen_layers_stay_and_all_others_move(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    words = [
        "run.start_from=somewhere",
        "model.freeze_d=1",
        "run.images=80",
        "run.evaluate_every_images=1000",
    ]
    built = build(family, tmp_path, data_root, *words)
    kept = [name for name, weight in built.family.named_parameters() if not weight.requires_grad]
    assert kept
    assert not any("embedding" in name for name in kept)
    assert all(name.startswith(EVERY) for name in kept)
    before = {name: weight.detach().clone() for name, weight in built.family.named_parameters()}
    built.trainer.fit(built.family, datamodule=built.data)
    moved = {
        name
        for name, weight in built.family.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert moved.isdisjoint(kept)
    assert {name.split(".")[0] for name in moved} == {name.split(".")[0] for name in before}
    assert any(name.startswith("discriminator") for name in moved)


def test_what_cannot_be_frozen_is_one_line(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"model\.freeze_d=1 freezes pretrained layers\. Set run\.start_from"
    ):
        build("cgan", tmp_path, data_root, "model.freeze_d=1")
    with pytest.raises(
        ValueError,
        match=r"model\.freeze_d=9: the discriminator has \d layers\. Freeze at most",
    ):
        build("cgan", tmp_path, data_root, "model.freeze_d=9", "run.start_from=x")
    with pytest.raises(ValueError, match=r"model\.freeze_d=1: this vaegan has no discriminator"):
        builder.build_family(*vae(tmp_path, data_root))


def vae(root: Path, data_root: Path) -> tuple[object, object]:
    from gan_lab import data as datasets

    words = small("vaegan", root, data_root, "model.freeze_d=1", "run.start_from=x")
    config = loading.load("vae", words).config
    return config, datasets.load(config.data, 0)


def test_stylegan_of_color_images_starts_one_of_gray_images(
    tmp_path: Path, data_root: Path
) -> None:
    """All tensors are taken, raw and EMA, and the log names the converted ones."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    draws = np.random.default_rng(0)
    for i in range(12):
        pixels = draws.integers(0, 256, (28, 28, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    words = ["data.name=folder", f"data.root={pictures}", "data.source=auto", "data.size=28"]
    there = run_folder("stylegan2", tmp_path / "color", data_root, *words)
    best = there / "checkpoints" / "best.ckpt"
    # a smaller one lacks the highest resolution
    smaller = [*words, "data.channels=1", "run.start_from=x", "data.size=14"]
    smaller += ["model.width=8"]
    built = build("stylegan2", tmp_path / "small", data_root, *smaller)
    taken = warm_start.load_matching_weights(built.family, built.ema, best)
    now = built.family.state_dict()
    assert taken.recolored
    assert now.keys() >= set(taken.recolored)
    assert not set(taken.recolored) & {words.split(" (")[0] for words in taken.initialized}

    words += ["data.channels=1", "run.start_from=x"]
    built = build("stylegan2", tmp_path / "gray", data_root, *words)
    assert built.data.spec.channels == 1
    taken = warm_start.load_matching_weights(built.family, built.ema, best)
    assert taken.initialized == taken.partial == []
    name = "synthesis.b28.torgb.weight"
    assert f"generator.{name}" in str(taken).partition("; converted between color and gray: ")[2]
    for kind, found in (
        ("state_dict", built.family.generator),
        ("ema", built.ema.networks["generator"]),
    ):
        key = name if kind == "ema" else f"generator.{name}"
        red, green, blue = read_weights(there, kind)[key]
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        torch.testing.assert_close(found.state_dict()[name][0], luma)
