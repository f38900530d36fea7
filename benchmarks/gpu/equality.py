"""The same numbers: a GPU's against a CPU's, a continued training's against an uninterrupted one, bf16's against
float32's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import FEW, Row, Rows, Setting, built, distance, families, trained
from gan_lab import load_generator
from gan_lab.config import loading
from gan_lab.device import get_default_device
from gan_lab.metrics import extractors
from gan_lab.runs.checkpoints import latest_checkpoint
from gan_lab.utils.files import read_rows

DEVICE = get_default_device()
ITERATIONS, BATCH = 5, 16
SINGLE = ("diversity", "class_entropy")  # of a network that always computes in float32
STILL = {
    "dropout": 0,
    "noise": 0,
}  # what is drawn on the device itself, where a GPU draws other numbers
PRECISIONS = ("64-true", "32-true")
PIXELS = (64, 3, 48, 48)
RESUMED = ("dcgan", "sngan", "cyclegan")


def record(path: Path, precision: str, folder: Path, names: Sequence[str]) -> None:
    """Record some iterations of these families on the GPU of this machine or, if none is visible, on its CPU."""
    found: dict[str, Any] = {}
    for family in names:
        name = families()[family]
        keys = {item for item in STILL if hasattr(loading.family_class(family).Config, item)}
        words = [
            "log.log_every_images=1",
            f"run.precision={precision}",
            *(f"model.{key}={STILL[key]}" for key in keys),
        ]
        words += [f"data.batch_size={min(BATCH, loading.load(name).config.data.batch_size)}"]
        try:
            found[family] = _recorded(name, [*words, *FEW], folder / name)
        except Exception as error:
            found[family] = f"failed: {type(error).__name__}: {error}"
    found["extractors"] = {}
    for name in sorted(set(extractors.names()) - {"points", "inception", "dinov2", "clip"}):
        pixels = torch.randint(
            0, 256, PIXELS, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        features, _ = extractors.load(name)(pixels.to(DEVICE))
        found["extractors"][name] = features.cpu()
    torch.save(found, path)


def _recorded(name: str, words: Sequence[str], folder: Path) -> dict[str, Any]:
    made = built(name, words, folder, ITERATIONS)
    if "run.precision=32-true" in words:
        made.evaluation.evaluator.metrics = []  # weights that are a little apart have other scores
    before = _weights(made.family)
    made.trainer.fit(made.family, datamodule=made.data)  # the scores of its end included
    rows = [
        {key: float(value) for key, value in row.items() if value}
        for row in read_rows(folder / "metrics.csv")
    ]
    after = _weights(made.family)
    step = {key: after[key] - before[key] for key in before}
    return {"rows": rows, "step": step, "scores": made.evaluation.scores}


def _weights(family: Any) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in family.named_parameters()}


def devices(setting: Setting) -> Rows:
    """Five iterations of every family on a CPU and here, from the same weights and draws; and the extractors."""
    code = "import sys; from pathlib import Path; from benchmarks.gpu.equality import record; "
    code += "record(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])"
    one_third = {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // 3)),
    }
    on_cpu = {}
    setting.folder.mkdir(parents=True, exist_ok=True)
    for precision in PRECISIONS:
        file, folder = setting.folder / f"{precision}-cpu.pt", setting.folder / "cpu" / precision
        command = [sys.executable, "-W", "ignore", "-c", code]
        arguments = [str(file), precision, str(folder), *setting.families]
        on_cpu[precision] = subprocess.Popen([*command, *arguments], env=os.environ | one_third)
    for precision in PRECISIONS:
        files = [setting.folder / f"{precision}-{where}.pt" for where in ("cpu", "gpu")]
        gpu_folder = setting.folder / "gpu" / precision
        record(files[1], precision, gpu_folder, list(setting.families))
        if on_cpu[precision].wait():
            raise RuntimeError(
                f"the process on the CPU ended with code {on_cpu[precision].returncode}"
            )
        cpu, gpu = (torch.load(file, weights_only=True) for file in files)
        for family in setting.families:
            if isinstance(gpu[family], str) or isinstance(cpu[family], str):
                yield Row(f"{precision} {family}", str(gpu[family]), "runs", met=False)
                continue
            yield _format_cell(
                f"{precision} {family}: GPU = CPU", precision == "64-true", gpu[family], cpu[family]
            )
        for name, features in gpu["extractors"].items() if precision == "32-true" else ():
            apart = distance([features], [cpu["extractors"][name]])
            yield Row(f"extractor {name}: GPU = CPU", f"{apart:.1e}", "1e-4", apart <= 1e-4)


def _format_cell(what: str, double: bool, gpu: dict[str, Any], cpu: dict[str, Any]) -> Row:
    """All that five iterations in float64 record, where the weights come to, their scores; in float32 the first losses.

    What rounding makes of a float32 gradient near zero, Adam makes a whole step: one CPU core and two part by percents.
    """
    step, scores = distance(gpu["step"].values(), cpu["step"].values()), gpu["scores"]
    apart = [
        {
            key: _apart(value, there[key])
            for key, value in here.items()
            if key not in SINGLE and key not in scores
        }
        for here, there in zip(gpu["rows"], cpu["rows"], strict=True)
    ]
    if not double:
        first = max(value for key, value in apart[0].items() if key.startswith("loss"))
        return Row(
            what,
            f"losses of the first iteration {first:.1e}; after five the weights' way {step:.1e}",
            "1e-4",
            first <= 1e-4,
        )
    rows, score = (
        max(max(row.values()) for row in apart),
        max((_apart(v, cpu["scores"][k]) for k, v in scores.items()), default=0.0),
    )
    figure = f"all that is recorded {rows:.1e}, weights' way {step:.1e}, scores {score:.1e}"
    return Row(what, figure, "1e-9, 1e-6, 1e-3", rows <= 1e-9 and step <= 1e-6 and score <= 1e-3)


def _apart(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-6)


def resume(setting: Setting) -> Rows:
    """Twice the same training, and once with a stop in its middle."""
    for name in RESUMED:
        n, folder = setting.few(20), setting.folder / name
        whole = trained(name, [], folder / "whole", 2 * n).family.state_dict()
        again = trained(name, [], folder / "again", 2 * n).family.state_dict()
        trained(name, [], folder / "parts", n)
        parts = trained(name, [], folder / "parts", 2 * n).family.state_dict()
        told = [_said(whole, other) for other in (again, parts)]
        figure = f"once more: {told[0]}; stopped and continued: {told[1]}"
        yield Row(
            f"{name}, {2 * n} iterations", figure, "bit-equal", told == ["bit-equal", "bit-equal"]
        )


def bf16(setting: Setting) -> Rows:
    """A hundred iterations of every family in mixed precision, in float32, and with another seed: how much is a lot?"""
    for family, name in setting.families.items():
        n, batch = setting.few(100), loading.load(name).config.data.batch_size
        means: dict[str, dict[str, float]] = {}
        for kind, words in {
            "float32": [],
            "seed": ["run.seed=1"],
            "bf16": ["run.precision=bf16-mixed"],
        }.items():
            folder = setting.folder / "bf16" / kind / name
            trained(name, [*words, f"log.log_every_images={n * batch}"], folder, n)
            (row,) = read_rows(folder / "metrics.csv")
            means[kind] = {
                key: float(value) for key, value in row.items() if key.startswith("loss")
            }
        apart, seeds = (
            {key: _apart(means[kind][key], value) for key, value in means["float32"].items()}
            for kind in ("bf16", "seed")
        )
        worst = max(apart, key=lambda key: apart[key] - max(0.1, seeds[key]))
        yield Row(
            f"bf16-mixed {family}: mean losses of the iterations, against 32-true",
            f"{worst} {apart[worst]:.1%} apart, of another seed {seeds[worst]:.1%}",
            "10 %, or what another seed does", apart[worst] <= max(0.1, seeds[worst]),
        )  # fmt: skip


def sampling(setting: Setting) -> Rows:
    """The same images of a generator that was taken out of a run, on either device."""
    trained("dcgan", [], setting.folder / "dcgan", 2)
    path = latest_checkpoint(setting.folder / "dcgan")
    assert path is not None
    there, here = (load_generator(path, device=where)(64) for where in (str(DEVICE), "cpu"))
    apart = float((there - here).abs().max())
    yield Row(
        "load_generator(device=...): 64 images, GPU = CPU", f"{apart:.1e}", "1e-5", apart <= 1e-5
    )


def _said(one: dict[str, Tensor], other: dict[str, Tensor]) -> str:
    if all(torch.equal(value, other[name]) for name, value in one.items()):
        return "bit-equal"
    return f"{distance(one.values(), other.values()):.1e} apart"
