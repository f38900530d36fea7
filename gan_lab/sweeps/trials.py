"""Trials of a sweep in a database that any number of workers share.

This is the only file that uses Optuna's storage.

A worker may die at any time; no trial is lost or runs twice. A trial enters the queue together with
its number, in one transaction. It gets a heartbeat before it runs. When the heartbeat is too old,
Optuna fails the attempt, and the next claim puts the same number back into the queue.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from gan_lab.config import plain_yaml
from gan_lab.sweeps.storage_address import explain_storage_errors, resolve_storage
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.utils.errors import UserError

HEARTBEAT_INTERVAL_S = 5
# A trial without a heartbeat for this long has lost its worker.
HEARTBEAT_GRACE_S = 20
MAX_RETRIES = 1


def name_trial(trial_number: int) -> str:
    """Name a trial: the id of its run."""
    return f"trial-{trial_number:04d}"


@dataclass
class ClaimedTrial:
    """A trial that this worker runs. ``number`` counts the trials of the sweep; a retry keeps it.

    ``reported`` is the number of evaluations that the storage has.
    """

    trial: Trial
    number: int
    values: dict[str, Any]
    reported: int
    last_heartbeat: float = -math.inf


def _normalize(tree: Any) -> Any:
    """Convert texts such as 1e-4 to numbers, as sweeps of earlier versions stored them as text."""
    if isinstance(tree, dict):
        return {key: _normalize(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_normalize(item) for item in tree]
    return (
        plain_yaml.resolve(plain_yaml.Scalar(tree, plain=True)) if isinstance(tree, str) else tree
    )


class Trials:
    """Trials of one sweep. ``limit`` is their number; None takes it from the sweep file."""

    def __init__(
        self,
        sweep: Sweep,
        url: str,
        limit: int | None = None,
        heartbeat_interval: int = HEARTBEAT_INTERVAL_S,
        grace_period: int = HEARTBEAT_GRACE_S,
    ):
        self.sweep = sweep
        self.heartbeat_interval = heartbeat_interval
        self.points = sweep.grid_points() if sweep.method == "grid" else None
        self.limit = limit or sweep.run_cap or (len(self.points) if self.points else 0)
        if self.points:
            self.limit = min(self.limit, len(self.points))
        if not self.limit:
            raise UserError(
                f"{sweep.name}: a {sweep.method} search has no end. "
                "Limit it: --trials 20, or run_cap in the file"
            )
        self.distributions = {
            p.key: p.to_optuna(grid=self.points is not None) for p in sweep.parameters
        }
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.url = resolve_storage(url)
        # The lock keeps two workers from both creating the tables.
        with explain_storage_errors(url), self._lock():
            self.storage = RDBStorage(
                self.url,
                heartbeat_interval=heartbeat_interval,
                grace_period=grace_period,
                engine_kwargs={"connect_args": self._connect_args()},
            )
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=sweep.name,
                load_if_exists=True,
                pruner=create_pruner(sweep),
                direction="maximize" if sweep.maximize else "minimize",
            )

    def _connect_args(self) -> dict[str, int]:
        return {"timeout": 60} if self.url.startswith("sqlite") else {"connect_timeout": 10}

    def ensure_same(self, definition: dict[str, Any]) -> None:
        """Store the definition of the trials.

        Raises:
            UserError: The stored definition differs.
        """
        with explain_storage_errors(self.url), self._lock():
            stored = self.study.user_attrs.get("sweep")
            if stored is None:
                self.study.set_user_attr("sweep", json.dumps(definition))
                return
        before = _normalize(json.loads(stored))
        now = _normalize(json.loads(json.dumps(definition)))
        changes = [key for key in now | before if now.get(key) != before.get(key)]
        if changes:
            raise UserError(
                f"the sweep {self.sweep.name} has changed since it began: {' and '.join(changes)}. "
                "Restore it, delete its folder, or copy the file to another name"
            )

    def overrides(self) -> list[str]:
        """Return the training overrides of all trials, as stored when the sweep began."""
        overrides: list[str] = json.loads(self.study.user_attrs.get("sweep", "{}")).get(
            "overrides", []
        )
        return overrides

    def attempts(self) -> dict[int, list[FrozenTrial]]:
        """Return the attempts at each trial of the sweep, in order, by the trial's number."""
        attempts: dict[int, list[FrozenTrial]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            attempts.setdefault(trial.user_attrs["trial_number"], []).append(trial)
        return attempts

    def decode(self, params: dict[str, Any]) -> dict[str, Any]:
        """Map Optuna's parameters to the values of the config keys."""
        return {p.key: p.decode(params[p.key]) for p in self.sweep.parameters if p.key in params}

    def claim(self) -> ClaimedTrial | None:
        """Claim the next trial: one from the queue, else a new one; None if none is left."""
        with explain_storage_errors(self.url), self._lock():
            fail_stale_trials(self.study)
            attempts = self.attempts()
            for number, tries in attempts.items():
                if needs_retry(tries):
                    self._enqueue(number, tries[-1].params)
            if not self._queue():
                number = len(attempts)
                if number >= self.limit:
                    return None
                self._enqueue(number)
            first = self._queue()[0]
            number = first.user_attrs["trial_number"]
            # Before the trial runs: Optuna never fails a running trial that has no heartbeat.
            self.storage.record_heartbeat(first._trial_id)
            self.study.sampler = create_sampler(self.sweep, number)
            trial = self.study.ask(self.distributions)
            return ClaimedTrial(
                trial, number, self.decode(trial.params), len(first.intermediate_values)
            )

    def _queue(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    def _enqueue(self, number: int, params: dict[str, Any] | None = None) -> None:
        """Enqueue a trial; missing parameters are sampled when it is claimed."""
        if self.points:
            params = {key: str(value) for key, value in self.points[number].items()}
        params = params or {}
        self.study.add_trial(
            optuna.create_trial(
                state=TrialState.WAITING,
                params=params,
                distributions={key: self.distributions[key] for key in params},
                user_attrs={"trial_number": number},
            )
        )

    def count_running(self) -> int:
        """Count the trials that are running, at this worker or at others."""
        return len(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def send_heartbeat(self, claimed: ClaimedTrial) -> bool:
        """Record a heartbeat if one is due; False if this worker has lost the trial."""
        now = time.monotonic()
        if now - claimed.last_heartbeat < self.heartbeat_interval:
            return True
        claimed.last_heartbeat = now
        with explain_storage_errors(self.url):
            self.storage.record_heartbeat(claimed.trial._trial_id)
            return self.storage.get_trial(claimed.trial._trial_id).state == TrialState.RUNNING

    def report(self, claimed: ClaimedTrial, evaluation: int, value: float) -> bool:
        """Store the metric of an evaluation, from 1; return whether the trial should end."""
        with explain_storage_errors(self.url):
            try:
                if evaluation > claimed.reported:
                    claimed.trial.report(value, evaluation)
                    claimed.reported = evaluation
                return self.sweep.halving is not None and claimed.trial.should_prune()
            except UpdateFinishedTrialError:
                # The trial is lost, which the next heartbeat reports.
                return False

    def finish(
        self, claimed: ClaimedTrial, state: TrialState, value: float | None = None, reason: str = ""
    ) -> None:
        """Store the end of a trial: COMPLETE with its value, PRUNED, or FAIL with a reason."""
        with explain_storage_errors(self.url), suppress(UpdateFinishedTrialError):
            if reason:
                claimed.trial.set_user_attr("reason", reason)
            values = None if value is None else [value]
            self.storage.set_trial_state_values(claimed.trial._trial_id, state, values)

    def requeue(self, claimed: ClaimedTrial) -> None:
        """Return a trial to the queue because this worker stops; the next worker resumes it."""
        with explain_storage_errors(self.url), self._lock(), suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.WAITING)

    def finish_killed(self, claimed: ClaimedTrial, cause: str) -> bool:
        """Fail a trial whose process was killed; return whether the next claim retries it."""
        with explain_storage_errors(self.url), self._lock():
            with suppress(UpdateFinishedTrialError):
                claimed.trial.set_user_attr("killed", cause)
                self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.FAIL)
            return needs_retry(self.attempts()[claimed.number])

    def retry_failed(self) -> int:
        """Put every failed trial into the queue, ahead of new ones; return their number."""
        with explain_storage_errors(self.url), self._lock():
            failed = {
                n: tries[-1]
                for n, tries in self.attempts().items()
                if tries[-1].state == TrialState.FAIL
            }
            for number, trial in failed.items():
                self._enqueue(number, trial.params)
            return len(failed)

    def close(self) -> None:
        """Close the connection to the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the sweep for one worker on all machines, until its process ends."""
        url = sqlalchemy.make_url(self.url)
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                yield
            return
        key = int.from_bytes(
            hashlib.sha256(self.sweep.name.encode()).digest()[:8], "big", signed=True
        )
        engine = sqlalchemy.create_engine(
            url, poolclass=sqlalchemy.NullPool, connect_args=self._connect_args()
        )
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select pg_advisory_lock(:key)"), {"key": key})
            yield


def needs_retry(attempts: Sequence[FrozenTrial]) -> bool:
    """Return True if the last attempt was killed or lost its worker, and a retry is left."""
    lost = [
        trial
        for trial in attempts
        if trial.state == TrialState.FAIL and "reason" not in trial.user_attrs
    ]
    return attempts[-1] in lost and len(lost) <= MAX_RETRIES


def create_sampler(sweep: Sweep, trial_number: int) -> BaseSampler:
    """Create a trial's sampler, seeded by its number so that workers sample different values."""
    if sweep.method == "bayes":
        return TPESampler(seed=trial_number, constant_liar=True)
    return RandomSampler(seed=trial_number)


def create_pruner(sweep: Sweep) -> BasePruner:
    """Create the pruner: asynchronous successive halving, which W&B calls hyperband.

    Its steps are evaluations.
    """
    if sweep.halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(
        min_resource=sweep.halving.first, reduction_factor=sweep.halving.eta
    )
