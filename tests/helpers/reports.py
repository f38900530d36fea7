"""Hand-written run folders for the tests of reports, as after training on 256 images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from gan_lab.config import loading, plain_yaml
from gan_lab.runs.run_folder import to_dict
from tests.helpers.pictures import flat

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
SEEN = (0, 64, 128, 192, 256)
PROTOCOL = {"extractor": "digits", "weights_sha256": "90be", "reals": 100, "fakes": 100,
            "data": "mnist-sample", "fingerprint": "e2d7", "split": "test",
            "chosen_on": "validation", "floor": 0.25, "weights": "ema best, iteration 8", "seed": 0,
            "versions": {"torch": "2"}}  # fmt: skip


def entry(value: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "protocol": PROTOCOL} | more


def written_run(
    folder: Path, *words: str, experiment: str = "cgan", distance: float = 2.0, ended: bool = True
) -> Path:
    """A run of 16 iterations of 16 images; the best was the 8th, with ``fd_digits=distance``."""
    loaded = loading.load(experiment, ["data.batch_size=16", "run.images=256", *words])
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(plain_yaml.write(to_dict(loaded.config)))
    (folder / "command.txt").write_text(
        f"2026-01-01 00:00:00 UTC  gan-lab train {experiment} {' '.join(words)}\n"
    )
    (folder / "environment.txt").write_text("python 3.11\ntorch 2.15\n")
    for place, seen in enumerate(SEEN):
        flat(folder / "samples" / f"{seen:09d}.png", (50 * place, 0, 0), (30, 20))
    flat(folder / "reals.png", (0, 0, 200), (30, 20))
    rows = ["iteration,images,loss_d,loss_g,d_real,d_fake,gradient_generator,diversity,fd_digits"]
    for i in range(1, 17):
        score = {8: distance, 16: 1.5 * distance}.get(i, "")
        rows.append(f"{i},{16 * i},{math.sin(i)},{i / 8},{i},-{i},{1 / i},0.5,{score}")
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    (folder / "scores.json").write_text(json.dumps({"fd_digits": False}))
    # 16 images in the first second, then a pause, then 240 images at 40 a second
    timing = "iteration,images,unix_time,images_per_s\n1,16,1000,16.0\n16,256,9000,40.0\n"
    (folder / "timing.csv").write_text(timing)
    if ended:
        state = {
            "experiment": experiment,
            "run_id": folder.name,
            "iteration": 16,
            "images": 256,
            "headline": "fd_digits",
            "data": "some digits",
            "validation_floors": {"fd_digits": 0.25},
            "best_iteration": 8,
            "health": [],
            "peak_memory_mb": 1234,
            "scores": {
                "best": {"fd_digits": entry(distance), "kd_digits": entry(0.25, spread=0.125)},
                "last": {"fd_digits": entry(1.5 * distance)},
                "raw": {"fd_digits": entry(1.25 * distance)},
            },
        }
        (folder / "summary.json").write_text(json.dumps(state))
    return folder
