"""The trials of a sweep in a database that any number of workers share. The only file that knows Optuna's storage.

What a worker does here cannot be lost by its death at any instant: a trial counts from the moment when its
``trial_number`` is written, which is the last thing of a claim, after its first heartbeat; what a claim left unfinished
is undone by the next.
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

HEARTBEAT = 5  # seconds
GRACE = 20  # seconds without a heartbeat after which a trial's worker is taken for dead
RETRIES = 1


@dataclass
class Claimed:
    """A trial that is this worker's. ``trial_number`` numbers the trials of the sweep; one that is tried again keeps it."""

    trial: Trial
    trial_number: int
    values: dict[str, Any]
    reported: int  # evaluations that the storage knows


class Trials:
    """One sweep's trials. ``limit`` is how many there are to be, None as many as the file says."""

    def __init__(
        self, sweep: Sweep, url: str, limit: int | None = None, heartbeat: int = HEARTBEAT, grace: int = GRACE
    ):
        self.sweep, self.heartbeat = sweep, heartbeat
        self.points = sweep.points() if sweep.method == "grid" else None
        self.limit = limit or sweep.run_cap or (len(self.points) if self.points else 0)
        if self.points:
            self.limit = min(self.limit, len(self.points))
        if not self.limit:
            raise ValueError(
                f"{sweep.name}: a {sweep.method} search has no end: --trials 20, or run_cap in the file, gives it one"
            )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.url = resolve_storage(url)
        with explain_storage_errors(url), self._exclusively():  # two workers must not both make the tables
            self.repeat = RetryHeartbeatStaleTrialCallback(max_retry=RETRIES)
            self.storage = RDBStorage(
                self.url, heartbeat_interval=heartbeat, grace_period=grace,
                engine_kwargs={"connect_args": self._patience()},
            )  # fmt: skip
            self.study = optuna.create_study(
                storage=self.storage, study_name=sweep.name, load_if_exists=True, pruner=pruner_of(sweep),
                direction="maximize" if sweep.maximize else "minimize",
            )  # fmt: skip

    def _patience(self) -> dict[str, int]:
        return {"timeout": 60} if self.url.startswith("sqlite") else {"connect_timeout": 10}

    def same(self, about: dict[str, Any]) -> None:
        """Remember what the trials are of. Raises ValueError if they are of something else."""
        with explain_storage_errors(self.url), self._exclusively():
            known = self.study.user_attrs.get("sweep")
            if known is None:
                self.study.set_user_attr("sweep", json.dumps(about))
                return
        before = json.loads(known)
        differing = [key for key in about | before if about.get(key) != before.get(key)]
        if differing:
            raise ValueError(
                f"the sweep {self.sweep.name} is not as it was begun: its {' and '.join(differing)} changed. "
                "Go on as it was, delete its folder, or copy the file to another name"
            )

    def words(self) -> list[str]:
        """The words that all trials have, as far as they say what is trained; none that a sweep was begun without."""
        words: list[str] = json.loads(self.study.user_attrs.get("sweep", "{}")).get("words", [])
        return words

    def claim(self) -> Claimed | None:
        """The next trial: one that was put back or whose worker died, else a new one; None if there is none to take."""
        with explain_storage_errors(self.url), self._exclusively():
            fail_stale_trials(self.study)
            self._try_again()
            every = self.all()
            for half in (t for t in every if t.state == TrialState.RUNNING and "trial_number" not in t.user_attrs):
                self.storage.set_trial_state_values(half._trial_id, TrialState.FAIL)
            trial_number = sum("trial_number" in t.user_attrs and not is_retry(t) for t in every)
            waiting = next((t for t in every if t.state == TrialState.WAITING), None)
            if waiting:
                trial_number = waiting.user_attrs.get("trial_number", trial_number)
                self.storage.record_heartbeat(waiting._trial_id)  # before it runs, or nobody would miss it
            elif trial_number >= self.limit:
                return None
            elif self.points:
                self.study.enqueue_trial({key: str(value) for key, value in self.points[trial_number].items()})
            self.study.sampler = sampler_of(self.sweep, trial_number)
            trial = self.study.ask()
            values = {p.key: p.suggest(trial, grid=self.points is not None) for p in self.sweep.parameters}
            if not waiting or "trial_number" not in waiting.user_attrs:
                trial.set_user_attr("values", json.dumps(values))
                self.storage.record_heartbeat(trial._trial_id)
                trial.set_user_attr("trial_number", trial_number)
            return Claimed(trial, trial_number, values, len(waiting.intermediate_values) if waiting else 0)

    def all(self) -> list[FrozenTrial]:
        """Every trial that was ever begun."""
        return self.study.get_trials(deepcopy=False)

    def running(self) -> int:
        """Count the trials that are running, at this worker or at others."""
        return sum(trial.state == TrialState.RUNNING for trial in self.all())

    def beat(self, claimed: Claimed) -> bool:
        """A sign of life; False if the trial is no longer this worker's, which was taken for dead."""
        with explain_storage_errors(self.url):
            self.storage.record_heartbeat(claimed.trial._trial_id)
            return self.storage.get_trial(claimed.trial._trial_id).state == TrialState.RUNNING

    def report(self, claimed: Claimed, evaluation: int, value: float) -> bool:
        """Store the metric of an evaluation, counted from 1; whether the trial should end here."""
        with explain_storage_errors(self.url):
            try:
                if evaluation > claimed.reported:
                    claimed.trial.report(value, evaluation)
                    claimed.reported = evaluation
                return self.sweep.halving is not None and claimed.trial.should_prune()
            except UpdateFinishedTrialError:
                return False  # the next heartbeat tells

    def conclude(self, claimed: Claimed, state: TrialState, value: float | None = None, reason: str = "") -> None:
        """The end of a trial: COMPLETE with its value, PRUNED, or FAIL for a reason."""
        with explain_storage_errors(self.url), suppress(UpdateFinishedTrialError):
            if reason:
                claimed.trial.set_user_attr("reason", reason)
            values = None if value is None else [value]
            self.storage.set_trial_state_values(claimed.trial._trial_id, state, values)

    def requeue(self, claimed: Claimed) -> None:
        """This worker ends before its trial does: whoever comes next goes on with it."""
        with explain_storage_errors(self.url), self._exclusively(), suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.WAITING)

    def retry(self, claimed: Claimed, reason: str) -> bool:
        """A trial that was killed is tried once more; False if it already was."""
        with explain_storage_errors(self.url), self._exclusively():
            before = len(self.all())
            with suppress(UpdateFinishedTrialError):
                claimed.trial.set_user_attr("killed", reason)
                self.storage.set_trial_state_values(claimed.trial._trial_id, TrialState.FAIL)
            self._try_again()
            return len(self.all()) > before

    def _try_again(self) -> None:
        """Trials that have failed for no reason of their own are repeated; also those of a worker that died here."""
        for trial in self._failed():
            if "reason" not in trial.user_attrs:
                self.repeat(self.study, trial)

    def _failed(self) -> list[FrozenTrial]:
        """The trials that have failed and were not repeated yet."""
        every = self.all()
        repeated = {number for trial in every for number in RetryHeartbeatStaleTrialCallback.retry_history(trial)}
        return [
            t
            for t in every
            if t.state == TrialState.FAIL and "trial_number" in t.user_attrs and t.number not in repeated
        ]

    def repeat_failed(self) -> int:
        """Put every trial that has failed, and was not repeated, before whoever claims next; how many there were."""
        with explain_storage_errors(self.url), self._exclusively():
            failed = self._failed()
            for trial in failed:
                history = [*RetryHeartbeatStaleTrialCallback.retry_history(trial), trial.number]
                kept_attributes = {
                    key: value for key, value in trial.user_attrs.items() if key not in ("reason", "killed")
                }
                self.study.add_trial(optuna.create_trial(
                    state=TrialState.WAITING, params=trial.params, distributions=trial.distributions, user_attrs=kept_attributes,
                    system_attrs=trial.system_attrs | {"failed_trial": history[0], "retry_history": history},
                ))  # fmt: skip
            return len(failed)

    def close(self) -> None:
        """Let go of the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One worker at a time, on all machines. The lock goes with the process that holds it."""
        url = sqlalchemy.make_url(self.url)
        if url.get_backend_name() == "sqlite":
            path = Path(url.database or "")
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                yield
            return
        key = int.from_bytes(hashlib.sha256(self.sweep.name.encode()).digest()[:8], "big", signed=True)
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=self._patience())
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("select pg_advisory_lock(:key)"), {"key": key})
            yield


def is_retry(trial: FrozenTrial) -> bool:
    """True if this is the second try of an earlier trial."""
    return "failed_trial" in trial.system_attrs


def sampler_of(sweep: Sweep, trial_number: int) -> BaseSampler:
    """Create the sampler of a trial. Each has a seed of its own, so two workers never draw alike."""
    if sweep.method == "bayes":
        return TPESampler(seed=trial_number, constant_liar=True)
    return RandomSampler(seed=trial_number)


def pruner_of(sweep: Sweep) -> BasePruner:
    """Asynchronous successive halving, which is what W&B calls hyperband; its steps are evaluations."""
    if sweep.halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=sweep.halving.first, reduction_factor=sweep.halving.eta)
