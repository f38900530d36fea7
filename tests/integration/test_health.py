"""Health monitoring: values in closed form, alerts on constructed rows, broken trainings."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from gan_lab import data as datasets
from gan_lab import losses
from gan_lab.config import loading
from gan_lab.config.schema import DataConfig, EmaConfig
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.data.base import GANDataModule
from gan_lab.families.base import Family
from gan_lab.families.gan import GAN, GANConfig
from gan_lab.images import ImageSpec
from gan_lab.metrics import extractors
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.results import read_summary
from gan_lab.seeding import Stream, branch_seed
from gan_lab.training import loop
from gan_lab.training.callbacks import checkpoint, health
from gan_lab.training.callbacks.alert_rules import AlertRules
from gan_lab.training.callbacks.diversity import Diversity
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.finite_check import DivergedError, FiniteCheck, not_finite
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.sample_statistics import (
    entropy,
    mean_pairwise_distance,
    rows_by_label,
)
from gan_lab.training.callbacks.wandb_logger import WandbLogger
from tests.contracts.test_families import fit
from tests.helpers import alert_scenarios, processes
from tests.helpers.families import small

# --------------------------------------------------------------------------------------------------
# values


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def family() -> Any:
    torch.manual_seed(0)
    return GAN(
        spec=ImageSpec(1, 8, 8), config=GANConfig(network="dcgan", width=2, z_dim=3, norm="none")
    )


def log_verdict(real: list[float], fake: list[float], undecided: float | None) -> dict[str, float]:
    made = family()
    made.log_discriminator(torch.tensor(real), torch.tensor(fake), undecided)
    return {name: float(value) for name, value in made.logged_scalars.items()}


def test_a_verdict_is_the_means_and_the_shares_on_either_side_of_the_undecided_logit() -> None:
    real, fake = [3.0, 1.0, -2.0, 0.4], [-1.0, 0.2, 0.0, -3.0]
    assert log_verdict(real, fake, 0.0) == pytest.approx(
        {
            "d_real": 0.6,
            "d_fake": -0.95,
            "accuracy_real": 0.75,
            "accuracy_fake": 0.5,
        }  # 0 is neither
    )
    assert log_verdict(real, fake, 0.5)["accuracy_fake"] == 1
    assert log_verdict(real, fake, 0.5)["accuracy_real"] == 0.5


def test_where_only_differences_count_a_verdict_does_not_move_with_the_logits() -> None:
    real, fake = [3.0, 1.0, 5.0, 7.0], [1.0, 0.0, 3.5, -3.0]  # means 4 and 0.375
    first = log_verdict(real, fake, None)
    assert (first["accuracy_real"], first["accuracy_fake"]) == (0.75, 0.75)
    moved = log_verdict([x - 100 for x in real], [x - 100 for x in fake], None)
    assert (moved["accuracy_real"], moved["accuracy_fake"]) == (0.75, 0.75)
    assert moved["d_real"] == pytest.approx(-96)


def test_undecided_logit_minimizes_the_loss_of_equal_distributions() -> None:
    """Reals and fakes have one distribution: a constant undecided logit minimizes the loss."""
    for loss, _, undecided in losses.LOSSES.values():
        if undecided is None:
            assert torch.equal(
                loss(torch.ones(2), torch.zeros(2)),
                loss(torch.full((2,), 6.0), torch.full((2,), 5.0)),
            )
        else:
            here, left, right = (
                float(loss(*[torch.full((4,), undecided + by)] * 2)) for by in (0.0, -0.1, 0.1)
            )
            assert here <= left + 1e-6
            assert here <= right + 1e-6


def test_the_gradient_norm_is_that_of_each_network_that_the_optimizer_moves_and_of_no_other() -> (
    None
):
    made = family()
    optimizer = torch.optim.SGD([*made.generator.parameters()], 0.1)
    for parameter in made.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    made._record_gradient_norms(optimizer)
    count = sum(parameter.numel() for parameter in made.generator.parameters())
    assert {name: float(value) for name, value in made.logged_scalars.items()} == pytest.approx(
        {"gradient_generator": 2 * math.sqrt(count)}
    )


def test_an_optimizer_of_two_networks_records_both_and_without_a_discriminator_there_is_no_verdict(
    tmp_path: Path, data_root: Path
) -> None:
    built, _ = fit(
        "vaegan",
        tmp_path,
        data_root,
        "run.images=16",
        "log.log_every_images=16",
        "model.adversarial=false",
    )
    row = rows_of(tmp_path / "vaegan" / "metrics.csv")[0]
    assert {name for name in row if name.startswith(("gradient", "d_", "accuracy"))} == {
        "gradient_encoder", "gradient_generator"}  # fmt: skip
    for name in ("encoder", "generator"):
        network = getattr(built.family, name)  # gradients stay until the next step
        expected = torch.cat(
            [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        ).norm()
        assert float(row[f"gradient_{name}"]) == pytest.approx(float(expected), rel=1e-5)


def test_the_distance_of_average_and_live_weights_is_relative_to_the_live_ones() -> None:
    network = nn.Linear(2, 1, bias=True)
    nn.init.constant_(network.weight, 3.0)
    nn.init.constant_(network.bias, 0.0)
    made: Any = SimpleNamespace(generator=network, ema_networks=("generator",))
    ema = EMA(EmaConfig(), Progress(1, 1))
    ema.setup(None, made, "fit")  # type: ignore[arg-type]
    assert float(ema.distance(made)) == 0
    nn.init.constant_(network.bias, 4.0)
    nn.init.constant_(network.weight, 0.0)  # from (3, 3, 0) to (0, 0, 4)
    assert float(ema.distance(made)) == pytest.approx(math.sqrt(34) / 4)


def test_spread_is_the_mean_distance_of_pairs_and_with_labels_of_pairs_of_one_label() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])  # sides 5, 8, 5
    assert float(mean_pairwise_distance(points)) == pytest.approx(6)
    assert float(
        mean_pairwise_distance(points, rows_by_label(torch.tensor([1, 0, 1])))
    ) == pytest.approx(8)
    assert float(mean_pairwise_distance(points, rows_by_label(torch.tensor([1, 2, 0])))) == 0
    assert float(mean_pairwise_distance(points[:1])) == 0


def test_entropy_is_that_of_the_histogram_of_likeliest_classes() -> None:
    logits = torch.eye(4)[torch.tensor([0, 0, 1, 2])] * 3
    assert float(entropy(logits)) == pytest.approx(1.5 * math.log(2))
    assert float(entropy(logits[:2])) == 0


@pytest.mark.parametrize(("classes", "per_class"), [(10, 10), (26, 4), (300, 4)])
def test_health_batch_has_images_of_all_classes_up_to_limit(
    classes: int, per_class: int, sample: ArrayDataset
) -> None:
    labels = np.arange(len(sample.train_images)) % classes
    held_out_labels = np.arange(len(sample.test_images)) % classes
    decoded = replace(
        sample,
        spec=replace(sample.spec, classes=classes),
        train_labels=labels,
        test_labels=held_out_labels,
        class_names=(),
    )
    data = GANDataModule(decoded, DataConfig(), 0)
    batch = data.health_batch(by_class=True)
    assert batch.labels is not None
    found, counts = batch.labels.unique(return_counts=True)
    assert len(found) == min(classes, 100)
    assert counts.tolist() == [per_class] * len(found)
    assert found[-1] >= classes - 3
    train, validation = data.rated_batches()
    assert len(train.images) == len(validation.images) == 256
    if classes == 10:
        grid, _ = data.grid_batch(held_out=True, by_class=True)
        assert torch.equal(batch.images, grid.images)


def test_diversity_is_one_of_the_reals_themselves_nothing_of_one_image_and_linear_between() -> None:
    served = datasets.load(DataConfig(name="toy"), 0)
    batch, _ = served.grid_batch(held_out=True, by_class=False)
    watch = Diversity(1, batch, extractors.load("points"), False, 0, None, None)  # type: ignore[arg-type]
    reals = batch.images
    seen = {
        name: watch.measure(alert_scenarios.PictureFamily(images))
        for name, images in {  # type: ignore[arg-type]
            "same": reals,
            "half": 0.5 * reals,
            "one": reals[:1].expand_as(reals),
        }.items()
    }
    values = {
        name: {key: float(value) for key, value in found.items()} for name, found in seen.items()
    }
    assert values["same"] == pytest.approx(
        {"diversity": 1, "class_entropy": 1, "sample_distance": 0}, abs=0.01
    )
    assert values["half"]["diversity"] == pytest.approx(0.5)
    assert values["one"]["diversity"] == values["one"]["class_entropy"] == 0
    assert values["one"]["sample_distance"] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("is_memory", [True, False])
def test_only_out_of_memory_in_rate_reals_ends_training(is_memory: bool) -> None:
    """The other errors are those of a family that has to override it."""
    served = datasets.load(DataConfig(name="toy"), 0)
    batch, _ = served.grid_batch(held_out=True, by_class=False)
    error = torch.OutOfMemoryError("out of memory") if is_memory else TypeError("another argument")
    family: Any = alert_scenarios.PictureFamily(batch.images)
    family.rate_reals = Mock(side_effect=error)
    watch = Diversity(1, batch, extractors.load("points"), False, 0, None, None, (batch, batch))  # type: ignore[arg-type]
    with pytest.raises(torch.OutOfMemoryError) if is_memory else contextlib.nullcontext():
        watch.on_fit_start(None, family)  # type: ignore[arg-type]
    family.rate_reals.assert_called_once()
    assert (watch.rated is None) != is_memory


def raise_alerts(statistics: dict[str, float]) -> list[str]:
    """The alerts of three rows after the warm-up with these statistics of images."""
    rules = AlertRules()
    row = alert_scenarios.HEALTHY_NETWORKS | statistics
    return [kind for at in (5000, 5001, 5002) for kind, _ in rules.update(row, at)]


@pytest.mark.parametrize("pictures", [1, 2, 3, 4, 16, 32])
@pytest.mark.parametrize("by_class", [False, True])
def test_pictures_that_come_again_are_a_collapse_however_many_they_are(
    pictures: int, by_class: bool, data_root: Path
) -> None:
    served = datasets.load(DataConfig(root=str(data_root), source="sample"), 0)
    batch, _ = served.grid_batch(held_out=True, by_class=by_class)
    watch = Diversity(1, batch, extractors.load("digits"), by_class, 0, None, None)  # type: ignore[arg-type]
    n = len(batch.images)
    rows = (
        torch.arange(n)
        if not by_class
        else torch.arange(n) // 10 * 10 + torch.arange(n) % 10 % min(pictures, 5)
    )
    again = batch.images[rows if by_class else torch.arange(n) % pictures]
    seen = {
        name: float(value)
        for name, value in watch.measure(alert_scenarios.PictureFamily(again)).items()
    }  # type: ignore[arg-type]
    assert seen["nearest_other"] == pytest.approx(0, abs=1e-6)
    assert raise_alerts(seen) == ["collapse"]
    whole = {
        name: float(value)
        for name, value in watch.measure(alert_scenarios.PictureFamily(batch.images)).items()
    }  # type: ignore[arg-type]
    assert whole["nearest_other"] == pytest.approx(1)


def test_two_of_eight_modes_are_a_collapse() -> None:
    served = datasets.load(DataConfig(name="toy"), 0)
    batch, _ = served.grid_batch(held_out=True, by_class=False)
    watch = Diversity(1, batch, extractors.load("points"), False, 0, None, None)  # type: ignore[arg-type]
    assert batch.labels is not None
    two = batch.images[batch.labels < 2]
    seen = {
        name: float(value)
        for name, value in watch.measure(
            alert_scenarios.PictureFamily(two[torch.arange(len(batch.images)) % len(two)])
        ).items()
    }  # type: ignore[arg-type]
    assert raise_alerts(seen) == ["collapse"]


# --------------------------------------------------------------------------------------------------
# values that are no numbers


def test_groups_with_a_value_that_is_no_number_are_named() -> None:
    fine, bad = torch.tensor([1.0, 1e38]), torch.tensor([1.0, float("nan")])
    groups = {
        "a": [fine],
        "b": [fine, bad],
        "c": [torch.tensor(float("inf"))],
        "d": [torch.tensor(3)],
        "e": [],
    }
    assert not_finite(groups) == ["b", "c"]
    assert not_finite({}) == []


def test_a_guard_looks_where_something_is_due_and_at_averages_too() -> None:
    made, budget = family(), Progress(8, 100)
    ema = EMA(EmaConfig(), budget)
    ema.setup(None, made, "fit")  # type: ignore[arg-type]
    finite_check, trainer = FiniteCheck((80, 120), ema, budget), SimpleNamespace(world_size=1)
    with torch.no_grad():
        next(iter(ema.networks["generator"].parameters())).fill_(float("inf"))
    made.logged_scalars = {"loss_d": torch.tensor(float("nan")), "loss_g": torch.tensor(1.0)}
    for iteration in (1, 9, 11, 14, 16):
        budget.iteration = iteration
        finite_check.on_train_batch_end(trainer, made)  # type: ignore[arg-type]
    for iteration in (10, 15, 100):
        budget.iteration = iteration
        with pytest.raises(
            DivergedError, match=rf"EMA generator, loss_d not finite at iteration {iteration} "
        ):
            finite_check.on_train_batch_end(trainer, made)  # type: ignore[arg-type]


class Poison(Callback):
    """Makes a weight no number in one iteration of the first branches."""

    def __init__(self, iteration: int, branches: int) -> None:
        self.iteration, self.branches = iteration, branches

    def on_train_batch_start(self, trainer: Any, family: Family, *_: Any) -> None:
        if family.iteration == self.iteration and family.branch < self.branches:
            with torch.no_grad():
                next(iter(family.discriminator.parameters())).view(-1)[0] = float("nan")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_root: Path) -> Any:
    """Train gan so that iteration 14 of the first branches breaks; checkpoint at evaluations."""
    monkeypatch.setattr(checkpoint, "CHECKPOINT_INTERVAL_S", 1e9)
    monkeypatch.setattr(
        loop, "evaluate_all", lambda *_: None
    )  # of the end: scores and the page are tested elsewhere
    monkeypatch.setattr(
        loop.report.run_page,
        "write",
        lambda folders: (folders[0] / "report.html").write_text("drawn"),
    )
    real = loop.build

    def trained(name: str, branches: int, *words: str, stop_at: int = 0) -> Path:
        def build(*args: Any, **options: Any) -> Any:
            extra: list[Callback] = [Poison(13, branches)]
            if stop_at:
                extra.append(StopAt(stop_at))
            return real(*args, **options, extra=extra)

        monkeypatch.setattr(loop, "build", build)
        given = small("gan", tmp_path, data_root, "run.images=480", "run.evaluate_every_images=160",
                      "log.log_every_images=80", "metrics.num_fakes=64", "metrics.num_reals=64",
                      "metrics.allow_small_n=true", f"run.id={name}", *words)  # fmt: skip
        with contextlib.suppress(Stopped):
            loop.train(loading.load("gan", given), given)
        return tmp_path / "gan" / name

    return trained


class Stopped(Exception):  # noqa: N818
    """The end of a process that is killed."""


class StopAt(Callback):
    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def on_train_batch_start(self, trainer: Any, family: Family, *_: Any) -> None:
        if family.iteration == self.iteration and family.branch:
            raise Stopped


def lines(folder: Path) -> list[dict[str, str]]:
    return rows_of(folder / "health.csv")


@pytest.mark.filterwarnings("ignore:diverged at", "ignore:rollback at")
def test_a_run_that_breaks_says_which_value_and_where_and_keeps_no_broken_weight(
    poisoned: Any, tmp_path: Path
) -> None:
    words = (
        r"diverged: .*discriminator.* not finite at iteration 15 \(240 images\); "
        r"the last good checkpoint is .*"
    )
    for _ in range(2):  # and again, if it is started again
        with pytest.raises(
            ValueError, match=words + r"iteration-00000010\.ckpt\. Try .*health\.on_nan=rollback"
        ):
            poisoned("stop", 9)
        folder = tmp_path / "gan" / "stop"
        assert [(line["kind"], line["iteration"]) for line in lines(folder)] == [("diverged", "15")]
        (folder / "report.html").unlink()  # which is drawn of such a run too
    for path in (folder / "checkpoints").glob("*.ckpt"):
        weights = read_checkpoint(path)["state_dict"]
        assert all(torch.isfinite(weight).all() for weight in weights.values()), path
    with pytest.raises(
        ValueError, match=r"not finite at iteration 15 .* after 3 rollbacks; the last good"
    ):
        poisoned("stop", 9, "health.on_nan=rollback")
    assert [line["kind"] for line in lines(folder)] == ["diverged", "rollback"] * 3 + ["diverged"]


@pytest.mark.filterwarnings("ignore:diverged at", "ignore:rollback at")
def test_a_run_goes_back_and_on_with_other_numbers_and_can_be_killed_there(poisoned: Any) -> None:
    whole = poisoned("whole", 2, "health.on_nan=rollback")
    killed = poisoned("killed", 2, "health.on_nan=rollback", stop_at=25)
    assert not (killed / "summary.json").exists()
    poisoned(
        "killed", 2, "health.on_nan=rollback"
    )  # from its checkpoint of branch 2, where nothing strikes
    plain = poisoned("plain", 0)
    ends = {name: read_checkpoint(folder / "checkpoints" / "last.ckpt") for name, folder in
            {"whole": whole, "killed": killed, "plain": plain}.items()}  # fmt: skip
    assert (ends["whole"]["branch"], ends["killed"]["branch"], ends["plain"]["branch"]) == (2, 2, 0)
    a, b, c = (ends[name]["state_dict"] for name in ("whole", "killed", "plain"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not any(torch.equal(a[name], c[name]) for name in a if name.endswith("weight"))
    for name in ("metrics.csv", "health.csv"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
    assert [(line["kind"], line["iteration"]) for line in lines(whole)] == [
        ("diverged", "15"),
        ("rollback", "15"),
    ] * 2
    assert read_summary(whole)["health"][1]["sentence"] == lines(whole)[1]["sentence"]
    assert lines(whole)[1]["sentence"].startswith(
        "Rolled back to iteration 10 with a new random seed (rollback 1 of 3"
    )
    assert lines(plain) == read_summary(plain)["health"] == []


@pytest.mark.slow
def test_two_processes_go_back_together_and_give_up_together(
    tmp_path: Path, data_root: Path
) -> None:
    """With a learning rate that no training bears; none of the processes waits for the other."""
    words = small("gan", tmp_path, data_root, "run.images=160", "run.id=pair", "run.devices=2",
                  "model.lr_d=1e30", "log.log_every_images=80",
                  "health.on_nan=rollback")  # fmt: skip
    assert processes.train("gan", words, tmp_path / "log", world=2) == 1
    said = (tmp_path / "log").read_text()
    assert "UserError: diverged: generator, discriminator, EMA generator" in said
    assert "after 3 rollbacks; the last good checkpoint is" in said
    assert [line["kind"] for line in lines(tmp_path / "gan" / "pair")] == [
        "diverged",
        "rollback",
    ] * 3 + ["diverged"]


def test_another_branch_draws_and_reads_other_numbers() -> None:
    assert branch_seed(7, 0) == 7
    assert len({branch_seed(seed, branch) for seed in (0, 1) for branch in range(4)}) == 8
    made, like = family(), torch.zeros(1)
    made._trainer = SimpleNamespace(world_size=1, global_rank=0)
    made._fabric = None
    draws = []
    for made.branch in (0, 1, 2):
        draws.append(made.stream("latent d").normal(3, like=like))
    assert torch.equal(draws[0], Stream(0, "latent d").normal(3, like=like))
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_being_watched_leaves_the_training_bit_equal(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, words = "wgan", ("run.images=320", "log.log_every_images=16")
    watched, _ = fit(name, tmp_path / "watched", data_root, *words)
    for module, hook in ((Diversity, "on_train_batch_end"), (FiniteCheck, "on_train_batch_end"),
                         (health.Health, "on_train_batch_end"), (Family, "log_discriminator"),
                         (Family, "_record_gradient_norms")):  # fmt: skip
        monkeypatch.setattr(module, hook, lambda *_: None)
    alone, _ = fit(name, tmp_path / "alone", data_root, *words)
    a, b = watched.family.state_dict(), alone.family.state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    columns = set(rows_of(tmp_path / "alone" / name / "metrics.csv")[0])
    assert not {"diversity", "nearest_other", "d_real", "gradient_generator"} & columns


def test_a_finding_goes_to_the_console_the_file_and_the_tracker(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    wandb_logger = WandbLogger("offline", tmp_path, "gan", "id", {})
    wandb_logger.run = SimpleNamespace(alert=lambda **said: told.append(said))
    record: Any = SimpleNamespace(latest={})
    budget, trainer = Progress(10, 10**6), SimpleNamespace(is_global_zero=True)
    watched = health.Health(tmp_path, budget, record, [wandb_logger])
    watched.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert (tmp_path / "health.csv").read_text() == "kind,iteration,images,sentence\n"

    def six_rows() -> None:
        for budget.iteration in range(4998, 5004):
            record.latest = (
                alert_scenarios.HEALTHY_NETWORKS
                | alert_scenarios.HEALTHY_IMAGES
                | {"diversity": 0.0}
            )
            for _ in range(2):  # a row is read once
                watched.on_train_batch_end(trainer, None)  # type: ignore[arg-type]

    with pytest.warns(UserWarning, match=r"^collapse at 50,000 images: mode collapse"):
        six_rows()
    (line,) = lines(tmp_path)
    assert (
        "(diversity 0.00, nearest other 1.10, class entropy 0.95, class diversity 0.80, "
        "repeats 0.00 relative to real images)" in line["sentence"]
    )
    assert (line["kind"], line["iteration"], line["images"]) == ("collapse", "5000", "50000")
    assert told == [{"title": "collapse", "text": f"50,000 images: {line['sentence']}"}]
    again = health.Health(tmp_path, budget, record)
    again.load_state_dict(json.loads(json.dumps(watched.state_dict())))
    (tmp_path / "health.csv").write_text("rows after the checkpoint")
    again.on_train_start(trainer, None)  # type: ignore[arg-type]
    assert lines(tmp_path) == [line]


def test_a_row_with_a_value_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    record: Any = SimpleNamespace(
        latest=alert_scenarios.HEALTHY_NETWORKS
        | alert_scenarios.HEALTHY_IMAGES
        | {"loss_d": float("inf")}
    )
    watched = health.Health(tmp_path, Progress(1, 9), record)
    with pytest.raises(DivergedError, match="diverged: loss_d not finite at iteration 0"):
        watched.on_train_batch_end(SimpleNamespace(is_global_zero=True), None)  # type: ignore[arg-type]
