"""Measure a study: each arm with each seed once, also after interruptions."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gan_lab.benchmark import TrainingDivergedError, train_once
from gan_lab.config import loading
from gan_lab.config.values import split_arguments
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.studies import Study, measurement_record, measures, verdict
from gan_lab.studies.arm_samples import write_samples
from gan_lab.studies.measures import Arm, Results, Values
from gan_lab.utils import process
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import make_file_name, read_json, write_text

SIGNIFICANT_DIGITS = 6
logger = logging.getLogger("gan_lab")


def measure(study: Study, budget: str, root: Path, wait: bool = False) -> bool:
    """Make the missing measurements of a study below ``root``.

    A killed study resumes with the measurement, and the training, that was interrupted. A
    sequential design is judged at each look, and ends as soon as every prediction is decided.

    Args:
        study: The study.
        budget: ``quick`` or ``full``.
        root: The folder of runs.
        wait: Wait for measurements of other processes instead of leaving them out.

    Returns:
        True if all measurements are complete.

    Raises:
        UserError: The budget is unknown, or a training failed. A training that diverged is a
            measurement without values instead.
    """
    looks = study.get_budget(budget).looks
    for seeds in looks:
        if not _measure_up_to(study, budget, root, seeds, wait):
            return False
        if len(looks) > 1:
            results = _read_measurements(study, budget, root, seeds)
            logger.info(f"{study.name} ({budget}), {verdict.describe_look(study, budget, results)}")
            if not verdict.needs_more_seeds(study, budget, results):
                break
    return True


def _measure_up_to(study: Study, budget: str, root: Path, seeds: int, wait: bool) -> bool:
    """Make the missing measurements of the first seeds; return True if all are complete."""
    fingerprint = measurement_record.compute_fingerprint(study, budget)
    measurements = _list_measurements(study, budget, root, seeds)
    for number, (arm, seed, path) in enumerate(measurements, 1):
        if _read_measurement(path, fingerprint) is not None:
            continue
        if wait:
            logger.info(
                f"Waiting for {study.name} ({budget}), {arm}, seed {seed}, "
                "which another process measures"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            suppress(Timeout),
            FileLock(path.with_name(f".{path.stem}.lock"), timeout=-1 if wait else 0),
        ):
            # Another process may have finished it before the lock was acquired.
            if _read_measurement(path, fingerprint) is None:
                logger.info(
                    f"Measuring {study.name} ({budget}), {number} of {len(measurements)}: "
                    f"{arm}, seed {seed}"
                )
                _measure_arm(study, budget, root, arm, seed, path)
    return all(_read_measurement(path, fingerprint) is not None for _, _, path in measurements)


def _read_measurements(study: Study, budget: str, root: Path, seeds: int) -> Results:
    """Read the values of the first seeds of each arm; raise UserError if one is missing."""
    results: Results = {arm: [] for arm in study.arms}
    for arm, measured in _list_complete_measurements(study, budget, root, seeds):
        results[arm].append(measured["values"])
    return results


def _list_complete_measurements(
    study: Study, budget: str, root: Path, seeds: int
) -> list[tuple[str, dict[str, Any]]]:
    fingerprint = measurement_record.compute_fingerprint(study, budget)
    found = []
    for arm, _, path in _list_measurements(study, budget, root, seeds):
        measured = _read_measurement(path, fingerprint)
        if measured is None:
            raise UserError(f"missing measurement: {path}. Run the study {study.name} to the end")
        found.append((arm, measured))
    return found


def collect(study: Study, budget: str, root: Path) -> None:
    """Write one file of results from the measurements. Raises UserError if one is missing."""
    looks = study.get_budget(budget).looks
    for seeds in looks:
        results = _read_measurements(study, budget, root, seeds)
        if len(looks) == 1 or not verdict.needs_more_seeds(study, budget, results):
            break
    by_arm = _list_complete_measurements(study, budget, root, seeds)
    measurements = [measured for _, measured in by_arm]
    runs = [run for measured in measurements for run in measured.get("runs", [])]
    recorded = {
        "study": study.name,
        "budget": budget,
        "fingerprint": study.compute_fingerprint(budget),
        "results": results,
    }
    cost = {"seconds": round(sum(measured["seconds"] for measured in measurements))}
    path = root / "studies" / study.name / f"{budget}.json"
    write_text(path, json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    measured_with = measurement_record.describe_measurement(study, budget)
    # measurements that were made before an update of a library keep its old version
    measured_with["versions"] = measurement_record.merge_versions(
        [measured["versions"] for measured in measurements]
    )
    write_text(path.with_suffix(".measured.json"), json.dumps(measured_with, indent=1) + "\n")
    write_text(path.with_suffix(".cost.json"), json.dumps(cost) + "\n")
    write_text(path.with_suffix(".runs.json"), json.dumps([*dict.fromkeys(runs)]) + "\n")
    _write_samples_of(study, budget, root, dict(by_arm[: len(study.arms)]))


def write_arm_samples(study: Study, budget: str, root: Path) -> Path | None:
    """Measure the first seed of each arm if it is missing, and write the samples of its trainings.

    For a study whose results are kept, but whose trainings are not.

    Args:
        study: The study.
        budget: ``quick`` or ``full``.
        root: The folder of runs.

    Returns:
        The picture; None if no arm has samples.

    Raises:
        UserError: As in ``measure``.
    """
    runs = root / "studies" / "runs"
    for _, _, path in _list_measurements(study, budget, root, 1):
        trained = read_json(path)["runs"] if path.is_file() else []
        if not all((runs / run).is_dir() for run in trained):
            # measured, but its trainings were deleted
            path.unlink()
    _measure_up_to(study, budget, root, 1, wait=True)
    first_seed = dict(_list_complete_measurements(study, budget, root, 1))
    return _write_samples_of(study, budget, root, first_seed)


def _write_samples_of(
    study: Study, budget: str, root: Path, first_seed: dict[str, dict[str, Any]]
) -> Path | None:
    path = root / "studies" / study.name / f"{budget}.samples.png"
    return path if write_samples(first_seed, root / "studies" / "runs", path) else None


def _list_measurements(
    study: Study, budget: str, root: Path, seeds: int
) -> list[tuple[str, int, Path]]:
    """List arm, seed and file of the first seeds; every arm gets its first seed early."""
    first = study.get_budget(budget).first_seed
    folder = root / "studies" / study.name / budget
    return [
        (arm, seed, folder / f"{make_file_name(f'{arm}-seed{seed}')}.json")
        for seed in range(first, first + seeds)
        for arm in study.arms
    ]


def _measure_arm(study: Study, budget: str, root: Path, arm: str, seed: int, path: Path) -> None:
    clock = MeasurementClock()
    words = study.get_budget(budget).words
    arguments = [*split_arguments(study.arms[arm]), *split_arguments(words)]
    try:
        values = measures.find(study.measure).measure(
            Arm(arm, arguments, seed, _make_trainer(root, seed, clock))
        )
    except TrainingDivergedError as error:
        # a result of the arm: a seed without values makes its predictions inconclusive
        logger.warning(f"No values of {study.name} ({budget}), {arm}, seed {seed}: {error}")
        values = {}
    measured = {
        "fingerprint": measurement_record.compute_fingerprint(study, budget),
        "values": _round_values(values),
        "seconds": round(clock.read_seconds(), 1),
        "versions": measurement_record.list_versions(),
    }
    runs = [f"{folder.parent.name}/{folder.name}" for folder in clock.runs]
    write_text(path, json.dumps(measured | {"runs": runs}))


@contextmanager
def start_workers(command: Sequence[str], workers: int) -> Iterator[None]:
    """Run a command in ``workers`` - 1 other processes, which are stopped at the end."""
    # Trainings of this process inherit it too.
    os.environ |= process.share_cores(workers)
    others = [process.start(command, Path(os.devnull), errors=True) for _ in range(workers - 1)]
    try:
        yield
    finally:
        for other in others:
            # SIGTERM lets a training write its checkpoint.
            other.terminate()
        for other in others:
            other.wait()


def _read_measurement(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Read a measurement of the same design, configs and code; None if there is none."""
    if not path.is_file():
        return None
    measured: dict[str, Any] = read_json(path)
    return measured if measured["fingerprint"] == fingerprint else None


class MeasurementClock:
    """Seconds of a measurement.

    A training counts with the time that it took when it was run, which may have been by another
    study.

    Attributes:
        runs: The folders of the trainings so far.
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._correction = 0.0
        self.runs: list[Path] = []

    def count_training(self, folder: Path, started: float) -> None:
        """Replace the time since ``started`` by the recorded time of a run, once per run."""
        self._correction -= time.monotonic() - started
        if folder not in self.runs:
            self.runs.append(folder)
            self._correction += 3600 * Run(folder).hours

    def read_seconds(self) -> float:
        """Return the seconds so far."""
        return time.monotonic() - self._started + self._correction


def _make_trainer(root: Path, seed: int, clock: MeasurementClock) -> Callable[[list[str]], Path]:
    def train(arguments: list[str]) -> Path:
        # first, so that a training that all seeds share can have a seed of its own
        arguments = [arguments[0], f"run.seed={seed}", *arguments[1:]]
        overrides = [
            f"run.root={root / 'studies' / 'runs'}",
            "log.wandb=off",
            "log.progress_bar=false",
            # the page at the end is enough, since nobody watches the training
            "log.live_page=false",
        ]
        started = time.monotonic()
        loaded = loading.load(arguments[0], [*arguments[1:], *overrides])
        loaded.check_comparable()
        run = RunFolder.of(loaded).path
        # Several studies share a training, so they may want it at the same time.
        with FileLock(root / "studies" / f".{run.parent.name}-{run.name}.lock"):
            folder = train_once([*arguments, *overrides])
        clock.count_training(folder, started)
        return folder

    return train


def _round_values(values: Values) -> Values:
    return {
        name: [_round_number(x) for x in value] if isinstance(value, list) else _round_number(value)
        for name, value in values.items()
    }


def _round_number(x: float) -> float | None:
    """Round to ``SIGNIFICANT_DIGITS``; None for NaN and Inf, which JSON does not have."""
    return float(f"{x:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(x) else None
