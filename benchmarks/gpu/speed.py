"""How fast: the lab against its own step alone, a loop by hand, and that step replayed as a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from benchmarks import throughput
from benchmarks.gpu import Clock, Row, Rows, Setting, built, trained
from benchmarks.gpu.equality import DEVICE
from benchmarks.throughput import wait
from gan_lab import device
from gan_lab.config.schema import MetricsConfig
from gan_lab.families.base import Family
from gan_lab.images import Batch, to_uint8
from gan_lab.metrics import extractors
from gan_lab.seeding import Stream

LARGE = ["data.size=64", "model.width=64"]
CASES: dict[str, tuple[str, list[str], int]] = {  # experiment, words, measured iterations
    "ring": ("ring", [], 200),
    "dcgan": ("dcgan", [], 200),
    "dcgan 64 px, batch 64": ("dcgan", LARGE, 100),
    "dcgan 64 px, batch 256": ("dcgan", [*LARGE, "data.batch_size=256"], 100),
    "sngan": ("sngan", [], 100),
    "cyclegan_256": (
        "cyclegan_256",
        ["model.pool_size=0"],
        40,
    ),  # which image a pool gives back, a graph cannot decide
    "cyclegan_256 tf32": ("cyclegan_256", ["model.pool_size=0", "run.precision=tf32"], 40),
}
BY_HAND = ("ring", "dcgan")  # experiments that benchmarks/throughput.py has a loop for


class Floor(Callback):
    """At the end of a training, its step alone, and replayed: seconds of an iteration each."""

    def __init__(self, iterations: int) -> None:
        self.iterations, self.alone, self.replay, self.why = iterations, 0.0, 0.0, ""
        self.batch: Any = None

    def on_train_batch_start(
        self, trainer: Trainer, family: Family, batch: Batch, batch_idx: int
    ) -> None:  # type: ignore[override]
        self.batch = batch

    def on_train_end(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        family.train()

        def step() -> None:
            family.step(self.batch)

        self.alone = self._seconds(step)
        if family.device.type != "cuda":
            self.why = "no CUDA"
            return
        try:
            self.replay = self._seconds(self._captured(family, step).replay)
        except Exception as error:
            self.why = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        finally:
            family.logged_scalars = {}

    def _captured(self, family: Family, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        for optimizer in family.optimizer_list():
            for group in optimizer.param_groups:
                group["capturable"] = True
        held: dict[Any, Tensor] = {}
        draw = Stream._draw

        def once(
            stream: Stream, n: int, shape: tuple[int, ...], like: Tensor, there: Any, here: Any
        ) -> Tensor:
            key = (
                stream.purpose,
                n,
                shape,
                like.device,
                here,
            )  # what a graph replays draws no other numbers
            if key not in held:
                held[key] = draw(stream, n, shape, like, there, here)
            return held[key]

        with patch.object(Stream, "_draw", once):
            return self._recorded(step)

    def _recorded(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(aside)
        wait()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        return graph

    def _seconds(self, step: Callable[[], Any]) -> float:
        for _ in range(5):
            step()
        wait()
        begun = time.perf_counter()
        for _ in range(self.iterations):
            step()
        wait()
        return (time.perf_counter() - begun) / self.iterations


def lab(
    name: str, words: list[str], folder: Path, n: int, warm_up: int, floor: bool = False
) -> tuple[float, float, Any]:
    """Seconds of an iteration of a training, those that the host took for it, and what its step alone took."""
    clock, below = Clock(warm_up, n), Floor(n)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    made = built(
        name, words, folder, warm_up + n + 1, clock
    )  # at the end of the last one much is due
    made.evaluation.evaluator.metrics = []
    if floor:
        made.trainer.callbacks.append(below)  # type: ignore[attr-defined]
    made.trainer.fit(made.family, datamodule=made.data)
    return clock.seconds, clock.host, below


def throughputs(setting: Setting) -> Rows:
    """Images per second of the lab as a user has it (but for grids, scores and the bar), and what it could be."""
    for case, (name, words, many) in CASES.items():
        if setting.rehearsal and case not in ("ring", "dcgan"):
            continue
        n, warm_up, folder = (
            setting.few(many),
            setting.few(30),
            setting.folder / "speed" / case.replace(" ", "-"),
        )
        seconds, host, floor = lab(name, words, folder / "lab", n, warm_up, floor=True)
        made = built(name, words, folder / "by-hand", 1)
        batch, memory = made.config.data.batch_size, device.peak_memory()
        figure = f"{batch / seconds:,.0f} images/s; {1e3 * seconds:.2f} ms an iteration, of the host {1e3 * host:.2f}"
        yield Row(f"{case}: the lab", f"{figure}; {memory:,.0f} MB")
        yield Row(
            f"{case}: lab / its step alone",
            f"{floor.alone / seconds:.2f}",
            "0.9",
            floor.alone / seconds >= 0.9,
        )
        if name in BY_HAND:
            throughput.MEASURED, throughput.WARM_UP = n, warm_up
            ratio = throughput.plain(made) / n / seconds
            yield Row(f"{case}: lab / loop by hand", f"{ratio:.2f}", "0.9", ratio >= 0.9)
        told = f"{floor.replay / seconds:.2f}; {1e3 * floor.replay:.2f} ms an iteration"
        yield Row(f"{case}: lab / replayed graph", f"failed: {floor.why}" if floor.why else told)


CHOICES: dict[str, tuple[list[str], dict[str, bool]]] = {  # more words, and flags of cuDNN
    "tf32": (["run.precision=tf32"], {}),
    "bf16-mixed": (["run.precision=bf16-mixed"], {}),
    "cudnn.deterministic off": ([], {"deterministic": False}),
    "cudnn.benchmark on": ([], {"deterministic": False, "benchmark": True}),
    "the data on the host": (["data.device_gb=0"], {}),
    "two loader processes": (["data.workers=2"], {}),
    "run.compile": (["run.compile=true"], {}),
}


def settings(setting: Setting) -> Rows:
    """What each decision costs or brings, for a network that keeps the device busy."""
    words, n, warm_up = [*LARGE, "data.batch_size=256"], setting.few(60), setting.few(30)
    if setting.rehearsal:
        words = []

    def seconds(name: str, more: list[str], flags: dict[str, bool]) -> float:
        real = device.set_precision

        def set_precision(precision: str) -> None:
            real(precision)
            for flag, value in flags.items():
                setattr(torch.backends.cudnn, flag, value)

        with patch.object(device, "set_precision", set_precision):
            return lab(
                "dcgan", [*words, *more], setting.folder / name.replace(" ", "-"), n, warm_up
            )[0]

    seconds("warm-up", [], {})
    base = [seconds("before", [], {})]
    found: dict[str, float | str] = {}
    for name, (more, flags) in CHOICES.items():
        if not (setting.rehearsal and "compile" in name):
            try:
                found[name] = seconds(name, more, flags)
            except Exception as error:
                found[name] = f"failed: {type(error).__name__}: {error}".splitlines()[0][:150]
    base.append(seconds("after", [], {}))
    shipped, what = sum(base) / 2, "dcgan 64 px, batch 256, images/s"
    yield Row(f"{what}: as shipped, before / after the others", f"{base[1] / base[0]:.2f}")
    for name, took in found.items():
        if isinstance(took, str):
            yield Row(f"{what}: {name}", took, "runs", met=False)
        else:
            yield Row(f"{what}: {name} / as shipped", f"{shipped / took:.2f}")


def evaluation(setting: Setting) -> Rows:
    """Generating and extracting, in batches of several sizes; the evaluator itself."""
    made = trained("dcgan", [], setting.folder / "evaluation", 2)
    family = made.family.to(DEVICE).eval()
    networks = {"digits": extractors.load("digits")}
    if not setting.rehearsal:
        networks["inception"] = extractors.load(
            "inception", MetricsConfig(inception_weights=str(_random_inception(setting.folder)))
        )
    for name, network in networks.items():
        for size in (100, 250, 1000):
            torch.cuda.reset_peak_memory_stats() if DEVICE.type == "cuda" else None

            @torch.no_grad()
            def batch(size: int = size, network: Any = network) -> None:
                asked = Batch(torch.zeros(size, 1, 28, 28, device=DEVICE))
                network(to_uint8(family.generate(asked, Stream(0, "evaluate"))))[0].cpu()

            times = (
                1 if setting.rehearsal else 10_000 // size if name == "digits" else 4_000 // size
            )
            batch()
            wait()
            begun = time.perf_counter()
            for _ in range(times):
                batch()
            speed, memory = size * times / (time.perf_counter() - begun), device.peak_memory()
            yield Row(
                f"{name} in batches of {size}", f"{speed:,.0f} images/s, {memory:,.0f} MB at most"
            )
    evaluator = built("dcgan", [], setting.folder / "evaluator", 1).evaluation.evaluator
    evaluator(family)
    begun = time.perf_counter()
    evaluator(family)
    yield Row("an evaluation of 1,000 digits in training", f"{time.perf_counter() - begun:.2f} s")


def _random_inception(folder: Path) -> Path:
    """Weights for speed alone, in the layout of torch-fidelity's file."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    kind, path = fidelity.FeatureExtractorInceptionV3, folder / "inception.pth"
    with patch.object(fidelity, "load_state_dict_from_url", lambda *_, **__: {}), \
         patch.object(kind, "load_state_dict", lambda *_: None):  # fmt: skip
        torch.save(kind("inception-v3-compat", ["2048"]).state_dict(), path)
    return path
