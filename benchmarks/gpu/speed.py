"""How fast: the lab against its own step alone, a loop by hand, and that step replayed as a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from benchmarks import throughput
from benchmarks.gpu import Clock, Row, Rows, Setting, built, trained
from benchmarks.throughput import wait
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
    "cyclegan_256": ("cyclegan_256", [], 40),
}
BY_HAND = ("ring", "dcgan")  # experiments that benchmarks/throughput.py has a loop for


class Drawn:
    """Draws for one purpose, made once: what a graph replays has no other each time."""

    def __init__(self, held: dict[Any, Tensor], stream: Stream) -> None:
        self.held, self.stream = held, stream

    def __getattr__(self, kind: str) -> Callable[..., Tensor]:
        def draw(n: int, *shape: int, like: Tensor) -> Tensor:
            key = (self.stream.purpose, kind, n, shape, like.device)
            if key not in self.held:
                self.held[key] = getattr(self.stream, kind)(n, *shape, like=like)
            return self.held[key]

        return draw


class Floor(Callback):
    """At the end of a training, its step alone, and replayed: seconds of an iteration each."""

    def __init__(self, iterations: int) -> None:
        self.iterations, self.alone, self.replay, self.why = iterations, 0.0, 0.0, ""
        self.batch: Any = None

    def on_train_batch_start(self, trainer: Trainer, family: Family, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        self.batch = batch

    def on_train_end(self, trainer: Trainer, family: Family) -> None:  # type: ignore[override]
        family.train()

        def step() -> None:
            family.training_step(self.batch, 0)

        self.alone = self._seconds(step)
        if family.device.type != "cuda":
            self.why = "no CUDA"
            return
        try:
            self.replay = self._seconds(self._captured(family, step).replay)
        except Exception as error:
            self.why = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
        finally:
            family.recorded = {}

    def _captured(self, family: Family, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        held: dict[Any, Tensor] = {}
        real = family.stream
        family.stream = lambda purpose: Drawn(held, real(purpose))  # type: ignore[method-assign,assignment,return-value]
        for optimizer in family.stepped_by():
            for group in optimizer.param_groups:
                group["capturable"] = True
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
    made = built(name, words, folder, warm_up + n + 1, clock)  # at the end of the last one much is due
    made.quality.evaluator.measures = []
    if floor:
        made.trainer.callbacks.append(below)  # type: ignore[attr-defined]
    made.trainer.fit(made.family, datamodule=made.data)
    return clock.seconds, clock.host, below


def throughputs(setting: Setting) -> Rows:
    """Images per second of the lab as a user has it (but for grids, scores and the bar), and what it could be."""
    for case, (name, words, many) in CASES.items():
        if setting.rehearsal and case not in ("ring", "dcgan"):
            continue
        n, warm_up, folder = setting.few(many), setting.few(30), setting.folder / "speed" / case.replace(" ", "-")
        seconds, host, floor = lab(name, words, folder / "lab", n, warm_up, floor=True)
        made = built(name, words, folder / "by-hand", 1)
        batch, memory = made.config.data.batch_size, torch.cuda.max_memory_allocated() / 1e6
        figure = f"{batch / seconds:,.0f} images/s; {1e3 * seconds:.2f} ms an iteration, of the host {1e3 * host:.2f}"
        yield Row(f"{case}: the lab", f"{figure}; {memory:,.0f} MB")
        yield Row(f"{case}: lab / its step alone", f"{floor.alone / seconds:.2f}", "0.9", floor.alone / seconds >= 0.9)
        if name in BY_HAND:
            throughput.MEASURED, throughput.WARM_UP = n, warm_up
            ratio = throughput.plain(made) / n / seconds
            yield Row(f"{case}: lab / loop by hand", f"{ratio:.2f}", "0.9", ratio >= 0.9)
        if floor.why:
            yield Row(f"{case}: lab / replayed graph", f"failed: {floor.why}", "0.77", met=setting.rehearsal)
        else:
            told = f"{floor.replay / seconds:.2f}; {1e3 * floor.replay:.2f} ms an iteration"
            yield Row(f"{case}: lab / replayed graph", told, "0.77", floor.replay / seconds >= 0.77)


def settings(setting: Setting) -> Rows:
    """What each decision costs or brings: precision, cudnn's choices, compiling, where the data lie."""
    name, words, n = "dcgan", [*LARGE, "data.batch_size=256"], setting.few(60)
    if setting.rehearsal:
        words = []
    folder, backends = setting.folder / "settings", torch.backends
    base, _, _ = lab(name, words, folder / "base", n, setting.few(20))

    def told(what: str, more: list[str]) -> Row:
        try:
            seconds, _, _ = lab(name, [*words, *more], folder / what.replace(" ", "-"), n, setting.few(20))
        except Exception as error:
            return Row(f"64 px, batch 256, {what}", f"failed: {type(error).__name__}: {error}"[:150], "runs", met=False)
        return Row(f"64 px, batch 256, {what} / as shipped: images/s", f"{base / seconds:.2f}")

    before = backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32
    for tf32 in (False, True):
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = tf32
        yield told(f"TF32 {'on' if tf32 else 'off'}", [])
    backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32 = before
    for choice in ("benchmark", "deterministic"):
        setattr(backends.cudnn, choice, True)
        yield told(f"cudnn.{choice}", [])
        setattr(backends.cudnn, choice, False)
    yield told("bf16-mixed", ["run.precision=bf16-mixed"])
    yield told("the data on the host", ["data.device_gb=0"])
    yield told("two loader processes", ["data.workers=2"])
    if not setting.rehearsal:
        yield told("run.compile", ["run.compile=true"])
        yield told("run.compile, bf16-mixed", ["run.compile=true", "run.precision=bf16-mixed"])


def evaluation(setting: Setting) -> Rows:
    """Generating and extracting, in batches of several sizes; the evaluator itself."""
    made = trained("dcgan", ["metrics.n=1000"], setting.folder / "evaluation", 2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    family = made.family.to(device).eval()
    networks = {"digits": extractors.load("digits")}
    if not setting.rehearsal:
        networks["inception"] = extractors.load("inception", str(_random_inception(setting.folder)))
    for name, network in networks.items():
        for size in (100, 250, 1000):
            torch.cuda.reset_peak_memory_stats() if device.type == "cuda" else None

            @torch.no_grad()
            def batch(size: int = size, network: Any = network) -> None:
                asked = Batch(torch.zeros(size, 1, 28, 28, device=device))
                network(to_uint8(family.generate(asked, Stream(0, "evaluate"))))[0].cpu()

            times = 1 if setting.rehearsal else 10_000 // size if name == "digits" else 4_000 // size
            batch()
            wait()
            begun = time.perf_counter()
            for _ in range(times):
                batch()
            speed, memory = size * times / (time.perf_counter() - begun), torch.cuda.max_memory_allocated() / 1e6
            yield Row(f"{name} in batches of {size}", f"{speed:,.0f} images/s, {memory:,.0f} MB at most")
    evaluator = built("dcgan", ["metrics.n=1000"], setting.folder / "evaluator", 1).quality.evaluator
    evaluator(family)
    begun = time.perf_counter()
    evaluator(family)
    yield Row("an evaluation of 1,000 digits in training", f"{time.perf_counter() - begun:.2f} s")


def _random_inception(folder: Path) -> Path:
    """Weights for speed alone, in the layout of torch-fidelity's file."""
    from unittest.mock import patch

    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    kind, path = fidelity.FeatureExtractorInceptionV3, folder / "inception.pth"
    with patch.object(fidelity, "load_state_dict_from_url", lambda *_, **__: {}), \
         patch.object(kind, "load_state_dict", lambda *_: None):  # fmt: skip
        torch.save(kind("inception-v3-compat", ["2048"]).state_dict(), path)
    return path
