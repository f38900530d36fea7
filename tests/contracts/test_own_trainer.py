"""Every family in a user's ``lightning.Trainer``: it trains as documented or refuses clearly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.functional import to_pil_image

from gan_lab.config import loading
from gan_lab.families.base import Family
from gan_lab.networks.layers import Network
from gan_lab.utils.errors import UserError
from tests.helpers.families import batch_of, every_family
from tests.helpers.own_trainer import batches_of, make, networks_of, reals, train_all

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignore Lightning's hints about workers, checkpoint folders and log intervals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trainer(folder: Path, **options: Any) -> lightning.Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
        "default_root_dir": folder,
    }
    return lightning.Trainer(**(defaults | options))


def loader_of(family: str) -> DataLoader[Any]:
    """Four batches for a family."""
    batch = batch_of(family)
    return DataLoader(batches_of(family, 4 * batch), batch_size=batch)


def sampled(model: Family) -> Tensor:
    """Images of the model: translations of fixed sources, or those of a fixed seed."""
    return model(reals(4) * 2 - 1) if model.image_to_image else model(4)


def test_unlabeled_images_of_sgan_have_the_label_minus_one(tmp_path: Path) -> None:
    """Images without a label train the rest, also in a batch without any label."""
    labels = torch.arange(32) % 10
    labels[8:] = -1
    loader = DataLoader(TensorDataset(reals(32), labels), batch_size=8)
    model, own = make("sgan"), trainer(tmp_path, max_steps=4)
    before = networks_of(model)
    own.fit(model, loader)
    assert own.callback_metrics["loss_class"] == 0
    for name, weights in networks_of(model).items():
        assert torch.isfinite(weights).all(), name
        assert not torch.equal(weights, before[name]), name


@every_family
def test_six_steps_move_every_network_and_log_and_stop(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``max_steps`` are iterations, losses reach ``callback_metrics``; noise differs by step."""
    drawn: list[Tensor] = []
    sample_latents = Network.sample_latents

    def record(self: Network, *args: Any, **kwargs: Any) -> Tensor:
        drawn.append(sample_latents(self, *args, **kwargs))
        return drawn[-1]

    model, own = make(family), trainer(tmp_path, max_steps=6)
    monkeypatch.setattr(Network, "sample_latents", record)
    before = networks_of(model)
    own.fit(model, loader_of(family))
    after = networks_of(model)
    assert {name for name in after if torch.equal(before[name], after[name])} == set(), (
        "networks that never moved"
    )
    assert own.global_step == model.iteration == 6
    assert model.images_seen == 6 * batch_of(family) // model.minibatches
    assert any(name.startswith("loss") for name in own.callback_metrics)
    assert all(bool(value.isfinite()) for value in own.callback_metrics.values())
    for i, z in enumerate(drawn):
        assert not any(z.shape == other.shape and torch.equal(z, other) for other in drawn[:i]), (
            "noise was drawn twice"
        )


@every_family
def test_load_from_checkpoint_gives_the_same_images(family: str, tmp_path: Path) -> None:
    model, own = make(family), trainer(tmp_path, max_steps=2)
    own.fit(model, loader_of(family))
    own.save_checkpoint(tmp_path / "model.ckpt")
    torch.manual_seed(1)  # what is not loaded would be initialized differently
    again = type(model).load_from_checkpoint(tmp_path / "model.ckpt")
    assert torch.equal(sampled(again), sampled(model))
    assert (again.iteration, again.images_seen) == (model.iteration, model.images_seen)
    assert again.cfg == model.cfg
    assert sampled(model).abs().max() <= 1


@every_family
def test_resumed_by_ckpt_path_equals_uninterrupted(family: str, tmp_path: Path) -> None:
    """Two epochs at once, or one and one resumed: the same weights, bit for bit."""
    loader = loader_of(family)
    torch.manual_seed(0)
    whole = make(family)
    trainer(tmp_path, max_epochs=2).fit(whole, loader)
    torch.manual_seed(0)
    first, own = make(family), trainer(tmp_path, max_epochs=1)
    own.fit(first, loader)
    own.save_checkpoint(tmp_path / "first.ckpt")
    second = make(family)
    trainer(tmp_path, max_epochs=2).fit(second, loader, ckpt_path=tmp_path / "first.ckpt")
    a, b = whole.state_dict(), second.state_dict()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_lightnings_own_checkpoints_logger_and_limits_work(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", monitor="loss_g", every_n_train_steps=2, save_top_k=2)
    own = trainer(
        tmp_path,
        max_epochs=2,
        limit_train_batches=3,
        callbacks=[keep],
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
    )
    model = make("gan")
    own.fit(model, DataLoader(batches_of("gan"), batch_size=16, shuffle=True))
    assert own.global_step == model.iteration == 6
    assert keep.best_model_score is not None
    assert all(
        int(path.stem.partition("step=")[2]) % 2 == 0 for path in (tmp_path / "kept").glob("*.ckpt")
    )
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert {"loss_d", "loss_g", "step"} <= set(metrics.read_text().splitlines()[0].split(","))
    assert type(model).load_from_checkpoint(keep.best_model_path).cfg == model.cfg


def test_the_generator_moves_at_every_n_critic_th_iteration(tmp_path: Path) -> None:
    """Across the end of an epoch, where Lightning's ``batch_idx`` starts again."""
    moved: list[int] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            self.before = networks_of(module)["generator"]

        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if not torch.equal(self.before, networks_of(module)["generator"]):
                moved.append(module.iteration)

    own = trainer(tmp_path, max_steps=12, callbacks=[Watch()])
    own.fit(make("wgan_gp", n_critic=5), DataLoader(batches_of("wgan_gp"), batch_size=16))
    assert moved == [5, 10]


def test_a_data_set_of_pil_images_trains(tmp_path: Path) -> None:
    """torchvision's data sets yield PIL images, which torch's default collate function refuses."""
    pictures = [(to_pil_image(image), 1) for image in reals(32)]
    own = trainer(tmp_path, max_steps=2)
    own.fit(make("cgan"), DataLoader(pictures, batch_size=16))  # type: ignore[arg-type]
    assert own.global_step == 2


def test_dropout_leaves_the_generator_of_the_user_alone(tmp_path: Path) -> None:
    """The lab seeds draws inside networks; a user's random transforms are those without the lab."""
    states: list[Tensor] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            states.append(torch.get_rng_state())

        def on_train_batch_end(self, *_: Any) -> None:
            assert torch.equal(states[-1], torch.get_rng_state())

    own = trainer(tmp_path, max_steps=2, callbacks=[Watch()])
    own.fit(make("pix2pix"), DataLoader(batches_of("pix2pix"), batch_size=16))
    assert len(states) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"precision": "bf16-true"},
            r"precision='bf16-true' is not supported\. Use one of 32-true",
        ),
        ({"accumulate_grad_batches": 2}, "accumulat"),
        ({"gradient_clip_val": 1.0}, "clip"),
    ],
)
def test_own_trainer_refuses_options_that_change_the_training(
    options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    model = make("gan")
    before = networks_of(model)
    with pytest.raises((UserError, MisconfigurationException, ValueError), match=f"(?i){sentence}"):
        trainer(tmp_path, max_steps=2, **options).fit(
            model, DataLoader(batches_of("gan"), batch_size=16)
        )
    assert all(torch.equal(value, before[name]) for name, value in networks_of(model).items())


@every_family
def test_bf16_stays_near_float32(family: str, tmp_path: Path) -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        model, own = make(family), trainer(tmp_path, max_steps=2, precision=precision)
        own.fit(model, loader_of(family))
        losses[precision] = {
            k: float(v) for k, v in own.callback_metrics.items() if k.startswith("loss")
        }
        assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.1, abs=0.05)
    assert losses["bf16-mixed"] != losses["32-true"]


def test_keys_and_images_that_do_not_fit_are_named() -> None:
    gan, cgan = loading.family_class("gan"), loading.family_class("cgan")
    with pytest.raises(UserError, match=r"Key 'widht' not in 'GANConfig'\. Did you mean 'width'\?"):
        gan(image_shape=(1, 28, 28), widht=8)
    with pytest.raises(UserError, match=r"lr_d=-1\.0 is out of range: it must be greater than 0"):
        gan(image_shape=(1, 28, 28), lr_d=-1.0)
    with pytest.raises(
        UserError, match=r"image_shape=\(28, 28\) is invalid\. Pass \(channels, height, width\)"
    ):
        gan(image_shape=(28, 28))
    with pytest.raises(UserError, match=r"\(28, 28, 1\): channels come first, pass \(1, 28, 28\)"):
        gan(image_shape=(28, 28, 1))
    with pytest.raises(UserError, match=r"augment='adaa': pass off, diffaugment or ada"):
        gan(image_shape=(1, 28, 28), augment="adaa")
    with pytest.raises(UserError, match=r"num_classes=10: GAN does not use labels"):
        gan(image_shape=(1, 28, 28), num_classes=10)
    with pytest.raises(UserError, match="num_classes"):
        cgan(image_shape=(1, 28, 28))
    with pytest.raises(
        UserError, match=r"labels=\[12\] are invalid\. Pass 1 class labels from 0 to 9"
    ):
        cgan(image_shape=(1, 28, 28), num_classes=10, width=4)(1, labels=[12])


def test_the_signature_shows_the_keys_of_the_family() -> None:
    import inspect

    parameters = inspect.signature(loading.family_class("wgan_gp")).parameters
    assert {
        "image_shape",
        "num_classes",
        "width",
        "lr_d",
        "n_critic",
        "gp_weight",
    } <= parameters.keys()
    assert parameters["n_critic"].default == 5
    assert "config" not in parameters


def test_no_family_overrides_what_the_contract_does() -> None:
    for family in loading.families():
        for name in ("training_step", "minimize", "forward", "on_save_checkpoint", "setup"):
            assert name not in vars(loading.family_class(family)), f"{family} overrides {name}"


@pytest.mark.slow
def test_two_processes_of_ddp_train_what_one_does(tmp_path: Path) -> None:
    """Lightning's ``strategy="ddp"`` on two CPU processes, per family; no batch norm, float64."""
    script = [str(ROOT / "tests" / "helpers" / "own_trainer.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        *script,
        "2",
    ]
    ended = subprocess.run(torchrun, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    train_all(tmp_path, world=1)
    one, first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("1-0.json", "2-0.json", "2-1.json")
    )
    assert one.keys() == set(loading.families())
    for family, norms in one.items():
        assert first[family] == second[family], (
            f"{family}: the two processes have different weights"
        )
        assert first[family] == pytest.approx(norms, rel=1e-9), (
            f"{family}: two processes differ from one"
        )
