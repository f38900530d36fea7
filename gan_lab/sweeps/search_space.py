"""Parameters of a sweep file: every distribution that W&B knows, sampled by an Optuna trial.

Source: the sweep configuration of W&B (docs.wandb.ai, "Sweep configuration options"). One that Optuna lacks is
sampled as its quantile, between 0 and 1, and mapped to the value: each is exactly W&B's, and TPE learns over quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from gan_lab.utils.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import Trial

EDGE = 1e-9  # quantiles lie between this and 1 - this, so that a normal distribution has ends that can be checked
Spec = dict[str, Any]


def _uniform(u: float, spec: Spec) -> float:
    return float(spec["min"] + (spec["max"] - spec["min"]) * u)


def _log_values(u: float, spec: Spec) -> float:
    return math.exp(_uniform(u, {"min": math.log(spec["min"]), "max": math.log(spec["max"])}))


def _normal(u: float, spec: Spec) -> float:
    return NormalDist(spec.get("mu", 0), spec.get("sigma", 1)).inv_cdf(u)


def _beta(u: float, spec: Spec) -> float:
    from scipy.special import betaincinv

    return float(betaincinv(spec.get("a", 1), spec.get("b", 1), u))


RANGE = ("min", "max")
# name: the value at a quantile, the required keys, the optional keys
CONTINUOUS: dict[str, tuple[Callable[[float, Spec], float], tuple[str, ...], tuple[str, ...]]] = {
    "uniform": (_uniform, RANGE, ()),
    "log_uniform": (lambda u, spec: math.exp(_uniform(u, spec)), RANGE, ()),
    "log_uniform_values": (_log_values, RANGE, ()),
    "inv_log_uniform": (lambda u, spec: math.exp(-_uniform(u, spec)), RANGE, ()),
    "inv_log_uniform_values": (_log_values, RANGE, ()),  # log(1/x) is uniform where log(x) is
    "normal": (_normal, (), ("mu", "sigma")),
    "log_normal": (lambda u, spec: math.exp(_normal(u, spec)), (), ("mu", "sigma")),
    "beta": (_beta, (), ("a", "b")),
}
CONTINUOUS |= {
    f"q_{name}": (value_at, required, (*optional, "q"))
    for name, (value_at, required, optional) in list(CONTINUOUS.items())
    if not name.startswith("inv_")
}
POSITIVE = ("sigma", "a", "b", "q")
DISCRETE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ("probabilities",)),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": (RANGE, ()),
}


@dataclass(frozen=True)
class Parameter:
    """One config key of the experiment, and the distribution of its values."""

    key: str
    distribution: str
    spec: Spec = field(default_factory=dict)

    def at(self, quantile: float) -> Any:
        """Value at a quantile: this share of the draws lies below it."""
        if self.distribution not in CONTINUOUS:
            values = self.points()
            shares = self.spec.get("probabilities") or [1 / len(values)] * len(values)
            cumulative = 0.0
            for value, share in zip(values, shares, strict=True):
                cumulative += share
                if quantile < cumulative:
                    return value
            return values[-1]
        value = CONTINUOUS[self.distribution][0](quantile, self.spec)
        if self.distribution.startswith("q_"):
            q = self.spec.get("q", 1)
            value = round(value / q) * q
        return float(f"{value:.12g}")  # 0.3, not 0.30000000000000004

    def points(self) -> list[Any]:
        """All values, in order. Raises UserError for a continuous distribution."""
        spec = self.spec
        if self.distribution == "constant":
            return [spec["value"]]
        if self.distribution.startswith("categorical"):
            return list(spec["values"])
        if self.distribution == "int_uniform":
            return list(range(spec["min"], spec["max"] + 1))
        if self.distribution == "q_uniform":
            first, q = self.at(0.0), spec.get("q", 1)
            return [float(f"{first + i * q:.12g}") for i in range(round((self.at(1.0) - first) / q) + 1)]
        raise UserError(
            f"parameters.{self.key}: a grid cannot have the distribution {self.distribution}: give it values"
        )

    def ends(self) -> list[Any]:
        """Values that must be legal: all values of a list, the two ends of a range."""
        if self.distribution == "int_uniform":
            return [self.spec["min"], self.spec["max"]]
        if self.distribution in CONTINUOUS:
            edge = 0.0 if "min" in self.spec else EDGE
            return list(dict.fromkeys((self.at(edge), self.at(1 - edge))))
        return self.points()

    def suggest(self, trial: Trial, grid: bool) -> Any:
        """Sample the value for a trial."""
        name, spec = self.key, self.spec
        if self.distribution == "constant":
            return spec["value"]
        if grid or (self.distribution.startswith("categorical") and "probabilities" not in spec):
            values = {str(value): value for value in self.points()}  # Optuna accepts no lists
            return values[trial.suggest_categorical(name, list(values))]
        if self.distribution == "int_uniform":
            return trial.suggest_int(name, spec["min"], spec["max"])
        if self.distribution == "uniform":
            return trial.suggest_float(name, spec["min"], spec["max"])
        if self.distribution in ("log_uniform", "log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"):
            low, high = sorted((self.at(0.0), self.at(1.0)))
            return trial.suggest_float(name, low, high, log=True)
        return self.at(trial.suggest_float(name, EDGE, 1 - EDGE))

    def __str__(self) -> str:
        if self.distribution == "constant":
            return str(self.spec["value"])
        return f"{self.distribution} " + ", ".join(f"{key} {value}" for key, value in self.spec.items())


def parse(key: str, spec: Any) -> Parameter:
    """Parse a parameter of a sweep file; a distribution that is not named is inferred as W&B does.

    Raises UserError that names the parameter if W&B would refuse it or the lab cannot map it.
    """
    where = f"parameters.{key}"
    if not isinstance(spec, dict):
        raise UserError(f"{where} is {spec!r}: it must be a mapping such as 'value: 1' or 'values: [1, 2]'")
    if "parameters" in spec:
        raise UserError(f"{where} is nested: write its keys with dots, such as {key}.lr")
    spec = dict(spec)
    name = spec.pop("distribution", None) or _infer(where, spec)
    if name in DISCRETE:
        required, optional = DISCRETE[name]
    elif name in CONTINUOUS:
        _, required, optional = CONTINUOUS[name]
    else:
        raise UserError(f"{where}: no distribution {name!r}. There are: {', '.join(sorted([*DISCRETE, *CONTINUOUS]))}")
    for missing in (k for k in required if k not in spec):
        raise UserError(f"{where}: the distribution {name} needs {missing}")
    for superfluous in (k for k in spec if k not in (*required, *optional)):
        raise UserError(f"{where}: the distribution {name} has no {superfluous}")
    _check_numbers(where, name, spec)
    return Parameter(key, name, spec)


def _infer(where: str, spec: Spec) -> str:
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    raise UserError(f"{where} needs value, values, min and max, or a distribution")


def _check_numbers(where: str, name: str, spec: Spec) -> None:
    for key in (k for k in spec if k not in ("value", "values", "probabilities")):
        number, kind = spec[key], int if name == "int_uniform" else int | float
        if not isinstance(number, kind) or isinstance(number, bool):
            text = "; YAML reads 1e-3 as text: write 1.0e-3" if isinstance(number, str) else ""
            raise UserError(f"{where}: {key}={number!r} is not {'an integer' if kind is int else 'a number'}{text}")
        if key in POSITIVE and number <= 0:
            raise UserError(f"{where}: {key}={number} must be greater than 0")
    if "min" in spec and spec["min"] > spec["max"]:
        raise UserError(f"{where}: min={spec['min']} is greater than max={spec['max']}")
    if name.endswith("log_uniform_values") and spec["min"] <= 0:
        raise UserError(f"{where}: min={spec['min']} must be greater than 0 for {name}")
    if "values" in spec:
        values = spec["values"]
        if not isinstance(values, list) or not values or len({str(value) for value in values}) < len(values):
            raise UserError(f"{where}: values={values!r} must be a list, not empty, of different values")
        shares = spec.get("probabilities", [1])
        if not isinstance(shares, list) or ("probabilities" in spec and len(shares) != len(values)) or not math.isclose(
            sum(shares), 1, abs_tol=1e-6
        ):  # fmt: skip
            raise UserError(f"{where}: probabilities={shares!r} must be one for each value, and sum to 1")
