"""One scale per kind of score: which one, its values at the bounds, and what it does to a test."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan_lab.data import toy
from gan_lab.report import scales
from gan_lab.report.scales import FISHER_Z, LOGARITHM, LOGIT, RING, UNTOUCHED, apply_scale
from gan_lab.report.sequential import compute_p_values
from gan_lab.report.statistics import is_best

RESULTS = Path(__file__).parents[2] / "docs" / "studies" / "results"


@pytest.mark.parametrize(
    ("score", "scale"),
    [
        ("fd_digits", LOGARITHM),
        ("fid", LOGARITHM),
        ("lpips", LOGARITHM),
        ("fd_lite0_mid_of_replay", LOGARITHM),
        ("kd_digits", UNTOUCHED),
        ("kid", UNTOUCHED),
        ("log_fd_digits", UNTOUCHED),
        ("psnr", UNTOUCHED),
        ("accuracy_gain", UNTOUCHED),
        ("recall_digits", LOGIT),
        ("label_accuracy", LOGIT),
        ("near_copies_lite0_mid", LOGIT),
        ("correlation", FISHER_Z),
        ("modes_covered", RING),
        ("a_score_of_somebody", UNTOUCHED),
    ],
)
def test_find_scale_by_kind_of_score(score: str, scale: scales.Scale) -> None:
    if score == "a_score_of_somebody":
        assert scales.find_scale(score).transform(-3.0) == -3.0
    else:
        assert scales.find_scale(score) is scale


def test_every_committed_value_has_a_kind() -> None:
    """No value of a study falls through to the default by accident, and all are on their scale."""
    for path in RESULTS.glob("*/*.json"):
        recorded = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(recorded, dict) or "results" not in recorded:
            continue
        for seeds in recorded["results"].values():
            for values in seeds:
                for name, value in values.items():
                    if isinstance(value, int | float):
                        known = any(re.fullmatch(pattern, name) for pattern, _ in scales.KINDS)
                        assert known, f"{path}: {name}. Add it to KINDS"
                        scale = scales.find_scale(name)
                        assert scale.low <= value <= scale.high, (path, name, value)


def test_ring_has_the_modes_of_the_data() -> None:
    assert RING.high == toy.MODES


def test_rates_of_zero_and_one_have_a_logit() -> None:
    """They are half an image of 1,000 from the bound, and symmetric about one half."""
    zero, half, one = (LOGIT.transform(x) for x in (0.0, 0.5, 1.0))
    assert zero == pytest.approx(math.log(0.5 / 1000.5))
    assert half == pytest.approx(0, abs=1e-12)
    assert one == pytest.approx(-zero)
    assert math.isnan(LOGIT.transform(1.2))
    assert math.isfinite(FISHER_Z.transform(1.0))
    assert FISHER_Z.transform(0.5) == pytest.approx(math.atanh(0.5), abs=1e-3)


def test_a_value_off_the_scale_leaves_all_untransformed() -> None:
    """Dropping the seed with a distance of 0 would favor the other arm."""
    scale, samples = apply_scale("fd_digits", [[1.0, 0.0], [2.0, 3.0]])
    assert scale.name == UNTOUCHED.name
    assert samples == [[1.0, 0.0], [2.0, 3.0]]
    assert scale.low == 0
    scale, samples = apply_scale("fd_digits", [[1.0, math.e], [1.0, 1.0]])
    assert samples[0] == [0.0, 1.0]


def test_margins_of_rates_are_in_their_own_unit() -> None:
    _, samples = apply_scale("recall_digits", [[0.4, 0.5], [0.6]], has_margin=True)
    assert samples == [[0.4, 0.5], [0.6]]
    scale, _ = apply_scale("fd_digits", [[1.0, 2.0], [3.0]], has_margin=True)
    assert scale is LOGARITHM


def test_effects_of_logarithms_are_shown_as_ratios() -> None:
    text = LOGARITHM.format_effect(math.log(0.5), math.log(0.4), math.log(0.625))
    assert text == "ratio 0.5 (0.4 to 0.625)"
    assert UNTOUCHED.format_effect(1.0, -0.5, 2.5) == "+1 (-0.5 to +2.5)"
    assert LOGARITHM.format_difference(1e6) == "inf"


def test_lognormal_arms_of_equal_mean_rarely_differ() -> None:
    """Spreads of 0.3 and 1.2: on the raw scale of a distance 16 to 20 % of nulls differ."""
    rng = np.random.default_rng(0)
    logarithms = np.stack([rng.normal(0, 0.3, (2000, 5)), rng.normal(0, 1.2, (2000, 5))], axis=1)
    one, other = np.exp(logarithms[:, 0]), np.exp(logarithms[:, 1])
    _, scaled = apply_scale("fd_digits", [one.ravel().tolist(), other.ravel().tolist()])
    p = compute_p_values(*(np.reshape(sample, (2000, 5)) for sample in scaled))
    assert (p <= 0.05).mean() <= 0.06
    # the arithmetic means of these arms are exp(0.3**2 / 2) and exp(1.2**2 / 2)
    equal = other * math.exp((0.3**2 - 1.2**2) / 2)
    assert (compute_p_values(one, equal) <= 0.05).mean() > 0.12


def test_best_row_is_found_on_the_scale() -> None:
    """A row whose distances vary by a factor is best by ratio where the raw test is undecided."""
    good, bad = [1.0, 1.5, 0.7], [5.0, 16.0, 9.0]
    assert not is_best(good, [bad])
    _, (first, other) = apply_scale("fd_digits", [good, bad])
    assert is_best(first, [other])


def test_importances_of_a_sweep_are_of_logarithms() -> None:
    """One diverged trial would otherwise explain all variance of a distance."""
    pytest.importorskip("optuna")
    from types import SimpleNamespace

    from optuna.trial import TrialState

    from gan_lab.sweeps.sweep_report import _read_value

    def make_trials(metric: str, *values: float) -> Any:
        trials = [SimpleNamespace(state=TrialState.COMPLETE, value=value) for value in values]
        return SimpleNamespace(sweep=SimpleNamespace(metric=metric), attempts=lambda: {0: trials})

    trials = make_trials("fd_digits", 1.0, 5000.0)
    read = _read_value(trials)
    assert [read(trial) for trial in trials.attempts()[0]] == [0.0, math.log(5000)]
    signed = make_trials("kd_digits", -0.1, 5000.0)
    assert _read_value(signed)(signed.attempts()[0][0]) == -0.1
