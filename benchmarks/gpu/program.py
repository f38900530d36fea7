"""The program as a user starts it: a whole training, and one that does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks.gpu import Row, Rows, Setting


def training(setting: Setting) -> Rows:
    """The shipped cgan to its end."""
    words = ["run.images=640", "metrics.n=100"] if setting.rehearsal else []
    root = setting.folder / "runs"
    begun = time.perf_counter()
    ended = _lab("train", "cgan", f"run.root={root}", "run.id=all", "data.source=sample", "log.wandb=off", *words)
    seconds = time.perf_counter() - begun
    if ended.returncode:
        yield Row("gan-lab train cgan", f"exit code {ended.returncode}: {ended.stderr[-300:]}", "0", met=False)
        return
    summary = json.loads((root / "cgan" / "all" / "summary.json").read_text(encoding="utf-8"))
    accuracy = summary["scores"]["best"]["label_accuracy"]["value"]
    said = (
        f"{seconds:.0f} s from the command to its page, label accuracy {accuracy:.3f}, {summary['peak_memory_mb']} MB"
    )
    yield Row("gan-lab train cgan", said, "0.95", accuracy >= 0.95 or setting.rehearsal)


def memory(setting: Setting) -> Rows:
    """A batch that has no room is one line, and names the keys."""
    if setting.rehearsal:
        return
    large = ["data.size=256", "data.batch_size=4000", "run.images=4000", f"run.root={setting.folder / 'runs'}"]
    ended = _lab("train", "dcgan", "data.source=sample", "log.wandb=off", *large)
    last = ended.stderr.strip().splitlines()[-1:] or ["nothing"]
    met = ended.returncode == 2 and "data.batch_size" in last[0] and "Traceback" not in ended.stderr
    yield Row("a batch without room", f"exit code {ended.returncode}: {last[0][:200]}", "2, one line", met)


def _lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gan_lab", *words], capture_output=True, text=True, check=False,
        env=os.environ | {"WANDB_MODE": "disabled"},
    )  # fmt: skip
