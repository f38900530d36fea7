"""Sweep files in W&B's format: the question, the parameters, and the command line of a trial."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gan_lab.config import groups, loading
from gan_lab.sweeps.search_space import Parameter, parse
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import shipped

ARGUMENTS = "${args_no_hyphens}"
METHODS = ("grid", "random", "bayes")


@dataclass(frozen=True)
class Halving:
    """Successive halving: after ``first`` evaluations, and each ``eta`` times later, the best 1 of ``eta`` goes on."""

    first: int
    eta: int


@dataclass(frozen=True)
class Sweep:
    """A sweep file, ``sweeps/<name>.yaml``. ``content`` is the parsed file, which W&B receives."""

    name: str
    about: str
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
    def fixed(self) -> list[str]:
        """Overrides that all trials have."""
        return [word for word in self.command[self.command.index("train") + 2 :] if word != ARGUMENTS]

    def points(self) -> list[dict[str, Any]]:
        """All combinations of a grid; the last parameter changes fastest."""
        combinations = itertools.product(*(parameter.points() for parameter in self.parameters))
        return [dict(zip((p.key for p in self.parameters), point, strict=True)) for point in combinations]

    def with_words(self, words: Sequence[str]) -> list[str]:
        """The command with the user's overrides before those of the trial."""
        at = self.command.index(ARGUMENTS)
        return [*self.command[:at], *words, *self.command[at:]]

    def command_line(self, values: dict[str, Any], words: Sequence[str] = (), after: Sequence[str] = ()) -> list[str]:
        """Build the command line of a trial as W&B's agent does, with this interpreter."""
        entries = {
            "${env}": ["/usr/bin/env"],
            "${interpreter}": [sys.executable],
            "${program}": [str(self.content.get("program", ""))],
            ARGUMENTS: to_words(values),
        }
        parts = [entries.get(part, [part]) for part in self.with_words(words)]
        return [*itertools.chain.from_iterable(parts), *after]


def to_words(values: dict[str, Any]) -> list[str]:
    """Format values as ``key=value`` words, as W&B's agent does."""
    return [f"{key}={value}" for key, value in values.items()]


def sweep_folder() -> Path:
    """Folder of the sweep files."""
    return shipped("sweeps", inside="sweep_files")


def list_sweeps() -> dict[str, str]:
    """List the sweeps, each with its question, which is the first comment of its file."""
    return {path.stem: loading.first_comment(path) for path in groups.files_in(sweep_folder())}


def load(name: str) -> Sweep:
    """Load a sweep by its name in ``sweeps/`` or by the path of a YAML file.

    Raises a one-line ValueError for an unknown name and for a sweep that the lab cannot run as W&B would.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else sweep_folder() / f"{name}.yaml"
    if not path.is_file():
        raise UserError(loading.explain_missing_file("sweep", name, list(list_sweeps())))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))  # as wandb does; configs are read differently
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a sweep is a mapping such as 'method: grid', this is {content!r}")
    try:
        return _parse_sweep(path, content)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _parse_sweep(path: Path, content: dict[str, Any]) -> Sweep:
    if content.get("method") not in METHODS:
        raise UserError(f"method={content.get('method')} is not one of {', '.join(METHODS)}")
    metric = content.get("metric")
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise UserError("metric must have a name, such as 'metric: {name: fd_digits, goal: minimize}'")
    if metric.keys() - {"name", "goal"}:
        raise UserError(f"metric.{min(metric.keys() - {'name', 'goal'})} cannot be mapped: metric has name and goal")
    if metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise UserError(f"metric.goal={metric['goal']} must be minimize or maximize")
    if not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise UserError("parameters are missing")
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise UserError(f"run_cap={cap} must be a whole number, at least 1")
    sweep = Sweep(
        name=path.stem, about=loading.first_comment(path), method=content["method"], metric=metric["name"],
        maximize=metric.get("goal") == "maximize", command=_parse_command(content.get("command")), run_cap=cap,
        parameters=tuple(parse(str(key), value) for key, value in content["parameters"].items()),
        halving=_parse_halving(content.get("early_terminate")), content=content,
    )  # fmt: skip
    if sweep.method == "grid":
        sweep.points()
    return sweep


def _parse_command(content: Any) -> tuple[str, ...]:
    if not isinstance(content, list):
        raise UserError(f"command must be a list: it starts python directly and ends with '{ARGUMENTS}'")
    command = tuple(str(part) for part in content)
    known = ("${env}", "${interpreter}", "${program}", ARGUMENTS)
    for part in command:
        if "$" in part and part not in known:
            raise UserError(f"command: {part!r} cannot be mapped: there are {', '.join(known)}")
    if command.count(ARGUMENTS) != 1 or "train" not in command:
        raise UserError(f"command must hold 'train', the experiment, and '{ARGUMENTS}' once")
    if not re.fullmatch(r"[\w./-]+", command[command.index("train") + 1 : command.index("train") + 2][0]):
        raise UserError("command: the word after 'train' must be the experiment")
    return command


def _parse_halving(content: Any) -> Halving | None:
    """Parse W&B's hyperband. With ``max_iter``, ``s`` bands are max_iter / eta, / eta², ...; the last is ``first``."""
    if content is None:
        return None
    if not isinstance(content, dict) or content.get("type") != "hyperband":
        raise UserError(f"early_terminate={content!r} cannot be mapped: its type must be hyperband")
    for key in content.keys() - {"type", "min_iter", "max_iter", "s", "eta"}:
        raise UserError(f"early_terminate.{key} cannot be mapped: hyperband has min_iter, max_iter, s and eta")
    eta = content.get("eta", 3)
    if ("min_iter" in content) == ("max_iter" in content) or ("max_iter" in content and "s" not in content):
        raise UserError("early_terminate needs either min_iter, or max_iter and s")
    for key in content.keys() - {"type"}:
        if not isinstance(content[key], int) or content[key] < (2 if key == "eta" else 1):
            raise UserError(
                f"early_terminate.{key}={content[key]} must be a whole number, at least {2 if key == 'eta' else 1}"
            )
    first = content["min_iter"] if "min_iter" in content else max(1, int(content["max_iter"] / eta ** content["s"]))
    return Halving(first, eta)
