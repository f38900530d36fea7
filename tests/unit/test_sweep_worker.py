from __future__ import annotations

import csv
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import TrialState

from gan_lab.sweeps import sweep_file as file
from gan_lab.sweeps import sweep_report
from gan_lab.sweeps import worker as engine
from gan_lab.sweeps.trials import Trials
from tests.helpers.logs import logged
from tests.helpers.processes import CONTEXT  # noqa: F401  the server is started while nothing else runs
from tests.helpers.sweeping import (
    alive,
    postgres,
    postgres_binaries,
    starts,
    sweep_file,
    wait_for,
    worker,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if postgres_binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    # not below pytest's folder, which another user must not enter
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        postgres(Path(folder)) as address,
    ):
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        address: str = request.getfixturevalue("server")
        return address
    return f"sqlite:///{tmp_path / 'sweep' / 'trials.db'}"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables made, which takes some time."""
    folder = tmp_path_factory.mktemp("empty")
    Trials(file.load(str(sweep_file(folder / "of"))), f"sqlite:///{folder / 'trials.db'}")
    return folder / "trials.db"


@pytest.fixture(autouse=True)
def prepared(empty: Path, tmp_path: Path) -> Iterator[None]:
    (tmp_path / "sweep").mkdir()
    shutil.copy(empty, tmp_path / "sweep" / "trials.db")
    yield
    while OPENED:
        OPENED.pop().close()


OPENED: list[Trials] = []


def open_trials(path: Path, url: str) -> Trials:
    OPENED.append(Trials(file.load(str(path)), url, heartbeat_interval=1, grace_period=2))
    return OPENED[-1]


def local(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'sweep' / 'trials.db'}"


def rows(folder: Path) -> dict[str, list[str]]:
    """The evaluations that each trial has written."""
    tables = {
        path.parent.name: path.read_text()
        for path in sorted(folder.glob("runs/ring/*/metrics.csv"))
    }
    return {
        name: [row["iteration"] for row in csv.DictReader(text.splitlines())]
        for name, text in tables.items()
    }


@pytest.mark.slow
def test_three_workers_finish_trials_of_killed_one(tmp_path: Path, url: str) -> None:
    """Three workers run 30 trials; the trial of a killed worker is finished by another one."""
    count = 30 if url.startswith("sqlite") else 12
    path, folder = sweep_file(tmp_path, run_cap=count), tmp_path / "sweep"
    workers = [worker(path, folder, url, words=["hang=7"]) for _ in range(3)]
    (hanging, victim) = wait_for(lambda: starts(folder).get("trial-0007"))[0]
    wait_for(lambda: rows(folder).get("trial-0007"))
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(hanging), 5)
    for one in workers:
        one.join(60)
    assert sorted(one.exitcode for one in workers) == [-signal.SIGKILL, 0, 0], (
        folder / "said.txt"
    ).read_text()

    attempts = open_trials(path, url).attempts()
    trials = [trial for tries in attempts.values() for trial in tries]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs["trial_number"] for trial in complete) == list(range(count))
    assert len({trial.params["x"] for trial in complete}) == count
    (lost,) = [trial for trial in trials if trial.state != TrialState.COMPLETE]
    assert [number for number, tries in attempts.items() if len(tries) > 1] == [7]
    (again,) = attempts[7][1:]
    assert (lost.state, lost.params) == (TrialState.FAIL, again.params)
    assert attempts[7] == [lost, again]
    for trial in complete:
        assert trial.value == pytest.approx((trial.params["x"] - 3) ** 2 + 1 / 3)
    begun = starts(folder)
    assert {name: len(each) for name, each in begun.items()} == {
        f"trial-{trial_number:04d}": 2 if trial_number == 7 else 1 for trial_number in range(count)
    }
    assert begun["trial-0007"][1][1] in {one.pid for one in workers} - {victim}
    assert len({parent for each in begun.values() for _, parent in each}) == 3
    assert set(map(tuple, rows(folder).values())) == {
        ("1", "2", "3")
    }  # the trial resumed and repeated nothing


def test_stopped_sweep_resumes_by_same_command(tmp_path: Path) -> None:
    """A stopped sweep leaves no process and resumes with the same command."""
    path, folder = sweep_file(tmp_path), tmp_path / "sweep"
    for number, expected in ((signal.SIGINT, 2), (signal.SIGTERM, 4)):
        one = worker(path, folder, slots=2, words=["hang=all", "nap=0"])
        wait_for(
            lambda expected=expected: len(rows(folder)) == expected and all(rows(folder).values())
        )
        running = [each[-1][0] for each in starts(folder).values()]
        os.kill(one.pid, number)
        one.join(20)
        assert one.exitcode == 128 + number
        assert not any(map(alive, running))
        states = [trial.state for trial in open_trials(path, local(tmp_path)).study.trials]
        assert states == [TrialState.COMPLETE] * (expected - 2) + [TrialState.WAITING] * 2
    one = worker(path, folder, slots=2, words=["hang=all"])
    one.join(20)
    assert one.exitcode == 0, (folder / "said.txt").read_text()
    trials = open_trials(path, local(tmp_path)).study.trials
    assert [(trial.state, trial.user_attrs["trial_number"]) for trial in trials] == [
        (TrialState.COMPLETE, s) for s in range(4)
    ]
    assert {name: len(each) for name, each in starts(folder).items()} == {
        f"trial-{s:04d}": 2 for s in range(4)
    }
    assert set(map(tuple, rows(folder).values())) == {("1", "2", "3")}
    assert [list(trial.intermediate_values) for trial in trials] == [[1, 2, 3]] * 4


def run(tmp_path: Path, path: Path, words: Any = (), slots: int = 1) -> list[str]:
    """A worker in this process; what it said."""
    sweep = file.load(str(path))
    with logged() as said:
        engine.Worker(sweep, open_trials(path, local(tmp_path)), tmp_path / "sweep", words).run(
            slots
        )
    return said


def test_halving_ends_worse_half_at_first_evaluation(tmp_path: Path) -> None:
    """Halving ends the worse half of the trials at the first evaluation."""
    path = sweep_file(
        tmp_path, method="grid", run_cap=None, parameters={"x": {"values": [3, 3.5, 6, 5]}},
        early_terminate={"type": "hyperband", "min_iter": 1, "eta": 2},
    )  # fmt: skip
    run(tmp_path, path, ["nap=0.3"])
    made = sweep_report.collect_results(open_trials(path, local(tmp_path)))
    assert [(row.values["x"], row.state) for row in made.rows] == [
        (3, "complete"), (3.5, "ended early"), (6, "ended early"), (5, "ended early"),
    ]  # fmt: skip
    assert [len(row.scores) for row in made.rows] == [3, 1, 1, 1]
    assert rows(tmp_path / "sweep")["trial-0002"] == ["1"]


def test_killed_trial_is_retried_once(tmp_path: Path) -> None:
    """A killed trial is retried once."""
    path = sweep_file(tmp_path, run_cap=1)
    said = run(tmp_path, path, ["die=first"])
    assert "Trial 0 was killed by signal 9. Retrying it once" in said
    (row,) = sweep_report.collect_results(open_trials(path, local(tmp_path))).rows
    assert (row.trial_number, row.state, row.note) == (0, "complete", "retried")


def test_trial_killed_twice_fails(tmp_path: Path) -> None:
    """A trial that is killed twice has failed."""
    path = sweep_file(tmp_path, run_cap=1)
    run(tmp_path, path, ["die=always"])
    (row,) = sweep_report.collect_results(open_trials(path, local(tmp_path))).rows
    assert (row.state, row.note) == ("failed", "killed by signal 9")
    assert len(starts(tmp_path / "sweep")["trial-0000"]) == 2


def test_failed_trials_are_retried_on_request(tmp_path: Path) -> None:
    """Failed trials are retried with --retry-failed."""
    path = sweep_file(tmp_path, run_cap=2)
    run(tmp_path, path, ["die=always"])
    before = open_trials(path, local(tmp_path)).study.trials
    trials = open_trials(path, local(tmp_path))
    assert trials.retry_failed() == 2
    assert trials.retry_failed() == 0  # they wait already
    run(tmp_path, path)
    found = sweep_report.collect_results(trials).rows
    assert [(row.trial_number, row.state, row.note) for row in found] == [
        (i, "complete", "retried") for i in range(2)
    ]
    params = [trial.params for trial in trials.study.trials if trial.state == TrialState.COMPLETE]
    assert sorted(p["x"] for p in params) == sorted({trial.params["x"] for trial in before})


def test_sweep_stops_if_first_trials_fail(tmp_path: Path) -> None:
    """A sweep stops if its first trials all fail."""
    path = sweep_file(tmp_path, run_cap=9)
    with pytest.raises(
        ValueError, match=r"the first 3 trials failed: no such GAN\. See .*trial-0002"
    ):
        run(tmp_path, path, ["fail=true"])
    assert len(starts(tmp_path / "sweep")) == 3


def test_a_metric_that_is_never_logged_is_named(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, run_cap=1, metric={"name": "scores"})
    assert "Trial 0 failed: never logged scores. metric.name must be a score of ring" in run(
        tmp_path, path
    )


def test_a_storage_that_goes_away_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = sweep_file(tmp_path), tmp_path / "sweep"

    def gone(*_: Any) -> bool:
        if rows(folder):
            raise ValueError("the storage does not answer")
        return True

    monkeypatch.setattr(Trials, "send_heartbeat", gone)
    with pytest.raises(ValueError, match="the storage does not answer"):
        run(tmp_path, path, ["hang=all"])
    assert not alive(starts(folder)["trial-0000"][0][0])


def test_finished_sweep_continues_with_more_trials(tmp_path: Path) -> None:
    """A finished sweep runs nothing; a higher number of trials extends it."""
    path = sweep_file(tmp_path, run_cap=2)
    run(tmp_path, path)
    before = starts(tmp_path / "sweep")
    assert run(tmp_path, path) == []
    assert starts(tmp_path / "sweep") == before
    run(tmp_path, sweep_file(tmp_path, run_cap=3))
    assert list(starts(tmp_path / "sweep")) == ["trial-0000", "trial-0001", "trial-0002"]


class Cut(BaseException):
    """The death of a worker, as seen by the database."""


# Optuna's cache calls two of them by their private names.
WRITES = ("_create_new_trial", "_set_trial_param", "set_trial_state_values", "record_heartbeat",
          "set_trial_user_attr", "set_trial_system_attr",
          "set_trial_intermediate_value")  # fmt: skip


def cut_before(trials: Trials, at: int) -> bool:
    """A claim of a worker that dies before its write number ``at``; whether it came so far."""
    writes = itertools.count()

    def write(real: Any, *args: Any, **options: Any) -> Any:
        if next(writes) == at:
            raise Cut
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(trials.storage, name, partial(write, getattr(trials.storage, name)))
        with suppress(Cut):
            trials.claim()
    return next(writes) > at


def points(trials: Trials) -> list[float]:
    """All points of the grid that can be claimed."""
    return sorted(one.values["x"] for one in (trials.claim() for _ in range(4)) if one)


def pass_an_hour(trials: Trials) -> None:
    with trials.storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
        )


def test_a_worker_may_die_at_any_write_of_a_claim(tmp_path: Path, empty: Path) -> None:
    path = sweep_file(
        tmp_path,
        method="grid",
        run_cap=None,
        parameters={"x": {"values": [1, 2, 3]}, "y": {"values": [4]}},
    )
    cut, reached = 0, True
    while reached:
        trials = open_trials(path, f"sqlite:///{shutil.copy(empty, tmp_path / f'{cut}.db')}")
        reached = cut_before(trials, cut)
        # a whole claim is the dead worker's until its heartbeat is too old
        assert points(open_trials(path, trials.url)) == ([1, 2, 3] if reached else [2, 3]), (
            f"cut before write {cut}"
        )
        cut += 1
    assert cut == 4  # after three writes: the trial, its heartbeat, its state


def test_worker_may_die_while_taking_over_trial(tmp_path: Path, empty: Path) -> None:
    """A worker may die at any write while it takes over the trial of a dead worker."""
    path = sweep_file(
        tmp_path, method="grid", run_cap=None, parameters={"x": {"values": [1, 2, 3]}}
    )
    trials = open_trials(path, f"sqlite:///{shutil.copy(empty, tmp_path / 'begun.db')}")
    assert trials.claim()
    pass_an_hour(trials)
    trials.close()
    cut, reached = 0, True
    while reached:
        trials = open_trials(
            path, f"sqlite:///{shutil.copy(tmp_path / 'begun.db', tmp_path / f'{cut}.db')}"
        )
        reached = cut_before(trials, cut)
        later = open_trials(path, trials.url)
        assert points(later) == ([1, 2, 3] if reached else [2, 3]), f"cut before write {cut}"
        running = [
            number
            for number, tries in later.attempts().items()
            if tries[-1].state == TrialState.RUNNING
        ]
        assert sorted(running) == [0, 1, 2]
        cut += 1
    assert cut == 5  # after four writes: the lost trial's state, and the three of its retry


def test_a_worker_that_dies_while_it_samples_loses_no_trial(tmp_path: Path, empty: Path) -> None:
    """Its trial runs without values for all parameters, until its heartbeat is too old."""
    path = sweep_file(
        tmp_path, run_cap=3, parameters={key: {"min": 0.0, "max": 1.0} for key in "xyz"}
    )
    cut, reached = 0, True
    while reached:
        trials = open_trials(path, f"sqlite:///{shutil.copy(empty, tmp_path / f'{cut}.db')}")
        reached = cut_before(trials, cut)
        later = open_trials(path, trials.url)
        claimed = [later.claim() for _ in range(3)]
        for one in claimed:
            if one:
                later.finish(one, TrialState.COMPLETE, 1.0)
        pass_an_hour(later)
        found = [one for one in (*claimed, later.claim()) if one]
        assert sorted(one.number for one in found) == [0, 1, 2], f"cut before write {cut}"
        assert all(list(one.values) == ["x", "y", "z"] for one in found)
        cut += 1
    assert cut == 7  # after six writes: the trial, its heartbeat, its state, three parameters


def test_changed_sweep_is_refused(tmp_path: Path) -> None:
    """A changed sweep is not mixed with the earlier trials."""
    trials = open_trials(sweep_file(tmp_path), local(tmp_path))
    trials.ensure_same({"method": "random", "overrides": ["run.images=64"]})
    trials.ensure_same({"method": "random", "overrides": ["run.images=64"]})
    with pytest.raises(
        ValueError, match=r"stand_in has changed since it began: method and overrides\. Restore it"
    ):
        trials.ensure_same({"method": "bayes", "overrides": []})


def test_sweep_of_earlier_version_with_numbers_as_text_resumes(tmp_path: Path) -> None:
    """Earlier versions read 1e-4 as text; other numbers are still another sweep."""
    trials = open_trials(sweep_file(tmp_path), local(tmp_path))
    trials.ensure_same({"parameters": {"model.lr_d": {"values": ["1e-4", "2e-4"]}}})
    trials.ensure_same({"parameters": {"model.lr_d": {"values": [1e-4, 2e-4]}}})
    with pytest.raises(ValueError, match="has changed since it began: parameters"):
        trials.ensure_same({"parameters": {"model.lr_d": {"values": [1e-4, 3e-4]}}})


def test_unreachable_storage_error_hides_password(tmp_path: Path) -> None:
    """An unreachable storage is a one-line error without the password."""
    with pytest.raises(
        ValueError, match=r"the storage does not respond: postgresql://me:\*\*\*@127.0.0.1:9/db"
    ):
        open_trials(sweep_file(tmp_path), "postgresql://me:secret@127.0.0.1:9/db")


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "journal.log"])
def test_other_storages_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        ValueError, match=r"--storage .*Use sqlite:///<file> or postgresql://user@host/database"
    ):
        open_trials(sweep_file(tmp_path), url)


def test_search_without_limit_is_refused(tmp_path: Path) -> None:
    """A search without a limit is an error."""
    with pytest.raises(
        ValueError,
        match=r"stand_in: a random search has no end\. Limit it: --trials 20, or run_cap",
    ):
        open_trials(sweep_file(tmp_path, run_cap=None), local(tmp_path))


def test_bayes_finds_good_values(tmp_path: Path) -> None:
    """The Bayesian search finds good values."""
    trials = open_trials(sweep_file(tmp_path, method="bayes", run_cap=18), local(tmp_path))
    drawn = []
    for _ in range(18):
        claimed = trials.claim()
        assert claimed
        drawn.append(claimed.values["x"])
        trials.finish(claimed, TrialState.COMPLETE, (claimed.values["x"] - 3) ** 2)
    assert trials.claim() is None
    late = [abs(x - 3) for x in drawn[10:]]
    assert sum(late) / 8 < 1  # of uniform draws it is 1.5
    assert trials.decode(trials.study.trials[0].params) == {"x": drawn[0]}
