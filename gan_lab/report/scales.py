"""The scale on which each kind of score is compared: studies, ``compare`` and sweeps use it.

A t-test needs values whose noise is about normal and about equal in all arms. Distances vary by
factors, rates are squeezed near 0 and 1, and correlations near -1 and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gan_lab.utils.numbers import format_rounded

# Rates of 0 and 1 have no logit, and correlations of -1 and 1 no Fisher z. Every rate is moved
# toward one half as if half an image of this many were on either side: (1000 x + 0.5) / 1001.
# Correlations shrink by the same factor.
SHRINKAGE_IMAGES = 1000
# The exponential of a larger number is not a float.
MAX_EXPONENT = 700


@dataclass(frozen=True)
class Scale:
    """A scale of comparison.

    Attributes:
        name: Its name on pages.
        transform: Maps a value to the scale; NaN for a value that the scale does not have.
        margins: Whether margins are differences on the scale. On other scales they are in units of
            the score itself, and a comparison with a margin uses the untransformed values.
        effect: Name of a difference on the scale, such as ``ratio``; empty: a plain difference.
        is_ratio: Whether the exponential of a difference is a ratio, which pages show.
        low: The lowest possible value of the score.
        high: The highest possible value.
    """

    name: str
    transform: Callable[[float], float]
    margins: bool = True
    effect: str = ""
    is_ratio: bool = False
    low: float = -math.inf
    high: float = math.inf

    def format_difference(self, difference: float, sign: str = "+", digits: int = 3) -> str:
        """Format a difference on the scale: of logarithms as a ratio, as in 0.62."""
        if self.is_ratio:
            # Inf instead of an OverflowError for an interval of two seeds that differ by far
            ratio = math.exp(difference) if difference < MAX_EXPONENT else math.inf
            return format_rounded(ratio, digits)
        return format_rounded(difference, digits, sign)

    def format_effect(self, difference: float, low: float, high: float) -> str:
        """Format a difference and its interval, as in "ratio 0.62 (0.5 to 0.78)"."""
        numbers = [self.format_difference(x) for x in (difference, low, high)]
        return f"{self.effect} {numbers[0]} ({numbers[1]} to {numbers[2]})".lstrip()


def _compute_logit(x: float) -> float:
    if not 0 <= x <= 1:
        return math.nan
    share = (SHRINKAGE_IMAGES * x + 0.5) / (SHRINKAGE_IMAGES + 1)
    return math.log(share / (1 - share))


def _compute_fisher_z(r: float) -> float:
    if not -1 <= r <= 1:
        return math.nan
    return math.atanh(r * SHRINKAGE_IMAGES / (SHRINKAGE_IMAGES + 1))


LOGARITHM = Scale(
    "logarithm",
    lambda x: math.log(x) if x > 0 else math.nan,
    effect="ratio",
    is_ratio=True,
    low=0.0,
)
LOGIT = Scale(
    "logit", _compute_logit, margins=False, effect="odds ratio", is_ratio=True, low=0.0, high=1.0
)
FISHER_Z = Scale(
    "Fisher z", _compute_fisher_z, margins=False, effect="difference of z", low=-1.0, high=1.0
)
UNTOUCHED = Scale("untransformed", lambda x: x)
NON_NEGATIVE = Scale("untransformed", lambda x: x, low=0.0)
# Modes of the ring. tests/unit/test_scales.py compares the number with data/toy.py.
RING = Scale("untransformed", lambda x: x, low=0.0, high=8.0)

# The first pattern that matches the complete name decides. Other names are untouched.
KINDS: tuple[tuple[str, Scale], ...] = (
    # logarithms, differences and gains have a sign
    (r"log_.*|.*_gain|.*gain_.*|over_.*|advantage|growth|rises|expected|value_gap", UNTOUCHED),
    # means of scores of any kind over a training, and differences in standard deviations
    (r"late_mean|mean_log|gap", UNTOUCHED),
    # unbiased kernel distances are negative for the best generators; decibels are logarithms
    # already
    (r"kid|kd_.*|cmmd|.*psnr.*", UNTOUCHED),
    # the absolute value of a signed error, whose logarithm has a long lower tail near 0, and the
    # standard deviation of logarithms
    (r"error|spread", NON_NEGATIVE),
    # shares of one real number by another, which may exceed 1
    (
        r"latent_confidence|pixels_confidence|density|density_.*|digit_score|is|.*_score",
        NON_NEGATIVE,
    ),
    (r"modes_covered", RING),
    (r"fid|fd|fd_.*|.*lpips.*|nearest_ratio_.*|cycle_error|mean_distance|hidden", LOGARITHM),
    (r"cpu_seconds", LOGARITHM),
    (r"sharpness|colou?rfulness|raw|ema", LOGARITHM),
    (r".*accuracy.*|cas|cas_of_reals|precision_.*|recall_.*|coverage_.*|near_copies_.*", LOGIT),
    (r"precision|recall|coverage|leaks.*|high_quality|at_bound|trained|untrained|pixels", LOGIT),
    (r"correlation|strength|smooth|.*ssim", FISHER_Z),
)


def find_scale(score: str) -> Scale:
    """Return the scale of a score by its name."""
    for pattern, scale in KINDS:
        if re.fullmatch(pattern, score):
            return scale
    return UNTOUCHED


def apply_scale(
    score: str, samples: Sequence[Sequence[float]], has_margin: bool = False
) -> tuple[Scale, list[list[float]]]:
    """Transform samples of a score to its scale.

    If one value is not on the scale, such as a distance of 0 on that of logarithms, all samples
    stay as they are: leaving the value out would favor the arm that it belongs to.

    Args:
        score: Name of the score.
        samples: The values of each arm, or one bound.
        has_margin: Whether a margin is tested.

    Returns:
        The scale that was used, with the bounds of the score, and the samples on it.
    """
    scale = find_scale(score)
    untouched = Scale(UNTOUCHED.name, UNTOUCHED.transform, low=scale.low, high=scale.high)
    if has_margin and not scale.margins:
        return untouched, [list(sample) for sample in samples]
    transformed = [[scale.transform(value) for value in sample] for sample in samples]
    if not all(math.isfinite(value) for sample in transformed for value in sample):
        return untouched, [list(sample) for sample in samples]
    return scale, transformed
