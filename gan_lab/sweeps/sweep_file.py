"""Sweep files in W&B's format: the question, the parameters, and the command line of a trial."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab.config import groups, loading, plain_yaml
from gan_lab.config.schema import Config
from gan_lab.config.values import format_overrides, is_null, is_text, list_kinds
from gan_lab.sweeps.search_space import Parameter, parse
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import find_shipped_folder

ARGUMENTS_PLACEHOLDER = "${args_no_hyphens}"
SEARCH_METHODS = ("grid", "random", "bayes")


@dataclass(frozen=True)
class Halving:
    """Successive halving: keep the best 1 / ``eta`` of the trials at each rung.

    The rungs are ``first``, ``first * eta``, ``first * eta²``, ... evaluations.
    """

    first: int
    eta: int


@dataclass(frozen=True)
class Sweep:
    """A sweep file, ``sweeps/<name>.yaml``. ``content`` is the parsed file, which W&B receives."""

    name: str
    question: str
    method: str
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    run_cap: int | None
    halving: Halving | None
    content: dict[str, Any]

    @property
    def experiment(self) -> str:
        """Name of the experiment."""
        return self.command[self.command.index("train") + 1]

    @property
    def fixed_overrides(self) -> list[str]:
        """Overrides that the file gives to all trials."""
        return [
            part
            for part in self.command[self.command.index("train") + 2 :]
            if part != ARGUMENTS_PLACEHOLDER
        ]

    def grid_points(self) -> list[dict[str, Any]]:
        """List all combinations of a grid; the last parameter changes fastest."""
        combinations = itertools.product(*(parameter.points() for parameter in self.parameters))
        return [
            dict(zip((p.key for p in self.parameters), point, strict=True))
            for point in combinations
        ]

    def insert_overrides(self, overrides: Sequence[str]) -> list[str]:
        """Return the command with the user's overrides before those of the trial."""
        position = self.command.index(ARGUMENTS_PLACEHOLDER)
        return [*self.command[:position], *overrides, *self.command[position:]]

    def trial_command(
        self, values: dict[str, Any], overrides: Sequence[str] = (), placement: Sequence[str] = ()
    ) -> list[str]:
        """Build the command line of a trial as W&B's agent does, with this interpreter.

        Args:
            values: The values of the trial.
            overrides: Overrides of all trials, which the values of the trial take precedence over.
            placement: Overrides that come last: where the run is written.
        """
        macros = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${program}": [str(self.content.get("program", ""))],
            ARGUMENTS_PLACEHOLDER: format_overrides(values),
        }
        parts = [macros.get(part, [part]) for part in self.insert_overrides(overrides)]
        return [*itertools.chain.from_iterable(parts), *placement]


def sweep_folder() -> Path:
    """Return the folder of the sweep files."""
    return find_shipped_folder("sweeps", inside="sweep_files")


def list_sweeps() -> dict[str, str]:
    """List the sweeps, each with its question, which is the first comment of its file."""
    return {
        path.stem: loading.first_comment(path) for path in groups.list_yaml_files(sweep_folder())
    }


def load(name: str) -> Sweep:
    """Load a sweep by its name in ``sweeps/`` or by the path of a YAML file.

    Raises:
        UserError: The name is unknown, or the lab cannot run the sweep as W&B would.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(os.path.expanduser(name))
    else:
        path = sweep_folder() / f"{name}.yaml"
    if not path.is_file():
        raise UserError(loading.explain_missing_file("sweep", name, list(list_sweeps())))
    tree = plain_yaml.read_file(path)
    content = plain_yaml.resolve(tree)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: not a mapping: {content!r}. A sweep has keys such as 'method: grid'"
        )
    _keep_text(content, tree)
    try:
        return _parse_sweep(path, content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _keep_text(content: dict[str, Any], tree: dict[str, Any]) -> None:
    """Restore the values of text keys as they are written, such as ``run.id: {value: 0012}``."""
    kinds = list_kinds(Config)
    written = tree.get("parameters")
    for key, spec in written.items() if isinstance(written, dict) else ():
        if not isinstance(spec, dict) or not is_text(kinds.get(key)):
            continue
        for name in spec.keys() & {"value", "values"}:
            content["parameters"][key][name] = _to_text(spec[name])


def _to_text(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_to_text(item) for item in tree]
    return str(tree) if isinstance(tree, str) and not is_null(tree) else plain_yaml.resolve(tree)


def _parse_sweep(path: Path, content: dict[str, Any]) -> Sweep:
    if content.get("method") not in SEARCH_METHODS:
        raise UserError(
            f"unknown method: {content.get('method')}. Choose one of {', '.join(SEARCH_METHODS)}"
        )
    metric = content.get("metric")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError("metric needs a name, such as 'metric: {name: fd_digits, goal: minimize}'")
    for key in metric.keys() - {"name", "goal"}:
        raise UserError(f"unknown key: metric.{key}. metric has name and goal")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise UserError(f"metric.goal must be minimize or maximize: {metric['goal']}")
    if not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise UserError("parameters are missing")
    run_cap = content.get("run_cap")
    if run_cap is not None and (not isinstance(run_cap, int) or run_cap < 1):
        raise UserError(f"run_cap must be an integer of at least 1: {run_cap}")
    sweep = Sweep(
        name=path.stem,
        question=loading.first_comment(path),
        method=content["method"],
        metric=metric["name"],
        maximize=metric.get("goal") == "maximize",
        parameters=tuple(parse(str(key), value) for key, value in content["parameters"].items()),
        command=_parse_command(content.get("command")),
        run_cap=run_cap,
        halving=_parse_halving(content.get("early_terminate")),
        content=content,
    )
    if sweep.method == "grid":
        # Raises UserError for a continuous distribution.
        sweep.grid_points()
    return sweep


def _parse_command(content: Any) -> tuple[str, ...]:
    if not isinstance(content, list):
        raise UserError(
            f"command must be a list that ends with '{ARGUMENTS_PLACEHOLDER}': {content!r}"
        )
    command = tuple(str(part) for part in content)
    macros = ("${env}", "${interpreter}", "${program}", ARGUMENTS_PLACEHOLDER)
    for part in command:
        if "$" in part and part not in macros:
            raise UserError(
                f"unknown macro in command: {part!r}. Choose one of {', '.join(macros)}"
            )
    if command.count(ARGUMENTS_PLACEHOLDER) != 1 or "train" not in command:
        raise UserError(
            f"command must contain 'train', the experiment, and '{ARGUMENTS_PLACEHOLDER}' once"
        )
    experiment = command[command.index("train") + 1 : command.index("train") + 2]
    if not experiment or not re.fullmatch(r"[\w./-]+", experiment[0]):
        raise UserError("command must name the experiment after 'train'")
    return command


def _parse_halving(content: Any) -> Halving | None:
    """Parse W&B's hyperband.

    With ``max_iter``, ``s`` bands are max_iter / eta, / eta², ...; the last is ``first``.
    """
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("type") != "hyperband":
        raise UserError(f"early_terminate.type must be hyperband: {content!r}")
    for key in content.keys() - {"type", "min_iter", "max_iter", "s", "eta"}:
        raise UserError(
            f"unknown key: early_terminate.{key}. hyperband has min_iter, max_iter, s and eta"
        )
    if ("min_iter" in content) == ("max_iter" in content) or (
        "max_iter" in content and "s" not in content
    ):
        raise UserError("early_terminate needs either min_iter, or max_iter and s")
    for key in content.keys() - {"type"}:
        minimum = 2 if key == "eta" else 1
        if not isinstance(content[key], int) or content[key] < minimum:
            raise UserError(
                f"early_terminate.{key} must be an integer of at least {minimum}: {content[key]}"
            )
    eta = content.get("eta", 3)
    if "min_iter" in content:
        return Halving(content["min_iter"], eta)
    return Halving(max(1, int(content["max_iter"] / eta ** content["s"])), eta)
