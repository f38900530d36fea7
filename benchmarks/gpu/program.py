"""Checks of the command line: a whole training, one that does not fit, and several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import torch

from benchmarks.gpu import FEW_IMAGES, Row, Rows, Setting, compute_difference
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.utils.files import read_rows


def check_training(setting: Setting) -> Rows:
    """Train the experiment cgan to its end."""
    overrides = ["run.images=640", *FEW_IMAGES] if setting.rehearsal else []
    root = setting.folder / "runs"
    started = time.perf_counter()
    ended = _run_lab(
        "train",
        "cgan",
        f"run.root={root}",
        "run.id=all",
        "data.source=sample",
        "log.wandb=off",
        *overrides,
    )
    seconds = time.perf_counter() - started
    if ended.returncode:
        yield Row(
            "gan-lab train cgan",
            f"exit code {ended.returncode}: {ended.stderr[-300:]}",
            "0",
            met=False,
        )
        return
    summary = json.loads((root / "cgan" / "all" / "summary.json").read_text(encoding="utf-8"))
    accuracy = summary["scores"]["best"]["label_accuracy"]["value"]
    value = (
        f"{seconds:.0f} s from the command to its page, label accuracy {accuracy:.3f}, "
        f"{summary['peak_memory_mb']} MB"
    )
    yield Row("gan-lab train cgan", value, "0.95", accuracy >= 0.95 or setting.rehearsal)


def check_memory(setting: Setting) -> Rows:
    """Check that the error for a batch that does not fit is one line that names the keys."""
    if setting.rehearsal:
        return
    large = [
        "data.size=256",
        "data.batch_size=4000",
        "run.images=4000",
        f"run.root={setting.folder / 'runs'}",
    ]
    ended = _run_lab("train", "dcgan", "data.source=sample", "log.wandb=off", *large)
    last = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
    met = ended.returncode == 2 and "data.batch_size" in last[0] and "Traceback" not in ended.stderr
    yield Row(
        "a batch that does not fit",
        f"exit code {ended.returncode}: {last[0][:200]}",
        "2, one line",
        met,
    )


def check_several_processes(setting: Setting) -> Rows:
    """Compare the weights and the speed of two processes with those of one.

    A rehearsal uses gloo on a CPU.
    """
    if torch.cuda.device_count() < 2 and not setting.rehearsal:
        yield Row("several GPUs", "not run, there is only one")
        return
    double = "run.precision=64-true"
    # Experiment, overrides, images, and the largest difference of the weights after these images.
    # Rounding errors grow exponentially, so the runs are short.
    cases = {
        "gan, float64, no batch norm": ("gan", [double, "model.norm=none"], 1_280, 1e-9),
        "dcgan, float64, synchronized batch norm": ("dcgan", [double], 1_280, 1e-9),
        "dcgan": ("dcgan", [], 64_000, None),
    }
    for case, (name, overrides, n, threshold) in cases.items():
        # Batch norm is not synchronized on a CPU.
        if setting.rehearsal and name == "dcgan":
            continue
        weights, speeds = [], []
        for world in (1, 2):
            folder = setting.folder / f"{name}-{n}-{world}"
            common = [
                f"run.root={folder}",
                f"run.devices={world}",
                "run.id=it",
                "data.source=sample",
                "log.wandb=off",
                *FEW_IMAGES,
                f"run.images={n}",
            ]
            ended = _run_lab("train", name, *common, *overrides)
            if ended.returncode:
                raise RuntimeError(
                    f"{world} processes of {name}: {ended.stderr.strip().splitlines()[-1]}"
                )
            state = read_checkpoint(folder / name / "it" / "checkpoints" / "last.ckpt")[
                "state_dict"
            ].values()
            weights.append([value for value in state if value.is_floating_point()])
            rows = read_rows(folder / name / "it" / "timing.csv")
            speeds.append(float(rows[len(rows) // 2]["images_per_s"]))
        difference = compute_difference(weights[1], weights[0])
        if threshold is None:
            yield Row(f"{case}: images/s of two processes / of one", f"{speeds[1] / speeds[0]:.2f}")
        else:
            yield Row(
                f"{case}: two processes = one",
                f"difference {difference:.1e}",
                f"{threshold:.0e}",
                difference <= threshold,
            )


def _run_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gan_lab", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"WANDB_MODE": "disabled"},
    )
