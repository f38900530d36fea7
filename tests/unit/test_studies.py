"""Studies: what is decided stays decided, verdicts are those of a fair test, and the book is what its results say."""

from __future__ import annotations

import json
import math
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gan_lab import studies
from gan_lab.cli import app
from gan_lab.config import loading
from gan_lab.runs.run import Run
from gan_lab.studies import BUDGETS, Prediction, Study, engine, study_page, verdict
from gan_lab.studies.measures import Arm, optimum, simultaneous
from gan_lab.studies.verdict import FAILS, HOLDS, OPEN
from tests.helpers.reports import written_run

BOOK = Path(__file__).parents[2] / "docs" / "studies"
NAMES = studies.names()
RUN = [study for name in NAMES if study_page.read(BOOK / "results", study := studies.load(name))]


def made(*predictions: Prediction) -> Study:
    return Study(predictions=list(predictions), arms={"a": "", "b": "", "c": ""})


def of(**arms: list[Any]) -> dict[str, list[dict[str, Any]]]:
    return {arm: [{"x": value} for value in values] for arm, values in arms.items()}


def ask(relation: Any, by: float = 0.0, **more: Any) -> Prediction:
    return Prediction("x", "a", relation, by=by, **(more or {"other": "b"}))


@pytest.mark.parametrize(
    ("prediction", "results", "expected"),
    [
        (ask("below"), of(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), HOLDS),
        (ask("above"), of(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), FAILS),
        (ask("below"), of(a=[1, 3, 2], b=[2, 3, 1.5]), OPEN),
        (ask("below", by=3), of(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), FAILS),
        (ask("below", by=1), of(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), HOLDS),
        (ask("below", by=-1), of(a=[1, 1.1, 0.9], b=[0.9, 1.2, 1.0]), HOLDS),
        (ask("below"), of(a=[1, 1.1], b=[3, 3.2]), OPEN),
        (ask("below"), of(a=[1, 1.1, math.nan], b=[3, 3.2, 3.1]), OPEN),
        (ask("below"), of(a=[1, 1.1, None], b=[3, 3.2, 3.1]), OPEN),
        (ask("below", bound=1.5), of(a=[1, 1.1, 0.9]), HOLDS),
        (ask("above", bound=1.5), of(a=[1, 1.1, 0.9]), FAILS),
        (ask("above", bound=1.0), of(a=[1, 1.1, 0.95]), OPEN),
        (ask("below", bound=0.5), of(a=[0.25, 0.25, 0.25]), HOLDS),
    ],
)
def test_a_verdict_follows_the_values(prediction: Prediction, results: Any, expected: str) -> None:
    assert verdict.conclude(verdict.judge(made(prediction), results)) == expected


def test_a_study_holds_only_if_every_prediction_does() -> None:
    both = of(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1])
    assert (
        verdict.conclude(verdict.judge(made(ask("below"), ask("below", bound=1.5)), both)) == HOLDS
    )
    assert (
        verdict.conclude(verdict.judge(made(ask("below"), ask("below", bound=1.0)), both)) == OPEN
    )
    assert (
        verdict.conclude(verdict.judge(made(ask("below"), ask("below", bound=0.5)), both)) == FAILS
    )


@pytest.mark.parametrize(("seeds", "predictions"), [(3, 1), (3, 2), (5, 1)])
def test_arms_that_are_the_same_experiment_cannot_be_told_apart(
    seeds: int, predictions: int
) -> None:
    """2,000 studies of equal arms, in which at most 6 % come to a verdict."""
    rng = np.random.default_rng(seeds + predictions)
    study = made(*[ask("below"), ask("below", other="c")][:predictions])
    told = 0
    for _ in range(2000):
        values = rng.normal(5, 1, size=(3, seeds)).tolist()
        judged = verdict.judge(study, of(**dict(zip("abc", values, strict=True))))
        told += any(one.verdict != OPEN for one in judged)
    assert told <= 0.06 * 2000


@pytest.mark.parametrize("seeds", [4, 8])
def test_an_effect_as_large_as_the_page_names_is_found_four_times_in_five(seeds: int) -> None:
    """With the true spreads in the place of those that were found, as the page's sentence says."""
    rng = np.random.default_rng(seeds)
    sample = rng.normal(0, 1, size=seeds)
    sample = ((sample - sample.mean()) / sample.std(ddof=1)).tolist()  # a spread of exactly 1
    effect = verdict.detectable([sample, sample], tests=1)
    study = made(ask("above"))

    def power(effect: float) -> float:
        pairs = [
            (rng.normal(effect, 1, seeds).tolist(), rng.normal(0, 1, seeds).tolist())
            for _ in range(2000)
        ]
        return (
            sum(verdict.conclude(verdict.judge(study, of(a=a, b=b))) == HOLDS for a, b in pairs)
            / 2000
        )

    assert 0.79 < power(effect) < 0.97
    assert power(effect / 2) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_whole_and_its_arms_can_be_trained(name: str) -> None:
    study = studies.load(name)
    assert study.chapter > 0
    assert re.search(r"arXiv \d{4}\.\d{4,5}", study.source)
    assert len(study.name) < 30
    if study.measure in ("scores", "follows"):
        for arm, budget in ((arm, budget) for arm in study.arms.values() for budget in BUDGETS):
            words = [*arm.split(), *study.budget(budget).words.split()]
            loading.load(
                words[0], [word for word in words[1:] if not word.startswith(("column=", "score="))]
            )


def test_chapters_are_each_one_study_s() -> None:
    chapters = [studies.load(name).chapter for name in NAMES]
    assert len(set(chapters)) == len(chapters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("claim: ''", "a study needs claim"),
        ("measure: nothing", r"unknown measure 'nothing'"),
        (
            "predictions: [{value: growth, arm: nobody, relation: above, bound: 0}]",
            "about nobody, but the arms are",
        ),
        (
            "predictions: [{value: growth, arm: alternating, relation: above}]",
            "with other or with bound",
        ),
        (
            "predictions: [{value: growth, arm: alternating, relation: beside, bound: 0}]",
            "Invalid value 'beside'",
        ),
        ("seeds: 3", "seeds"),
        ("arms: {off: ring}", r"Key False \(bool\).*: YAML reads on, off, .*: quote them"),
    ],
)
def test_a_study_that_is_not_as_it_should_be_is_one_line(
    change: str, message: str, tmp_path: Path
) -> None:
    key = change.partition(":")[0]
    text = (studies.folder() / "simultaneous.yaml").read_text(encoding="utf-8")
    kept = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", "", text, flags=re.MULTILINE)
    (tmp_path / "mine.yaml").write_text(kept + change + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        studies.load(str(tmp_path / "mine.yaml"))
    assert len(str(raised.value).splitlines()) == 1


def test_an_unknown_study_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown study 'optimun'\. Did you mean 'optimum'\?"):
        studies.load("optimun")


def test_whatever_is_decided_before_a_result_is_in_the_fingerprint() -> None:
    study = studies.load("simultaneous")
    others = [
        replace(study, claim="another"),
        replace(study, arms={**study.arms, "more": ""}),
        replace(study, predictions=study.predictions[:-1]),
        replace(study, full=replace(study.full, seeds=9)),
    ]
    assert len({one.fingerprint("full") for one in [study, *others]}) == 5
    assert replace(study, not_shown="another", quick=replace(study.quick, seeds=9)).fingerprint(
        "full"
    ) == study.fingerprint("full")


def test_a_training_that_a_measure_asks_for_twice_costs_once(tmp_path: Path) -> None:
    folder, clock = written_run(tmp_path / "run"), engine.Clock()
    for _ in range(2):
        clock.trained(folder, began=time.monotonic())
    assert clock.runs == [folder]
    assert clock.read() == pytest.approx(3600 * Run(folder).hours, abs=2)


@pytest.mark.parametrize("study", RUN, ids=lambda study: study.name)
def test_predictions_are_as_they_were_before_the_results(study: Study) -> None:
    for path in (BOOK / "results" / study.name).glob("*.json"):
        if ".cost" not in path.name:
            recorded = json.loads(path.read_text(encoding="utf-8"))
            assert recorded["fingerprint"] == study.fingerprint(recorded["budget"]), path
            assert recorded["results"].keys() == study.arms.keys()


@pytest.mark.parametrize("study", RUN, ids=lambda study: study.name)
def test_quick_and_full_do_not_contradict(study: Study) -> None:
    assert {HOLDS, FAILS} - set(study_page.verdicts(BOOK / "results", study).values())


def test_the_list_has_the_verdicts_of_the_book_and_in_their_place_those_of_own_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verdicts_of(name: str, column: int) -> str:
        told = CliRunner().invoke(app, ["study", "--root", str(tmp_path)]).stdout
        (row,) = [line for line in told.splitlines() if f" {name} " in line]
        return row.split("│")[column].strip()

    monkeypatch.setenv("COLUMNS", "300")
    assert [verdicts_of("d_noise", column) for column in (3, 4)] == [f"{OPEN} *", f"{FAILS} *"]
    (tmp_path / "studies" / "d_noise").mkdir(parents=True)
    shutil.copy(BOOK / "results" / "d_noise" / "full.json", tmp_path / "studies" / "d_noise")
    assert [verdicts_of("d_noise", column) for column in (3, 4)] == [f"{OPEN} *", FAILS]


def test_the_book_is_what_the_results_say(tmp_path: Path) -> None:
    from scripts import book

    book.draw(BOOK / "results", tmp_path)
    for path in sorted(tmp_path.iterdir()):
        drawn, kept = (file.read_text(encoding="utf-8") for file in (path, BOOK / path.name))
        if path.suffix == ".md":
            assert drawn == kept, f"{path.name}: make book"
        else:  # coordinates are rounded, and another processor may round otherwise
            numbers = [np.array(re.findall(r"-?\d+\.\d+", text), float) for text in (drawn, kept)]
            assert re.sub(r"-?\d+\.\d+", "0", drawn) == re.sub(r"-?\d+\.\d+", "0", kept)
            np.testing.assert_allclose(*numbers, atol=0.01)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in BOOK.iterdir() if path.is_file()
    }


def test_the_ring_s_density_integrates_to_one_and_the_best_value_is_two_jsd() -> None:
    import torch

    side = torch.linspace(-1, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    assert float(optimum.log_ring(grid).exp().sum()) * (side[1] - side[0]) ** 2 == pytest.approx(
        1, abs=1e-3
    )
    far = optimum.measure(Arm("far", ["spread=100", "steps=0"], 0, lambda words: Path()))
    assert far["expected"] == pytest.approx(
        0, abs=0.01
    )  # -log 4 + 2 log 2, of densities that have nothing in common


@pytest.mark.parametrize(
    ("order", "gamma"), [("simultaneous", 0.0), ("alternating", 0.0), ("alternating", 0.5)]
)
def test_the_eigenvalue_is_that_of_the_jacobian_of_a_step(order: str, gamma: float) -> None:
    import torch

    def step(point: Any) -> Any:
        psi, theta = point[:1], point[1:]
        of_psi, of_theta = simultaneous.gradients(psi, theta, gamma)
        moved = psi - simultaneous.STEP * of_psi
        if order == "alternating":
            _, of_theta = simultaneous.gradients(moved, theta, gamma)
        return torch.cat([moved, theta - simultaneous.STEP * of_theta])

    small = 1e-6
    columns = [step(small * unit) / small for unit in torch.eye(2, dtype=torch.float64)]
    largest = np.abs(np.linalg.eigvals(torch.stack(columns, dim=1).numpy())).max()
    assert simultaneous.eigenvalue(order, gamma) == pytest.approx(largest, abs=1e-5)
