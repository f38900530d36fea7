"""Speed of the lab relative to its step alone, a hand-written loop, and a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, Trainer

from benchmarks import throughput
from benchmarks.gpu import Clock, Row, Rows, Setting, build_experiment, train_experiment
from benchmarks.gpu.equality import DEVICE
from benchmarks.throughput import synchronize
from gan_lab import device, seeding
from gan_lab.config.schema import MetricsConfig
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics import extractors
from gan_lab.seeding import Stream
from gan_lab.training.step_graph import WARM_UP, CUDAGraphRecorder, Draws, prepare_optimizer

LARGE = ["data.size=64", "model.width=64"]
# Experiment, overrides, measured iterations.
CASES: dict[str, tuple[str, list[str], int]] = {
    "ring": ("ring", [], 200),
    "dcgan": ("dcgan", [], 200),
    "dcgan 64 px, batch 64": ("dcgan", LARGE, 100),
    "dcgan 64 px, batch 256": ("dcgan", [*LARGE, "data.batch_size=256"], 100),
    "sngan": ("sngan", [], 100),
    # Without an image pool, as in the measurements of docs/gpu.md.
    "cyclegan_256": ("cyclegan_256", ["model.pool_size=0"], 40),
    "cyclegan_256 tf32": ("cyclegan_256", ["model.pool_size=0", "run.precision=tf32"], 40),
}
# Experiments with a hand-written loop in benchmarks/throughput.py.
WITH_LOOP = ("ring", "dcgan")


class StepTimer(Callback):
    """Measures the step alone at the end of a training, directly and as a CUDA graph.

    Attributes:
        alone: Seconds per iteration of the step alone.
        replay: Seconds per iteration of the replayed CUDA graph.
        failure: Why there is no CUDA graph; empty if there is one.
    """

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.alone = 0.0
        self.replay = 0.0
        self.failure = ""
        self.batch: Any = None

    def on_train_batch_start(
        self, trainer: Trainer, family: Family, batch: Batch, batch_idx: int
    ) -> None:  # type: ignore[override]
        self.batch = batch

    def on_train_end(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        family.train()

        def step() -> None:
            family.step(self.batch)

        self.alone = self._measure_seconds(step)
        if family.device.type != "cuda":
            self.failure = "no CUDA"
            return
        try:
            self.replay = self._measure_seconds(self._capture_step(family, step))
        except Exception as error:
            self.failure = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        finally:
            family.logged_scalars = {}

    def _capture_step(self, family: Family, step: Callable[[], None]) -> Callable[[], None]:
        """Capture the step with the random numbers of one iteration, and return its replay."""
        for optimizer in family.optimizer_list():
            prepare_optimizer(optimizer, family)
        recorder, draws = CUDAGraphRecorder(family.device), Draws(family)
        with seeding.recording(draws):
            for _ in range(WARM_UP):
                draws.restart()
                recorder.warm_up(step)
            draws.fill()
            return recorder.capture(step)

    def _measure_seconds(self, step: Callable[[], Any]) -> float:
        for _ in range(5):
            step()
        synchronize()
        started = time.perf_counter()
        for _ in range(self.iterations):
            step()
        synchronize()
        return (time.perf_counter() - started) / self.iterations


def measure_lab(
    name: str,
    overrides: list[str],
    folder: Path,
    n: int,
    warmup: int,
    timer: Callback | None = None,
) -> Clock:
    """Train an experiment for ``warmup`` + n iterations, and return the clock with its times."""
    clock = Clock(warmup, n)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    # One more iteration, because the last one also saves and logs.
    built = build_experiment(name, overrides, folder, warmup + n + 1, clock)
    built.evaluation.evaluator.metrics = []
    if timer is not None:
        built.trainer.callbacks.append(timer)  # type: ignore[attr-defined]
    built.trainer.fit(built.family, datamodule=built.data)
    return clock


def check_throughput(setting: Setting) -> Rows:
    """Measure the images per second of the lab, without grids, scores and the progress bar."""
    for case, (name, overrides, iterations) in CASES.items():
        if setting.rehearsal and case not in ("ring", "dcgan"):
            continue
        n = setting.limit_iterations(iterations)
        warmup = setting.limit_iterations(30)
        folder = setting.folder / "speed" / case.replace(" ", "-")
        timer = StepTimer(n)
        clock = measure_lab(name, overrides, folder / "lab", n, warmup, timer)
        seconds = clock.seconds
        built = build_experiment(name, overrides, folder / "loop", 1)
        yield Row(
            f"{case}: the lab",
            f"{built.config.data.batch_size / seconds:,.0f} images/s; {1e3 * seconds:.2f} ms per "
            f"iteration ({1e3 * clock.host_seconds:.2f} on the host); "
            f"{device.peak_memory():,.0f} MB",
        )
        yield Row(
            f"{case}: lab / its step alone",
            f"{timer.alone / seconds:.2f}",
            "0.9",
            timer.alone / seconds >= 0.9,
        )
        if name in WITH_LOOP:
            throughput.MEASURED_ITERATIONS = n
            throughput.WARMUP_ITERATIONS = warmup
            ratio = throughput.measure_plain_loop(built) / n / seconds
            yield Row(f"{case}: lab / hand-written loop", f"{ratio:.2f}", "0.9", ratio >= 0.9)
        replayed = measure_lab(name, [*overrides, "run.graph=auto"], folder / "graph", n, warmup)
        yield Row(
            f"{case}: run.graph=auto / off", f"{seconds / replayed.seconds:.2f} times the images/s"
        )
        value = f"{timer.replay / seconds:.2f}; {1e3 * timer.replay:.2f} ms per iteration"
        if timer.failure:
            value = f"failed: {timer.failure}"
        yield Row(f"{case}: lab / CUDA graph", value)


# Additional overrides, and flags of cuDNN.
CHOICES: dict[str, tuple[list[str], dict[str, bool]]] = {
    "tf32": (["run.precision=tf32"], {}),
    "bf16-mixed": (["run.precision=bf16-mixed"], {}),
    "cudnn.deterministic off": ([], {"deterministic": False}),
    "cudnn.benchmark on": ([], {"deterministic": False, "benchmark": True}),
    "data on the host": (["data.device_gb=0"], {}),
    "two data loader workers": (["data.workers=2"], {}),
    "run.compile": (["run.compile=true"], {}),
}


def check_settings(setting: Setting) -> Rows:
    """Measure the effect of settings on the speed of a network that keeps the device busy."""
    overrides = [] if setting.rehearsal else [*LARGE, "data.batch_size=256"]
    n = setting.limit_iterations(60)
    warmup = setting.limit_iterations(30)

    def measure(name: str, more: list[str], flags: dict[str, bool]) -> float:
        original = device.set_precision

        def set_precision(precision: str) -> None:
            original(precision)
            for flag, value in flags.items():
                setattr(torch.backends.cudnn, flag, value)

        folder = setting.folder / name.replace(" ", "-")
        with patch.object(device, "set_precision", set_precision):
            return measure_lab("dcgan", [*overrides, *more], folder, n, warmup).seconds

    measure("warmup", [], {})
    first = measure("before", [], {})
    found: dict[str, float | str] = {}
    for name, (more, flags) in CHOICES.items():
        if not (setting.rehearsal and "compile" in name):
            try:
                found[name] = measure(name, more, flags)
            except Exception as error:
                found[name] = f"failed: {type(error).__name__}: {error}".splitlines()[0][:150]
    last = measure("after", [], {})
    default = (first + last) / 2
    case = "dcgan 64 px, batch 256, images/s"
    yield Row(f"{case}: defaults, before / after the other settings", f"{last / first:.2f}")
    for name, seconds in found.items():
        if isinstance(seconds, str):
            yield Row(f"{case}: {name}", seconds, "runs", met=False)
        else:
            yield Row(f"{case}: {name} / defaults", f"{default / seconds:.2f}")


def check_evaluation(setting: Setting) -> Rows:
    """Measure generation and feature extraction in batches of several sizes, and the evaluator."""
    built = train_experiment("dcgan", [], setting.folder / "evaluation", 2)
    family = built.family.to(DEVICE).eval()
    networks = {"digits": extractors.load("digits")}
    if not setting.rehearsal:
        networks["inception"] = extractors.load(
            "inception",
            MetricsConfig(inception_weights=str(_write_random_inception(setting.folder))),
        )
    for name, network in networks.items():
        for size in (10,) if setting.rehearsal else (100, 250, 1000):
            if DEVICE.type == "cuda":
                torch.cuda.reset_peak_memory_stats()

            @torch.no_grad()
            def extract_batch(size: int = size, network: Any = network) -> None:
                batch = Batch(torch.zeros(size, 1, 28, 28, device=DEVICE))
                network(to_uint8(family.generate(batch, Stream(0, "evaluate"))))[0].cpu()

            images = 10_000 if name == "digits" else 4_000
            repeats = 1 if setting.rehearsal else images // size
            extract_batch()
            synchronize()
            started = time.perf_counter()
            for _ in range(repeats):
                extract_batch()
            speed = size * repeats / (time.perf_counter() - started)
            yield Row(
                f"{name} in batches of {size}",
                f"{speed:,.0f} images/s, peak memory {device.peak_memory():,.0f} MB",
            )
    evaluated = build_experiment("dcgan", [], setting.folder / "evaluator", 1)
    evaluator = evaluated.evaluation.evaluator
    evaluator(family)
    started = time.perf_counter()
    evaluator(family)
    yield Row("an evaluation of 1,000 digits in training", f"{time.perf_counter() - started:.2f} s")


def _write_random_inception(folder: Path) -> Path:
    """Write random weights in the layout of torch-fidelity's file, for measurements of speed."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    kind, path = fidelity.FeatureExtractorInceptionV3, folder / "inception.pth"
    with patch.object(fidelity, "load_state_dict_from_url", lambda *_, **__: {}), \
         patch.object(kind, "load_state_dict", lambda *_: None):  # fmt: skip
        torch.save(kind("inception-v3-compat", ["2048"]).state_dict(), path)
    return path
