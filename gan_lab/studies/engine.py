"""Measure a study: each arm with each seed once, whatever comes between."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gan_lab.benchmark import train_once
from gan_lab.config import loading
from gan_lab.runs.folder import RunFolder
from gan_lab.runs.run import Run
from gan_lab.studies import Study, measures
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils import process
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_json, write_text

DIGITS = 6  # of a recorded number; what is not finite is null
logger = logging.getLogger("gan_lab")


def measure(study: Study, budget: str, root: Path, wait: bool = False) -> bool:
    """Measure what is not yet measured, into ``root``; what another process measures is left to it, or waited for.

    True if now all of it is measured. A study that was killed goes on with the measurement, and the training, that it
    was in. Raises UserError for an unknown budget, and if a training fails.
    """
    fingerprint = study.fingerprint(budget)
    units = _units(study, budget, root)
    for number, (arm, seed, unit) in enumerate(units, 1):
        if _read(unit, fingerprint) is not None:
            continue
        if wait:
            logger.info(
                f"{study.name} ({budget}) waits for {arm}, seed {seed}, which another process measures"
            )
        unit.parent.mkdir(parents=True, exist_ok=True)
        with (
            suppress(Timeout),
            FileLock(unit.with_name(f".{unit.stem}.lock"), timeout=-1 if wait else 0),
        ):
            if _read(unit, fingerprint) is None:
                logger.info(
                    f"{study.name} ({budget}), {number} of {len(units)}: {arm}, seed {seed}"
                )
                _measure(study, budget, root, arm, seed, unit)
    return all(_read(unit, fingerprint) is not None for _, _, unit in units)


def collect(study: Study, budget: str, root: Path) -> None:
    """Write the results of what ``measure`` measured. Raises UserError if something is missing."""
    fingerprint = study.fingerprint(budget)
    results: Results = {arm: [] for arm in study.arms}
    seconds, runs = 0.0, []
    for arm, _, unit in _units(study, budget, root):
        if (measured := _read(unit, fingerprint)) is None:
            raise UserError(f"{unit} is missing: the study of {study.name} is not measured")
        results[arm].append(measured["values"])
        seconds += measured["seconds"]
        runs += measured.get("runs", [])
    recorded = {
        "study": study.name,
        "budget": budget,
        "fingerprint": fingerprint,
        "results": results,
    }
    path = root / "studies" / study.name / f"{budget}.json"
    write_text(path, json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    write_text(path.with_suffix(".cost.json"), json.dumps({"seconds": round(seconds)}) + "\n")
    write_text(path.with_suffix(".runs.json"), json.dumps([*dict.fromkeys(runs)]) + "\n")


def _units(study: Study, budget: str, root: Path) -> list[tuple[str, int, Path]]:
    """Each arm with each seed, every arm with a seed early, and the file of what was measured."""
    chosen, place = study.budget(budget), root / "studies" / study.name / budget
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    return [(arm, seed, place / f"{arm}-seed{seed}.json") for seed in seeds for arm in study.arms]


def _measure(study: Study, budget: str, root: Path, arm: str, seed: int, unit: Path) -> None:
    clock = Clock()
    words = [*study.arms[arm].split(), *study.budget(budget).words.split()]
    values = measures.find(study.measure).measure(
        Arm(arm, words, seed, _trainer(root, seed, clock))
    )
    measured = {
        "fingerprint": study.fingerprint(budget),
        "values": _rounded(values),
        "seconds": round(clock.read(), 1),
    }
    runs = [f"{folder.parent.name}/{folder.name}" for folder in clock.runs]
    write_text(unit, json.dumps(measured | {"runs": runs}))


@contextmanager
def shared(command: Sequence[str], workers: int) -> Iterator[None]:
    """Have other processes run the same command meanwhile, so that there are ``workers``; they end with the context."""
    if workers > 1:  # each as many threads as there are cores for it
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    others = [process.start(command, Path(os.devnull), errors=True) for _ in range(workers - 1)]
    try:
        yield
    finally:
        for other in others:
            other.terminate()  # which makes its training write a checkpoint
        for other in others:
            other.wait()


def _read(unit: Path, fingerprint: str) -> dict[str, Any] | None:
    """A measurement that was made of the same design; None if there is none."""
    if not unit.is_file():
        return None
    measured: dict[str, Any] = read_json(unit)
    return measured if measured["fingerprint"] == fingerprint else None


class Clock:
    """The seconds of a measurement, in which a training counts what it took when it was made, by whatever study."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._added = 0.0
        self.runs: list[Path] = []

    def trained(self, folder: Path, began: float) -> None:
        """Count the training in ``folder`` by its own record, not by what has passed since ``began``, and once."""
        self._added -= time.monotonic() - began
        if folder not in self.runs:
            self.runs.append(folder)
            self._added += 3600 * Run(folder).hours

    def read(self) -> float:
        """The seconds so far."""
        return time.monotonic() - self._begun + self._added


def _trainer(root: Path, seed: int, clock: Clock) -> Any:
    def train(words: list[str]) -> Path:
        own = [
            f"run.root={root / 'studies' / 'runs'}",
            f"run.seed={seed}",
            "log.wandb=off",
            "log.progress_bar=false",
        ]
        began = time.monotonic()
        run = RunFolder.of(loading.load(words[0], [*words[1:], *own])).path
        with FileLock(
            root / "studies" / f".{run.parent.name}-{run.name}.lock"
        ):  # other studies have this training too
            folder = train_once([*words, *own])
        clock.trained(folder, began)
        return folder

    return train


def _rounded(values: Values) -> Values:
    return {
        name: [_round(x) for x in value] if isinstance(value, list) else _round(value)
        for name, value in values.items()
    }


def _round(x: float) -> float | None:
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None  # JSON has no NaN
