"""Checks of equal results: GPU and CPU, resumed and uninterrupted training, bf16 and float32."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import (
    FEW_IMAGES,
    Row,
    Rows,
    Setting,
    build_experiment,
    compute_difference,
    find_experiments,
    train_experiment,
)
from gan_lab import load_generator
from gan_lab.config import loading
from gan_lab.device import get_default_device
from gan_lab.metrics import extractors
from gan_lab.runs.checkpoints import latest_checkpoint
from gan_lab.training.step_graph import count_captured_phases, find_obstacle
from gan_lab.utils.files import read_rows

DEVICE = get_default_device()
ITERATIONS = 5
MAX_BATCH_SIZE = 16
# Statistics of a network that always computes in float32.
FLOAT32_COLUMNS = ("diversity", "class_entropy")
# Keys of layers that sample on the device itself, where a GPU gets other random numbers.
DETERMINISTIC_VALUES = {"dropout": 0, "noise": 0}
PRECISIONS = ("64-true", "32-true")
# Shape of the images for the extractors.
PIXELS_SHAPE = (64, 3, 48, 48)
RESUMED = ("dcgan", "sngan", "cyclegan")


def record(path: Path, precision: str, folder: Path, families: Sequence[str]) -> None:
    """Record some iterations of families on the GPU or, if none is visible, on the CPU."""
    found: dict[str, Any] = {}
    for family in families:
        name = find_experiments()[family]
        config_class = loading.family_class(family).Config
        batch_size = min(MAX_BATCH_SIZE, loading.load(name).config.data.batch_size)
        overrides = [
            "log.log_every_images=1",
            f"run.precision={precision}",
            *(
                f"model.{key}={value}"
                for key, value in DETERMINISTIC_VALUES.items()
                if hasattr(config_class, key)
            ),
            f"data.batch_size={batch_size}",
        ]
        try:
            found[family] = _record_family(name, [*overrides, *FEW_IMAGES], folder / name)
        except Exception as error:
            found[family] = f"failed: {type(error).__name__}: {error}"
    found["extractors"] = {}
    names = set(extractors.list_extractors()) - {"points", "inception", "dinov2", "clip"}
    # extractors always compute in float32
    for name in sorted(names) if precision == "32-true" else ():
        pixels = torch.randint(
            0, 256, PIXELS_SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        features, _ = extractors.load(name)(pixels.to(DEVICE))
        found["extractors"][name] = features.cpu()
    torch.save(found, path)


def _record_family(name: str, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    built = build_experiment(name, overrides, folder, ITERATIONS)
    # In float32 the weights differ slightly, and then the scores cannot be compared.
    if "run.precision=32-true" in overrides:
        built.evaluation.evaluator.metrics = []
    before = _copy_weights(built.family)
    built.trainer.fit(built.family, datamodule=built.data)
    rows = [
        {key: float(value) for key, value in row.items() if value}
        for row in read_rows(folder / "metrics.csv")
    ]
    after = _copy_weights(built.family)
    step = {key: after[key] - before[key] for key in before}
    return {"rows": rows, "step": step, "scores": built.evaluation.scores}


def _copy_weights(family: Any) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in family.named_parameters()}


def check_devices(setting: Setting) -> Rows:
    """Compare five iterations of every family, and the extractors, on the CPU and on the GPU.

    Weights and random numbers are the same.
    """
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
        files = [setting.folder / f"{precision}-{kind}.pt" for kind in ("cpu", "gpu")]
        gpu_folder = setting.folder / "gpu" / precision
        record(files[1], precision, gpu_folder, list(setting.families))
        if on_cpu[precision].wait():
            raise RuntimeError(
                f"The process on the CPU failed with exit code {on_cpu[precision].returncode}"
            )
        cpu, gpu = (torch.load(file, weights_only=True) for file in files)
        for family in setting.families:
            if isinstance(gpu[family], str) or isinstance(cpu[family], str):
                yield Row(f"{precision} {family}", str(gpu[family]), "runs", met=False)
                continue
            yield _compare_devices(
                f"{precision} {family}: GPU = CPU", precision == "64-true", gpu[family], cpu[family]
            )
        for name, features in gpu["extractors"].items() if precision == "32-true" else ():
            difference = compute_difference([features], [cpu["extractors"][name]])
            yield Row(
                f"extractor {name}: GPU = CPU", f"{difference:.1e}", "1e-4", difference <= 1e-4
            )


def _compare_devices(name: str, double: bool, gpu: dict[str, Any], cpu: dict[str, Any]) -> Row:
    """Compare recorded iterations: in float64 all values, weights and scores; in float32 losses.

    In float32 only the losses of the first iteration are compared. Adam turns rounding errors of
    gradients near zero into full steps, so that even one and two CPU cores soon differ by percents.
    """
    step = compute_difference(gpu["step"].values(), cpu["step"].values())
    scores = gpu["scores"]
    differences = [
        {
            key: _compute_relative_difference(value, cpu_row[key])
            for key, value in gpu_row.items()
            if key not in FLOAT32_COLUMNS and key not in scores
        }
        for gpu_row, cpu_row in zip(gpu["rows"], cpu["rows"], strict=True)
    ]
    if not double:
        first = max(value for key, value in differences[0].items() if key.startswith("loss"))
        return Row(
            name,
            f"losses of the first iteration {first:.1e}, change of the weights {step:.1e}",
            "1e-4",
            first <= 1e-4,
        )
    rows = max(max(row.values()) for row in differences)
    score = max(
        (_compute_relative_difference(value, cpu["scores"][key]) for key, value in scores.items()),
        default=0.0,
    )
    value = f"recorded values {rows:.1e}, change of the weights {step:.1e}, scores {score:.1e}"
    return Row(name, value, "1e-9, 1e-6, 1e-3", rows <= 1e-9 and step <= 1e-6 and score <= 1e-3)


def _compute_relative_difference(value: float, reference: float) -> float:
    return abs(value - reference) / max(abs(reference), 1e-6)


def check_resume(setting: Setting) -> Rows:
    """Compare a training with a repetition, and with one that was stopped halfway and resumed."""
    for name in RESUMED:
        n = setting.limit_iterations(20)
        folder = setting.folder / name
        whole = train_experiment(name, [], folder / "whole", 2 * n).family.state_dict()
        repeated = train_experiment(name, [], folder / "repeated", 2 * n).family.state_dict()
        train_experiment(name, [], folder / "resumed", n)
        resumed = train_experiment(name, [], folder / "resumed", 2 * n).family.state_dict()
        results = [_compare_weights(whole, other) for other in (repeated, resumed)]
        yield Row(
            f"{name}, {2 * n} iterations",
            f"repeated: {results[0]}; stopped and resumed: {results[1]}",
            "bit-equal",
            results == ["bit-equal", "bit-equal"],
        )


def check_graphs(setting: Setting) -> Rows:
    """Compare trainings of every family whose steps are replayed as CUDA graphs with eager ones.

    The replayed one is stopped halfway and resumed.
    """
    for family, name in setting.families.items():
        n = setting.limit_iterations(40)
        folder = setting.folder / "graphs" / name
        eager = train_experiment(name, [], folder / "eager", 2 * n).family
        train_experiment(name, ["run.graph=auto"], folder / "replayed", n)
        replayed = train_experiment(name, ["run.graph=auto"], folder / "replayed", 2 * n).family
        config = loading.load(name, ["run.graph=auto"]).config
        obstacle = find_obstacle(eager, config)
        phases = count_captured_phases(replayed)
        result = _compare_weights(eager.state_dict(), replayed.state_dict())
        yield Row(
            f"{family}, {2 * n} iterations: run.graph=auto = off",
            f"{result}; {obstacle or f'{phases} phases captured'}",
            "bit-equal",
            result == "bit-equal" and bool(obstacle or phases),
        )


def check_bf16(setting: Setting) -> Rows:
    """Compare 100 iterations of every family in mixed precision with float32.

    The difference between two seeds is the scale.
    """
    for family, name in setting.families.items():
        n, batch = setting.limit_iterations(100), loading.load(name).config.data.batch_size
        means: dict[str, dict[str, float]] = {}
        for kind, overrides in {
            "float32": [],
            "seed": ["run.seed=1"],
            "bf16": ["run.precision=bf16-mixed"],
        }.items():
            folder = setting.folder / "bf16" / kind / name
            train_experiment(name, [*overrides, f"log.log_every_images={n * batch}"], folder, n)
            (row,) = read_rows(folder / "metrics.csv")
            means[kind] = {
                key: float(value) for key, value in row.items() if key.startswith("loss")
            }
        bf16, seeds = (
            {
                key: _compute_relative_difference(means[kind][key], value)
                for key, value in means["float32"].items()
            }
            for kind in ("bf16", "seed")
        )
        worst = max(bf16, key=lambda key: bf16[key] - max(0.1, seeds[key]))
        yield Row(
            f"bf16-mixed {family}: mean losses of the iterations, against 32-true",
            f"{worst} differs by {bf16[worst]:.1%}, with another seed by {seeds[worst]:.1%}",
            "10 %, or the difference of another seed",
            bf16[worst] <= max(0.1, seeds[worst]),
        )


def check_sampling(setting: Setting) -> Rows:
    """Compare the images of an exported generator on both devices."""
    train_experiment("dcgan", [], setting.folder / "dcgan", 2)
    path = latest_checkpoint(setting.folder / "dcgan")
    assert path is not None
    on_device, on_cpu = (load_generator(path, device=device)(64) for device in (str(DEVICE), "cpu"))
    difference = float((on_device - on_cpu).abs().max())
    yield Row(
        "load_generator(device=...): 64 images, GPU = CPU",
        f"{difference:.1e}",
        "1e-5",
        difference <= 1e-5,
    )


def _compare_weights(weights: dict[str, Tensor], others: dict[str, Tensor]) -> str:
    if all(torch.equal(value, others[name]) for name, value in weights.items()):
        return "bit-equal"
    return f"difference {compute_difference(weights.values(), others.values()):.1e}"
