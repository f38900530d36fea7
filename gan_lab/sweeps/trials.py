"""Trials of a sweep in a database that any number of workers share. The only file that uses Optuna's storage.

Nothing is lost if a worker dies at any instant: a trial counts once its ``trial_number`` is written, which is the last
step of a claim, after its first heartbeat; the next claim undoes an unfinished one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
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
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from gan_lab.sweeps.storage_address import explain_storage_errors, resolve_storage
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.utils.errors import UserError

HEARTBEAT = 5  # seconds
GRACE = 20  # seconds without a heartbeat after which a trial's worker is considered dead
RETRIES = 1


@dataclass
class Claimed:
    """A trial claimed by this worker. ``trial_number`` counts the trials of the sweep; a retried trial keeps it."""

    trial: Trial
    trial_number: int
    values: dict[str, Any]
    reported: int  # evaluations that the storage holds


class Trials:
    """Trials of one sweep. ``limit`` is their number; None takes it from the file."""

    def __init__(
        self, sweep: Sweep, url: str, limit: int | None = None, heartbeat: int = HEARTBEAT, grace: int = GRACE
    ):
        self.sweep, self.heartbeat = sweep, heartbeat
        self.points = sweep.points() if sweep.method == "grid" else None
        self.limit = limit or sweep.run_cap or (len(self.points) if self.points else 0)
        if self.points:
            self.limit = min(self.limit, len(self.points))
        if not self.limit:
            raise UserError(
                f"{sweep.name}: a {sweep.method} search has no end: --trials 20, or run_cap in the file, gives it one"
            )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.url = resolve_storage(url)
        with explain_storage_errors(url), self._lock():  # two workers must not both create the tables
            self.retry_callback = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
            self.storage = RDBStorage(
                self.url, heartbeat_interval=heartbeat, grace_period=grace,
                engine_kwargs={"connect_args": self._connect_args()},
            )  # fmt: skip
            self.study = optuna.create_study(
                storage=self.storage, study_name=sweep.name, load_if_exists=True, pruner=create_pruner(sweep),
                direction="maximize" if sweep.maximize else "minimize",
            )  # fmt: skip

    def _connect_args(self) -> dict[str, int]:
        return {"timeout": 60} if self.url.startswith("sqlite") else {"connect_timeout": 10}

    def ensure_same(self, about: dict[str, Any]) -> None:
        """Store the definition of the trials. Raises UserError if the stored one differs."""
        with explain_storage_errors(self.url), self._lock():
            stored = self.study.user_attrs.get("sweep")
            if stored is None:
                self.study.set_user_attr("sweep", json.dumps(about))
                return
        before = json.loads(stored)
        changes = [key for key in about | before if about.get(key) != before.get(key)]
        if changes:
            raise UserError(
                f"the sweep {self.sweep.name} has changed since it began: {' and '.join(changes)}. "
                "Restore it, delete its folder, or copy the file to another name"
            )

    def words(self) -> list[str]:
        """Overrides that all trials have, as stored when the sweep began; only those that define what is trained."""
        words: list[str] = json.loads(self.study.user_attrs.get("sweep", "{}")).get("words", [])
        return words

    def claim(self) -> Claimed | None:
        """Claim the next trial: a requeued one or one whose worker died, else a new one; None if none is left."""
        with explain_storage_errors(self.url), self._lock():
            fail_stale_trials(self.study)
            self._retry_killed()
            trials = self.all()
            for unfinished in (
                t for t in trials if t.state == TrialState.RUNNING and "trial_number" not in t.user_attrs
            ):
                self.storage.set_trial_state_values(unfinished._trial_id, TrialState.FAIL)
            trial_number = sum("trial_number" in t.user_attrs and not is_retry(t) for t in trials)
            waiting = next((t for t in trials if t.state == TrialState.WAITING), None)
            if waiting:
                trial_number = waiting.user_attrs.get("trial_number", trial_number)
                # before it runs: without a heartbeat its loss would go unnoticed
                self.storage.record_heartbeat(waiting._trial_id)
            elif trial_number >= self.limit:
                return None
            elif self.points:
                self.study.enqueue_trial({key: str(value) for key, value in self.points[trial_number].items()})
            self.study.sampler = create_sampler(self.sweep, trial_number)
            trial = self.study.ask()
            values = {p.key: p.suggest(trial, grid=self.points is not None) for p in self.sweep.parameters}
            if not waiting or "trial_number" not in waiting.user_attrs:
                trial.set_user_attr("values", json.dumps(values))
                self.storage.record_heartbeat(trial._trial_id)
                trial.set_user_attr("trial_number", trial_number)
            return Claimed(trial, trial_number, values, len(waiting.intermediate_values) if waiting else 0)

    def all(self) -> list[FrozenTrial]:
        """All trials that were ever started."""
        return self.study.get_trials(deepcopy=False)

    def count_running(self) -> int:
        """Count the trials that are running, at this worker or at others."""
        return sum(trial.state == TrialState.RUNNING for trial in self.all())

    def send_heartbeat(self, claimed: Claimed) -> bool:
        """Record a heartbeat; False if this worker was considered dead and has lost the trial."""
        with explain_storage_errors(self.url):
            self.storage.record_heartbeat(claimed.trial._trial_id)
            return self.storage.get_trial(claimed.trial._trial_id).state == TrialState.RUNNING

    def report(self, claimed: Claimed, evaluation: int, value: float) -> bool:
        """Store the metric of an evaluation, counted from 1; return whether the trial should end now."""
        with explain_storage_errors(self.url):
            try:
                if evaluation > claimed.reported:
                    claimed.trial.report(value, evaluation)
                    claimed.reported = evaluation
                return self.sweep.halving is not None and claimed.trial.should_prune()
            except UpdateFinishedTrialError:
                return False  # the trial is lost, which the next heartbeat reports

    def conclude(self, claimed: Claimed, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """Store the end of a trial: COMPLETE with its value, PRUNED, or FAIL with a reason."""
        with explain_storage_errors(self.url), suppress(UpdateFinishedTrialError):
            if reason:
                claimed.trial.set_user_attr("reason", reason)
            values = None if value is None else [value]
            self.storage.set_trial_state_values(claimed.trial._trial_id, state, values)

    def requeue(self, claimed: Claimed) -> None:
        """Give a trial back, for this worker ends before it; the next worker continues it."""
        with explain_storage_errors(self.url), self._lock(), suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.WAITING)

    def retry(self, claimed: Claimed, reason: str) -> bool:
        """Retry a killed trial once; False if it was already retried."""
        with explain_storage_errors(self.url), self._lock():
            before = len(self.all())
            with suppress(UpdateFinishedTrialError):
                claimed.trial.set_user_attr("killed", reason)
                self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.FAIL)
            self._retry_killed()
            return len(self.all()) > before

    def _retry_killed(self) -> None:
        """Retry the trials that failed without a reason of their own, those of dead workers included."""
        for trial in self._unretried_failures():
            if "reason" not in trial.user_attrs:
                self.retry_callback(self.study, trial)

    def _unretried_failures(self) -> list[FrozenTrial]:
        """Failed trials that were not retried yet."""
        trials = self.all()
        retried = {number for trial in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
        return [
            t
            for t in trials
            if t.state == TrialState.FAIL and "trial_number" in t.user_attrs and t.number not in retried
        ]

    def retry_failed(self) -> int:
        """Queue every failed trial that was not retried, ahead of new ones; return their number."""
        with explain_storage_errors(self.url), self._lock():
            failed = self._unretried_failures()
            for trial in failed:
                history = [*RetryHeartbeatStaleTrialCallback.retry_history(trial), trial.number]
                kept_attributes = {
                    key: value for key, value in trial.user_attrs.items() if key not in ("reason", "killed")
                }
                self.study.add_trial(optuna.create_trial(
                    state=TrialState.WAITING, params=trial.params, distributions=trial.distributions,
                    user_attrs=kept_attributes,
                    system_attrs=trial.system_attrs | {"failed_trial": history[0], "retry_history": history},
                ))  # fmt: skip
            return len(failed)

    def close(self) -> None:
        """Close the connection to the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock the sweep for one worker on all machines. The lock ends with the process that holds it."""
        url = sqlalchemy.make_url(self.url)
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                yield
            return
        key = int.from_bytes(hashlib.sha256(self.sweep.name.encode()).digest()[:8], "big", signed=True)
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=self._connect_args())
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select pg_advisory_lock(:key)"), {"key": key})
            yield


def is_retry(trial: FrozenTrial) -> bool:
    """True if this trial is the retry of an earlier one."""
    return "failed_trial" in trial.system_attrs


def create_sampler(sweep: Sweep, trial_number: int) -> BaseSampler:
    """Create the sampler of a trial. Each has its own seed, so two workers never draw the same values."""
    if sweep.method == "bayes":
        return TPESampler(seed=trial_number, constant_liar=True)
    return RandomSampler(seed=trial_number)


def create_pruner(sweep: Sweep) -> BasePruner:
    """Create the pruner: asynchronous successive halving, which W&B calls hyperband; its steps are evaluations."""
    if sweep.halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.halving.first, reduction_factor=sweep.halving.eta)
