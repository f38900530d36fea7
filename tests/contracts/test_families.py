"""The contract that every family keeps; each test picks up a new family without an edit."""

from __future__ import annotations

import ast
import csv
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from gan_lab.augmentation import Augmentation
from gan_lab.config import loading
from gan_lab.data import mnist
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from tests.helpers.families import (
    EXPERIMENTS,
    batch_of,
    every_family,
    experiment_of,
    image_by_image,
    small,
)
from tests.helpers.faults import GOLDEN as GOLDEN_CHANGED
from tests.helpers.faults import MOVED

GOLDEN = Path(__file__).parents[1] / "golden"
SINGLE = (
    "diversity",
    "nearest_other",
    "class_entropy",
)  # of the digit classifier's features and classes, in float32
# statistics of the health check that the traces lack
NOT_RECORDED = (
    "class_diversity",
    "repeats",
    "noise",
    "color_spread",
    "sample_distance",
    "sample_distance_raw",
    "overfitting_auc",
)


class Diversity(Callback):
    """Which networks each iteration moved."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.calls = 0

    def on_train_batch_start(self, trainer: Any, family: Any, *_: Any) -> None:
        self.calls += 1
        self.before = weights(family)

    def on_train_batch_end(self, trainer: Any, family: Any, *_: Any) -> None:
        after = weights(family)
        self.moved.append(
            {name for name in after if not torch.equal(after[name], self.before[name])}
        )
        assert all(torch.isfinite(value).all() for value in after.values())
        assert all(parameter.requires_grad for parameter in family.parameters())


def weights(family: Any) -> dict[str, Tensor]:
    """All parameters of each network as one vector, copied."""
    return {
        name: torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        for name, network in family.named_children()
        if list(network.parameters())
    }


def fit(
    family: str, root: Path, data_root: Path, *words: str
) -> tuple[builder.Experiment, Diversity]:
    """Train in this process, without the run folder's ceremony."""
    loaded = loading.load(
        experiment_of(family),
        small(family, root, data_root, "run.evaluate_every_images=100000", *words),
    )
    watch, folder = Diversity(), root / family
    (folder / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(loaded.config), RunFolder(folder), extra=[watch])
    built.trainer.fit(built.family, datamodule=built.data)
    return built, watch


@pytest.fixture
def twentieth(sample: ArrayDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST is every twentieth of the 3,700 training digits: the end of a pass comes soon."""
    images, labels = sample.train_images[::20], sample.train_labels[::20]  # type: ignore[index]
    fewer = replace(sample, train_images=images, train_labels=labels, fingerprint="twentieth")
    monkeypatch.setattr(mnist, "decode", lambda cfg: fewer)


@every_family
@pytest.mark.parametrize("n_critic", [1, 5])
def test_each_network_moves_in_its_iterations_across_epochs(
    family: str, n_critic: int, tmp_path: Path, data_root: Path, twentieth: None
) -> None:
    has_critic = hasattr(loading.family_class(family).Config, "n_critic")
    if not has_critic and n_critic > 1:
        pytest.skip(f"{family} has no n_critic")
    words = [f"model.n_critic={n_critic}"] if has_critic else []
    # 185 images: the pass ends in the middle of iteration 10
    built, watch = fit(family, tmp_path, data_root, "data.batch_size=20", "run.images=260", *words)
    assert len(built.data.train) == 185
    names = set(weights(built.family))
    expected = [
        names if (i + 1) % n_critic == 0 else names - set(built.family.ema_networks)
        for i in range(13)
    ]
    assert watch.moved == expected, MOVED


@every_family
def test_one_counter_is_everywhere(family: str, tmp_path: Path, data_root: Path) -> None:
    batch = batch_of(family)
    built, watch = fit(
        family,
        tmp_path,
        data_root,
        f"data.batch_size={batch}",
        f"run.images={20 * batch}",
        f"log.log_every_images={2 * batch}",
        f"run.evaluate_every_images={5 * batch}",
    )
    folder = tmp_path / family
    assert watch.calls == built.family.iteration == 20
    newest = sorted((folder / "checkpoints").glob("iteration-*.ckpt"))[-1]
    assert newest.name == "iteration-00000020.ckpt"
    assert read_checkpoint(newest)["iteration"] == 20
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == [2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert all(int(row["images"]) == batch * int(row["iteration"]) for row in rows)
    # at each evaluation; on a slow machine, the schedule of the first seconds adds others
    grids = {int(path.stem) for path in (folder / "samples").glob("*.png")}
    assert grids >= set(range(0, 20 * batch + 1, 5 * batch))
    assert all(images % batch == 0 for images in grids)


@every_family
def test_five_iterations_follow_the_golden_trace(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    """Losses of five iterations and norms of the weights after them, in float64.

    GOLDEN=write makes a new trace.

    What a float32 network sees (``SINGLE``) agrees between processors only up to the precision of
    float32.
    """
    # five iterations with several updates of the generator
    has_slow_generator = getattr(loading.family_class(family).Config, "n_critic", 1) > 1
    built, _ = fit(
        family,
        tmp_path,
        data_root,
        "run.images=80",
        "log.log_every_images=16",
        "run.precision=64-true",
        *(["model.n_critic=2"] if has_slow_generator else []),
    )
    scores = {name for metric in built.evaluation.evaluator.metrics for name in metric.names}
    scores |= set(NOT_RECORDED)
    with (tmp_path / family / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v and k not in scores}
                for row in csv.DictReader(file)]  # fmt: skip
    norms = {name: float(vector.norm()) for name, vector in weights(built.family).items()}
    trace = {"rows": rows, "norms": norms}
    path = GOLDEN / f"{family}.json"
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(trace, indent=1) + "\n")
    golden = json.loads(path.read_text())
    assert len(rows) == 5
    for mine, theirs in zip([*rows, norms], [*golden["rows"], golden["norms"]], strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            bounds = {"rel": 1e-4, "abs": 1e-6} if name in SINGLE else {"rel": 1e-9, "abs": 1e-12}
            assert value == pytest.approx(theirs[name], **bounds), (
                f"{name}: {GOLDEN_CHANGED.replace('NAME', family)}"
            )


@every_family
def test_scoring_and_drawing_leave_the_training_bit_equal(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    batch = batch_of(family)
    words = [f"data.batch_size={batch}", f"run.images={5 * batch}"]
    often, _ = fit(family, tmp_path / "often", data_root, *words,
                   f"run.evaluate_every_images={batch}", f"log.grid_every_images={batch}",
                   f"log.log_every_images={batch}")  # fmt: skip
    never, _ = fit(family, tmp_path / "never", data_root, *words, "log.log_every_images=100000")
    a, b = often.family.state_dict(), never.family.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


@every_family
def test_discriminator_sees_augmented_images_only(
    family: str, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It erases images and gradients: reals and fakes are equal, nothing is learned."""
    words = [
        "run.images=32",
        "log.log_every_images=32",
        "augment.policy=diffaugment",
        *image_by_image(family, n_critic=1),
    ]
    if loading.family_class(family).image_to_image:
        with pytest.raises(
            ValueError, match=r"augment\.policy=diffaugment needs a latent-to-image generator"
        ):
            fit(family, tmp_path, data_root, *words)
        return
    monkeypatch.setattr(Augmentation, "forward", lambda _, images, *rest: 0 * images)
    said = fit(family, tmp_path, data_root, *words)[0].health.csv_logger.latest
    assert said["d_real"] == pytest.approx(said["d_fake"], abs=1e-6)
    assert said["gradient_generator"] == pytest.approx(0, abs=1e-6)


@every_family
def test_the_step_is_the_only_place_of_a_backward(family: str) -> None:
    """``loss.backward()`` would silently skip the synchronization of gradients across ranks."""
    tree = ast.parse((loading.PACKAGE / "families" / f"{family}.py").read_text())
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and hasattr(node.func, "attr")
    }
    assert "backward" not in called
    assert (
        "manual_backward" not in called
    )  # minimize() calls it, and clears the cast cache after the step
    assert "minimize" in called


@every_family
def test_bf16_steps_use_the_new_weights_and_stay_near_float32(
    family: str, tmp_path: Path, data_root: Path
) -> None:
    """Under autocast, stale casts would make the discriminator's second use see the old weights."""
    means, batch = {}, batch_of(family)
    for precision in ("32-true", "bf16-mixed"):
        built, _ = fit(
            family,
            tmp_path / precision,
            data_root,
            f"data.batch_size={batch}",
            f"run.images={10 * batch}",
            f"log.log_every_images={10 * batch}",
            f"run.precision={precision}",
        )
        with (tmp_path / precision / family / "metrics.csv").open() as file:
            means[precision] = {
                k: float(v) for k, v in next(csv.DictReader(file)).items() if k.startswith("loss")
            }
        assert all(p.dtype == torch.float32 for p in built.family.parameters())
    assert means["bf16-mixed"] == pytest.approx(means["32-true"], rel=0.1, abs=0.05)
    assert means["bf16-mixed"] != means["32-true"]


def test_every_family_has_an_experiment() -> None:
    without = [family for family, experiments in EXPERIMENTS.items() if not experiments]
    assert not without, (
        f"write configs/experiment/{without[0]}.yaml, or set family: {without[0]} in another "
        "experiment"
    )


def test_a_conditional_family_refuses_data_without_labels(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(ValueError, match="conditional on labels, but the data has 0 classes"):
        fit("cgan", tmp_path, data_root, "data.labels=false")
