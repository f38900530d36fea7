"""Parameters of a sweep file: the distributions of W&B, computed by SciPy and sampled by Optuna.

Source: the sweep configuration of W&B (docs.wandb.ai, "Sweep configuration options"). Optuna
samples a distribution that it lacks as a quantile between 0 and 1, which SciPy maps to the value:
each distribution is exactly the one of W&B, and TPE learns over the quantiles.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import scipy
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gan_lab.utils.errors import UserError

# A normal distribution has no ends: its quantiles are sampled, and checked, between this value and
# 1 minus it.
QUANTILE_MARGIN = 1e-9
Spec = dict[str, Any]
RANGE_KEYS = ("min", "max")

# Name: the SciPy distribution, the required keys, the optional keys.
CONTINUOUS_DISTRIBUTIONS: dict[
    str, tuple[Callable[[Spec], Any], tuple[str, ...], tuple[str, ...]]
] = {
    "uniform": (lambda s: scipy.stats.uniform(s["min"], s["max"] - s["min"]), RANGE_KEYS, ()),
    "log_uniform": (
        lambda s: scipy.stats.loguniform(math.exp(s["min"]), math.exp(s["max"])),
        RANGE_KEYS,
        (),
    ),
    "log_uniform_values": (lambda s: scipy.stats.loguniform(s["min"], s["max"]), RANGE_KEYS, ()),
    "inv_log_uniform": (
        lambda s: scipy.stats.loguniform(math.exp(-s["max"]), math.exp(-s["min"])),
        RANGE_KEYS,
        (),
    ),
    # log(1/x) is uniform where log(x) is.
    "inv_log_uniform_values": (
        lambda s: scipy.stats.loguniform(s["min"], s["max"]),
        RANGE_KEYS,
        (),
    ),
    "normal": (lambda s: scipy.stats.norm(s.get("mu", 0), s.get("sigma", 1)), (), ("mu", "sigma")),
    "log_normal": (
        lambda s: scipy.stats.lognorm(s.get("sigma", 1), scale=math.exp(s.get("mu", 0))),
        (),
        ("mu", "sigma"),
    ),
    "beta": (lambda s: scipy.stats.beta(s.get("a", 1), s.get("b", 1)), (), ("a", "b")),
}
CONTINUOUS_DISTRIBUTIONS |= {
    f"q_{name}": (build, required, (*optional, "q"))
    for name, (build, required, optional) in list(CONTINUOUS_DISTRIBUTIONS.items())
    if not name.startswith("inv_")
}
LOG_UNIFORM = ("log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values")
# Name: the required keys, the optional keys.
DISCRETE_DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ("probabilities",)),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (RANGE_KEYS, ()),
}
POSITIVE_KEYS = ("sigma", "a", "b", "q")


@dataclass(frozen=True)
class Parameter:
    """One config key of the experiment, and the distribution of its values."""

    key: str
    distribution: str
    spec: Spec = field(default_factory=dict)

    def to_optuna(self, grid: bool) -> BaseDistribution:
        """Build the distribution that Optuna samples; ``decode`` maps a sample to the value."""
        is_unweighted_list = (
            self.distribution in ("constant", "categorical") and "probabilities" not in self.spec
        )
        if grid or is_unweighted_list:
            # As text, because Optuna does not accept lists such as betas.
            return CategoricalDistribution([str(value) for value in self.points()])
        if self.distribution == "int_uniform":
            return IntDistribution(self.spec["min"], self.spec["max"])
        if self.distribution == "uniform" or self.distribution in LOG_UNIFORM:
            low, high = self.boundary_values()
            return FloatDistribution(low, high, log=self.distribution in LOG_UNIFORM)
        return FloatDistribution(QUANTILE_MARGIN, 1 - QUANTILE_MARGIN)

    def decode(self, sample: Any) -> Any:
        """Map a sample of the distribution of ``to_optuna`` to the value."""
        if isinstance(sample, str):
            return {str(value): value for value in self.points()}[sample]
        if self.distribution in ("int_uniform", "uniform", *LOG_UNIFORM):
            return sample
        return self.value_at(sample)

    def value_at(self, quantile: float) -> Any:
        """Value at a quantile: this share of the samples lies below it."""
        if self.distribution not in CONTINUOUS_DISTRIBUTIONS:
            values = self.points()
            shares = self.spec.get("probabilities") or [1 / len(values)] * len(values)
            index = bisect.bisect(list(itertools.accumulate(shares)), quantile)
            return values[min(index, len(values) - 1)]
        build, _, _ = CONTINUOUS_DISTRIBUTIONS[self.distribution]
        value = float(build(self.spec).ppf(quantile))
        if self.distribution.startswith("q_"):
            q = self.spec.get("q", 1)
            value = round(value / q) * q
        # 0.3 instead of 0.30000000000000004.
        return float(f"{value:.12g}")

    def points(self) -> list[Any]:
        """List all values, in order. Raises UserError for a continuous distribution."""
        spec = self.spec
        if self.distribution == "constant":
            return [spec["value"]]
        if self.distribution.startswith("categorical"):
            return list(spec["values"])
        if self.distribution == "int_uniform":
            return list(range(spec["min"], spec["max"] + 1))
        if self.distribution == "q_uniform":
            first, last = self.boundary_values()
            q = spec.get("q", 1)
            return [float(f"{first + i * q:.12g}") for i in range(round((last - first) / q) + 1)]
        raise UserError(
            f"parameters.{self.key}: a grid cannot have the distribution {self.distribution}. "
            "List its values: "
            "'values: [...]'"
        )

    def boundary_values(self) -> list[Any]:
        """List the values that must be legal: all values of a list, the two ends of a range."""
        if self.distribution == "int_uniform":
            return [self.spec["min"], self.spec["max"]]
        if self.distribution in CONTINUOUS_DISTRIBUTIONS:
            margin = 0.0 if "min" in self.spec else QUANTILE_MARGIN
            return [self.value_at(margin), self.value_at(1 - margin)]
        return self.points()

    def __str__(self) -> str:
        if self.distribution == "constant":
            return str(self.spec["value"])
        return f"{self.distribution} " + ", ".join(
            f"{key} {value}" for key, value in self.spec.items()
        )


def parse(key: str, spec: Any) -> Parameter:
    """Parse a parameter of a sweep file. A missing distribution is inferred as W&B does.

    Raises:
        UserError: W&B would reject the parameter, or the lab cannot run it. The message names it.
    """
    where = f"parameters.{key}"
    if not isinstance(spec, dict):
        raise UserError(f"{where} is not a mapping: {spec!r}. Write 'value: 1' or 'values: [1, 2]'")
    if "parameters" in spec:
        raise UserError(f"{where} is nested. Write its keys with dots, such as {key}.lr")
    spec = dict(spec)
    name = spec.pop("distribution", None) or _infer_distribution(where, spec)
    if name in DISCRETE_DISTRIBUTIONS:
        required, optional = DISCRETE_DISTRIBUTIONS[name]
    elif name in CONTINUOUS_DISTRIBUTIONS:
        _, required, optional = CONTINUOUS_DISTRIBUTIONS[name]
    else:
        known = ", ".join(sorted([*DISCRETE_DISTRIBUTIONS, *CONTINUOUS_DISTRIBUTIONS]))
        raise UserError(f"{where}: unknown distribution: {name!r}. Choose one of {known}")
    for missing in (k for k in required if k not in spec):
        raise UserError(f"{where}: the distribution {name} needs {missing}")
    for superfluous in (k for k in spec if k not in (*required, *optional)):
        raise UserError(f"{where}: the distribution {name} has no {superfluous}")
    _check_numbers(where, name, spec)
    if "values" in spec:
        _check_values(where, spec)
    return Parameter(key, name, spec)


def _infer_distribution(where: str, spec: Spec) -> str:
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    if "min" in spec and "max" in spec:
        return (
            "int_uniform"
            if isinstance(spec["min"], int) and isinstance(spec["max"], int)
            else "uniform"
        )
    raise UserError(f"{where} needs value, values, min and max, or a distribution")


def _check_numbers(where: str, name: str, spec: Spec) -> None:
    kind: Any = int if name == "int_uniform" else int | float
    for key in (k for k in spec if k not in ("value", "values", "probabilities")):
        number = spec[key]
        if not isinstance(number, kind) or isinstance(number, bool):
            raise UserError(
                f"{where}: {key} is not {'an integer' if kind is int else 'a number'}: {number!r}"
            )
        if key in POSITIVE_KEYS and number <= 0:
            raise UserError(f"{where}: {key} must be greater than 0: {number}")
    if "min" in spec and spec["min"] >= spec["max"]:
        raise UserError(
            f"{where}: min={spec['min']} is not less than max={spec['max']}. "
            "Write 'value:' for a constant"
        )
    if name.endswith("log_uniform_values") and spec["min"] <= 0:
        raise UserError(f"{where}: min must be greater than 0 for {name}: {spec['min']}")


def _check_values(where: str, spec: Spec) -> None:
    values = spec["values"]
    if (
        not isinstance(values, list)
        or not values
        or len({str(value) for value in values}) < len(values)
    ):
        raise UserError(f"{where}: values must be a non-empty list of different values: {values!r}")
    if "probabilities" not in spec:
        return
    shares = spec["probabilities"]
    if (
        not isinstance(shares, list)
        or len(shares) != len(values)
        or not math.isclose(sum(shares), 1, abs_tol=1e-6)
    ):
        raise UserError(
            f"{where}: probabilities must be one for each value, and sum to 1: {shares!r}"
        )
