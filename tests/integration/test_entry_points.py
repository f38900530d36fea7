"""Entry points: each benchmark, each target of the Makefile, and each command runs.

A benchmark or a command that no other test starts breaks unnoticed. These tests list the folder,
the Makefile and the command line, so that a new entry point without a test fails too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from safetensors.torch import load_file

from benchmarks import (
    book,
    evaluation,
    growth,
    live_page,
    page,
    processes,
    quality,
    sequential,
    startup,
    threads,
    throughput,
)
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import equality, program, speed
from gan_lab import benchmark, cli, doctor, studies
from gan_lab.config import loading
from gan_lab.metrics.digit_classifier import WEIGHTS_FILE
from gan_lab.runs.run import Run as TrainedRun
from gan_lab.sweeps import sweep_file
from gan_lab.training import builder
from gan_lab.training.callbacks.tracker import Tracker
from gan_lab.utils.files import read_json
from tests.helpers.browser import needs_chromium
from tests.helpers.families import small
from tests.helpers.folders import run_folder
from tests.helpers.processes import CONTEXT, _run_command, ended, start, start_command
from tests.helpers.snapshots import write_snapshot
from tests.helpers.sweeping import forked

ROOT = Path(__file__).parents[2]
RATIO = r"\d+\.\d{3} \(median of 1, \d+\.\d{3} to \d+\.\d{3}\)"
COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

# --------------------------------------------------------------------------------------------------
# benchmarks

BENCHMARKS = {
    "book": book,
    "evaluation": evaluation,
    "gpu": gpu,
    "growth": growth,
    "live_page": live_page,
    "page": page,
    "processes": processes,
    "quality": quality,
    "sequential": sequential,
    "startup": startup,
    "threads": threads,
    "throughput": throughput,
}
STUDY = """
title: One rate
chapter: 1
claim: A ring has a score.
source: nobody (arXiv 0000.00000)
prediction: It is positive.
measure: scores
arms: {slow: ring}
predictions: [{value: high_quality, arm: slow, relation: above, bound: 0}]
quick:
  seeds: 1
  words: >-
    run.images=256 run.evaluate_every_images=256 metrics.num_fakes=64 metrics.num_reals=64
not_shown: Anything.
"""


class RecordingTracker(Tracker):
    """A tracker that counts how often it is started and finished."""

    name = "recording"

    def __init__(self) -> None:
        self.started = self.finished = 0

    def _open(self, images: int) -> None:
        self.started += 1
        self.run = "open"

    def _finish(self, code: int) -> None:
        self.finished += 1


@pytest.fixture
def run_main(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[str, int]]:
    """Return a function that runs a benchmark's main(); it returns the output and exit code."""

    def run(module: ModuleType, *arguments: str) -> tuple[str, int]:
        monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
        try:
            code = module.main()
        except SystemExit as exited:
            code = exited.code
        return capsys.readouterr().out, code or 0

    return run


def run_forked_command(command: Sequence[str], log: Path) -> int:
    """Run ``python -m gan_lab ...`` in a forked process, which starts faster."""
    arguments = list(command[command.index("gan_lab") + 1 :])
    (code,) = ended([start_command(arguments, log)])
    assert code is not None, log.read_text()
    return code


def test_benchmarks_have_a_test_each() -> None:
    """Each module of benchmarks/ is one that a test below runs."""
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py")} - {"__init__"}
    found |= {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert found == set(BENCHMARKS)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("experiment", ["cgan", "ring"])
def test_bench_throughput_prints_its_ratios(
    experiment: str,
    tmp_path: Path,
    data_root: Path,
    sample: object,
    monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[str, int]],
) -> None:
    monkeypatch.setattr(throughput, "WARMUP_ITERATIONS", 2)
    monkeypatch.setattr(throughput, "MEASURED_ITERATIONS", 2)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # main() sets it: restore it afterwards
    trackers: list[RecordingTracker] = []

    def build_trackers(*_: Any) -> list[Tracker]:
        trackers.append(RecordingTracker())
        return [trackers[-1]]

    monkeypatch.setattr(builder, "build_trackers", build_trackers)
    overrides = small("cgan", tmp_path, data_root) if experiment == "cgan" else ["log.wandb=off"]
    output, code = run_main(
        throughput, experiment, "--rounds", "1", *overrides, "log.progress_bar=true"
    )
    assert code == 0
    others = ["plain", "tutorial"] if experiment == "cgan" else ["plain"]
    speeds = "  ".join(rf"{who} [\d,]+ images/s" for who in ["lab", *others])
    expected = [rf"{experiment} 1: {speeds}"]
    expected += [rf"{experiment}: lab / {other} = {RATIO}" for other in others]
    expected += [rf"{experiment}: [\d,]+ images/s on \d+ threads"]
    lines = output.splitlines()
    assert len(lines) == len(expected), output
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)
    # the first tracker belongs to the networks of the loops, which are built but not trained
    assert [(each.started, each.finished) for each in trackers] == [(0, 0), (1, 1), (1, 1)]


def test_bench_evaluation_prints_its_ratio(
    tmp_path: Path, data_root: Path, sample: object, run_main: Callable[..., tuple[str, int]]
) -> None:
    out, overrides = tmp_path / "ratios.json", small("cgan", tmp_path, data_root)
    out.write_text('{"earlier": [1.0]}')
    output, code = run_main(evaluation, "cgan", "--rounds", "1", "--out", str(out), *overrides)
    assert code == 0
    compared = "evaluation / generating and extracting"
    assert re.fullmatch(rf"cgan: {compared} = {RATIO}\n", output)
    recorded = json.loads(out.read_text())
    (ratio,) = recorded.pop(f"cgan {' '.join(overrides)}: {compared}")
    # three decimals are printed and four recorded: both are rounded
    printed = float(output.removeprefix(f"cgan: {compared} = ").split()[0])
    assert printed == pytest.approx(ratio, rel=0, abs=0.5e-3 + 0.5e-4)
    assert recorded == {"earlier": [1.0]}


@pytest.mark.parametrize(
    "module",
    [throughput, evaluation, processes, threads, live_page, quality, startup, growth, gpu],
    ids=lambda module: module.__name__,
)
def test_missing_folder_of_record_is_reported_before_measuring(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "absent" / "out.json"
    monkeypatch.setattr(sys, "argv", [module.__name__, "--out", str(out)])
    with pytest.raises(SystemExit) as exited:
        module.main()
    assert exited.value.code == 2
    assert f"--out {out}: there is no folder {out.parent}. Create it" in capsys.readouterr().err


def test_bench_processes_prints_its_ratio(
    tmp_path: Path, data_root: Path, sample: object, monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[str, int]],
) -> None:  # fmt: skip
    monkeypatch.setattr(processes, "WARMUP_ITERATIONS", 1)
    monkeypatch.setattr(processes, "MEASURED_ITERATIONS", 2)
    monkeypatch.setattr(processes, "CONTEXT", CONTEXT)
    output, code = run_main(processes, "gan", "--rounds", "1", *small("gan", tmp_path, data_root))
    assert code == 0
    lines = output.splitlines()
    assert len(lines) == 2, output
    assert re.fullmatch(r"gan 1: 1 process [\d,]+ images/s  2 processes [\d,]+ images/s", lines[0])
    assert re.fullmatch(rf"gan: 2 processes / 1 process = {RATIO} on \d+ cores", lines[1])


def test_bench_threads_prints_its_ratios(
    tmp_path: Path, data_root: Path, sample: object, monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[str, int]],
) -> None:  # fmt: skip
    monkeypatch.setattr(threads, "WARMUP_ITERATIONS", 1)
    monkeypatch.setattr(threads, "MEASURED_SECONDS", 0.1)
    monkeypatch.setattr(threads, "CONTEXT", CONTEXT)
    output, code = run_main(threads, "gan", "--rounds", "1", *small("gan", tmp_path, data_root))
    assert code == 0
    lines = output.splitlines()
    number = r"\d+\.\d+"
    assert re.fullmatch(
        rf"gan 1: idle {number}  busy {number}, with the spin count of idle cores {number}",
        lines[0],
    )
    assert [line.partition(" = ")[0] for line in lines[1:]] == [
        "gan: wall time, libgomp's spin count / the library's",
        "gan: CPU time on busy cores / one thread",
        "gan: CPU time on busy cores with the spin count of idle ones / one thread",
    ]
    assert all(re.search(rf" = {RATIO} with \d+ threads$", line) for line in lines[1:])


def test_bench_live_prints_its_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    monkeypatch.setattr(live_page, "CONTEXT", CONTEXT)
    out = tmp_path / "out.json"
    overrides = ["run.images=256", "run.evaluate_every_images=256"]
    output, code = run_main(live_page, "ring", "--rounds", "1", "--out", str(out), *overrides)
    assert code == 0
    first, second = output.splitlines()
    assert re.fullmatch(
        r"ring 1: [\d.]+ CPU seconds with \d+ grids and \d+ pages, [\d.]+ without", first
    )
    assert re.fullmatch(rf"ring: with / without = {RATIO}", second)
    (pair,) = json.loads(out.read_text())["ring"]["rounds"]
    # before the first and after the last iteration
    assert pair["without"]["grids"] == 2
    assert pair["without"]["pages"] == 0


def test_bench_quality_scores_at_each_budget(
    tmp_path: Path,
    data_root: Path,
    sample: object,
    monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[str, int]],
) -> None:
    monkeypatch.setattr(quality, "CONTEXT", CONTEXT)
    out = tmp_path / "out.json"
    overrides = [word for word in small("gan", tmp_path, data_root) if "=" in word]
    arguments = ["gan", "script: gan", "--budgets", "0.1,0.3", "--out", str(out), *overrides]
    output, code = run_main(quality, *arguments)
    assert code == 0
    number = r"[\d.e+]+"
    for label in ("`gan`", "tutorial loop, networks of `gan`"):
        assert re.search(rf"^\| {label} \| {number} \| {number} \| [\d,]+ \|$", output, re.M), (
            output
        )
    found = json.loads(out.read_text())
    for row in ("gan", "script: gan"):
        first, second = found[row]["0"].values()
        assert 0 < first["images"] < second["images"]
        assert first["fd_digits"] != second["fd_digits"]
    # what the file has is not trained again
    monkeypatch.setattr(quality, "measure", lambda *_: pytest.fail("trained again"))
    assert run_main(quality, *arguments)[0] == output[output.index("| `fd_digits`") :]
    # a table has one set of budgets
    arguments[arguments.index("0.1,0.3")] = "0.1"
    assert run_main(quality, *arguments) == ("", 2)


def test_budget_of_bench_quality_excludes_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def score() -> dict[str, float]:
        nonlocal now
        now += 1000
        return {"fd_digits": now}

    monkeypatch.setattr(quality.time, "process_time", lambda: now)
    clock = quality.BudgetClock([2, 4], score)
    steps = 0
    ended = False
    while not ended:
        now += 0.5
        steps += 1
        ended = clock.tick(steps)
    assert {budget: found["images"] for budget, found in clock.scores.items()} == {"2": 4, "4": 8}


def test_bench_start_prints_cpu_seconds_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    """Of one command in its own process; test_imports.py runs the others."""
    trained: list[Sequence[str]] = []
    start = startup.run_command

    def run_command(arguments: Sequence[str], folder: Path) -> float:
        if arguments[0] != "train":
            return start(arguments, folder)
        trained.append(arguments)
        (folder / "runs" / "cgan" / "tiny").mkdir(parents=True)
        return 0.0

    monkeypatch.setattr(startup, "run_command", run_command)
    out = tmp_path / "out.json"
    output, code = run_main(startup, "--rounds", "2", "--only", "help", "--out", str(out))
    assert code == 0
    assert re.fullmatch(r"help +\d\.\d\d CPU s +\(\d\.\d\d to \d\.\d\d\)\n", output)
    assert len(json.loads(out.read_text())["help"]) == 2
    (arguments,) = trained
    assert loading.load(arguments[1], arguments[2:]).config.run.images == 256


def test_bench_start_names_a_command_that_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"gan-lab compare nowhere failed:\n.*nowhere"):
        startup.run_command(["compare", "nowhere"], tmp_path)


def test_bench_growth_prints_an_exponent_of_each_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    monkeypatch.setenv("GAN_LAB_CACHE", "mine")
    out = tmp_path / "out.json"
    output, code = run_main(growth, "--numbers", "40", "80", "--out", str(out))
    assert code == 0
    assert os.environ["GAN_LAB_CACHE"] == "mine"
    header, *rows = output.splitlines()
    assert header.split()[-3:] == ["40", "80", "exponent"]
    results = json.loads(out.read_text())
    assert [row[:26].strip() for row in rows] == list(results["stages"])
    assert all(re.fullmatch(r"( +\d+\.\d{3}){2} +-?\d+\.\d\d", row[26:]) for row in rows)
    assert results["numbers"] == [40, 80]


def test_growth_exponent_of_quadratic_seconds_is_two() -> None:
    assert growth.fit_exponent([10, 100, 1000], [0.03, 3.0, 300.0]) == pytest.approx(2.0)


@needs_chromium
def test_bench_page_prints_milliseconds(run_main: Callable[..., tuple[str, int]]) -> None:
    output, code = run_main(page, "gan")
    assert code == 0
    assert re.fullmatch(r"gan +[\d,]+ weights +\d+\.\d ms an image\n", output)


def test_bench_page_without_chromium_exits(
    monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    output, message = run_main(page, "gan")
    assert output == ""
    assert str(message).startswith("Chromium is not installed")


def test_bench_book_runs_a_study_and_prints_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    study, log = tmp_path / "tiny.yaml", tmp_path / "log"
    study.write_text(STUDY, encoding="utf-8")

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, run_forked_command(command, log))

    monkeypatch.setattr(book.subprocess, "run", run)
    output, code = run_main(book, str(study), "--workers", "1")
    assert code == 0, log.read_text()
    assert re.match(rf"study {study}, quick budget: \d\.\d minutes \(limit: 20\), ", output)
    assert float(re.search(r"([\d.]+) CPU minutes\n$", output).group(1)) >= 0
    assert "pages/tiny.md" in log.read_text()


def test_bench_book_with_a_failed_study_exits_1(
    monkeypatch: pytest.MonkeyPatch, run_main: Callable[..., tuple[str, int]]
) -> None:
    monkeypatch.setattr(
        book.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 2)
    )
    assert run_main(book)[1] == 1


# the name of a row of each check
GPU_ROWS = {
    "devices": "64-true gan: GPU = CPU",
    "sampling": "load_generator(device=...): 64 images, GPU = CPU",
    "memory": "memory took",  # needs a GPU: no row
    "resume": "gan, 4 iterations",
    "graphs": "gan, 4 iterations: run.graph=auto = off",
    "bf16": "bf16-mixed gan: mean losses of the iterations, against 32-true",
    "throughput": "ring: lab / its step alone",
    "settings": "dcgan 64 px, batch 256, images/s: data on the host / defaults",
    "evaluation": "an evaluation of 1,000 digits in training",
    "training": "gan-lab train cgan",
    "several": "gan, float64, no batch norm: two processes = one",
}
# Two iterations do not meet these thresholds.
SPEED_ROWS = ("lab / its step alone", "lab / hand-written loop")


class InThisProcess:
    """A subprocess.Popen of ``python -W ignore -c CODE ...`` that runs the code here."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        code, *arguments = command[4:]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["-c", *arguments])
            exec(code, {})
        self.returncode = 0

    def wait(self) -> int:
        return self.returncode


@pytest.mark.filterwarnings("ignore")
def test_gpu_check_rehearses_every_check(
    tmp_path: Path, data_root: Path, sample: object, monkeypatch: pytest.MonkeyPatch,
    run_main: Callable[..., tuple[str, int]],
) -> None:  # fmt: skip
    """With one family, and fewer cases of each check than the rehearsal has."""
    assert GPU_ROWS.keys() == gpu.CHECKS.keys()
    root = f"data.root={data_root}"
    load = loading.load
    monkeypatch.setattr(loading, "load", lambda name, words=(): load(name, [*words, root]))
    for name in (
        "WARMUP_ITERATIONS",
        "MEASURED_ITERATIONS",
    ):  # the check of the throughput sets them
        monkeypatch.setattr(throughput, name, getattr(throughput, name))
    monkeypatch.setattr(equality.subprocess, "Popen", InThisProcess)
    monkeypatch.setattr(equality, "PIXELS_SHAPE", (4, 3, 32, 32))
    monkeypatch.setattr(equality, "RESUMED", ("gan",))
    monkeypatch.setattr(speed, "CASES", {"ring": speed.CASES["ring"]})
    monkeypatch.setattr(speed, "CHOICES", {"data on the host": (["data.device_gb=0"], {})})

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        _, experiment, *overrides = command[command.index("gan_lab") + 1 :]
        few = ["run.devices=1", "run.images=256", "model.width=8", root]
        noted = {"SCORED": "1"} if experiment == "cgan" else {}
        log = tmp_path / "log"
        process = start(experiment, [*overrides, *few], log, environment=noted)
        (code,) = ended([process])
        return subprocess.CompletedProcess(command, code or 0, "", log.read_text())

    monkeypatch.setattr(program.subprocess, "run", run)
    out = tmp_path / "gpu.json"
    output, _ = run_main(gpu, "--rehearse", "--family", "gan", "--out", str(out))
    # the log may be on stdout, after other tests of this process
    table = [line for line in output.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert set(GPU_ROWS.values()) <= {row[0] for row in rows}, output
    recorded = [
        [row["name"], row["value"], row["threshold"]] for row in json.loads(out.read_text())
    ]
    assert recorded == [row[:3] for row in rows[2:]]
    failed = [row for row in rows if row[3] == "NOT MET" and not row[0].endswith(SPEED_ROWS)]
    assert failed == []


# --------------------------------------------------------------------------------------------------
# targets of the Makefile

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
RUN = "runs/cgan/seed0"
SEED = "run.seed=1"
# values of all variables of each target's recipe
SAMPLES: dict[str, dict[str, str]] = {
    "help": {},
    "setup": {},
    "extras": {},
    "train": {"EXP": "cgan", "ARGS": SEED},
    "dry-run": {"EXP": "cgan", "ARGS": SEED},
    "inspect-data": {"EXP": "dcgan", "ARGS": "data.name=folder data.root=photos"},
    "evaluate": {"RUN": RUN, "ARGS": "data.root=data"},
    "score": {"FAKES": "my samples", "REALS": "photos", "METRICS": "fid,is", "EXTRACTOR": "lite0",
              "OUT": "my scores.json", "ARGS": "--batch-size 9"},
    "sample": {"RUN": RUN, "N": "9", "CLASS": "7", "SEED": "3", "INTERPOLATE": "8", "CODE": "1",
               "ARGS": "--truncation 0.7"},
    "project": {"RUN": RUN, "IN": "my photos", "N": "9", "CLASS": "7", "OUT": "my out.png",
                "ARGS": "data.root=data"},
    "directions": {"RUN": RUN, "CLASS": "7", "OUT": "my folder", "ARGS": "--count 4"},
    "identify": {"PNG": "my x.png", "ARGS": "--root elsewhere"},
    "reconstruct": {"RUN": RUN, "N": "9", "ARGS": "data.root=data"},
    "interpolate": {"RUN": RUN, "N": "9", "ARGS": "--steps 5"},
    "translate": {"RUN": RUN, "IN": "my photos", "OUT": "my out", "DIRECTION": "BtoA",
                  "MASK": "my mask.png", "ARGS": ""},
    "export": {"RUN": RUN, "OUT": "my model", "FORMAT": "onnx", "ARGS": "--weights last"},
    "import": {
        "SNAPSHOT": "my faces.pkl", "OUT": "my model", "FORMAT": "onnx", "ARGS": "--overwrite",
    },
    "publish": {"RUN": RUN, "TO": "hf:me/my-gan", "FORMAT": "onnx", "ARGS": "--weights last"},
    "probe": {"RUN": RUN, "ARGS": "--labels 50"},
    "report": {"RUN": f"{RUN} runs/gan/seed0", "OUT": "my page.html", "ARGS": "runs/gan/seed1"},
    "judge": {"DATA": "emoji", "N": "50", "ARGS": SEED},
    "benchmark": {"TABLE": "families", "ARGS": "run.images=50_000"},
    "study": {"STUDY": "optimum", "BUDGET": "quick", "WORKERS": "2", "ARGS": "--root elsewhere"},
    "book": {},
    "compare": {"RUN": f"{RUN} runs/gan/seed0", "ARGS": "--weights last"},
    "zoo": {},
    "explain": {"SCORE": "fd_digits", "ARGS": "kd_digits"},
    "runs": {"ROOT": "my runs", "ARGS": "--page"},
    "sweep": {"SWEEP": "cgan_lr", "WORKERS": "2", "TRIALS": "20", "BACKEND": "local",
              "STORAGE": "postgresql://host/trials", "ARGS": SEED},
    "sweep-check": {"SWEEP": "cgan_lr", "TRIALS": "20", "ARGS": SEED},
    "sweep-report": {"SWEEP": "cgan_lr", "STORAGE": "postgresql://host/trials", "ARGS": SEED},
    "slurm": {"EXP": "cgan", "NODES": "2", "GPUS": "8", "TIME": "02:00:00", "ARGS": SEED},
    "doctor": {"ARGS": "data.root=/scratch"},
    "docker": {},
    "docker-train": {"EXP": "cgan", "GPUS": "all", "ARGS": SEED},
    "container-test": {},
    "test": {"ARGS": "tests/contracts"},
    "test-portable": {"ARGS": "tests/contracts"},
    "configuration": {},
    "demo": {"EXP": "cgan", "ARGS": "run.images=30_000"},
    "docs": {},
    "check": {},
    "bench": {"ARGS": "dcgan --rounds 3 data.source=sample"},
    "bench-evaluation": {"ARGS": "dcgan --rounds 3 data.source=sample"},
    "bench-processes": {"ARGS": "dcgan --rounds 3 data.source=sample"},
    "bench-page": {"ARGS": "gan dcgan"},
    "bench-live": {"ARGS": "cgan --rounds 2 run.images=64000"},
    "bench-quality": {"ARGS": "cgan 'script: cgan' --budgets 10,20 --seeds 2"},
    "bench-start": {"ARGS": "--rounds 1 --only help"},
    "bench-threads": {"ARGS": "cgan --rounds 2 data.source=sample"},
    "bench-growth": {"ARGS": "--numbers 1000 10000"},
    "bench-book": {"ARGS": "optimum --workers 1"},
    "bench-sequential": {"ARGS": "--draw"},
    "gpu-check": {"ARGS": "sampling --rehearse --family gan"},
    "clean": {},
}  # fmt: skip
LOCKS = ("requirements.lock", "requirements-extras.lock", "requirements-dev.lock")
# a stub writes its name and arguments, each ended by NUL, and a record separator
STUB = r"""#!/bin/bash
printf '%s\0' "${0##*/}" "$@" >> "$RECORD"
printf '\x1e' >> "$RECORD"
if [[ "$1 $2" == "-m venv" ]]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/gan-lab"
fi
"""


def find_targets() -> dict[str, str]:
    """Return the recipe of each documented target."""
    recipes: dict[str, str] = {}
    target = ""
    for line in MAKEFILE.splitlines():
        if heading := re.match(r"([a-z-]+):.*##", line):
            target = heading[1]
            recipes[target] = ""
        elif target and line.startswith("\t"):
            recipes[target] += line + "\n"
        else:
            target = ""
    return recipes


TARGETS = find_targets()


class Checkout:
    """A folder with the Makefile in which every program that it starts is a stub."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record = folder, folder / "record"
        (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
        for name in (*LOCKS, "pyproject.toml"):
            (folder / name).touch()
        for name in ("gan-lab", "python", "ruff", "mypy"):
            self._write_stub(folder / ".venv" / "bin" / name)
        for name in ("docker", "python3", "uv"):
            self._write_stub(folder / "bin" / name)
        self._write_stub(folder / "scripts" / "container-test.sh")
        for experiment in loading.experiments():  # make demo copies the reports
            report = folder / "runs" / experiment / "demo" / "report.html"
            report.parent.mkdir(parents=True)
            report.touch()
        for name in (".ready", ".ready-extras", ".ready-dev"):
            (folder / ".venv" / name).touch()

    def _write_stub(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB, encoding="utf-8")
        path.chmod(0o755)

    def make(self, target: str, variables: dict[str, str]) -> list[list[str]]:
        """Run a target; return the recorded command lines."""
        self.record.unlink(missing_ok=True)
        # nothing of a make that runs this suite, such as MAKEFLAGS or ARGS
        environment = {
            "HOME": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "RECORD": str(self.record),
        }
        arguments = [f"{name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            ["make", "--no-print-directory", target, *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if not self.record.exists():
            return []
        records = self.record.read_text(encoding="utf-8").split("\x1e")[:-1]
        return [record.split("\0")[:-1] for record in records]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def parse_command(words: Sequence[str]) -> dict[str, Any]:
    """Parse the arguments of gan-lab without running the command; return its parameters."""
    name, *rest = words
    assert name in COMMANDS, f"gan-lab has no command {name}"
    parameters: dict[str, Any] = COMMANDS[name].make_context(name, rest).params
    if name in ("train", "dry-run", "inspect-data", "slurm") and parameters["experiment"]:
        loading.load(parameters["experiment"], parameters["overrides"] or [])
    return parameters


def check_python(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that what Python is asked to run exists and accepts its arguments."""
    if arguments[0] != "-m":
        assert (ROOT / arguments[0]).is_file()
        return
    module, rest = arguments[1], list(arguments[2:])
    if module == "pytest":
        for path, *names in (word.split("::") for word in rest if word.startswith("tests/")):
            assert (ROOT / path).exists()
            for name in names:
                assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text("utf-8")
    elif module == "sphinx":
        assert (ROOT / rest[-2] / "conf.py").is_file()
    elif module.startswith("benchmarks."):
        check_benchmark(module.removeprefix("benchmarks."), rest, monkeypatch)
    else:
        assert module in ("pip", "venv")


class Parsed(BaseException):
    """Raised where a benchmark would start to measure; no ``except Exception`` catches it."""


# the first function that a benchmark calls after it has parsed its arguments
FIRST_CALLS = {
    "book": "subprocess.run",
    "evaluation": "measure_ratios",
    "growth": "measure_stages",
    "gpu": "find_experiments",
    "live_page": "measure_pair",
    "page": "shutil.which",
    "processes": "measure_speed",
    "quality": "measure",
    "sequential": "collect_results",
    "startup": "list_commands",
    "threads": "measure",
    "throughput": "build",
}


def check_benchmark(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a benchmark up to its first measurement: argparse exits if it rejects the arguments."""

    def stop(*_: Any, **__: Any) -> None:
        raise Parsed

    with monkeypatch.context() as patch, suppress(Parsed):
        patch.setattr(sys, "argv", [name, *arguments])
        patch.setenv("TTY_COMPATIBLE", "1")  # the throughput sets it: restore it afterwards
        patch.setattr(f"{BENCHMARKS[name].__name__}.{FIRST_CALLS[name]}", stop)
        BENCHMARKS[name].main()


def test_makefile_targets_are_documented_and_have_a_sample() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == set(TARGETS) == set(SAMPLES)


@pytest.mark.parametrize("target", TARGETS)
def test_makefile_sample_sets_all_variables(target: str) -> None:
    defined = set(re.findall(r"^([A-Z]+)\s*[?:]?=", MAKEFILE, re.MULTILINE))
    used = set(re.findall(r"(?<!\$)\$\((?:if |or )?(?:\$\()?([A-Z]+)\b", TARGETS[target]))
    assert used - defined - {"MAKE", "CURDIR"} == SAMPLES[target].keys()


@pytest.mark.parametrize("variables", ["all", "required"])
@pytest.mark.parametrize("target", TARGETS)
def test_makefile_target_calls_what_exists(
    target: str, variables: str, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command line of a target is accepted, and each variable reaches the command."""
    given = dict(SAMPLES[target])
    if variables == "required":
        optional = re.findall(r"\$\((?:if|or) \$\(([A-Z]+)\)", TARGETS[target])
        given = {name: value for name, value in given.items() if name not in {*optional, "ARGS"}}
    calls = checkout.make(target, given)
    if target not in ("help", "setup", "extras", "clean"):
        assert calls
    for name, *arguments in calls:
        if name == "gan-lab":
            check_parameters(parse_command(arguments), given)
        elif name == "docker" and arguments[0] == "run":
            command = arguments[arguments.index("gan-lab") + 1 :]
            given.pop("GPUS", None)  # an option of docker
            check_parameters(parse_command(command), given)
        elif name == "python":
            check_python(arguments, monkeypatch)
        elif name == "container-test.sh":
            assert os.access(ROOT / "scripts" / name, os.X_OK)
        else:
            assert name in ("docker", "ruff", "mypy")


def check_parameters(parameters: dict[str, Any], given: dict[str, str]) -> None:
    """Check that the value of every variable is among the parameters of the command."""
    passed: list[str] = []
    for value in parameters.values():
        passed += map(str, value) if isinstance(value, list | tuple) else [str(value)]
    for name, text in given.items():
        values = text.split() if name in ("ARGS", "RUN") else [text]
        for value in values:
            assert value.startswith("--") or value in passed, f"{name}={text}: {parameters}"


def test_container_gets_what_labels_a_wandb_run(checkout: Checkout) -> None:
    """``--env NAME`` passes a variable of the caller if it is set."""
    (call,) = (call for call in checkout.make("docker-train", {"EXP": "cgan"}) if call[1] == "run")
    passed = {call[i + 1] for i, word in enumerate(call) if word == "--env"}
    names = ("API_KEY", "MODE", "BASE_URL", "PROJECT", "ENTITY", "TAGS", "NOTES")
    assert {f"WANDB_{name}" for name in names} <= passed


@pytest.mark.parametrize(
    ("uv", "installer"),
    [("", "python -m pip install"), ("uv", "uv pip install --quiet --python .venv/bin/python")],
    ids=["pip", "uv"],
)
def test_makefile_environment_is_made_once(uv: str, installer: str, checkout: Checkout) -> None:
    """The first target makes the environment from the lock file; the next one finds it."""
    shutil.rmtree(checkout.folder / ".venv")
    made = [" ".join(call) for call in checkout.make("setup", {"UV": uv})]
    assert [call.split()[:3] for call in made[:2]] == [
        ["python3", "-c", "import"],
        ["python3", "-m", "venv"],
    ]
    lock, package = made[2:]
    assert lock.startswith(installer)
    assert lock.endswith("-r requirements.lock")
    assert package.startswith(installer)
    assert package.endswith("--no-deps --no-build-isolation --editable .")
    assert all((ROOT / name).is_file() for name in LOCKS)
    assert checkout.make("setup", {"UV": uv}) == []
    # ONNX is added when it is asked for, once
    (safetensors,) = checkout.make("export", {"UV": uv, "RUN": "r"})
    extras, onnx = [
        " ".join(call) for call in checkout.make("export", {"UV": uv, "RUN": "r", "FORMAT": "onnx"})
    ]
    assert extras.startswith(installer)
    assert extras.endswith("-r requirements-extras.lock")
    assert "--format onnx" in onnx
    assert safetensors[:2] == ["gan-lab", "export"]
    assert checkout.make("extras", {"UV": uv}) == []
    # an environment that is made again has the same packages
    (checkout.folder / ".venv" / ".ready").unlink()
    again = [" ".join(call) for call in checkout.make("setup", {"UV": uv})]
    assert again == [*made, extras]
    # targets for development add their tools, once
    tools, pytest_call = [" ".join(call) for call in checkout.make("test", {"UV": uv})]
    assert tools.startswith(installer)
    assert tools.endswith("-r requirements-dev.lock")
    assert "-m pytest" in pytest_call
    assert [" ".join(call) for call in checkout.make("test", {"UV": uv})] == [pytest_call]


# --------------------------------------------------------------------------------------------------
# scripts


def test_scripts_have_a_test_each() -> None:
    """Each Python file of scripts/ is one that a test below runs."""
    found = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert found == {name.removeprefix("test_script_") for name in globals() if "_script_" in name}


def test_script_zoo(
    tmp_path: Path, data_root: Path, sample: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished training is exported, drawn, and a row of the table."""
    from scripts import zoo

    run = TrainedRun(run_folder("gan", tmp_path / "runs", data_root))
    monkeypatch.setattr(zoo, "MODELS", {"tiny": ("gan", ["run.images=8"])})
    asked: list[Any] = []
    monkeypatch.setattr(
        zoo.gan_lab, "train", lambda *words, overrides: asked.append((*words, *overrides)) or run
    )
    monkeypatch.setattr(zoo.zoo, "ZOO_FOLDER", tmp_path / "zoo")
    monkeypatch.setattr(zoo, "DOCS", tmp_path)
    (tmp_path / "zoo").mkdir()
    page = tmp_path / "zoo.md"
    page.write_text("a\n\n<!-- table -->\n\nold\n\n<!-- end -->\n\nz", encoding="utf-8")
    zoo.main()
    assert asked == [("gan", "run.images=8", "run.root=runs/zoo")]
    assert (tmp_path / "zoo_tiny.png").is_file()
    assert (tmp_path / "zoo" / "tiny" / "config.json").is_file()
    text = page.read_text(encoding="utf-8")
    assert "`zoo:tiny` | gray images, 28 x 28 pixels |" in text
    assert "old" not in text


def test_script_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete result is copied, and levels and pages of the recorded results are written.

    The committed levels are those that the simulation computes for the shipped studies.
    """
    from gan_lab.report import sequential
    from scripts import book

    levels = json.loads(sequential.RECORD.read_text(encoding="utf-8"))
    monkeypatch.setattr(sequential, "RECORD", tmp_path / "look_levels.json")
    result = Path("d_noise") / "full.json"
    (tmp_path / "runs" / "d_noise").mkdir(parents=True)
    shutil.copy(book.RESULTS / result, tmp_path / "runs" / result)
    monkeypatch.setattr(book, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(book, "RESULTS", tmp_path / "book" / "results")
    committed = (book.BOOK / "d_noise.md").read_text(encoding="utf-8")
    monkeypatch.setattr(book, "BOOK", tmp_path / "book")
    book.main()
    assert (tmp_path / "book" / "results" / result).is_file()
    assert {path.name for path in (tmp_path / "book").glob("*.md")} == {"README.md", "d_noise.md"}
    written = (tmp_path / "book" / "d_noise.md").read_text(encoding="utf-8")
    assert written.splitlines()[:3] == committed.splitlines()[:3]
    computed = json.loads((tmp_path / "look_levels.json").read_text(encoding="utf-8"))
    assert list(computed) == list(levels)
    for schedule, values in computed.items():
        assert values == pytest.approx(levels[schedule], rel=1e-6), schedule


def test_script_check_prose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The README is counted, and a file with a finding fails."""
    from scripts import check_prose

    assert check_prose.main(["--count", str(ROOT / "README.md")]) == 0
    assert capsys.readouterr().out.split() == ["0", "in", "1", "files"]
    page = tmp_path / "page.md"
    page.write_text("All weights are drawn anew.\n", encoding="utf-8")
    assert check_prose.main([str(page)]) == 1
    assert capsys.readouterr().out.startswith(f"{page}:1: ")


def test_script_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page of keys and the table of scores are written as they are committed."""
    from scripts import configuration

    for name in ("PAGE", "METRICS_PAGE"):
        path = getattr(configuration, name)
        shutil.copy(path, tmp_path / path.name)
        monkeypatch.setattr(configuration, name, tmp_path / path.name)
    (tmp_path / "configuration.md").write_text("")
    configuration.main()
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (ROOT / "docs" / path.name).read_bytes()


def test_script_record_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of unchanged pages does not change, and keeps its sources."""
    from scripts import record_numbers

    committed = record_numbers.RECORD.read_text(encoding="utf-8")
    (tmp_path / "numbers.json").write_text(committed, encoding="utf-8")
    monkeypatch.setattr(record_numbers, "RECORD", tmp_path / "numbers.json")
    record_numbers.main()
    assert (tmp_path / "numbers.json").read_text(encoding="utf-8") == committed


@needs_chromium
def test_script_record_page(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The animation starts with one image per class, and the still shows the page."""
    from scripts import record_page

    run = run_folder("cgan", tmp_path / "run", data_root)
    monkeypatch.setattr(sys, "argv", ["record_page.py", str(run), "--out", str(tmp_path)])
    record_page.main()
    with Image.open(tmp_path / "live_page.gif") as recorded:
        assert recorded.n_frames > 50
        digits = []
        for i in range(10):
            recorded.seek(i)
            digits.append(np.asarray(recorded.convert("L"))[20:320, 20:320].tobytes())
    assert len(set(digits)) == 10
    with Image.open(tmp_path / "report.png") as still:
        assert still.size == record_page.REPORT_SIZE
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"run", "live_page.gif", "report.png"}


def test_script_record_live(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of the first line, grid and page; the training is one that has ended."""
    from scripts import record_live

    run = run_folder("cgan", tmp_path / "run", data_root)
    page = run / "report.html"
    page.touch()

    class Training(record_live.Training):
        def __init__(self, experiment: str, overrides: list[str], folder: Path) -> None:
            self.folder = run
            self.started = time.monotonic()
            self.process = SimpleNamespace(pid=os.getpid(), poll=lambda: None)
            self.times: dict[str, Any] = {}
            self.lines: list[str] = []

        def stop(self) -> None:
            self.times["stopped"] = {}

    monkeypatch.setattr(record_live, "Training", Training)
    monkeypatch.setattr(record_live, "POLL_S", 0.05)
    words = ["cgan", "--seconds", "0.3", "--no-gif", "--out", str(tmp_path / "times.json")]
    monkeypatch.setattr(sys, "argv", ["record_live.py", *words])
    record_live.main()
    (times,) = json.loads((tmp_path / "times.json").read_text(encoding="utf-8")).values()
    assert {"page", "stopped"} <= times.keys()
    assert ("first grid" in times) == bool(record_live.Training.list_grids(Training("", [], run)))


def test_script_record_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed record and table are what the command writes."""
    from scripts import record_alerts

    record, page = record_alerts.RECORD.read_bytes(), record_alerts.PAGE.read_bytes()
    monkeypatch.setattr(record_alerts, "RECORD", tmp_path / "alerts.json")
    monkeypatch.setattr(record_alerts, "PAGE", tmp_path / "health.md")
    (tmp_path / "health.md").write_bytes(page)
    monkeypatch.setattr(sys, "argv", ["record_alerts.py"])
    record_alerts.main()
    assert (tmp_path / "alerts.json").read_bytes() == record
    assert (tmp_path / "health.md").read_bytes() == page


def test_alerts_of_shipped_experiments_are_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seeds are trained once, and their alerts recorded; what is recorded is kept."""
    from scripts import record_alerts

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(record_alerts, "SHIPPED_RECORD", tmp_path / "shipped.json")
    monkeypatch.setattr(record_alerts, "SHIPPED_SHARE", 1_000)
    monkeypatch.setattr(sys, "argv", ["record_alerts.py", "--shipped", "ring"])
    record_alerts.main()
    recorded = json.loads((tmp_path / "shipped.json").read_text(encoding="utf-8"))
    assert recorded == {"ring": {"images": 400, "alerts": [[], [], []]}}
    monkeypatch.setattr(record_alerts, "fit", None)
    record_alerts.main()
    assert json.loads((tmp_path / "shipped.json").read_text(encoding="utf-8")) == recorded


def test_script_record_benchmark(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record has the scores of each seed, and both pages show them."""
    from gan_lab.runs.run import Run
    from scripts import record_benchmark

    runs = []
    for seed, distance in enumerate((2.0, 4.0)):
        run = run_folder("cgan", tmp_path / f"seed{seed}", data_root)
        protocol = {"floor": 0.25, "floor_classes": "as asked for"}
        entry = {"value": distance, "higher_is_better": False, "protocol": protocol}
        scores = {"scores": {"best": {"fd_digits": entry}}}
        (run / "summary.json").write_text(json.dumps(scores), encoding="utf-8")
        runs.append(Run(run))
    monkeypatch.setattr(record_benchmark.benchmark, "train", lambda table, words: [("cgan", runs)])
    tables = []
    for path, header, pattern in record_benchmark.TABLES:
        copy = tmp_path / f"{path.parent.name}.md"
        shutil.copy(path, copy)
        tables.append((copy, header, pattern))
    monkeypatch.setattr(record_benchmark, "TABLES", tables)
    monkeypatch.setattr(record_benchmark, "RECORD", tmp_path / "families.json")
    monkeypatch.setattr(sys, "argv", ["record_benchmark.py"])
    record_benchmark.main()
    recorded = json.loads((tmp_path / "families.json").read_text(encoding="utf-8"))
    row = recorded["rows"]["cgan"]
    assert row["scores"] == {"fd_digits": [2, 4]}
    assert row["real_images"] == {"fd_digits": 0.25}
    assert row["alerts"] == [[], []]
    for copy, *_ in tables:
        (line,) = [
            x
            for x in copy.read_text(encoding="utf-8").splitlines()
            if "`cgan` |" in x or "=cgan` |" in x
        ]
        assert "| 3 ± 1.4 | |" in line


def test_script_record_runs(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chosen row has the scores of each seed, and the other rows stay."""
    from scripts import record_runs

    trained: list[list[str]] = []

    def train_once(command: list[str]) -> Path:
        trained.append(command)
        run = run_folder("cut", tmp_path / f"seed{len(trained)}", data_root)
        protocol = {"split": "test", "fakes": 100}
        entry = {"value": 10.0 + len(trained), "higher_is_better": True, "protocol": protocol}
        summary = {"scores": {"best": {"psnr": entry}}, "images": 80, "iteration": 10}
        summary["best_iteration"] = 4 * len(trained)
        (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        return run

    monkeypatch.setattr(record_runs.benchmark, "train_once", train_once)
    monkeypatch.setattr(record_runs, "RECORD", tmp_path / "runs.json")
    rows = (record_runs.Row("cut", seeds=2), record_runs.Row("colorize"))
    monkeypatch.setattr(record_runs, "ROWS", rows)
    (tmp_path / "runs.json").write_text('{"colorize": {"seeds": 1}}', encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["record_runs.py", "cut"])
    record_runs.main()
    assert [command[-1] for command in trained] == ["run.seed=0", "run.seed=1"]
    recorded = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))
    assert list(recorded) == ["cut", "colorize"]
    assert recorded["colorize"] == {"seeds": 1}
    assert recorded["cut"]["scores"] == {"psnr": [11, 12]}
    assert recorded["cut"]["images_of_best_checkpoint"] == [32, 64]
    assert recorded["cut"]["command"] == 'make train EXP=cut ARGS="data.source=sample"'
    monkeypatch.setattr(sys, "argv", ["record_runs.py", "cute"])
    with pytest.raises(
        SystemExit, match=r"unknown row 'cute'\. Did you mean 'cut'\? Available: cut, colorize"
    ):
        record_runs.main()


def test_script_record_trivial_distances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded distances can be computed again, and are those that trainings record."""
    from scripts import record_trivial_distances

    shutil.copytree(studies.find_committed_results() / "clipping", tmp_path / "clipping")
    recorded = tmp_path / "clipping" / "full.trivial.json"
    committed = read_json(recorded)["distances"]
    recorded.unlink()
    monkeypatch.setattr(record_trivial_distances, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["record_trivial_distances.py", "clipping"])
    record_trivial_distances.main()
    computed = read_json(recorded)["distances"]
    assert computed.keys() == committed.keys()
    for arm, distances in committed.items():
        assert computed[arm] == pytest.approx(distances, rel=1e-3)

    # a study whose trainings recorded them, with the same data and protocol
    trained = read_json(studies.find_committed_results() / "discriminator_steps" / "full.json")
    for name, value in committed["clipped"].items():
        assert value == pytest.approx(trained["results"]["one"][0][name], rel=1e-3)


def test_script_record_sensitivity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record and table have the thresholds of the chosen data set; the other one stays."""
    from gan_lab.sensitivity.detection import DetectionResult, SensitivityReport
    from scripts import record_sensitivity

    def measure_sensitivity(
        data: object, n: int, wanted: list[str], cfg: object, distortions: Sequence[Any]
    ) -> object:
        applied = [each for each in distortions if not each.needs_labels]
        results = []
        for extractor, measure in itertools.product(wanted, ("kd", "fd", "precision")):
            for distortion in applied:
                # the kernel distance detects the largest severity only, and no blur
                detected = [False] * len(distortion.severities)
                detected[-1] = measure == "kd" and distortion.name != "blur"
                results.append(DetectionResult(extractor, measure, distortion, [], detected))
        return SensitivityReport("emoji", n, results, [])

    monkeypatch.setattr(record_sensitivity.detection, "measure_sensitivity", measure_sensitivity)
    page = tmp_path / "metrics.md"
    shutil.copy(record_sensitivity.PAGE, page)
    monkeypatch.setattr(record_sensitivity, "PAGE", page)
    monkeypatch.setattr(record_sensitivity, "RECORD", tmp_path / "sensitivity.json")
    kept = {"n": 7, "thresholds": {"kd_pixels": {"blur": 3}}}
    (tmp_path / "sensitivity.json").write_text(json.dumps({"mnist": kept}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["record_sensitivity.py", "emoji", "styles"])
    record_sensitivity.main()
    recorded = json.loads((tmp_path / "sensitivity.json").read_text(encoding="utf-8"))
    assert list(recorded) == ["emoji", "mnist", "styles"]
    assert recorded["mnist"] == kept
    assert recorded["emoji"]["thresholds"]["kd_lite0"]["blur"] is None
    assert recorded["emoji"]["thresholds"]["kd_lite0"]["noise"] == 64
    text = page.read_text(encoding="utf-8")
    assert "| emoji, 50 | `lite0_mid` | - | 64 | 8 | 25 | 50 |  | 100 | 98 |\n" in text
    assert "| mnist, 7 | `pixels` | 3 |  |  |  |  |  |  |  |\n" in text
    assert "faces32, 40" not in text
    assert "| `kd_lite0_mid` | 100 | 100 | 100 |\n" in text
    assert "| `fd_digits` | - | - | - |\n" in text
    monkeypatch.setattr(sys, "argv", ["record_sensitivity.py", "mnits"])
    with pytest.raises(
        SystemExit, match=r"unknown row 'mnits'\. Did you mean 'mnist'\? Available: faces32"
    ):
        record_sensitivity.main()


def test_script_train_digit_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches give weights that load, with a record of them."""
    from scripts import train_digit_classifier

    weights = tmp_path / "digits.safetensors"
    words = ["--steps", "2", "--root", str(tmp_path), "--out", str(weights)]
    monkeypatch.setattr(sys, "argv", ["train_digit_classifier.py", *words])
    train_digit_classifier.main()
    record = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    expected = {name: value.shape for name, value in load_file(WEIGHTS_FILE).items()}
    assert {name: value.shape for name, value in load_file(weights).items()} == expected


# --------------------------------------------------------------------------------------------------
# commands

# arguments of each command, filled in by test_command_runs, and a pattern of its output
ARGUMENTS: dict[str, tuple[str, str]] = {
    "train": ("vaegan {vaegan_words} run.id=tiny", r"is already finished"),
    "evaluate": ("{vaegan}", r"fd_digits"),
    "report": ("{vaegan} {pix2pix} --out {tmp}/page.html", r"page\.html"),
    "inspect-data": ("gan {words}", r"mnist"),
    "judge": (
        "mnist {data} run.root={tmp} metrics.extractors=[random] --n 6",
        r"mnist-n6-\S*extractors=random\.html",
    ),
    "benchmark": ("one_row {words}", r"\| `gan` \|"),
    "study": ("--root {tmp}", r"optimum"),
    "compare": ("{vaegan}", r"vaegan"),
    "zoo": ("", r"zoo:digits: gray images of 10 classes, 28 x 28 pixels"),
    "explain": ("fd_digits", r"fd_digits: Fréchet distance, lower is better\. Distance"),
    "runs": ("{root} --filter vaegan", r"vaegan/tiny +finished +32"),
    "dry-run": ("gan {words}", r"generator"),
    "slurm": ("gan run.root={tmp}", r"sbatch .*gan-1x1\.sh"),
    "doctor": ("run.root={tmp}", r"\d+ ok"),
    "sample": ("{vaegan} --n 4 --folder {tmp}/fakes", r"fakes"),
    "identify": ("{vaegan}/reals.png", r"real images, run vaegan/tiny"),
    "reconstruct": ("{vaegan} --n 2 --out {tmp}/image.png", r"image\.png"),
    "interpolate": ("{vaegan} --n 2 --steps 3 --out {tmp}/image.png", r"image\.png"),
    "translate": ("{pix2pix} {images} {tmp}/translated", r"12 images translated into"),
    "directions": ("{vaegan} -n 100 --labels none --folder {tmp}/found", r"directions\.png"),
    "project": ("{vaegan} --n 1 --out {tmp}/image.png", r"median RMSE \d"),
    "export": ("{vaegan} --out {tmp}/model", r"model"),
    "import": ("{tmp}/own.pkl --out {tmp}/imported", r"imported"),
    "publish": ("{vaegan} --to {tmp}/published", r"published"),
    "probe": ("{vaegan} --labels 100", r"pixels"),
    "score": ("{images} {images} --metrics kid --extractor random --out {tmp}/kid.json", r"kid"),
    "sweep": ("{sweep} {sweep_words} --backend local", r"Train it"),
    "sweep-check": ("{sweep} {sweep_words}", r"Metric: fd_digits"),
    "sweep-report": ("{sweep} {sweep_words}", r"Train it"),
}


def run_sweep(arguments: Sequence[str], log: Path) -> None:
    """Run ``gan-lab sweep`` in this process, whose trials are forked from it."""
    from gan_lab.utils import process

    process.start = forked  # type: ignore[assignment]
    _run_command(arguments, log)


def few_images(family: str, root: Path, data_root: Path) -> list[str]:
    """Return the overrides of a training of two iterations."""
    return small(family, root, data_root, "run.images=32", "run.evaluate_every_images=32")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data_root: Path, sample: object) -> Path:
    """Train, by their commands, a run with an encoder, one that translates images, and a sweep."""
    root = tmp_path_factory.mktemp("runs")
    shipped = sweep_file.sweep_folder() / "dcgan_loss.yaml"
    sweep = root / "losses.yaml"
    sweep.write_text(shipped.read_text("utf-8") + "run_cap: 1\n", encoding="utf-8")
    started = []
    for experiment in ("vaegan", "pix2pix"):
        words = [*few_images(experiment, root, data_root), "run.id=tiny"]
        started.append(start_command(["train", experiment, *words], root / f"{experiment}.log"))
    words = few_images("gan", root, data_root)
    arguments = ["sweep", str(sweep), *words, "--backend", "local"]
    started.append(CONTEXT.Process(target=run_sweep, args=(arguments, root / "sweep.log")))
    started[-1].start()
    assert ended(started) == [0, 0, 0], [path.read_text("utf-8") for path in root.glob("*.log")]
    return root


def test_commands_have_arguments_each() -> None:
    assert COMMANDS.keys() == ARGUMENTS.keys()


@pytest.mark.parametrize("command", ARGUMENTS)
def test_command_runs(
    command: str, runs: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Run the command in this process on the tiny runs.

    train and sweep have run already, in the fixture: they find a finished run and a finished sweep.
    """
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        Image.new("RGB", (28, 28), (20 * number, 50, 7)).save(images / f"{number}.png")
    if command == "import":
        write_snapshot(tmp_path / "own.pkl")
    one_row = benchmark.Table(rows=["gan"], scores=["fd_digits"])
    monkeypatch.setattr(benchmark, "load", lambda name: one_row)
    log = tmp_path / "log"
    monkeypatch.setattr(benchmark.process, "run", lambda words: run_forked_command(words, log))
    # test_doctor.py makes all checks, of which some start processes
    monkeypatch.setattr(doctor, "CHECKS", dict([*doctor.CHECKS.items()][:3]))
    values = {
        "vaegan": runs / "vaegan" / "tiny",
        "pix2pix": runs / "pix2pix" / "tiny",
        "sweep": runs / "losses.yaml",
        "images": images,
        "tmp": tmp_path,
        "root": runs,
        "data": f"data.source=sample data.root={data_root}",
        "words": shlex.join(few_images("gan", tmp_path, data_root)),
        "vaegan_words": shlex.join(few_images("vaegan", runs, data_root)),
        "sweep_words": shlex.join(few_images("gan", runs, data_root)),
    }
    arguments, pattern = ARGUMENTS[command]
    words = shlex.split(arguments.format(**values))
    monkeypatch.setattr(sys, "argv", ["gan-lab", command, *words])
    with pytest.raises(SystemExit) as exited:
        cli.main()
    output = capfd.readouterr()
    assert not exited.value.code, output.err
    assert re.search(pattern, output.out), output.out
