"""Find the explanation of a score or of a training curve by its name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cache

from gan_lab.metrics import leaks, nearest_neighbors
from gan_lab.metrics.base import Explanation
from gan_lab.metrics.selection import find_metrics

# columns of metrics.csv that no metric computes
TRAINING_CURVES = {
    "loss_d": Explanation(
        "Discriminator loss", "Loss that the discriminator minimizes", None, "depends on the loss"
    ),
    "loss_g": Explanation(
        "Generator loss", "Loss that the generator minimizes", None, "depends on the loss"
    ),
    "d_real": Explanation(
        "Output on real images", "Mean output of the discriminator for real images", None, "any"
    ),
    "d_fake": Explanation(
        "Output on generated images", "Mean output for generated images", None, "any"
    ),
    "gradient_*": Explanation(
        "Gradient norm", "Length of a network's gradient", None, "0 or more; growing if it diverges"
    ),
    "ema_distance": Explanation(
        "EMA distance",
        "Distance between EMA weights and raw weights, relative to the length of the raw weights",
        None,
        "0 or more; large while weights change quickly",
    ),
    "diversity": Explanation(
        "Diversity",
        "Mean feature distance between two generated images, relative to that of real images",
        None,
        "1: as diverse as the data; near 0: all images are the same",
    ),
}


@cache
def list_explanations() -> dict[str, Explanation]:
    """List the explanations of all built-in scores by name or pattern."""
    found: dict[str, Explanation] = {}
    for metric in find_metrics():
        found |= metric.explanations
    return found | nearest_neighbors.EXPLANATIONS | leaks.EXPLANATIONS


def explain(name: str) -> Explanation | None:
    """Find the explanation of a score or training curve; None for one of a user's metric."""
    known = {**list_explanations(), **TRAINING_CURVES}
    if name in known:
        return known[name]
    # the longest pattern is the most specific one
    matching = [pattern for pattern in known if fnmatchcase(name, pattern)]
    return known[max(matching, key=len)] if matching else None
