"""Read a run folder as far as it is there: of a run that trains, that broke off, or that an older lab left."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gan_lab.config import loading
from gan_lab.config.schema import Config, leaves
from gan_lab.runs.folder import to_dict
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_rows

Points = list[tuple[float, float]]  # images seen, value (may be NaN)


@dataclass(frozen=True)
class Setting:
    """A key of the config; ``default`` is None where this lab no longer knows the key."""

    key: str
    value: str
    default: str | None

    @property
    def differs(self) -> bool:
        """True if it is not the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Alert:
    """An alert of a run."""

    images: int
    kind: str
    sentence: str


class Run:
    """A run folder, read when it is asked. Raises UserError if the folder is not a run, or its config cannot be read."""

    def __init__(self, folder: Path) -> None:
        path = folder / "config.yaml"
        if not path.is_file():
            raise UserError(f"{folder} is not a run folder: it has no config.yaml")
        try:
            tree = OmegaConf.to_container(OmegaConf.load(path))
            assert isinstance(tree, dict)
        except Exception as error:  # the YAML reader has many
            first = (str(error).splitlines() or ["it holds no keys"])[0]
            raise UserError(f"{path} is damaged: {first}") from None
        self.folder = folder
        self.values: dict[str, Any] = dict(leaves(tree))
        self.place = str(folder)  # as it is told

    @cached_property
    def state(self) -> dict[str, Any]:
        """``summary.json``; empty if there is none, or none that can be read."""
        try:
            loaded = json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    @cached_property
    def words(self) -> list[str]:
        """The last command line: ``train``, the experiment, and its overrides."""
        path = self.folder / "command.txt"
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        command = lines[-1].partition("gan-lab ")[2] if lines else ""
        try:
            return shlex.split(command)
        except ValueError:  # an older lab quoted nothing
            return command.split()

    @property
    def experiment(self) -> str:
        """Its name."""
        return str(self.state.get("experiment") or (self.words[1:2] or [self.folder.resolve().parent.name])[0])

    @property
    def name(self) -> str:
        """Experiment and id."""
        return f"{Path(self.experiment).stem} / {self.folder.resolve().name}"

    @cached_property
    def curves(self) -> dict[str, Points]:
        """Every numeric column of ``metrics.csv`` over images seen."""
        return _columns(self.folder / "metrics.csv")

    @cached_property
    def timing(self) -> dict[str, Points]:
        """Every numeric column of ``timing.csv`` over images seen."""
        return _columns(self.folder / "timing.csv")

    @property
    def images(self) -> int:
        """Training images seen, as far as they are recorded."""
        recorded = [points[-1][0] for points in self.curves.values() if points]
        return int(max([self.state.get("images", 0), *recorded]))

    @property
    def wanted(self) -> int:
        """The budget in images."""
        return int(_number(self.values.get("run.images")) or 0)

    @property
    def ended(self) -> bool:
        """True if it has spent its budget and has a summary."""
        return bool(self.state) and self.state.get("images", 0) >= self.wanted

    def scores(self, weights: str) -> dict[str, dict[str, Any]]:
        """The scores of the ``best``, ``last`` or ``live`` weights: value and protocol."""
        kept: dict[str, dict[str, Any]] = dict(self.state.get("scores", {}).get(weights, {}))
        return kept

    @property
    def floors(self) -> dict[str, float]:
        """Scores of real images in the place of the fakes, of those that were measured during the training."""
        known: dict[str, float] = dict(self.state.get("validation_floors", {}))
        return known

    @property
    def data(self) -> str:
        """The data in words, or their name."""
        return str(self.state.get("data") or self.values.get("data.name") or "not recorded")

    @cached_property
    def score_names(self) -> list[str]:
        """Everything that is a score of this run."""
        measured = (name for name in self.higher_is_better if name in self.curves)
        return list(dict.fromkeys([*self.scores("last"), *self.scores("best"), *measured]))

    @cached_property
    def higher_is_better(self) -> dict[str, bool | None]:
        """The direction of each score: what the training wrote at its start, and what was scored since."""
        path = self.folder / "scores.json"
        try:
            known: dict[str, bool | None] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        except ValueError:  # torn
            known = {}
        for weights in ("live", "last", "best"):
            entries = self.state.get("scores", {}).get(weights, {})
            known |= {name: entry.get("higher_is_better", known.get(name)) for name, entry in entries.items()}
        return known

    def direction(self, score: str) -> str:
        """The better direction of a score in words; empty if neither is better."""
        return {True: "higher is better", False: "lower is better"}.get(self.higher_is_better.get(score), "")  # type: ignore[arg-type]

    @property
    def headline(self) -> str | None:
        """The score that chooses the best generator."""
        chosen = self.state.get("headline") or self.values.get("metrics.headline")
        return str(chosen) if chosen else next((name for name in self.score_names if self.curves.get(name)), None)

    @cached_property
    def alerts(self) -> list[Alert] | None:
        """The alerts of the run; None if it was trained without health checks."""
        path = self.folder / "health.csv"
        if not path.is_file() and "health" not in self.state:
            return None
        rows: Any = read_rows(path) if path.is_file() else self.state.get("health", [])
        return [Alert(int(_number(row.get("images")) or 0), row.get("kind") or "", row.get("sentence") or "")
                for row in rows]  # fmt: skip

    @cached_property
    def grids(self) -> list[tuple[int, Path]]:
        """Images seen and file of each grid, in order."""
        paths = (self.folder / "samples").glob("*.png")
        return sorted((int(path.stem), path) for path in paths if path.stem.isdecimal())

    @property
    def settings(self) -> list[Setting]:
        """The config, each key beside its default."""
        known = _defaults(str(self.values.get("family")))
        return [Setting(key, shown(value), shown(known[key]) if key in known else None)
                for key, value in self.values.items()]  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """``environment.txt``."""
        path = self.folder / "environment.txt"
        return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []

    @property
    def hours(self) -> float:
        """Hours spent training, pauses between two starts left out; 0 if nothing is recorded."""
        speeds = [(images, speed) for images, speed in self.timing.get("images_per_s", []) if speed > 0]
        before = [0.0, *(images for images, _ in speeds)]
        return sum((images - since) / speed for since, (images, speed) in zip(before, speeds, strict=False)) / 3600

    @property
    def speed(self) -> float | None:
        """Images per second, the median over the rows."""
        values = sorted(speed for _, speed in self.timing.get("images_per_s", []) if math.isfinite(speed))
        return values[len(values) // 2] if values else None


def shown(value: Any) -> str:
    """A value of a config, as YAML has it; tuples as lists."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return str(value)


def family_of(name: str) -> Any:
    """The class of a family, or None."""
    try:
        return loading.family_class(name)
    except ValueError:  # a run of a family that is no longer there
        return None


def _defaults(family: str) -> Mapping[str, Any]:
    family_class = family_of(family)
    defaults = Config() if family_class is None else Config(family=family, model=family_class.Config())
    return dict(leaves(to_dict(defaults)))


def _columns(path: Path) -> dict[str, Points]:
    """The numeric columns of a CSV file but iteration and images; a last line that was cut off is left out."""
    columns: dict[str, Points] = {}
    for row in read_rows(path):
        images = _number(row.get("images"))
        for name, text in row.items():
            value = _number(text)
            if images is not None and value is not None and name not in ("iteration", "images", None):
                columns.setdefault(name, []).append((images, value))
    return columns


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
