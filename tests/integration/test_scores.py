"""Model selection and reporting: validation and test sets, baselines, other protocols."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from gan_lab.config import loading
from gan_lab.config.schema import MetricsConfig
from gan_lab.images import ImageSpec
from gan_lab.metrics.base import Setting
from gan_lab.metrics.extractors.digits import Digits
from gan_lab.metrics.feature_scores import FeatureScores
from gan_lab.runs.results import read_summary
from gan_lab.training import loop
from gan_lab.training.final_evaluation import evaluate, log_inception_cost, score
from tests.helpers.families import small
from tests.helpers.logs import logged


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A short training of sgan, whose classifier and whose baseline are evaluated four times."""
    words = small("sgan", tmp_path_factory.mktemp("runs"), data_root, "run.images=1280",
                  "run.evaluate_every_images=320", "data.labels_per_class=2",
                  "metrics.num_reals=null", "metrics.num_fakes=64", "run.id=r",
                  "ema.half_life_images=100")  # fmt: skip
    loaded = loading.load("sgan", words)
    assert loop.train(loaded, words) == 0
    return Path(loaded.config.run.root) / "sgan" / "r"


def curve(run: Path, score: str) -> dict[int, float]:
    """The values of a score on validation, by iteration."""
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    column = rows[0].index(score)
    return {int(row[0]): float(row[column]) for row in rows[1:] if row[column]}


def entry(run: Path, score: str, weights: str = "best") -> dict[str, Any]:
    found: dict[str, Any] = read_summary(run)["scores"][weights][score]
    return found


def test_validation_chooses_and_test_reports(run: Path) -> None:
    state = read_summary(run)
    assert (state["headline"], state["validation_split"]) == ("accuracy", "validation")
    said = entry(run, "accuracy")["protocol"]
    assert (said["split"], said["chosen_on"], said["reals"]) == ("test", "validation", 650)
    values = curve(run, "accuracy")
    assert values[state["best_iteration"]] == max(values.values())
    assert f", {state['best_iteration']}" in said["weights"]
    for weights in ("last", "raw"):
        assert entry(run, "accuracy", weights)["protocol"]["chosen_on"] == "none"


def test_a_yardstick_is_read_at_its_own_best(run: Path) -> None:
    values = curve(run, "baseline_accuracy")
    first = min(iteration for iteration, value in values.items() if value == max(values.values()))
    assert (
        entry(run, "baseline_accuracy")["protocol"]["weights"]
        == f"best: its own best iteration, {first}"
    )
    assert entry(run, "baseline_accuracy")["higher_is_better"] is None
    assert (run / "checkpoints" / "best-baseline_accuracy.ckpt").is_file()


def test_evaluate_by_another_protocol_keeps_the_first(run: Path) -> None:
    before = json.loads(json.dumps(read_summary(run)["scores"]["best"]))
    evaluate(
        run,
        "best",
        [
            "metrics.split=train",
            "metrics.num_fakes=128",
            "metrics.num_reals=90",
            "metrics.extractors=[random]",
        ],
    )
    said = entry(run, "fd_random")["protocol"]
    assert (said["split"], said["fakes"], said["reals"], said["chosen_on"]) == (
        "train",
        128,
        90,
        "validation",
    )
    assert entry(run, "fd_digits") == before["fd_digits"]
    evaluate(
        run, "best", ["metrics=fid50k_full", "metrics.num_fakes=64", "metrics.extractors=[random]"]
    )
    said = entry(run, "fd_random")["protocol"]
    assert (said["split"], said["reals"], said["fakes"]) == ("train", 3700, 64)
    with pytest.raises(
        ValueError,
        match=r"run: run\.seed=2\. Override only data\.root, .* and keys under metrics",
    ):
        evaluate(run, "best", ["run.seed=2"])
    with pytest.raises(ValueError, match=r"run: budget=smoke\. Override only"):
        evaluate(run, "best", ["budget=smoke"])
    with pytest.raises(
        ValueError, match=r"weights=newest is not valid\. Choose one of best, last, raw"
    ):
        evaluate(run, "newest")


def test_the_literatures_protocol_is_a_group() -> None:
    config = loading.load("dcgan", ["metrics=fid50k_full"]).config
    assert (config.metrics.num_fakes, config.metrics.num_reals, config.metrics.split) == (
        50_000,
        None,
        "train",
    )


def test_inception_on_cpu_announces_its_time_and_how_to_skip_it() -> None:
    class Slow(Digits):
        name = "inception"

        def __call__(self, pixels: Any) -> Any:
            time.sleep(0.04)
            return super().__call__(pixels)

    setting = Setting(ImageSpec(1, 28, 28), MetricsConfig(), reals=1000, fakes=4000)
    metrics = [FeatureScores(Slow(), False, 100, True)]
    with logged() as lines:
        log_inception_cost(metrics, setting, torch.device("cpu"))
        log_inception_cost(metrics, setting, torch.device("cuda"))
    (line,) = lines
    minutes = re.search(r"of 4,000 fakes and 1,000 reals: about (\d+) min on this CPU", line)
    assert minutes is not None
    assert 1 <= int(minutes[1]) <= 60  # 9,000 images at 10 ms and more
    assert "metrics.inception_weights=off" in line


def test_a_frechet_distance_near_its_floor_says_so(run: Path) -> None:
    """After 80 iterations of sgan it is far above that of real images, and of the mean image."""
    found = entry(run, "fd_digits")
    assert found["protocol"]["floor"] < found["value"] / 10
    assert found["value"] > entry(run, "fd_digits_of_mean_image")["value"]
    assert found["note"].startswith("no better than the mean of the training images")

    class Evaluated:
        bar = False
        metrics = (FeatureScores(Digits(), False, 100, False),)
        higher_is_better: ClassVar = {"fd_digits": False}
        setting = Setting(ImageSpec(1, 28, 28), MetricsConfig())

        def __call__(self, family: Any) -> dict[str, float]:
            return {"fd_digits": 2.0}

        def compute_references(self, device: Any) -> dict[str, float]:
            return {"fd_digits": 0.5}

        def compute_full_references(self, device: Any) -> dict[str, float]:
            return {}

        def compute_trivial_scores(self, device: Any) -> dict[str, float]:
            return {}

        def baselines(self) -> dict[str, float]:
            return {}

        def protocol(self, *_: str) -> dict[str, Any]:
            return {}

    (near,) = score(Evaluated(), SimpleNamespace(device="cpu"), "best", "validation").values()  # type: ignore[arg-type]
    assert near["note"].startswith("the real-vs-real score is 0.5, more than 10% of this value")
    assert near["protocol"]["floor"] == 0.5
