"""Group-sequential designs: error rates through all looks, equivalence, and the engine's steps."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import sequential as simulation
from gan_lab.benchmark import TrainingDivergedError
from gan_lab.report import sequential
from gan_lab.report.sequential import OBRIEN_FLEMING, POCOCK, compute_look_levels
from gan_lab.report.statistics import estimate, welch
from gan_lab.studies import (
    Budget,
    Prediction,
    Study,
    engine,
    measurement_record,
    measures,
    study_page,
    verdict,
)
from gan_lab.studies.power import compute_needed_seeds
from gan_lab.studies.verdict import CONTRADICTED, INCONCLUSIVE, NO_EFFECT, SUPPORTED

LOOKS = (4, 6, 8)
DOCS = Path(__file__).parents[2] / "docs"


def make_study(
    *predictions: Prediction, looks: tuple[int, ...] = LOOKS, spending: Any = OBRIEN_FLEMING
) -> Study:
    step = looks[1] - looks[0] if len(looks) > 1 else 0
    budget = Budget(
        seeds=looks[0], step=step, max_seeds=looks[-1] if step else 0, spending=spending
    )
    return Study(
        name="made", predictions=list(predictions), arms={"a": "", "b": ""}, full=budget,
        measure="scores", chapter=1, title="Made",
    )  # fmt: skip


def make_results(score: str, *arms: Any) -> dict[str, list[dict[str, Any]]]:
    return {name: [{score: x} for x in values] for name, values in zip("ab", arms, strict=True)}


def predict(score: str = "kd_digits", **more: Any) -> Prediction:
    return Prediction(score, "a", "above", **({"other": "b"} | more))


def test_spending_functions_end_at_the_level() -> None:
    for spending in (OBRIEN_FLEMING, POCOCK):
        spent = [sequential.compute_spent_level(t / 10, 0.05, spending) for t in range(1, 11)]
        assert spent[-1] == pytest.approx(0.05)
        assert spent == sorted(spent)
    # the values of Lan & DeMets 1983, table 1, for five looks
    published = {0.2: 5e-6, 0.4: 0.0008, 0.6: 0.0076, 0.8: 0.0244}
    for t, value in published.items():
        spent_at_t = sequential.compute_spent_level(t, 0.05, OBRIEN_FLEMING)
        assert spent_at_t == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_obrien_fleming_level_equals_scipy(share: float) -> None:
    expected = 4 * stats.norm.sf(stats.norm.isf(0.05 / 4) / math.sqrt(share))
    level = sequential.compute_spent_level(share, 0.05, OBRIEN_FLEMING)
    assert level == pytest.approx(expected, abs=1e-12)


def test_many_t_tests_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, (20, 5)), rng.normal(0, 3, (20, 5))
    expected = stats.ttest_ind(one, other, axis=1, equal_var=False).pvalue
    np.testing.assert_allclose(sequential.compute_p_values(one, other), expected)
    expected = stats.ttest_1samp(one, 0, axis=1).pvalue
    np.testing.assert_allclose(sequential.compute_p_values(one), expected)
    assert welch(one[0].tolist(), other[0].tolist()).p == pytest.approx(
        sequential.compute_p_values(one[:1], other[:1])[0]
    )


def test_levels_of_looks_approach_the_normal_ones() -> None:
    """With many seeds per look, two equal looks have the levels of Pocock's design."""
    first, second = compute_look_levels((30, 60), 0.05, POCOCK)
    assert first == pytest.approx(0.05 * math.log(1 + (math.e - 1) / 2), abs=0.003)
    # Jennison & Turnbull 2000, section 7: spending alpha2 is close to Pocock's constant level
    # 0.0294
    assert second == pytest.approx(0.0294, abs=0.006)
    assert compute_look_levels((5,), 0.05, POCOCK) == (0.05,)


def test_later_look_rejects_its_share_of_simulated_studies() -> None:
    """The level of a look is the p-value of a rank, not any smaller one."""
    looks, n = (6, 9), sequential.SIMULATED_STUDIES
    levels = compute_look_levels(looks, 0.05, POCOCK, samples=1)
    spent = [sequential.compute_spent_level(look / 9, 0.05, POCOCK) for look in looks]
    (values,) = np.random.default_rng(0).standard_normal((1, n, 9))
    p = [sequential.compute_p_values(values[:, :look]) for look in looks]
    goes_on = p[0] > levels[0]
    assert np.count_nonzero(p[1][goes_on] <= levels[1]) == int(n * (spent[1] - spent[0]))


@pytest.mark.parametrize("spending", [OBRIEN_FLEMING, POCOCK])
def test_null_studies_are_wrong_in_five_percent(spending: str) -> None:
    """2,000 null studies through all looks, for each distribution; 1 % is simulation error."""
    for name, distribution in simulation.DISTRIBUTIONS.items():
        values = distribution.draw(np.random.default_rng(4), (2000, LOOKS[-1]), 0.0)
        verdicts, _ = simulation.simulate_verdicts(values, distribution.score, LOOKS, spending)
        assert (verdicts != INCONCLUSIVE).mean() <= 0.055, name
    # without the levels of looks, the same studies are wrong far more often
    values = simulation.DISTRIBUTIONS["normal"].draw(np.random.default_rng(4), (2000, 8), 0.0)
    p = [sequential.compute_p_values(*values[:, :, :n]) for n in LOOKS]
    assert (np.min(p, axis=0) <= 0.05).mean() > 0.07


def test_effect_of_the_margin_is_rarely_no_effect() -> None:
    values = simulation._draw_normal(np.random.default_rng(5), (2000, LOOKS[-1]), 2.0)
    verdicts, _ = simulation.simulate_verdicts(values, "kd_digits", LOOKS, OBRIEN_FLEMING, 2.0)
    assert ((verdicts == NO_EFFECT) | (verdicts == CONTRADICTED)).mean() <= 0.055
    values = simulation._draw_normal(np.random.default_rng(5), (2000, LOOKS[-1]), 0.0)
    verdicts, seeds = simulation.simulate_verdicts(values, "kd_digits", LOOKS, OBRIEN_FLEMING, 2.0)
    assert (verdicts == NO_EFFECT).mean() > 0.8
    assert seeds.mean() < LOOKS[-1]


@pytest.mark.parametrize("name", simulation.DISTRIBUTIONS)
def test_simulation_decides_as_the_verdicts(name: str) -> None:
    """The vectorized procedure of the power curves equals the one that judges a study."""
    distribution = simulation.DISTRIBUTIONS[name]
    effect, studies = (0.4, 10) if "discrete" in name else (1.5, 40)
    values = distribution.draw(np.random.default_rng(6), (studies, LOOKS[-1]), effect)
    margin = None if "discrete" in name else 1.0
    study = make_study(predict(distribution.score, margin=margin))
    simulated, seeds = simulation.simulate_verdicts(
        values, distribution.score, LOOKS, OBRIEN_FLEMING, margin
    )
    decided = 0
    for i, (one, other) in enumerate(values.transpose(1, 0, 2).tolist()):
        results = make_results(distribution.score, one, other)
        (judged,) = verdict.judge_predictions(study, "full", results)
        assert judged.verdict == simulated[i]
        if judged.verdict != INCONCLUSIVE:
            assert judged.seeds == seeds[i]
            decided += 1
    assert decided > 3 or "missing" in name


def test_exact_permutation_p_equals_scipy() -> None:
    rng = np.random.default_rng(7)
    values = rng.binomial(8, 0.05, (2, 30, 4)).astype(float)
    for one, other in values.transpose(1, 0, 2):
        p = simulation.compute_permutation_p(one[None], other[None])[0]
        if verdict.is_discrete(one.tolist()):
            assert p == pytest.approx(welch(one.tolist(), other.tolist()).p)


@pytest.mark.parametrize(
    ("a", "by", "margin", "expected", "note"),
    [
        ([5.0, 5.1, 4.9, 5.05, 4.95], 0.0, 0.5, NO_EFFECT, ""),
        ([6.0, 6.1, 5.9, 6.05, 5.95], 0.0, 0.5, SUPPORTED, ""),
        ([4.0, 4.1, 3.9, 4.05, 3.95], 0.0, 0.5, CONTRADICTED, ""),
        ([1.0, 9.0, 4.0, 6.0, 5.5], 0.0, 0.5, INCONCLUSIVE, "seeds would decide"),
        ([6.0, 6.1, 5.9, 6.05, 5.95], 2.0, None, CONTRADICTED, "smaller than predicted"),
        ([4.0, 4.1, 3.9, 4.05, 3.95], 2.0, None, CONTRADICTED, ""),
        ([5.0, 5.1, 4.9, 5.05, 4.95], 2.0, 0.5, NO_EFFECT, ""),
        ([8.0, 8.1, 7.9, 8.05, 7.95], 2.0, 0.5, SUPPORTED, ""),
    ],
)
def test_four_verdicts(
    a: list[float], by: float, margin: float | None, expected: str, note: str
) -> None:
    study = make_study(predict(by=by, margin=margin), looks=(5,))
    results = make_results("kd_digits", a, [5.02, 4.97, 5.08, 4.93, 5.0])
    (judged,) = verdict.judge_predictions(study, "full", results)
    assert judged.verdict == expected
    assert note in judged.note
    assert bool(judged.note) == bool(note)
    assert verdict.combine_verdicts([judged]) == expected
    text = verdict.format_verdict(judged)
    assert text.startswith("no effect larger than 0.5" if expected == NO_EFFECT else expected)
    page = study_page.render_page(study, study_page.RecordedResults("full", results, None, []))
    assert text in page
    assert f"**{verdict.format_combined_verdict([judged])}**" in page
    assert "larger than X" not in page


def test_margin_of_distances_is_a_percentage() -> None:
    """A margin of 0.1 in the logarithm of a distance is the 10 percent of the prediction."""
    study = make_study(predict("fd_digits", margin=0.1), looks=(5,))
    results = make_results("fd_digits", [5.0, 5.01, 4.99, 5.0, 5.02], [5.01, 4.99, 5.0, 5.02, 5.03])
    judged = verdict.judge_predictions(study, "full", results)
    assert verdict.format_combined_verdict(judged) == "no effect larger than 10 %"


def test_page_shows_no_interval_of_discrete_values() -> None:
    """An interval of Student's t for counts of eight modes may reach beyond eight."""
    study = make_study(predict("modes_covered"), looks=(5,))
    results = make_results("modes_covered", [8, 8, 6, 8, 8], [0] * 5)
    page = study_page.render_page(study, study_page.RecordedResults("full", results, None, []))
    (row,) = [line for line in page.splitlines() if line.startswith("| `modes_covered`: ")]
    assert row.split(" | ")[2] == "+7.6"
    assert "tested by permutation" in page
    continuous = make_results("modes_covered", [7.9, 7.7, 6.1, 8.0, 7.8], [0.1, 0.2, 0.3, 0.5, 0.4])
    page = study_page.render_page(study, study_page.RecordedResults("full", continuous, None, []))
    assert "tested by permutation" not in page


def test_equivalence_equals_two_one_sided_tests() -> None:
    rng = np.random.default_rng(8)
    one, other = rng.normal(0, 1, 6).tolist(), rng.normal(0, 2, 6).tolist()
    sides = [
        stats.ttest_ind(one, [x + shift for x in other], equal_var=False, alternative=side).pvalue
        for shift, side in ((-1.5, "greater"), (1.5, "less"))
    ]
    assert estimate(one, other).compute_equivalence_p(1.5) == pytest.approx(max(sides))


def test_first_deciding_look_is_final() -> None:
    """Seeds that were added for another prediction do not change a verdict."""
    study = make_study(predict(), predict("psnr"), spending=POCOCK)
    clear = [[9.0, 9.1, 8.9, 9.05], [1.0, 1.1, 0.9, 1.05]]
    open_one = [5.0, 9.0, 1.0, 4.0, 6.0, 2.0]
    results = {
        "a": [{"kd_digits": x, "psnr": y} for x, y in zip([*clear[0], -90.0, -80.0], open_one)],  # noqa: B905
        "b": [{"kd_digits": x, "psnr": y} for x, y in zip([*clear[1], 80.0, 90.0], open_one[::-1])],  # noqa: B905
    }
    first, second = verdict.judge_predictions(study, "full", results)
    assert (first.verdict, first.seeds) == (SUPPORTED, 4)
    assert (second.verdict, second.seeds) == (INCONCLUSIVE, 6)
    assert verdict.needs_more_seeds(study, "full", results)
    assert "look 2 of up to 3, 6 seeds per arm: 1 supported, 1 inconclusive" in (
        verdict.describe_look(study, "full", results)
    )


def test_missing_seed_ends_a_sequential_study() -> None:
    results = make_results("kd_digits", [1.0, 2.0, math.nan, 3.0], [1.0, 2.0, 3.0, 4.0])
    assert not verdict.needs_more_seeds(make_study(predict()), "full", results)


def test_diverged_training_is_a_measurement_without_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study goes to its end, and its page counts the seed as missing."""

    def measure(arm: measures.Arm) -> dict[str, float]:
        if (arm.name, arm.seed) == ("b", 2):
            raise TrainingDivergedError("'gan-lab train' failed with exit code 2: it diverged")
        return {"kd_digits": float(arm.seed)}

    module = SimpleNamespace(measure=measure)
    monkeypatch.setattr(measures, "find", lambda name: module)
    monkeypatch.setattr(measurement_record, "hash_code", lambda study, budget: {"made": "1"})
    study = make_study(predict())
    assert engine.measure(study, "full", tmp_path)
    engine.collect(study, "full", tmp_path)
    (read,) = study_page.read_results(tmp_path / "studies", study).values()
    assert [len(values) for values in read.results["b"]] == [1, 1, 0, 1]
    (judged,) = verdict.judge_predictions(study, "full", read.results)
    assert (judged.verdict, judged.missing) == (INCONCLUSIVE, {"b": 1})
    drawn = []
    module.draw = lambda figure, results: drawn.append(results)
    for results in (read.results, read.results | {"b": [{}]}):
        study_page.render_figure(study, results)
    assert [len(seeds) for seeds in drawn[0].values()] == [4, 3]
    assert len(drawn) == 1


@pytest.mark.parametrize(("gap", "seeds"), [(9.0, 4), (0.0, 8)])
def test_engine_adds_seeds_until_decided(
    gap: float, seeds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clear difference ends at the first look with a tenth of the level, noise at the last."""
    noise = np.random.default_rng(9).normal(0, 1, (2, 8))

    def measure(arm: measures.Arm) -> dict[str, float]:
        at = 0 if arm.name == "a" else 1
        return {"kd_digits": float(noise[at, arm.seed] + (gap if at == 0 else 0.0))}

    monkeypatch.setattr(measures, "find", lambda name: SimpleNamespace(measure=measure))
    monkeypatch.setattr(measurement_record, "hash_code", lambda study, budget: {"made": "1"})
    study = make_study(predict(), spending=POCOCK)
    assert engine.measure(study, "full", tmp_path)
    engine.collect(study, "full", tmp_path)
    recorded = json.loads((tmp_path / "studies/made/full.json").read_text(encoding="utf-8"))
    assert {arm: len(found) for arm, found in recorded["results"].items()} == {
        "a": seeds,
        "b": seeds,
    }
    (read,) = study_page.read_results(tmp_path / "studies", study).values()
    page = study_page.render_page(study, read)
    assert f"{seeds} seeds per arm" in page
    assert "looks at 4, 6, 8 seeds per arm, with Pocock-like alpha spending" in page


@pytest.mark.parametrize(
    ("values", "base", "verdict_text"),
    [
        ([0, 0, 0, 1, 0], [0] * 5, "inconclusive: floor effect, every value of b is 0"),
        ([8, 8, 8, 8, 7], [8] * 5, "inconclusive: ceiling effect, every value of b is 8"),
        ([8, 8, 7, 8, 8], [0] * 5, "supported"),
        ([3, 4, 2, 4, 3], [3, 2, 4, 3, 2], "inconclusive: about"),
    ],
)
def test_base_arm_at_a_bound_is_named(
    values: list[float], base: list[float], verdict_text: str
) -> None:
    """An arm that cannot be worse shows nothing, unless the other arm is significantly better."""
    study = make_study(predict("modes_covered"), looks=(5,))
    results = make_results("modes_covered", values, base)
    (judged,) = verdict.judge_predictions(study, "full", results)
    assert verdict.format_verdict(judged).startswith(verdict_text)
    if "floor" in verdict_text:
        margin = make_study(predict("modes_covered", margin=4.0), looks=(5,))
        (judged,) = verdict.judge_predictions(margin, "full", results)
        assert judged.verdict == INCONCLUSIVE


def test_arms_that_fail_conclude_nothing() -> None:
    """The better of two generators without precision and recall supports no claim."""

    def make_seeds(values: list[float], precision: float) -> list[dict[str, Any]]:
        rates = {"precision_lite0_mid": precision, "recall_lite0_mid": 0.0}
        return [{"kd_lite0_mid": value} | rates for value in values]

    study = make_study(Prediction("kd_lite0_mid", "a", "below", other="b"), looks=(3,))
    low, high = [5600.0, 5500.0, 5700.0], [7700.0, 7800.0, 7600.0]
    failed = {"a": make_seeds(low, 0.02), "b": make_seeds(high, 0.0)}
    (judged,) = verdict.judge_predictions(study, "full", failed)
    assert judged.verdict == INCONCLUSIVE
    assert "both arms fail" in judged.note
    page = study_page.render_page(study, study_page.RecordedResults("full", failed, None, []))
    assert "**All arms fail:**" in page
    one_works = failed | {"a": make_seeds(low, 0.6)}
    (judged,) = verdict.judge_predictions(study, "full", one_works)
    assert judged.verdict == SUPPORTED
    page = study_page.render_page(study, study_page.RecordedResults("full", one_works, None, []))
    assert "These arms fail (mean precision and recall are below 0.1): `b`." in page


def test_arms_beaten_by_mean_image_conclude_nothing() -> None:
    """The better of two generators that one gray picture beats supports no claim."""
    study = make_study(Prediction("kd_lite0_mid", "a", "below", other="b"), looks=(3,))
    low, high = [5600.0, 5500.0, 5700.0], [7700.0, 7800.0, 7600.0]

    def judge(mean_image: float) -> verdict.JudgedPrediction:
        trivial = {"kd_lite0_mid_of_mean_image": mean_image}
        results = {
            arm: [{"kd_lite0_mid": value} | trivial for value in values]
            for arm, values in (("a", low), ("b", high))
        }
        (judged,) = verdict.judge_predictions(study, "full", results)
        return judged

    beaten = judge(5_500.0)
    assert beaten.verdict == INCONCLUSIVE
    assert "mean training image" in beaten.note
    # the mean of the better arm is 5,600
    assert judge(5_601.0).verdict == SUPPORTED


def test_needed_seeds_have_the_stated_power() -> None:
    """Simulated with the observed means and standard deviations as the true ones."""
    rng = np.random.default_rng(10)
    sample = rng.normal(0, 1, 5)
    one = ((sample - sample.mean()) / sample.std(ddof=1)).tolist()
    seeds = compute_needed_seeds([one, one], 1.0, tests=1)
    assert seeds == 17  # as in any table of the t-test, for d = 1
    values = rng.standard_normal((2, 4000, seeds))
    values[0] += 1.0
    assert 0.78 < (sequential.compute_p_values(*values) <= 0.05).mean() < 0.84
    within = compute_needed_seeds([one, one], 0.0, tests=1, difference=0.0, margin=1.0)
    assert within is not None
    verdicts, _ = simulation.simulate_verdicts(
        rng.standard_normal((2, 4000, within)), "kd_digits", (within,), POCOCK, 1.0
    )
    assert 0.76 < (verdicts == NO_EFFECT).mean() < 0.86
    assert compute_needed_seeds([[8.0] * 5, [0.0] * 5], 8.0, tests=5) == 5
    assert compute_needed_seeds([[0.0] * 5, [0.0] * 5], 0.0, tests=1) is None
    # 2 / 2**8 is the first p-value of a sign test below 5 % of four tests
    assert compute_needed_seeds([[1.0, 1.0, 1.0, 1.0, 0.98]], 0.5, tests=4) == 8


def test_committed_page_equals_simulated_results() -> None:
    """Tables and figure are those of the committed JSON: python -m benchmarks.sequential --draw."""
    results = json.loads(simulation.RESULTS.read_text(encoding="utf-8"))
    page = (DOCS / "sequential.md").read_text(encoding="utf-8")
    assert simulation.fill_page(page, simulation.render_tables(results)) == page
    assert max(row["wrong"] for row in results["errors"] if "," in row["schedule"]) <= 0.05


@pytest.mark.parametrize(
    ("budget", "is_valid"),
    [
        (Budget(seeds=4, step=4, max_seeds=12), True),
        (Budget(seeds=4, step=4, max_seeds=13), False),
        (Budget(seeds=2, step=2, max_seeds=8), False),
        (Budget(seeds=4, max_seeds=12), False),
        (Budget(seeds=4, step=4), False),
    ],
)
def test_looks_are_validated(budget: Budget, is_valid: bool) -> None:
    from gan_lab import studies

    if is_valid:
        studies._validate_looks(budget, "made: full")
        assert budget.looks == (4, 8, 12)
    else:
        with pytest.raises(ValueError, match=r"made: full: .*seeds"):
            studies._validate_looks(budget, "made: full")


def test_margins_and_looks_are_part_of_the_design() -> None:
    study = make_study(predict(), looks=(4,))
    others = [
        replace(study, predictions=[predict(margin=0.1)]),
        replace(study, full=Budget(seeds=4, step=4, max_seeds=8)),
        replace(study, full=Budget(seeds=4, step=4, max_seeds=8, spending="pocock")),
    ]
    assert len({each.compute_fingerprint("full") for each in [study, *others]}) == 4
