"""The page of a sweep: parallel coordinates, grids and links of its best trials, importances."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from gan_lab.sweeps import sweep_file, sweep_report
from gan_lab.sweeps.parallel_coordinates import draw_axes, place_on_axis
from gan_lab.sweeps.sweep_report import Row
from tests.helpers.pictures import flat


def make_results(count: int) -> sweep_report.SweepResult:
    """Trials of the sweep cgan_lr; a later one is better, and the last one has failed."""
    sweep = sweep_file.load("cgan_lr")
    rows = [
        Row(i, "complete", {each.key: 10.0**-i for each in sweep.parameters}, 9.0 - i, {1: 9.0 - i})
        for i in range(count)
    ]
    failed = Row(count, "failed", dict(rows[0].values), None, {})
    return sweep_report.SweepResult(sweep, [*rows, failed], rows[-1])


def test_place_on_axis_numbers_and_texts() -> None:
    """Numbers by size, by their logarithm over a large range, anything else by rank."""
    assert place_on_axis([1, 2, 5]) == ([0.0, 0.25, 1.0], 1, 5)
    shares, low, high = place_on_axis([1e-4, 1e-3, 1e-2])
    assert shares == pytest.approx([0, 0.5, 1])
    assert (low, high) == (1e-4, 1e-2)
    assert place_on_axis([-1.0, 0.0, 99.0])[0] == [0.0, 0.01, 1.0]
    assert place_on_axis(["c", "a", "b"]) == ([1.0, 0.0, 0.5], "a", "c")
    assert place_on_axis([[0.5, 0.9], [0.0, 0.9]]) == ([1.0, 0.0], [0.0, 0.9], [0.5, 0.9])
    assert place_on_axis([3.0, 3.0]) == ([0.0, 0.0], 3.0, 3.0)


@pytest.mark.parametrize("maximize", [False, True])
def test_draw_axes_has_the_better_end_at_the_top(maximize: bool) -> None:
    """A parameter with one value has no axis."""
    columns: dict[str, Any] = {"a": [1.0, 3.0], "same": [2.0, 2.0], "score": [5.0, 4.0]}
    drawn = draw_axes(columns, "score", maximize, str)
    assert [axis["name"] for axis in drawn["axes"]] == ["a", "score"]
    ends = ("5.0", "4.0") if maximize else ("4.0", "5.0")
    assert (drawn["axes"][1]["top"], drawn["axes"][1]["bottom"]) == ends
    first, second = (40.0, 190.0) if maximize else (190.0, 40.0)
    assert drawn["lines"] == [f"M60.0 190.0L580.0 {first}", f"M60.0 40.0L580.0 {second}"]
    assert draw_axes({"same": [1, 1], "score": [1.0, 2.0]}, "score", maximize, str) == {}
    assert draw_axes({"a": [1], "score": [1.0]}, "score", maximize, str) == {}


def test_sweep_page_shows_and_links_the_best_trials(tmp_path: Path) -> None:
    """Grids of the best six that have one; links to the pages that exist."""
    results = make_results(8)
    folders = [tmp_path / "runs" / "cgan" / f"trial-{i:04d}" for i in range(9)]
    for i in (0, 1, 3, 6, 7, 8):
        flat(folders[i] / "samples" / "000000064.png", (10 * i, 0, 0), (30, 20))
    (folders[6] / "report.html").write_text("x")
    (folders[8] / "report.html").write_text("x")
    shots = sweep_report.collect_shots(results, tmp_path)
    assert [shot["number"] for shot in shots] == [7, 6, 3]
    page = sweep_report.render(results, None, tmp_path, [])
    assert page.count('href="runs/cgan/trial-0006/report.html"') == 2
    assert page.count('href="runs/cgan/trial-0008/report.html"') == 1
    assert "trial-0007/report.html" not in page
    assert page.count('alt="Last grid of trial') == 3
    lines = sweep_report.draw_parallel(results)["lines"]
    assert [number for _, number, _ in lines] == list(range(8))
    assert "Importances need 10 complete trials" in page
    assert "there are 8." in page


def test_importances_need_enough_trials() -> None:
    """Two trials with shares of .55 and .45 say nothing; ten show which parameter decides."""
    study = optuna.create_study()
    unit = optuna.distributions.FloatDistribution(0, 1)
    for i in range(10):
        params = {"x": i / 9, "y": i * 7 % 10 / 9}
        distributions = {"x": unit, "y": unit}
        study.add_trial(
            optuna.create_trial(params=params, distributions=distributions, value=1 + i)
        )
    parameters = [SimpleNamespace(key=key, distribution="uniform") for key in ("x", "y")]
    trials: Any = SimpleNamespace(
        sweep=SimpleNamespace(parameters=parameters, metric="label_accuracy"),
        study=study,
        attempts=lambda: {trial.number: [trial] for trial in study.trials},
    )
    assert sweep_report._compute_importances(trials, 9) == {}
    found = sweep_report._compute_importances(trials, 10)
    assert found["x"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
