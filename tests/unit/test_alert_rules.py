"""The rules of the health check: scenarios with expected alerts, false alarms, and resuming."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from gan_lab.training.callbacks.alert_rules import (
    HEALTHY,
    IN_BETWEEN,
    MIN_BAD_ROWS,
    MIN_HEALTHY_ROWS,
    AlertRules,
    AlertState,
    Observation,
    Row,
    compute_trend_z,
)
from tests.helpers import alert_scenarios
from tests.helpers.previous_alerts import PreviousRules

REPOSITORY = Path(__file__).parents[2]
SCENARIOS = alert_scenarios.list_scenarios()
RECORD = {
    entry["scenario"]: entry
    for entry in json.loads((REPOSITORY / "tests" / "docs" / "alerts.json").read_text("utf-8"))
}
LOSSES = ("nonsaturating", "hinge", "wasserstein", "least_squares", "relativistic", "minimax")
TRACES_PER_LOSS = 500
ROWS = 100
MAX_FALSE_ALARM_RATE = 0.01


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])
def test_rules_in_scenario_raise_expected_alerts(scenario: alert_scenarios.Scenario) -> None:
    """The alerts before and now are those that ``scripts/record_alerts.py`` recorded."""
    assert scenario.raise_alerts() == list(scenario.expected)
    assert RECORD[scenario.name] == {
        "scenario": scenario.name,
        "from": scenario.source,
        "expected": list(scenario.expected),
        "before": scenario.raise_previous_alerts(),
        "now": list(scenario.expected),
    }


def test_table_of_page_equals_record() -> None:
    script = runpy.run_path(str(REPOSITORY / "scripts" / "record_alerts.py"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert script["format_table"](list(RECORD.values())) + "\n\n" in page


def test_scenarios_are_varied_and_many_were_missed_before() -> None:
    assert list(RECORD) == [each.name for each in SCENARIOS]
    recorded = list(RECORD.values())
    sources = [entry["from"] for entry in recorded]
    assert len(recorded) >= 30
    assert sources.count("formula") >= 15
    assert sources.count("pictures") + sources.count("training") >= 15
    before = [sorted(entry["before"]) == sorted(entry["expected"]) for entry in recorded]
    assert before.count(False) >= 15


# -------------------------------------------------------------------------------------------------
# False alarms


def draw_noise(rng: np.random.Generator, correlation: np.ndarray) -> np.ndarray:
    """Return stationary noise [N, ROWS] of unit variance, first-order autoregressive by trace."""
    steps = rng.standard_normal((len(correlation), ROWS))
    noise = np.empty_like(steps)
    noise[:, 0] = steps[:, 0]
    for i in range(1, ROWS):
        noise[:, i] = correlation * noise[:, i - 1] + np.sqrt(1 - correlation**2) * steps[:, i]
    return noise


def draw_stationary_traces(loss: str) -> list[list[Row]]:
    """Return rows of stationary trainings whose levels and noise are random.

    Half of the discriminators are always right. The noise is independent or strongly correlated
    between rows; that of a margin has a standard deviation of up to 15 % of its level. A hinge
    discriminator's margin is below 2, the level at which its loss can be 0. No minimax
    discriminator is always right, since the gradient of its generator would vanish.
    """
    rng = np.random.default_rng([7, LOSSES.index(loss)])
    n = TRACES_PER_LOSS
    correlation = rng.choice([0.0, 0.5, 0.9], n)

    def level(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1))

    def noise() -> np.ndarray:
        return draw_noise(rng, correlation)

    def share(low: float, high: float, spread: float) -> np.ndarray:
        return np.clip(level(low, high) + spread * noise(), 0, 1)

    is_sure = (rng.random((n, 1)) < 0.5) & (loss != "minimax")
    largest_margin = {"hinge": 1.8, "least_squares": 1.0}.get(loss, 30.0)
    margin = level(0.2, 1) * largest_margin * (1 + level(0.02, 0.15) * noise())
    distance = level(0.02, 0.3) + 0.03 * noise()
    columns = {
        "accuracy_real": np.where(is_sure, 1.0, share(0.5, 0.98, 0.03)),
        "accuracy_fake": np.where(is_sure, 1.0, share(0.5, 0.98, 0.03)),
        "d_real": margin / 2,
        "d_fake": -margin / 2,
        "gradient_generator": np.exp(level(-3, 4) + 0.3 * noise()),
        "gradient_discriminator": np.exp(level(-3, 4) + 0.3 * noise()),
    }
    of_images = {
        "diversity": level(0.5, 1.3) * (1 + 0.08 * noise()),
        "nearest_other": level(0.5, 1.3) * (1 + 0.08 * noise()),
        "class_entropy": share(0.7, 1, 0.03),
        "class_diversity": level(0.45, 1) * (1 + 0.1 * noise()),
        "repeats": share(0, 0.05, 0.03),
        "color_spread": level(0.5, 1.2) * (1 + 0.08 * noise()),
        "noise": level(-0.2, 0.2) + 0.04 * noise(),
        "sample_distance": distance,
        "sample_distance_raw": distance + level(0, 0.1) + 0.05 * noise(),
        "overfitting_auc": share(0.45, 0.7, 0.04),
    }
    names = [*columns, *of_images]
    values = np.stack([*columns.values(), *of_images.values()], axis=2)
    return [
        [
            dict(zip(names if (i + 1) % 5 == 0 else columns, row, strict=False))
            for i, row in enumerate(trace)
        ]
        for trace in values.tolist()
    ]


@pytest.mark.parametrize("loss", LOSSES)
def test_rules_on_stationary_traces_raise_no_alert(loss: str) -> None:
    """Fewer than 1 % of 500 stationary trainings of a loss raise any alert."""
    traces = draw_stationary_traces(loss)
    alarms = 0
    for rows in traces:
        rules = AlertRules(30 * ROWS, loss)
        alarms += any([rules.update(row, 30 * (i + 1)) for i, row in enumerate(rows)])
    assert alarms / len(traces) < MAX_FALSE_ALARM_RATE


def test_previous_rules_on_stationary_traces_raise_alerts() -> None:
    """The traces are no easy test: the rules before raise alerts on half of them."""
    traces = draw_stationary_traces("nonsaturating")[:50]
    alarms = 0
    for rows in traces:
        rules = PreviousRules()
        alarms += any([rules.update(row, 30 * (i + 1)) for i, row in enumerate(rows)])
    assert alarms / len(traces) > 0.4


# -------------------------------------------------------------------------------------------------
# State


def test_state_needs_consecutive_rows_and_clears_with_hysteresis() -> None:
    bad = Observation("bad")

    def raises(observations: list[Observation]) -> list[int]:
        state = AlertState()
        return [i for i, each in enumerate(observations) if state.update(each)]

    assert raises([bad] * (MIN_BAD_ROWS - 1) + [HEALTHY] + [bad] * (MIN_BAD_ROWS - 1)) == []
    assert raises([bad, bad, IN_BETWEEN, bad, bad]) == []
    once = [*[bad] * MIN_BAD_ROWS, *[HEALTHY] * (MIN_HEALTHY_ROWS - 1), *[bad] * 9]
    assert raises(once) == [MIN_BAD_ROWS - 1]
    # rows in between are no sign of health
    assert raises([*[bad] * MIN_BAD_ROWS, *[IN_BETWEEN] * 99, *[bad] * 9]) == [MIN_BAD_ROWS - 1]
    twice = [*[bad] * MIN_BAD_ROWS, *[HEALTHY] * MIN_HEALTHY_ROWS, *[bad] * MIN_BAD_ROWS]
    assert len(raises(twice)) == 2


def test_rules_restored_after_each_row_raise_same_alerts() -> None:
    """A resumed run goes through the same states, however often it is interrupted."""
    for scenario in SCENARIOS[:25]:
        restored = AlertRules(scenario.budget, scenario.loss)
        raised = []
        for iteration, row in scenario.make_rows():
            raised += [kind for kind, _ in restored.update(row, iteration)]
            state = json.loads(json.dumps(restored.state()))
            restored = AlertRules(scenario.budget, scenario.loss)
            restored.load(state)
        assert raised == list(scenario.expected), scenario.name


def test_state_of_older_checkpoint_is_read() -> None:
    rules = AlertRules()
    rules.load(
        {
            "conditions": {"collapse": {"turn": 2, "last": True, "raised": False}},
            "gradients": {"gradient_generator": [1.0]},
            "largest": {"gradient_generator": 1.0},
            "margins": {"": []},
        }
    )
    row = alert_scenarios.HEALTHY_NETWORKS | {"diversity": 0.0}
    assert [kind for kind, _ in rules.update(row, 5000)] == ["collapse"]


def test_peak_in_older_checkpoint_raises_no_alert() -> None:
    """Its ``largest`` is that of a single row: other gradients would seem to have vanished."""
    state = AlertRules().state() | {
        "gradients": {"gradient_generator": [*[1.0] * 20, 500.0, *[1.0] * 20]},
        "largest": {"gradient_generator": 500.0},
    }
    del state["distances"]
    rules = AlertRules()
    rules.load(state)
    row = alert_scenarios.with_margin(10.0) | {"gradient_generator": 1.0}
    assert [rules.update(row, 5000 + i) for i in range(MIN_BAD_ROWS)] == [[]] * MIN_BAD_ROWS


def test_collapse_while_dominated_omits_faster_discriminator() -> None:
    """For a dominated generator, advice to train the discriminator faster would be wrong."""
    rules = AlertRules()
    messages = {}
    for i in range(60):
        row = alert_scenarios.with_margin(10.0 + i, class_entropy=0.0, diversity=1.0)
        if i < 45:
            row = alert_scenarios.with_margin(10.0 + i)
        messages |= dict(rules.update(row, 2000 + i))
    assert list(messages) == ["discriminator_won", "collapse"]
    assert messages["collapse"].endswith("fix that first")
    assert "higher discriminator learning rate" not in messages["collapse"]
    alone = AlertRules()
    found = [message for i in range(5) for _, message in alone.update({"diversity": 0.0}, 2000 + i)]
    assert "higher discriminator learning rate" in found[0]


def test_warmup_is_share_of_budget_up_to_limit() -> None:
    assert AlertRules(budget=50).warmup_iterations == 100
    assert AlertRules(budget=2_000).warmup_iterations == 400
    assert AlertRules(budget=100_000).warmup_iterations == AlertRules().warmup_iterations == 1000


def test_trend_z_equals_scipy_kendall() -> None:
    """The Mann-Kendall statistic is Kendall's tau with time, times the number of pairs."""
    from scipy.stats import kendalltau

    values = np.random.default_rng(0).standard_normal(40).cumsum()
    n = len(values)
    tau = kendalltau(np.arange(n), values).statistic
    expected = tau * n * (n - 1) / 2 / np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    assert compute_trend_z(values.tolist()) == pytest.approx(expected)


def test_no_shipped_experiment_raised_an_alert_with_three_seeds() -> None:
    """The record has each shipped experiment, and docs/health.md says how many there are.

    An experiment is missing after a new one: run scripts/record_alerts.py --shipped. A real failure
    belongs in docs/health.md and in the page of its method.
    """
    script = runpy.run_path(str(REPOSITORY / "scripts" / "record_alerts.py"))
    families = REPOSITORY / "docs" / "results" / "families.json"
    benchmarked = json.loads(families.read_text("utf-8"))["rows"]
    others = json.loads(script["SHIPPED_RECORD"].read_text("utf-8"))
    assert sorted(others) == script["list_shipped"]()
    recorded = {name: row["alerts"] for name, row in benchmarked.items()}
    recorded |= {name: entry["alerts"] for name, entry in others.items()}
    assert {name: len(seeds) for name, seeds in recorded.items()} == dict.fromkeys(recorded, 3)
    assert {name: seeds for name, seeds in recorded.items() if any(seeds)} == {}
    text = " ".join((REPOSITORY / "docs" / "health.md").read_text("utf-8").split())
    assert f"each of the {len(recorded)} experiments" in text
    assert f"The {len(benchmarked)} of `make benchmark`" in text
    assert f"The {len(others)} others" in text
    assert f"at most {script['MAX_SHIPPED_ITERATIONS']:,} iterations" in text
