"""EMA, best checkpoint, intervals, and trackers that fail."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from gan_lab.config import loading
from gan_lab.config.schema import EmaConfig
from gan_lab.metrics.base import Metric
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from gan_lab.training.callbacks import checkpoint, wandb_logger
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from tests.helpers.families import small


def family_of(value: float) -> Any:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    network.register_buffer("running_mean", torch.tensor([value]))
    network.register_buffer("num_batches_tracked", torch.tensor(3))
    return SimpleNamespace(generator=network, ema_networks=("generator",), iteration=0)


def test_ema_halves_its_distance_in_half_life() -> None:
    """The EMA halves its distance to constant weights within a half-life."""
    family, budget = family_of(1.0), Progress(batch_size=10, iterations=100)
    ema = EMA(EmaConfig(half_life_images=50.0, ramp=1e9), budget)
    ema.setup(None, family, "fit")  # type: ignore[arg-type]
    nn.init.constant_(family.generator.weight, 0.0)
    family.generator.running_mean.zero_()
    family.generator.num_batches_tracked.fill_(7)
    for iteration in range(1, 11):  # 100 images: two half-lives
        budget.iteration = iteration
        ema.on_train_batch_end(None, family)  # type: ignore[arg-type]
    average = ema.networks["generator"]
    assert average.weight.item() == pytest.approx(0.25, rel=1e-6)
    assert average.running_mean.item() == pytest.approx(0.25, rel=1e-6)  # type: ignore[union-attr,operator]
    assert average.num_batches_tracked.item() == 7  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(("save_seconds", "interval"), [(0.1, 30), (3, 60)])
def test_checkpoint_interval_follows_cost_of_save(
    save_seconds: float, interval: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 30 seconds, but no more than a twentieth of the time goes into saving."""
    now = 0.0
    saved: list[float] = []

    def save(path: Path) -> None:
        nonlocal now
        now += save_seconds
        saved.append(now)

    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    trainer: Any = SimpleNamespace(world_size=1, save_checkpoint=save, is_global_zero=False)
    progress = SimpleNamespace(iteration=1, spent=False)
    evaluation = SimpleNamespace(evaluated=False, improved=False, own_best=[])
    callback = checkpoint.Checkpoint(tmp_path, progress, evaluation, MagicMock())  # type: ignore[arg-type]
    # the first ones come after 2, 4, 8 and 16 seconds
    while now < 300:
        now += 1
        callback.on_train_batch_end(trainer, MagicMock())
    assert saved[-1] - saved[-2] == pytest.approx(interval + save_seconds, abs=1.01)


def test_ema_half_life_is_limited_by_ramp() -> None:
    """The half-life is limited to a fraction of the images seen; 0 copies the weights."""
    for cfg, expected in ((EmaConfig(1e9, ramp=0.5), 0.5 ** (10 / 5)), (EmaConfig(0.0), 0.0)):
        family, budget = family_of(1.0), Progress(batch_size=10, iterations=100)
        ema = EMA(cfg, budget)
        ema.setup(None, family, "fit")  # type: ignore[arg-type]
        nn.init.constant_(family.generator.weight, 0.0)
        budget.iteration = 1
        ema.on_train_batch_end(None, family)  # type: ignore[arg-type]
        assert ema.networks["generator"].weight.item() == pytest.approx(expected)


def test_ema_applied_restores_weights_after_error() -> None:
    """The EMA networks are applied inside the context and removed after an error."""
    family, ema = family_of(1.0), EMA(EmaConfig(), Progress(1, 1))
    ema.setup(None, family, "fit")  # type: ignore[arg-type]
    live = family.generator
    with ema.applied(family):
        assert family.generator is ema.networks["generator"]
        assert not family.generator.training
    with pytest.raises(ZeroDivisionError), ema.applied(family):
        1 / 0  # noqa: B018
    assert family.generator is live
    assert live.training


@pytest.mark.parametrize(("headline", "best"), [("fd_digits", 3.0), ("label_accuracy", 7.0)])
def test_best_follows_direction_of_score(headline: str, best: float) -> None:
    """The best evaluation has the lowest distance or the highest share."""
    budget = Progress(batch_size=1, iterations=3)
    values = iter([5.0, 3.0, 7.0])
    ema = EMA(EmaConfig(), budget)
    evaluator: Any = MagicMock(side_effect=lambda family: {headline: next(values)})
    evaluator.higher_is_better = {headline: headline != "fd_digits"}
    evaluation = Evaluation(evaluator, headline, 1, ema, budget)
    for iteration in (1, 2, 3):
        budget.iteration = iteration
        evaluation.on_train_batch_end(None, family_of(0.0))  # type: ignore[arg-type]
        assert evaluation.evaluated
    assert evaluation.best == {headline: best}
    assert evaluation.best_at == {3.0: 2, 7.0: 3}[best]


@pytest.mark.parametrize(
    ("rows", "best_at"),
    [
        ([(8.0, 0.5), (8.0, 0.7), (8.0, 0.6)], 2),
        ([(8.0, 0.5), (8.0, 0.5), (7.0, 0.9)], 2),
        ([(8.0, 0.5), (math.nan, 0.9), (8.0, 0.4)], 1),
        ([(math.nan, 0.5), (2.0, 0.1), (1.0, 0.9)], 2),
    ],
    ids=["next score", "later", "then NaN", "first NaN"],
)
def test_equal_headlines_are_decided_by_next_score(
    rows: list[tuple[float, float]], best_at: int
) -> None:
    """Of evaluations with all modes the sharpest is the best, then the last; NaN never is."""
    progress = Progress(batch_size=1, iterations=3)
    values = iter(rows)
    evaluator: Any = MagicMock(
        side_effect=lambda family: dict(zip(("modes", "sharpness"), next(values), strict=True))
    )
    evaluator.higher_is_better = {"modes": True, "sharpness": True}
    ema = EMA(EmaConfig(), progress)
    evaluation = Evaluation(evaluator, "modes", 1, ema, progress)
    for iteration in (1, 2, 3):
        progress.iteration = iteration
        evaluation.on_train_batch_end(None, family_of(0.0))  # type: ignore[arg-type]
    assert evaluation.best_at == best_at


class Undirected(Metric):
    """A score of which more is neither better nor worse."""

    higher_is_better: ClassVar = {"swd": None}

    def update_fake(self, outputs: dict[str, Any], batch: Any) -> dict[str, torch.Tensor]:
        return {"rows": outputs["generated"].flatten(1)}

    def compute(self, real: Any, fake: Any) -> dict[str, float]:
        return {"swd": 1.0}

    def protocol(self, score: str, n: int) -> dict[str, Any]:
        return {"extractor": "none"}


def test_headline_without_direction_is_refused(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score without a direction cannot select a checkpoint."""
    monkeypatch.setattr("gan_lab.metrics.evaluator.select_metrics", lambda _: [Undirected()])
    loaded = loading.load("gan", small("gan", tmp_path, data_root, "run.id=x"))
    with pytest.raises(ValueError, match="headline=swd"):
        builder.build(*builder.load_data(loaded.config), RunFolder(tmp_path / "x"))


def test_interval_is_crossed_once_per_multiple() -> None:
    """An interval is crossed once per multiple for any batch size."""
    for batch in (1, 7, 64, 100, 250):
        budget = Progress(batch, 1000)
        has_crossed = 0
        for iteration in range(1, 1000):
            budget.iteration = iteration
            has_crossed += budget.has_crossed(250)
        assert has_crossed == budget.images // 250


def test_failing_tracker_warns_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing tracker is one warning."""
    broken = wandb_logger.WandbLogger("offline", tmp_path, "gan", "id", {})
    monkeypatch.setattr(
        broken, "_init", lambda mode: (_ for _ in ()).throw(RuntimeError("no service"))
    )
    with pytest.warns(UserWarning, match="W&B disabled for the rest of this run: no service"):
        broken.start(0)
    broken.log({"images": 1.0})
    broken.run = SimpleNamespace(log=lambda row: 1 / 0)
    with pytest.warns(UserWarning, match="division by zero"):
        broken.log({"images": 2.0})
    broken.log({"images": 3.0})
    broken.finish()


def test_unreachable_host_logs_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server does not respond, W&B logs offline."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    chosen: list[str] = []
    online = wandb_logger.WandbLogger("online", tmp_path, "gan", "id", {})
    monkeypatch.setattr(online, "_init", chosen.append)
    with pytest.warns(UserWarning, match="does not respond: logging to W&B offline"):
        online.start(0)
    assert chosen == ["offline"]
