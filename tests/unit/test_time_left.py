"""Time left, and the lines of long computations, on a clock that the tests set."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from gan_lab import cli
from gan_lab.training.callbacks import time_left
from gan_lab.training.callbacks.evaluation import Evaluation
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.callbacks.time_left import TimeLeft
from gan_lab.utils import track
from tests.helpers.folders import run_folder


class Clock:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
        self.now = 1000.0
        for module in modules:
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


def evaluation_of(progress: Progress, every: int) -> Evaluation:
    evaluator: Any = SimpleNamespace(setting=SimpleNamespace(fakes=100), metrics=[1])
    return Evaluation(evaluator, "fd", every, None, progress)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("batch", "iterations", "every"), [(10, 20, 50), (10, 23, 50), (64, 5, 20)]
)
def test_count_remaining_agrees_with_evaluations(batch: int, iterations: int, every: int) -> None:
    """At each iteration, the evaluations that follow are counted, the last one included."""
    progress = Progress(batch, iterations)
    evaluation = evaluation_of(progress, every)
    evaluated = []
    for iteration in range(1, iterations + 1):
        progress.iteration = iteration
        evaluated.append(progress.has_crossed(every) or progress.spent)
    for iteration in range(iterations + 1):
        progress.iteration = iteration
        assert evaluation.count_remaining() == sum(evaluated[iteration:])


def test_time_left_includes_evaluations_and_final_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate of a training at constant speed is exact, from the first iterations on."""
    clock = Clock(monkeypatch, time_left)
    progress = Progress(10, 1000)
    evaluation = evaluation_of(progress, 2_000)
    left = TimeLeft(progress, evaluation, final_fakes=250)
    left.start()
    assert str(left) == ""
    for iteration in range(1, 1001):
        clock.now += 0.1
        progress.iteration = iteration
        if iteration == 10:
            assert left.training_s == pytest.approx(99.0)
            assert str(left) == "2 min left, then final scores"
        if progress.has_crossed(2_000):
            evaluation.last_s = 8.0
            evaluation.total_s += 8.0
            clock.now += 8.0
    assert left.training_s == 0
    assert left.scoring_s == pytest.approx(3 * 8.0 * 250 / 100)
    assert str(left) == "60 s left with final scores"


def test_time_left_follows_the_recent_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of speed, the estimate is that of the new speed within two windows."""
    clock = Clock(monkeypatch, time_left)
    progress = Progress(10, 100_000)
    left = TimeLeft(progress, evaluation_of(progress, 10**9), final_fakes=250)
    left.start()
    for seconds_per_iteration, iterations in ((0.01, 10_000), (0.1, 700)):
        for _ in range(iterations):
            clock.now += seconds_per_iteration
            progress.iteration += 1
            _ = left.images_per_s
    assert left.images_per_s == pytest.approx(100.0, rel=1e-3)


def test_track_in_log_prints_only_long_computations(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A log gets a line after 10 s and then every 30 s, with the share done and the time left."""
    caplog.set_level(logging.INFO, "gan_lab")
    clock = Clock(monkeypatch, track)
    for seconds, lines in ((0.09, 0), (1.0, 3)):
        caplog.clear()
        for _ in track.track(range(100), "scoring fakes"):
            clock.now += seconds
        assert len(caplog.messages) == lines
    assert caplog.messages[0] == "Scoring fakes: 10%, 2 min left"
    assert caplog.messages[1] == "Scoring fakes: 40%, 60 s left"
    assert [*track.track(range(3), "x", shown=False)] == [0, 1, 2]


def test_track_shows_its_stage_in_another_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a training on a terminal, an evaluation shows its progress in the training's bar."""
    clock = Clock(monkeypatch, track)
    shown: list[str] = []
    track.show_in(shown.append)
    try:
        for _ in track.track(range(4), "scoring fakes"):
            clock.now += 1.0
    finally:
        track.show_in(None)
    assert shown == [
        "scoring fakes: 25%, 3 s left",
        "scoring fakes: 50%, 2 s left",
        "scoring fakes: 75%, 1 s left",
        "",
    ]


def test_stage_prints_while_a_step_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A step of unknown duration prints how long it has taken; a short one prints nothing."""
    caplog.set_level(logging.INFO, "gan_lab")
    with track.stage("Training a classifier"):
        pass
    assert caplog.messages == []
    monkeypatch.setattr(track, "FIRST_LINE_S", 0.02)
    monkeypatch.setattr(track, "LINE_INTERVAL_S", 100)
    with track.stage("Training a classifier"):
        for _ in range(500):
            if caplog.messages:
                break
            track.time.sleep(0.01)
    assert caplog.messages == ["Training a classifier: 1 s so far"]


def test_slow_commands_show_the_time_left(
    tmp_path: Path,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each loop that can take longer than 10 seconds: here every step is reported."""
    caplog.set_level(logging.INFO, "gan_lab")
    monkeypatch.setattr(track, "FIRST_LINE_S", 0)
    monkeypatch.setattr(track, "LINE_INTERVAL_S", 0)
    run = str(run_folder("gan", tmp_path, data_root))
    judged = ["mnist", "data.source=sample", f"data.root={data_root}", f"run.root={tmp_path}"]
    judged += ["metrics.extractors=[random]", "--n", "6"]
    for command, description in (
        (["sample", run, "-n", "200", "--out", str(tmp_path / "x.png")], "Drawing samples"),
        (["sample", run, "-n", "1", "--video", str(tmp_path / "x.gif")], "Drawing frames"),
        (["judge", *judged], "Measuring random"),
    ):
        caplog.clear()
        done = CliRunner().invoke(cli.app, command)
        assert done.exit_code == 0, done.output
        reported = [
            line for line in caplog.messages if line.startswith(description) and "%" in line
        ]
        assert len(reported) >= 4
        assert all(line.endswith(" left") for line in reported[1:])
