"""Measure a study: each arm with each seed once, whatever comes between."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

from gan_lab.benchmark import train_once
from gan_lab.report.reading import Run
from gan_lab.studies import Study, measures
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils.files import write_text

DIGITS = 6  # of a recorded number; what is not finite is null
logger = logging.getLogger("gan_lab")


def run(study: Study, budget: str, root: Path) -> Path:
    """Measure what is not yet measured, under ``root``, and write the results, which it returns the path of.

    A study that was killed goes on with the measurement, and the training, that it was in. Raises ValueError for an
    unknown budget, and if a training fails.
    """
    chosen, fingerprint = study.budget(budget), study.fingerprint(budget)
    measure = measures.find(study.measure).measure
    place = root / "studies" / study.name / budget
    place.mkdir(parents=True, exist_ok=True)
    units = [
        (seed, arm) for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds) for arm in study.arms
    ]  # every arm has a seed early
    results: Results = {arm: [] for arm in study.arms}
    seconds = 0.0
    for number, (seed, arm) in enumerate(units, 1):
        unit = place / f"{arm}-seed{seed}.json"
        if (measured := _read(unit, fingerprint)) is None:
            logger.info(f"{study.name} ({budget}), {number} of {len(units)}: {arm}, seed {seed}")
            clock = _Clock()
            words = [*study.arms[arm].split(), *chosen.words.split()]
            values = measure(Arm(arm, words, seed, _trainer(root, seed, clock)))
            measured = {"fingerprint": fingerprint, "values": _rounded(values), "seconds": round(clock.read(), 1)}
            write_text(unit, json.dumps(measured))
        results[arm].append(measured["values"])
        seconds += measured["seconds"]
    recorded = {"study": study.name, "budget": budget, "fingerprint": fingerprint, "results": results}
    path = place.with_suffix(".json")
    write_text(path, json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    write_text(place.with_suffix(".cost.json"), json.dumps({"seconds": round(seconds)}) + "\n")
    return path


def _read(unit: Path, fingerprint: str) -> dict[str, Any] | None:
    """A measurement that was made of the same design; None if there is none."""
    if not unit.is_file():
        return None
    measured: dict[str, Any] = json.loads(unit.read_text(encoding="utf-8"))
    return measured if measured["fingerprint"] == fingerprint else None


class _Clock:
    """The seconds of a measurement, in which a training counts what it took when it was made, by whatever study."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._added = 0.0

    def trained(self, folder: Path, began: float) -> None:
        """Count the training in ``folder`` by its own record, not by what has passed since ``began``."""
        self._added += 3600 * Run(folder).hours - (time.monotonic() - began)

    def read(self) -> float:
        return time.monotonic() - self._begun + self._added


def _trainer(root: Path, seed: int, clock: _Clock) -> Any:
    def train(words: list[str]) -> Path:
        own = [f"run.root={root / 'studies' / 'runs'}", f"run.seed={seed}", "log.wandb=off", "log.bar=false"]
        began = time.monotonic()
        folder = train_once([*words, *own])
        clock.trained(folder, began)
        return folder

    return train


def _rounded(values: Values) -> Values:
    return {
        name: [_round(x) for x in value] if isinstance(value, list) else _round(value) for name, value in values.items()
    }


def _round(x: float) -> float | None:
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None  # JSON has no NaN
