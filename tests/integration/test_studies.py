"""Test of the command ``study`` with trainings that are killed at random times."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.processes import ended, start_command

TINY = """
title: Two rates
chapter: 1
claim: A faster discriminator gives another score.
source: a test (arXiv 0000.00000)
prediction: It is higher.
measure: scores
arms: {slow: ring, fast: ring model.lr_d=1e-3}
predictions: [{value: high_quality, arm: fast, relation: above, other: slow}]
quick:
  seeds: 1
  words: run.images=1024 run.evaluate_every_images=512 metrics.num_fakes=64 metrics.num_reals=64
not_shown: Anything.
"""


def make_command(study: Path, root: Path, *more: str) -> list[str]:
    return ["study", str(study), "--budget", "quick", "--root", str(root), *more]


@pytest.mark.slow
def test_study_killed_three_times_equals_undisturbed_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL at random times ends workers and trainings, and the next start resumes them."""
    # One worker and two must have the same number of threads.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    study, log = tmp_path / "tiny.yaml", tmp_path / "log"
    study.write_text(TINY, encoding="utf-8")
    undisturbed = tmp_path / "undisturbed"
    killed = tmp_path / "killed"
    started = time.monotonic()
    assert ended([start_command(make_command(study, undisturbed), log)]) == [0], log.read_text()
    half = (time.monotonic() - started) / 2
    command = [sys.executable, "-m", "gan_lab", *make_command(study, killed, "--workers", "2")]
    trainings = killed / "studies" / "runs" / "ring"
    for number, share in enumerate(np.random.default_rng(0).uniform(0.1, 0.9, 3)):
        if number == 0:
            # Once from the command line with two workers, which takes ten seconds to start.
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while not trainings.is_dir():
                assert process.poll() is None
                time.sleep(0.05)
            time.sleep(share * half)
            process.kill()
            process.wait()
        else:
            pair = [
                start_command(make_command(study, killed, "--measure-only"), log) for _ in range(2)
            ]
            time.sleep(share * half)
            for worker in pair:
                worker.kill()
                worker.join()
    last = tmp_path / "last"
    assert ended([start_command(make_command(study, killed), last)]) == [0], last.read_text()
    results = [root / "studies" / "tiny" / "quick.json" for root in (undisturbed, killed)]
    assert results[0].read_bytes() == results[1].read_bytes()
    recorded = json.loads(results[0].read_text(encoding="utf-8"))["results"]
    assert len(recorded["slow"]) == len(recorded["fast"]) == 1
    assert len([path for path in trainings.iterdir() if path.is_dir()]) == 2
    page = killed / "studies" / "pages" / "tiny.md"
    assert str(page) in last.read_text()
    text = page.read_text(encoding="utf-8")
    # One seed is not enough for a test.
    assert "**inconclusive**" in text
    reports = re.findall(r"\]\((\.\./runs/.*/report\.html)\)", text)
    assert len(reports) == 2
    assert all((page.parent / report).is_file() for report in reports)
