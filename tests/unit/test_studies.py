"""Tests of studies: fixed designs, error rates of the verdicts, and pages equal to the results."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from gan_lab import studies
from gan_lab.cli import app
from gan_lab.config import loading
from gan_lab.config.values import split_arguments
from gan_lab.metrics.frechet import MIN_IMAGES_PER_FEATURE
from gan_lab.runs.run import Run
from gan_lab.studies import (
    BUDGETS,
    Budget,
    Prediction,
    Study,
    engine,
    measurement_record,
    study_page,
    verdict,
)
from gan_lab.studies.measures import Arm, cycle, optimum, simultaneous
from gan_lab.studies.verdict import CONTRADICTED, INCONCLUSIVE, SUPPORTED
from gan_lab.utils.errors import UserError
from gan_lab.utils.numbers import format_rounded
from gan_lab.utils.score_names import list_trivial_scores
from tests.helpers.reports import written_run

BOOK = Path(__file__).parents[2] / "docs" / "studies"
NAMES = studies.names()
# for each of the 64 features of the digit classifier
MIN_FAKES = 64 * MIN_IMAGES_PER_FEATURE
MEASURED_STUDIES = [
    study for study in map(studies.load, NAMES) if study_page.read_results(BOOK / "results", study)
]


def make_study(*predictions: Prediction, seeds: int = 3) -> Study:
    arms = {"a": "", "b": "", "c": ""}
    return Study(predictions=list(predictions), arms=arms, full=Budget(seeds=seeds))


def make_results(**arms: list[Any]) -> dict[str, list[dict[str, Any]]]:
    return {arm: [{"x": value} for value in values] for arm, values in arms.items()}


def predict(relation: Any, by: float = 0.0, **more: Any) -> Prediction:
    return Prediction("x", "a", relation, by=by, **(more or {"other": "b"}))


def conclude(study: Study, results: Any) -> str:
    return verdict.combine_verdicts(verdict.judge_predictions(study, "full", results))


def test_all_is_every_study_that_none_supersedes() -> None:
    found = [study.name for study in studies.find("all")]
    superseded = {study.name for study in studies.load_all() if study.superseded_by}
    assert "clipping" in found
    assert "lipschitz" in superseded
    assert sorted([*found, *superseded]) == sorted(NAMES)
    assert [study.name for study in studies.find("lipschitz")] == ["lipschitz"]


@pytest.mark.parametrize(
    ("prediction", "results", "expected"),
    [
        (predict("below"), make_results(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), SUPPORTED),
        (predict("above"), make_results(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), CONTRADICTED),
        (predict("below"), make_results(a=[1, 3, 2], b=[2, 3, 1.5]), INCONCLUSIVE),
        (predict("below", by=3), make_results(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), CONTRADICTED),
        (predict("below", by=1), make_results(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1]), SUPPORTED),
        (predict("below", by=-1), make_results(a=[1, 1.1, 0.9], b=[0.9, 1.2, 1.0]), SUPPORTED),
        (predict("below"), make_results(a=[1, 1.1], b=[3, 3.2]), INCONCLUSIVE),
        (predict("below"), make_results(a=[1, 1.1, math.nan], b=[3, 3.2, 3.1]), INCONCLUSIVE),
        (predict("below"), make_results(a=[1, 1.1, None], b=[3, 3.2, 3.1]), INCONCLUSIVE),
        (predict("below", bound=1.5), make_results(a=[1, 1.1, 0.9]), SUPPORTED),
        (predict("above", bound=1.5), make_results(a=[1, 1.1, 0.9]), CONTRADICTED),
        (predict("above", bound=1.0), make_results(a=[1, 1.1, 0.95]), INCONCLUSIVE),
        (predict("below", bound=0.5), make_results(a=[0.25, 0.25, 0.25]), INCONCLUSIVE),
    ],
)
def test_verdict_of_one_prediction(prediction: Prediction, results: Any, expected: str) -> None:
    assert conclude(make_study(prediction), results) == expected


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_missing_seed_prevents_verdict_and_is_named(missing: float | None) -> None:
    """Three good seeds of five support nothing: the other two may have failed for a reason."""
    good = make_results(a=[10, 10.5, 9.8, 10.1, 10.2], b=[12, 12.4, 11.9, 12.2, 12.1])
    study = make_study(predict("below"), seeds=5)
    assert conclude(study, good) == SUPPORTED
    bad = make_results(a=[10, 10.5, 9.8, missing, missing], b=[12, 12.4, 11.9, 12.2, 12.1])
    (judged,) = verdict.judge_predictions(study, "full", bad)
    assert (judged.verdict, judged.missing) == (INCONCLUSIVE, {"a": 2})
    page = study_page.render_page(study, study_page.RecordedResults("full", bad, None, []))
    assert "inconclusive: seeds without a value, 2 of a" in page
    # seeds that were never measured count as missing too
    short = {**good, "a": good["a"][:3]}
    (judged,) = verdict.judge_predictions(study, "full", short)
    assert (judged.verdict, judged.missing) == (INCONCLUSIVE, {"a": 2})


def test_discrete_values_are_tested_exactly() -> None:
    """A standard deviation of 0 in five seeds does not make any difference significant."""
    study = make_study(predict("above"), seeds=5)
    results = make_results(a=[8] * 5, b=[0] * 5)
    (judged,) = verdict.judge_predictions(study, "full", results)
    assert judged.effect is not None
    assert judged.effect.p == pytest.approx(2 / math.comb(10, 5))
    assert math.isnan(judged.detectable_difference)
    assert conclude(study, make_results(a=[8] * 5, b=[8] * 4 + [7])) == INCONCLUSIVE
    bound = make_study(predict("above", bound=7.5), seeds=5)
    (judged,) = verdict.judge_predictions(bound, "full", make_results(a=[8] * 5))
    assert judged.effect is not None
    assert judged.effect.p == pytest.approx(2 / 2**5)


def test_sign_test_agrees_with_mean_and_ignores_rounding() -> None:
    """A verdict needs mean and median on the same side; values equal to the limit are ties."""
    above = make_study(predict("above", bound=0.5), seeds=10)
    assert conclude(above, make_results(a=[0.51] * 9 + [0.0])) == INCONCLUSIVE
    assert conclude(above, make_results(a=[0.51] * 9 + [0.6])) == SUPPORTED
    tied = make_study(predict("above", bound=0.2, by=0.1), seeds=6)
    assert conclude(tied, make_results(a=[0.3] * 6)) == INCONCLUSIVE


def test_a_share_of_seeds_is_not_compared_with_its_bound_by_the_sign_test() -> None:
    """Nine of ten seeds are no evidence of more than eight in ten, whose median is 1, too."""
    above = make_study(predict("above", bound=0.8), seeds=10)
    (judged,) = verdict.judge_predictions(above, "full", make_results(a=[1.0] * 9 + [0.0]))
    assert judged.verdict == INCONCLUSIVE
    assert judged.is_share
    assert not judged.is_discrete
    assert conclude(above, make_results(a=[1.0] * 10)) == INCONCLUSIVE
    below = make_study(predict("below", bound=0.8), seeds=10)
    assert conclude(below, make_results(a=[1.0] * 2 + [0.0] * 8)) == SUPPORTED


def test_margin_between_discrete_arms_is_rarely_confirmed() -> None:
    """If one seed in ten collapses, "half a mode lost at most" is false, and stays unconfirmed."""
    study = make_study(predict("above", by=-0.5), seeds=5)
    # the verdict depends on the number of collapsed seeds, and an exact test takes milliseconds
    is_confirmed = [
        conclude(study, make_results(a=[0] * n + [8] * (5 - n), b=[8] * 5)) == SUPPORTED
        for n in range(6)
    ]
    collapsed = np.random.default_rng(0).binomial(5, 0.1, 2000)
    assert np.array(is_confirmed)[collapsed].mean() <= 0.05


@pytest.mark.parametrize("distribution", ["lognormal", "discrete", "missing"])
def test_null_verdicts_are_rarely_wrong(distribution: str) -> None:
    """At most 6 % of 2,000 studies of equal arms, skewed, discrete or with failed seeds."""
    rng = np.random.default_rng(0)
    study = make_study(predict("below"), seeds=5)

    @cache
    def is_wrong(*values: tuple[float, ...]) -> bool:
        """Exact tests of discrete values take milliseconds, and most samples occur often."""
        return conclude(study, make_results(a=[*values[0]], b=[*values[1]])) != INCONCLUSIVE

    wrong = 0
    for _ in range(2000):
        values = rng.normal(5, 1, (2, 5))
        if distribution == "lognormal":
            values = rng.lognormal(0, 0.8, (2, 5))
        elif distribution == "discrete":
            values = rng.binomial(8, 0.05, (2, 5)).astype(float)
        else:
            values[rng.random((2, 5)) < 0.1] = np.nan
        wrong += is_wrong(*(tuple(sorted(sample.tolist())) for sample in values))
    assert wrong <= 0.06 * 2000


def test_verdict_of_two_predictions() -> None:
    """Supported needs both; one contradicted prediction contradicts the study."""
    results = make_results(a=[1, 1.1, 0.9], b=[3, 3.2, 3.1])
    for bound, expected in ((1.5, SUPPORTED), (1.0, INCONCLUSIVE), (0.5, CONTRADICTED)):
        study = make_study(predict("below"), predict("below", bound=bound))
        assert conclude(study, results) == expected


@pytest.mark.parametrize(("seeds", "predictions"), [(3, 1), (3, 2), (5, 1)])
def test_verdict_of_equal_arms_is_inconclusive(seeds: int, predictions: int) -> None:
    """At most 6 % of 2,000 studies of equal arms have another verdict."""
    rng = np.random.default_rng(seeds + predictions)
    both = [predict("below"), predict("below", other="c")]
    study = make_study(*both[:predictions], seeds=seeds)
    false_verdicts = 0
    for _ in range(2000):
        values = rng.normal(5, 1, size=(3, seeds)).tolist()
        results = make_results(**dict(zip("abc", values, strict=True)))
        judged = verdict.judge_predictions(study, "full", results)
        false_verdicts += any(each.verdict != INCONCLUSIVE for each in judged)
    assert false_verdicts <= 0.06 * 2000


@pytest.mark.parametrize("seeds", [4, 8])
def test_detectable_difference_has_power_of_80_percent(seeds: int) -> None:
    """With the true standard deviations instead of the observed ones, as the page says."""
    rng = np.random.default_rng(seeds)
    sample = rng.normal(0, 1, size=seeds)
    # A standard deviation of exactly 1.
    sample = ((sample - sample.mean()) / sample.std(ddof=1)).tolist()
    difference = verdict.compute_detectable_difference([sample, sample], tests=1)
    study = make_study(predict("above"), seeds=seeds)

    def estimate_power(difference: float) -> float:
        detected = 0
        for _ in range(2000):
            a = rng.normal(difference, 1, seeds).tolist()
            b = rng.normal(0, 1, seeds).tolist()
            detected += conclude(study, make_results(a=a, b=b)) == SUPPORTED
        return detected / 2000

    assert 0.79 < estimate_power(difference) < 0.97
    assert estimate_power(difference / 2) < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_study_file_is_complete_and_its_configs_load(name: str) -> None:
    study = studies.load(name)
    assert study.chapter > 0
    assert re.search(r"arXiv \d{4}\.\d{4,5}|doi 10\.", study.source)
    assert len(study.name) < 30
    if study.measure in ("scores", "follows"):
        for arm, budget in itertools.product(study.arms.values(), BUDGETS):
            experiment, *overrides = [*arm.split(), *study.get_budget(budget).words.split()]
            # The measure ``follows`` has two arguments of its own.
            own = ("column=", "score=")
            loading.load(experiment, [each for each in overrides if not each.startswith(own)])


def test_chapters_are_unique() -> None:
    chapters = [studies.load(name).chapter for name in NAMES]
    assert len(set(chapters)) == len(chapters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("claim: ''", "missing keys: claim"),
        ("measure: nothing", r"unknown measure 'nothing'"),
        (
            "predictions: [{value: growth, arm: nobody, relation: above, bound: 0}]",
            "unknown arm in a prediction: nobody. The arms are",
        ),
        (
            "predictions: [{value: growth, arm: alternating, relation: above}]",
            "needs either other or bound",
        ),
        (
            "predictions: [{value: growth, arm: alternating, relation: near, bound: 0}]",
            "relation=near: it must be one of above, below",
        ),
        ("seeds: 3", "seeds"),
        ("quick: {words: 'data.root=\"my'}", 'unclosed quotation mark: data.root="my'),
        ("full: {seeds: many}", "full={seeds: many}: seeds=many: it must be a whole number"),
        ("chapter: [1]", r"chapter=\[1\]: it must be a whole number"),
        ("arms: {off: ring}", "unknown arm in a prediction: .* The arms are off"),
    ],
)
def test_invalid_study_file_is_one_line_error(change: str, message: str, tmp_path: Path) -> None:
    key = change.partition(":")[0]
    text = (studies.find_folder() / "simultaneous.yaml").read_text(encoding="utf-8")
    kept = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", "", text, flags=re.MULTILINE)
    (tmp_path / "mine.yaml").write_text(kept + change + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        studies.load(str(tmp_path / "mine.yaml"))
    assert len(str(raised.value).splitlines()) == 1


def test_unknown_study_error_suggests_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"unknown study 'optimun'\. Did you mean 'optimum'\?"):
        studies.load("optimun")


def test_fingerprint_covers_the_design() -> None:
    study = studies.load("simultaneous")
    others = [
        replace(study, claim="another"),
        replace(study, arms={**study.arms, "more": ""}),
        replace(study, predictions=study.predictions[:-1]),
        replace(study, full=replace(study.full, seeds=9)),
    ]
    assert len({each.compute_fingerprint("full") for each in [study, *others]}) == 5
    other_text = replace(study, not_shown="another", quick=replace(study.quick, seeds=9))
    assert other_text.compute_fingerprint("full") == study.compute_fingerprint("full")


def test_measurement_clock_counts_a_training_once(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    clock = engine.MeasurementClock()
    for _ in range(2):
        clock.count_training(folder, started=time.monotonic())
    assert clock.runs == [folder]
    assert clock.read_seconds() == pytest.approx(3600 * Run(folder).hours, abs=2)


@pytest.mark.parametrize("study", MEASURED_STUDIES, ids=lambda study: study.name)
def test_committed_results_have_the_fingerprint_of_the_design(study: Study) -> None:
    for path in (BOOK / "results" / study.name).glob("*.json"):
        if path.name in ("quick.json", "full.json"):
            recorded = json.loads(path.read_text(encoding="utf-8"))
            assert recorded["fingerprint"] == study.compute_fingerprint(recorded["budget"]), path
            assert recorded["results"].keys() == study.arms.keys()


@pytest.mark.parametrize("study", MEASURED_STUDIES, ids=lambda study: study.name)
def test_quick_and_full_verdicts_do_not_disagree(study: Study) -> None:
    found = study_page.read_verdicts(BOOK / "results", study).values()
    assert not {SUPPORTED, CONTRADICTED} <= set(found)


def test_study_list_prefers_own_results_to_committed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verdicts of committed results are marked with a star."""

    def read_verdict(name: str, column: int) -> str:
        output = CliRunner().invoke(app, ["study", "--root", str(tmp_path)]).stdout
        (row,) = [line for line in output.splitlines() if f" {name} " in line]
        return row.split("│")[column].strip()

    monkeypatch.setenv("COLUMNS", "300")
    assert [read_verdict("d_noise", column) for column in (3, 4)] == [
        f"{INCONCLUSIVE} *",
        f"{CONTRADICTED} *",
    ]
    (tmp_path / "studies" / "d_noise").mkdir(parents=True)
    shutil.copy(BOOK / "results" / "d_noise" / "full.json", tmp_path / "studies" / "d_noise")
    assert [read_verdict("d_noise", column) for column in (3, 4)] == [
        f"{INCONCLUSIVE} *",
        CONTRADICTED,
    ]


def test_committed_pages_equal_results(tmp_path: Path) -> None:
    from scripts import book

    book.write_pages(BOOK / "results", tmp_path)
    for path in sorted(tmp_path.iterdir()):
        if path.suffix == ".png":
            assert path.read_bytes() == (BOOK / path.name).read_bytes(), f"{path.name}: make book"
            continue
        written, committed = (file.read_text(encoding="utf-8") for file in (path, BOOK / path.name))
        if path.suffix == ".md":
            assert written == committed, f"{path.name}: make book"
        else:
            # Coordinates are rounded, and floating-point results differ across CPUs.
            number = r"-?\d+\.\d+"
            numbers = [np.array(re.findall(number, text), float) for text in (written, committed)]
            assert re.sub(number, "0", written) == re.sub(number, "0", committed)
            np.testing.assert_allclose(*numbers, atol=0.01)
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in BOOK.iterdir() if path.is_file()
    }


def test_ring_density_integrates_to_one_and_optimum_is_two_jsd() -> None:
    import torch

    side = torch.linspace(-1, 1, 801, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    assert float(optimum.compute_log_density(grid).exp().sum()) * (
        side[1] - side[0]
    ) ** 2 == pytest.approx(1, abs=1e-3)
    far = optimum.measure(Arm("far", ["spread=100", "steps=0"], 0, lambda arguments: Path()))
    assert far["expected"] == pytest.approx(
        0, abs=0.01
    )  # -log 4 + 2 log 2, of densities that have nothing in common


@pytest.mark.parametrize(
    ("order", "gamma"), [("simultaneous", 0.0), ("alternating", 0.0), ("alternating", 0.5)]
)
def test_dirac_gan_eigenvalue_equals_numerical_jacobian(order: str, gamma: float) -> None:
    import torch

    def step(point: Any) -> Any:
        psi, theta = point[:1], point[1:]
        psi_gradient, theta_gradient = simultaneous.compute_gradients(psi, theta, gamma)
        moved = psi - simultaneous.STEP_SIZE * psi_gradient
        if order == "alternating":
            _, theta_gradient = simultaneous.compute_gradients(moved, theta, gamma)
        return torch.cat([moved, theta - simultaneous.STEP_SIZE * theta_gradient])

    small = 1e-6
    columns = [step(small * unit) / small for unit in torch.eye(2, dtype=torch.float64)]
    largest = np.abs(np.linalg.eigvals(torch.stack(columns, dim=1).numpy())).max()
    assert simultaneous.compute_eigenvalue(order, gamma) == pytest.approx(largest, abs=1e-5)


@pytest.mark.parametrize("text", ["", "title: [", "- a", "title: x\n", "arms: 3\n"])
def test_invalid_file_does_not_break_other_studies(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = studies.find_folder()
    for name in ("simultaneous", "saturation"):
        shutil.copy(known / f"{name}.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(studies, "find_folder", lambda: tmp_path)
    with pytest.warns(UserWarning, match=r"Skipping a study: .*mine\.yaml: ") as warned:
        assert set(studies.names()) == {"simultaneous", "saturation"}
    assert len(warned) == 1
    assert studies.load("saturation").title
    with pytest.raises(ValueError, match=r"mine\.yaml: "):
        studies.load("mine")


def test_list_measurements_hashes_the_name_before_its_suffix(tmp_path: Path) -> None:
    """A file of measurements is a JSON file, also for an arm that is no file name."""
    study = Study(arms={"a b": "", "c": ""}, full=Budget(seeds=1))
    names = [path.name for _, _, path in engine._list_measurements(study, "full", tmp_path, 1)]
    assert re.fullmatch(r"a_b-seed0-[0-9a-f]{10}\.json", names[0])
    assert names[1] == "c-seed0.json"


@pytest.mark.parametrize("study", MEASURED_STUDIES, ids=lambda study: study.name)
def test_every_verdict_has_a_sentence_on_the_claim(study: Study) -> None:
    """The verdict is about a prediction; a reader of the index wants to know about the claim."""
    path = BOOK / "results" / study.name / "full.conclusion.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    concluded = study_page.read_verdicts(BOOK / "results", study)["full"]
    assert written["verdict"] == concluded, (
        f"{path}: the verdict is now {concluded}. Review the text"
    )
    assert 60 < len(written["text"]) < 400
    assert written["text"].endswith(".")
    for page in (BOOK / f"{study.name}.md", BOOK / "README.md"):
        text = page.read_text(encoding="utf-8")
        assert written["text"] in text
        assert study.claim in text
        assert study.prediction in text


@pytest.mark.parametrize("study", MEASURED_STUDIES, ids=lambda study: study.name)
def test_pages_show_recorded_distances_of_trivial_generators(study: Study) -> None:
    """A page hides how near copies of training images, or their mean, would have been."""
    found = study_page.read_results(BOOK / "results", study)["full"]
    columns = [*(prediction.value for prediction in study.predictions), *study.shown]
    page = (BOOK / f"{study.name}.md").read_text(encoding="utf-8")
    for ending, title in study_page.TRIVIAL_GENERATORS.items():
        recorded = {
            format_rounded(mean(run[value + ending] for run in runs), 3)
            for runs in found.results.values()
            for value in columns
            if value + ending in runs[0]
        }
        rows = [line for line in page.splitlines() if line.startswith(f"| {title}")]
        cells = {cell.strip() for row in rows for cell in row.strip("|").split("|")[1:]}
        assert cells - {""} == recorded


@pytest.mark.parametrize("study", MEASURED_STUDIES, ids=lambda study: study.name)
def test_every_distance_of_a_generator_has_trivial_competitors(study: Study) -> None:
    """A distance says little without those of copies and of the mean training image."""
    results = study_page.read_results(BOOK / "results", study)["full"].results
    for arm, (experiment, *overrides) in measurement_record.list_experiments(study, "full").items():
        family = loading.load(experiment, overrides).config.family
        if loading.family_class(family).image_to_image:
            continue
        distances = [
            column
            for column in study_page.list_columns(study)
            if re.match("(log_)?[fk]d_", column) and column in results[arm][0]
        ]
        for name in itertools.chain.from_iterable(map(list_trivial_scores, distances)):
            # a log distance of copies does not exist if theirs is negative
            is_log_of_negative = (
                name.startswith("log_") and results[arm][0].get(name.removeprefix("log_"), 1) <= 0
            )
            assert name in results[arm][0] or is_log_of_negative, (
                f"{arm} lacks {name}. Run scripts/record_trivial_distances.py {study.name}"
            )


def test_conclusion_of_cycle_consistency_says_what_noise_alone_would_do() -> None:
    """Noise that the way back passes unchanged adds its variance to the mean square error."""
    seeds = json.loads((BOOK / "results/cycle_consistency/full.json").read_text("utf-8"))["results"]
    error, hidden = (
        mean(seed[name] for seed in seeds["weight_100"]) for name in ("cycle_error", "hidden")
    )
    passed_on = 1 + cycle.NOISE_STD**2 / error
    assert hidden < passed_on
    text = (BOOK / "cycle_consistency.md").read_text("utf-8")
    assert f"by a factor of {passed_on:.2f}; it rises by {hidden:.2f}," in text


def test_conclusion_of_equal_tuning_counts_settings_that_fail() -> None:
    """A setting fails if it is no nearer to the reals than the mean image."""
    found = study_page.read_results(BOOK / "results", studies.load("equal_tuning"))["full"]
    failed = [
        sum(score >= run["fd_digits_of_mean_image"] for run in runs for score in run["validation"])
        for runs in found.results.values()
    ]
    (tried,) = {sum(len(run["validation"]) for run in runs) for runs in found.results.values()}
    assert f"{min(failed)} to {max(failed)} of the {tried} of each loss" in found.conclusion


def test_groups_of_critic_across_explain_the_correlation() -> None:
    """In every seed the four slowest trainings are the worst; separating them alone gives 0.76."""
    results = json.loads((BOOK / "results/critic_across/full.json").read_text("utf-8"))["results"]
    for seeds in results.values():
        assert all(min(seed["score"][:4]) > max(seed["score"][4:]) for seed in seeds)
    # ranks that are random within each group of four are 2.5 and 6.5 in the mean
    ranks, groups = np.arange(1, 9), np.repeat([2.5, 6.5], 4)
    text = (BOOK / "critic_across.md").read_text("utf-8")
    assert f"alone gives {np.cov(ranks, groups)[0, 1] / ranks.var(ddof=1):.2f};" in text


def test_pages_say_what_was_known_before() -> None:
    """Studies whose arms had been measured before, and second attempts, do not hide it."""
    known = {
        *("label_smoothing", "d_noise", "d_weight_decay", "d_dropout", "d_pretraining"),
        *("lipschitz", "conditioning", "mode_collapse", "few_labels", "features"),
        *("keras_program", "faces_by_heart", "hundred_digits"),
    }
    for name in known:
        study = studies.load(name)
        assert study.known_before
        page = (BOOK / f"{name}.md").read_text(encoding="utf-8")
        assert f"**Known before:** {study.known_before}" in page
    assert "DiffAugment" in studies.load("faces_by_heart").known_before


def test_superseded_study_is_not_counted_once_its_successor_is_measured(tmp_path: Path) -> None:
    """Until then it counts, since its claim would have no verdict."""
    older, newer = next(
        (study, studies.load(study.superseded_by))
        for study in MEASURED_STUDIES
        if study.superseded_by and study_page.is_superseded(BOOK / "results", study)
    )
    shutil.copytree(BOOK / "results" / older.name, tmp_path / older.name)
    alone = study_page.render_index(tmp_path)
    assert "Full edition of 1 studies" in alone
    assert "Superseded studies" not in alone
    shutil.copytree(BOOK / "results" / newer.name, tmp_path / newer.name)
    both = study_page.render_index(tmp_path)
    assert "Full edition of 1 studies" in both
    before, _, after = both.partition("## Superseded studies")
    assert f"]({newer.name}.md)" in before
    assert f"]({older.name}.md)" not in before
    assert f"]({older.name}.md)" in after.partition("\n## ")[0]
    page = (BOOK / f"{older.name}.md").read_text(encoding="utf-8")
    assert f"**Superseded by** [{newer.title}]({newer.name}.md)" in page


def test_tables_of_the_index_have_a_heading_for_each_cell() -> None:
    lines = (BOOK / "README.md").read_text(encoding="utf-8").splitlines()
    head = 0
    for line in lines:
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not head or not cells or cells == head, line
        head = cells


def test_study_superseded_by_a_superseded_one_is_refused(tmp_path: Path) -> None:
    text = (studies.find_folder() / "optimum.yaml").read_text(encoding="utf-8")
    for name, successor in (("a", "b"), ("b", "a"), ("c", "c"), ("d", "none")):
        (tmp_path / f"{name}.yaml").write_text(f"{text}superseded_by: {successor}\n", "utf-8")
        with pytest.raises(UserError, match=r"superseded_by: .+ Name (the newest|a) study$"):
            studies.load(str(tmp_path / f"{name}.yaml"))
        (tmp_path / f"{name}.yaml").write_text(f"{text}superseded_by: a\n", "utf-8")


def test_superseding_studies_are_newer_and_use_other_seeds_or_designs() -> None:
    for study in map(studies.load, NAMES):
        if study.superseded_by:
            newer = studies.load(study.superseded_by)
            assert newer.chapter > study.chapter
            assert not newer.superseded_by
            seeds = [
                range(each.full.first_seed, each.full.first_seed + each.full.seeds)
                for each in (study, newer)
            ]
            assert newer.measure != study.measure or not {*seeds[0]} & {*seeds[1]}


def test_conclusion_is_not_claimed_for_other_results(tmp_path: Path) -> None:
    """A sentence about the published results is not shown with results of your own."""
    shutil.copytree(BOOK / "results" / "paired", tmp_path / "paired")
    (tmp_path / "paired" / "full.conclusion.json").unlink()
    study = studies.load("paired")
    page = study_page.render_page(study, study_page.read_results(tmp_path, study)["full"])
    assert "What this says about the claim" not in page


def test_fd_digits_of_every_training_has_enough_images() -> None:
    """A training of a small budget would fail at its start."""
    missing, known = [], loading.experiments()
    for study in studies.find("all"):
        for budget in studies.BUDGETS:
            for arm, words in study.arms.items():
                experiment, *own = split_arguments(words)
                if experiment not in known:
                    continue
                shared = split_arguments(study.get_budget(budget).words)
                # others belong to the measure or to its own program
                keys = [w for w in (*own, *shared) if w.startswith(("data.", "metrics."))]
                config = loading.load(experiment, keys).config
                metrics = config.metrics
                fakes = metrics.num_fakes or MIN_FAKES
                too_few = fakes < MIN_FAKES and not metrics.allow_small_n
                if metrics.headline == "fd_digits" and too_few:
                    missing.append(f"{study.name} ({budget}), {arm}")
    assert missing == []
