"""``gan_lab.train`` from Python: any data set, a Run in return, resumed by the same call."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

import gan_lab
from gan_lab import api
from gan_lab.config import loading
from gan_lab.training import loop
from gan_lab.utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 20, 20, 3), dtype=np.uint8)
LABELS = np.arange(90) % 3


def overrides(root: Path, *more: str) -> list[str]:
    return [
        f"run.root={root}",
        "run.images=32",
        "run.evaluate_every_images=32",
        "data.batch_size=16",
        "model.width=4",
        "metrics.num_fakes=32",
        "log.wandb=off",
        "log.progress_bar=false",
        *more,
    ]


@pytest.mark.slow
def test_a_data_set_from_python_has_what_a_shipped_one_has(tmp_path: Path) -> None:
    """Split, scores, page, sample; the same call resumes; other data with the name are refused."""
    data = (PIXELS, LABELS)
    run = gan_lab.train("sngan", data=data, overrides=overrides(tmp_path, "run.id=mine"))
    assert run.path == tmp_path / "sngan" / "mine"
    assert run.status == "finished"
    assert run.config.data.shape == (20, 20)  # its own size, without being asked
    assert run.config.data.class_names == ["0", "1", "2"]
    assert run.scores["kd_lite0_mid"].reference is not None
    assert run.scores["kd_lite0_mid"].protocol["split"] == "test"
    assert (run.path / "report.html").is_file()
    assert run.sample(6, label="2").shape == (6, 3, 20, 20)
    assert len(run.history["loss_d"]) >= 1

    longer = gan_lab.train(
        "sngan", data=data, overrides=overrides(tmp_path, "run.id=mine", "run.images=64")
    )
    assert longer.images == 64
    assert longer.checkpoints.keys() >= {"best", "last"}
    before = (longer.path / "summary.json").stat().st_mtime_ns
    assert (
        gan_lab.train(
            "sngan", data=data, overrides=overrides(tmp_path, "run.id=mine", "run.images=64")
        ).images
        == 64
    )
    assert (
        longer.path / "summary.json"
    ).stat().st_mtime_ns == before  # finished: nothing is done again

    restored = longer.restore(data=data)
    assert restored.data.facts.counts["train"] == 81
    with pytest.raises(UserError, match="the data set was passed from Python and is not stored"):
        longer.restore()
    with pytest.raises(UserError, match=r"have changed since it began"):
        gan_lab.train(
            "sngan",
            data=(PIXELS[::-1].copy(), LABELS),
            overrides=overrides(tmp_path, "run.id=mine", "run.images=96"),
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"experiment": "sngann"}, "unknown experiment 'sngann'. Did you mean 'sngan'?"),
        ({"overrides": "run.images=5"}, r"overrides='run.images=5': pass a list"),
        (
            {"data": PIXELS, "overrides": ["data.name=mnist"]},
            r"both data= and the override data\.name select the data",
        ),
        (
            {"data": PIXELS, "overrides": ["data=faces64"]},
            r"both data= and the override data\.name select the data",
        ),
        ({"test": PIXELS}, "test= is for a data set that was passed as data="),
        ({"data": iter(PIXELS)}, "(?i)map-style|iter"),
        ({"overrides": ["data.name=python"]}, "was passed from Python"),
        ({"overrides": ["run.images=none"]}, "run.images=none: it must be a whole number"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    given = {"experiment": "sngan"} | arguments
    if isinstance(given.get("overrides", []), list):
        given["overrides"] = [f"run.root={tmp_path}", "log.wandb=off", *given.get("overrides", [])]
    with pytest.raises(UserError, match=sentence):
        gan_lab.train(**given)
    assert not any(tmp_path.rglob("config.yaml"))


def test_an_interrupted_training_raises_what_interrupted_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train", lambda *_, **__: 128 + signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        gan_lab.train("gan", overrides=overrides(tmp_path))
    monkeypatch.setattr(loop, "train", lambda *_, **__: 128 + signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        gan_lab.train("gan", overrides=overrides(tmp_path))
    assert ended.value.code == 143


def test_public_names_exist_and_are_imported_lazily() -> None:
    """In a fresh interpreter ``import gan_lab`` loads no torch; every name of ``dir`` resolves."""
    code = (
        "import sys, gan_lab\n"
        "assert not {'torch', 'lightning', 'numpy'} & set(sys.modules), 'import gan_lab is not "
        "lazy'\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr
    # here, where torch is imported already
    names = {name for name in dir(gan_lab) if name != "__version__"}
    assert {"WGANGP", "train", "score", "open_run", "load_generator", "MNISTDataModule"} <= names
    for name in names:
        documented = gan_lab.__getattr__(name).__doc__
        assert documented, name
        assert len(documented) > 20, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="module 'gan_lab' has no attribute 'WGAN_GP'"):
        gan_lab.WGAN_GP  # noqa: B018


@pytest.mark.parametrize(
    "overrides",
    [
        ["run.images=640", "data.class_names=[no,'a, b']", "augment=ada", "data.channels=null"],
        {"run.images": 640, "data.class_names": ["no", "a, b"], "augment": "ada",
         "data.channels": None},
        {"run": {"images": 640}, "data": {"class_names": ("no", "a, b"), "channels": None},
         "augment": "ada"},
        OmegaConf.create({"run": {"images": "${data.batch_size}0"}, "augment": "ada",
                          "data": {"batch_size": 64, "class_names": ["no", "a, b"]}}),
    ],
    ids=["list", "dotted", "nested", "omegaconf"],
)  # fmt: skip
def test_overrides_of_each_kind_give_same_config(overrides: Any) -> None:
    """A list, mappings and an OmegaConf config with an interpolation are the same overrides."""
    config = loading.load("dcgan", api._list_overrides(overrides)).config
    assert config.run.images == 640
    assert config.data.class_names == ["no", "a, b"]
    assert config.data.channels is None
    assert config.augment.policy == "ada"


def test_missing_value_of_omegaconf_is_refused() -> None:
    """A mandatory value that a Hydra program did not set is named."""
    with pytest.raises(UserError, match=r"overrides: .*run\.images"):
        gan_lab.train("gan", overrides=OmegaConf.create({"run": {"images": "???"}}))
