"""Tables: every file of them can be trained, what is trained, and how it is drawn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from gan_lab import benchmark
from gan_lab import data as datasets
from gan_lab.config import loading, plain_yaml
from gan_lab.metrics.evaluator import build_setting
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.alert import Alert
from gan_lab.runs.results import WEIGHTS
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder, to_dict
from gan_lab.training.builder import build_family
from gan_lab.training.callbacks import health
from gan_lab.utils.errors import UserError
from tests.helpers.logs import logged

TABLES = sorted(path.stem for path in (loading.config_folder() / "tables").glob("*.yaml"))
# the stored text of a protocol
REQUESTED = "as asked for"
ROWS = [(name, row) for name in TABLES for row in benchmark.load(name).rows]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_table_rows_can_be_built_and_have_the_ranking_score(
    name: str, row: str, data_root: Path, sample: Any
) -> None:
    made = benchmark.load(name)
    experiment, *own = row.split()
    loaded = loading.load(experiment, [*own, *made.words, f"data.root={data_root}"]).config
    data = datasets.load(loaded.data, loaded.run.seed)
    family = build_family(loaded, data)
    offered = {
        score
        for metric in select_metrics(build_setting(loaded, family, data))
        for score in metric.names
    }
    assert made.scores[0] in offered
    assert loaded.metrics.headline in offered


@pytest.mark.parametrize(
    ("sentence", "is_new", "diverged"),
    [
        ("NaN or Inf in weights. Try lower learning rates", True, True),
        ("NaN or Inf in weights. Try lower learning rates", False, False),
        ("exploding gradient: the generator gradient norm is 1e+06", True, False),
    ],
)
def test_train_once_reports_divergence_of_this_training_only(
    sentence: str, is_new: bool, diverged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other failures, after alerts of an earlier attempt or of large gradients, stay errors."""
    command = ["ring", f"run.root={tmp_path}"]
    folder = RunFolder.of(loading.load(command[0], command[1:])).path
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()

    def write_alerts(*_: object) -> int:
        alerts = [Alert("diverged", 40, 2560, sentence)]
        (folder / "health.csv").write_text(health.format_csv(alerts))
        return 2

    if not is_new:
        write_alerts()
    monkeypatch.setattr(benchmark.process, "run", write_alerts if is_new else lambda _: 2)
    with pytest.raises(UserError, match="failed with exit code 2") as error:
        benchmark.train_once(command)
    assert isinstance(error.value, benchmark.TrainingDivergedError) == diverged


@pytest.mark.parametrize("name", TABLES)
def test_table_columns_have_a_row_each_and_rows_are_distinct(
    name: str, data_root: Path, sample: Any
) -> None:
    made = benchmark.load(name)
    offered: set[str] = set()
    for row in made.rows:
        loaded = loading.load(
            row.split()[0], [*row.split()[1:], *made.words, f"data.root={data_root}"]
        ).config
        family = loading.family_class(loaded.family)
        setting = build_setting(loaded, family, datasets.load(loaded.data, loaded.run.seed))
        offered |= {score for metric in select_metrics(setting) for score in metric.names}
    assert set(made.scores) <= offered
    assert len(set(made.rows)) == len(made.rows)
    assert made.seeds >= 1


def test_an_unknown_table_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"unknown table 'famlies'\. Did you mean 'families'\? Available: families"
    ):
        benchmark.load("famlies")


@pytest.mark.parametrize(
    "text", ["rows: [gan]\nscore: [fd_digits]\n", "seeds: many\n", "rows: [\n"]
)
def test_a_table_that_is_not_as_it_should_be_is_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.yaml").write_text(text)
    monkeypatch.setattr(loading, "config_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"mine\.yaml: ") as raised:
        benchmark.load("mine")
    assert len(str(raised.value).splitlines()) == 1


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each training that was started; a training writes its summary at once."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> int:
        assert command[1:4] == ["-m", "gan_lab", "train"]
        experiment, *words = command[4:]
        commands.append(command[4:])
        loaded = loading.load(experiment, words)
        folder = RunFolder.of(loaded).path
        RunFolder(folder).prepare(loaded.config, words)
        state = {
            "iteration": loaded.config.iterations,
            "scores": {weights: {} for weights in WEIGHTS},
        }
        (folder / "summary.json").write_text(json.dumps(state))
        (folder / "report.html").touch()
        return 0

    monkeypatch.setattr(benchmark.process, "run", run)
    return commands


def two_rows(**more: Any) -> benchmark.Table:
    return benchmark.Table(
        rows=["gan", "gan model.dropout=0.3"],
        words=["run.images=640"],
        scores=["fd_digits"],
        **more,
    )


def test_benchmark_trains_each_row_and_seed_with_last_overrides(
    tmp_path: Path, trained: list[list[str]]
) -> None:
    root = f"run.root={tmp_path}"
    rows = benchmark.train(two_rows(seeds=2), [root, "run.images=64"])
    common = ["run.images=640", root, "run.images=64"]
    assert trained == [
        ["gan", *common, "run.seed=0"],
        ["gan", *common, "run.seed=1"],
        ["gan", "model.dropout=0.3", *common, "run.seed=0"],
        ["gan", "model.dropout=0.3", *common, "run.seed=1"],
    ]
    assert [row for row, _ in rows] == ["gan", "gan model.dropout=0.3"]
    runs = [run for _, mine in rows for run in mine]
    assert len({run.path for run in runs}) == 4
    assert all((run.path / "summary.json").is_file() for run in runs)
    assert [run.config.model.dropout for run in runs] == [0, 0, 0.3, 0.3]
    assert {run.config.run.images for run in runs} == {64}


def test_what_is_trained_already_is_not_trained_again(
    tmp_path: Path, trained: list[list[str]]
) -> None:
    words = [f"run.root={tmp_path}"]
    first = [run.path for _, runs in benchmark.train(two_rows(), words) for run in runs]
    assert len(trained) == 2
    again = benchmark.train(two_rows(), words)
    assert [run.path for _, runs in again for run in runs] == first
    assert len(trained) == 2
    for name in (
        "summary.json",
        "report.html",
    ):  # as if it had been interrupted before it was written
        del trained[2:]
        (first[1] / name).unlink()
        with logged() as said:
            benchmark.train(two_rows(), words)
        assert trained[2:] == [trained[1]]
        assert said == [f"2 of 2: {' '.join(trained[1])}"]
    benchmark.train(two_rows(), [*words, "run.images=1280"])  # a larger budget resumes
    assert len(trained) == 5


def test_benchmark_override_unknown_to_a_row_is_refused_first(
    tmp_path: Path, trained: list[list[str]]
) -> None:
    mixed = benchmark.Table(rows=["gan", "wgan_gp"], scores=["fd_digits"])
    with pytest.raises(ValueError, match=r"Key 'model\.loss' not in 'WGANGPConfig'"):
        benchmark.train(mixed, [f"run.root={tmp_path}", "model.loss=hinge"])
    assert not trained


def test_benchmark_rows_of_one_folder_are_refused_first(
    tmp_path: Path, trained: list[list[str]]
) -> None:
    with pytest.raises(
        ValueError, match=r"each row and seed of a table needs its own folder\. Remove run\.id"
    ):
        benchmark.train(two_rows(), [f"run.root={tmp_path}", "run.id=mine"])
    assert not trained


def test_a_training_that_fails_ends_the_table_and_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run.root={tmp_path}"]
    monkeypatch.setattr(benchmark.process, "run", lambda command: 2)
    with pytest.raises(
        ValueError,
        match=r"'gan-lab train gan run\.images=640 .*run\.seed=0' failed with exit code 2",
    ):
        benchmark.train(two_rows(), words)
    for signalled in (130, 143):
        monkeypatch.setattr(benchmark.process, "run", lambda command, code=signalled: code)
        with pytest.raises(SystemExit) as exit_:
            benchmark.train(two_rows(), words)
        assert exit_.value.code == signalled


def summaries(
    root: Path, rows: dict[str, list[dict[str, float]]], reals: int = 1000, **more: Any
) -> list[tuple[str, list[Run]]]:
    """Rows of finished runs with these scores, one dictionary for each seed."""
    protocol = {"extractor": "digits", "reals": reals, "fakes": reals, "data": "mnist-sample",
                "fingerprint": "f", "split": "held out", "weights": "ema best, iteration 7",
                **more}  # fmt: skip
    made = []
    for row, seeds in rows.items():
        folders = [root / f"{row}{seed}" for seed in range(len(seeds))]
        for folder, scores in zip(folders, seeds, strict=True):
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(
                plain_yaml.write(to_dict(loading.load("wgan", ["run.images=6400"]).config))
            )
            (folder / "timing.csv").write_text(
                "iteration,images,unix_time,images_per_s\n200,6400,1000,64\n"
            )
            best = {
                name: {
                    "value": value,
                    "higher_is_better": not name.startswith("fd_"),
                    "protocol": protocol,
                }
                for name, value in scores.items()
            }
            state = {"scores": {"best": best}}
            (folder / "summary.json").write_text(json.dumps(state))
        made.append((row, [Run(folder) for folder in folders]))
    return made


def cells(drawn: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in drawn.splitlines()]


def test_table_has_best_row_on_top_with_mean_and_spread(tmp_path: Path) -> None:
    rows = summaries(tmp_path, {
        "far": [{"fd_digits": 30.0}], "near": [{"fd_digits": 3.0, "label_accuracy": 0.5}],
        "two": [{"fd_digits": 4.0}, {"fd_digits": 8.0}],
    })  # fmt: skip
    distance = benchmark.Table(scores=["fd_digits", "label_accuracy"])
    assert cells(benchmark.render(distance, rows)) == [
        ["EXP", "fd_digits", "label_accuracy", "generator steps", "seconds"],
        ["---"] * 5,
        ["`near`", "3", "0.5", "40", "100"],  # 200 iterations, of which every fifth moves it
        ["`two`", f"6 ± {math.sqrt(8):.2g}", "", "40", "100"],
        ["`far`", "30", "", "40", "100"],
    ]


def test_table_marks_best_and_ends_with_scores_of_real_images(tmp_path: Path) -> None:
    rows = summaries(
        tmp_path / "1",
        {"given": [{"fd_digits": 1.0 + i / 10} for i in range(3)]},
        floor=0.25,
        floor_classes=REQUESTED,
    )
    rows += summaries(
        tmp_path / "2",
        {"free": [{"fd_digits": 9.0 + i / 10} for i in range(3)]},
        floor=0.38,
        floor_classes="at random",
    )
    drawn = cells(benchmark.render(benchmark.Table(scores=["fd_digits"]), rows))
    assert [row[:2] for row in drawn[2:]] == [
        ["`given`", "**1.1 ± 0.1**"], ["`free`", "9.1 ± 0.1"],
        [f"real images, classes {REQUESTED}", "0.25"], ["real images, classes at random", "0.38"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", [path.stem for path in (loading.config_folder() / "tables").glob("*.yaml")]
)
def test_table_rows_have_equal_evaluations_and_ranking_seeds(name: str) -> None:
    table = benchmark.load(name)
    configs = [
        loading.load(row.split()[0], [*row.split()[1:], *table.words]).config for row in table.rows
    ]
    assert len({(config.run.evaluate_every_images, config.run.images) for config in configs}) == 1
    assert table.seeds >= 3


@pytest.mark.parametrize(
    ("score", "order"), [("digit_score", ["b", "a", "none"]), ("fd_digits", ["a", "b", "none"])]
)
def test_table_row_without_first_score_comes_last(
    score: str, order: list[str], tmp_path: Path
) -> None:
    rows = summaries(tmp_path, {"none": [{"other": 1.0}], "a": [{score: 2.0}], "b": [{score: 9.0}]})
    drawn = cells(benchmark.render(benchmark.Table(scores=[score]), rows))
    assert [row[0].strip("`") for row in drawn[2:]] == order


def test_runs_of_different_protocols_are_not_compared(tmp_path: Path) -> None:
    rows = summaries(tmp_path / "1", {"a": [{"fd_digits": 2.0}]})
    rows += summaries(tmp_path / "2", {"b": [{"fd_digits": 3.0}]}, reals=500)
    with pytest.raises(
        ValueError,
        match=r"fd_digits has different protocols: .*reals=1000.*; .*reals=500",
    ):
        benchmark.render(benchmark.Table(scores=["fd_digits"]), rows)
