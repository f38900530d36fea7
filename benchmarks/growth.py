"""Measure how the CPU seconds of a data set's stages grow with its number of images.

For each number of images a folder of tiny PNG files is written to a temporary folder. The stages
are the first and a later start on the folder, its labels, the fingerprint of its files, and the
search for near copies of training images. An exponent of 1 is linear growth; the fit is a line
through the logarithms (``make bench-growth``). ``--out`` writes the results as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import check_out
from gan_lab.config.schema import DataConfig
from gan_lab.data import folder
from gan_lab.data.cache import hash_file_stats
from gan_lab.metrics.nearest_neighbors import MAX_FAKES
from gan_lab.metrics.neighbor_search import NeighborSearch

NUMBERS = (1_000, 10_000, 60_000, 200_000)
SIZE_PX = 8
# a class for each of these, so that the number of classes grows with the images
IMAGES_PER_CLASS = 20
FEATURES = 64
# share of a folder that is held out, see data/folder.py
HELD_OUT = 0.1
# of features that are searched at once
BLOCK_ROWS = 1_000


def measure_cpu_seconds(action: Callable[[], Any]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def write_images(root: Path, n: int) -> list[str]:
    """Write n different PNG files in class folders; return their paths relative to the root."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        name = f"class{i // IMAGES_PER_CLASS:05d}/{i:07d}.png"
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
        paths.append(name)
    return paths


def search_near_copies(n: int, held_out: int) -> None:
    """Search n features for the nearest one of the fakes, and of the held-out images."""
    draws = torch.Generator().manual_seed(0)
    features = torch.randn(n, FEATURES, dtype=torch.float64, generator=draws)
    fakes = torch.randn(min(MAX_FAKES, n), FEATURES, dtype=torch.float64, generator=draws)
    searches = [NeighborSearch(fakes), NeighborSearch(features[:held_out].clone())]
    for block in features.split(BLOCK_ROWS):
        for search in searches:
            search.add(block)


def measure_stages(n: int) -> dict[str, float]:
    """Measure the CPU seconds of each stage for n images."""
    held_out = max(1, round(HELD_OUT * n))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "images"
        paths = write_images(root, n)
        cfg = DataConfig(name="folder", root=str(root), size=SIZE_PX)
        files = [str(root / path) for path in paths]
        cache = os.environ.get("GAN_LAB_CACHE")
        os.environ["GAN_LAB_CACHE"] = str(Path(temporary) / "cache")
        try:
            return {
                "first start": measure_cpu_seconds(lambda: folder.decode(cfg)),
                "later start": measure_cpu_seconds(lambda: folder.decode(cfg)),
                "labels": measure_cpu_seconds(lambda: folder.infer_classes(root, paths)),
                "fingerprint": measure_cpu_seconds(lambda: hash_file_stats(files)),
                "near copies of 500 fakes": measure_cpu_seconds(lambda: search_near_copies(n, 1)),
                "and of held-out images": measure_cpu_seconds(
                    lambda: search_near_copies(n, held_out)
                ),
            }
        finally:
            del os.environ["GAN_LAB_CACHE"]
            if cache is not None:
                os.environ["GAN_LAB_CACHE"] = cache


def fit_exponent(numbers: Sequence[int], seconds: Sequence[float]) -> float:
    """Fit the exponent of a power law: the slope of the logarithms."""
    slope, _ = np.polyfit(np.log(numbers), np.log(np.maximum(seconds, 1e-6)), 1)
    return float(slope)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS))
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    check_out(parser, options.out)
    if len(options.numbers) < 2:
        parser.error("--numbers: an exponent needs two numbers of images or more")
    torch.set_num_threads(1)
    measured = [measure_stages(n) for n in options.numbers]
    stages = {}
    print(
        f"{'CPU seconds of':<26}" + "".join(f"{n:>12,}" for n in options.numbers) + "    exponent"
    )
    for stage in measured[0]:
        seconds = [each[stage] for each in measured]
        exponent = fit_exponent(options.numbers, seconds)
        stages[stage] = {"seconds": seconds, "exponent": exponent}
        print(f"{stage:<26}" + "".join(f"{each:12.3f}" for each in seconds) + f"{exponent:12.2f}")
    if options.out is not None:
        results = {"numbers": options.numbers, "stages": stages}
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
