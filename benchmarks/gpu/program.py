"""The program as a user starts it: a whole training, and one that does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import torch

from benchmarks.gpu import FEW, Row, Rows, Setting, distance
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.utils.files import read_rows


def training(setting: Setting) -> Rows:
    """The shipped cgan to its end."""
    words = ["run.images=640", *FEW] if setting.rehearsal else []
    root = setting.folder / "runs"
    begun = time.perf_counter()
    ended = _lab(
        "train",
        "cgan",
        f"run.root={root}",
        "run.id=all",
        "data.source=sample",
        "log.wandb=off",
        *words,
    )
    seconds = time.perf_counter() - begun
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
    said = f"{seconds:.0f} s from the command to its page, label accuracy {accuracy:.3f}, {summary['peak_memory_mb']} MB"
    yield Row("gan-lab train cgan", said, "0.95", accuracy >= 0.95 or setting.rehearsal)


def memory(setting: Setting) -> Rows:
    """A batch that has no room is one line, and names the keys."""
    if setting.rehearsal:
        return
    large = [
        "data.size=256",
        "data.batch_size=4000",
        "run.images=4000",
        f"run.root={setting.folder / 'runs'}",
    ]
    ended = _lab("train", "dcgan", "data.source=sample", "log.wandb=off", *large)
    last = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
    met = ended.returncode == 2 and "data.batch_size" in last[0] and "Traceback" not in ended.stderr
    yield Row(
        "a batch without room", f"exit code {ended.returncode}: {last[0][:200]}", "2, one line", met
    )


def several(setting: Setting) -> Rows:
    """One process against two: the same weights, and how much faster. On a CPU, for a rehearsal, by gloo."""
    if torch.cuda.device_count() < 2 and not setting.rehearsal:
        yield Row("several GPUs", "not run, there is one")
        return
    double = "run.precision=64-true"
    cases = {  # experiment, words and images, and how far the weights may be apart after them: chaos makes it more later
        "gan, float64, no batch norm": ("gan", [double, "model.norm=none"], 1_280, 1e-9),
        "dcgan, float64, synchronised batch norm": ("dcgan", [double], 1_280, 1e-9),
        "dcgan": ("dcgan", [], 64_000, None),
    }
    for what, (name, words, n, bar) in cases.items():
        if setting.rehearsal and name == "dcgan":
            continue  # a CPU synchronises no batch norm
        weights, speeds = [], []
        for world in (1, 2):
            folder = setting.folder / f"{name}-{n}-{world}"
            told = [f"run.root={folder}", f"run.devices={world}", "run.id=it", "data.source=sample", "log.wandb=off",
                    *FEW, f"run.images={n}"]  # fmt: skip
            ended = _lab("train", name, *told, *words)
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
        apart = distance(weights[1], weights[0])
        if bar is None:
            yield Row(f"{what}: images/s of two processes / of one", f"{speeds[1] / speeds[0]:.2f}")
        else:
            yield Row(
                f"{what}: two processes = one", f"{apart:.1e} apart", f"{bar:.0e}", apart <= bar
            )


def _lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gan_lab", *words], capture_output=True, text=True, check=False,
        env=os.environ | {"WANDB_MODE": "disabled"},
    )  # fmt: skip
