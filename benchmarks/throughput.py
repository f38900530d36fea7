"""Measure the training speed of the lab relative to two hand-written loops (make bench).

Each round measures all three consecutively, so that slow changes of the machine's speed affect all
of them; the result is the median of the ratios within rounds. The lab trains with its progress bar,
metrics, EMA and W&B offline. The loops train the same networks with the same two updates, and do
nothing else:

- plain: the whole data set is a float tensor in memory; Adam and memory format are PyTorch's
  defaults.
- tutorial: a DataLoader with two workers transforms PIL images one by one with torchvision.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from PIL import Image
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import parse_arguments, report_ratios
from gan_lab.config import loading
from gan_lab.config.schema import with_values
from gan_lab.device import get_default_device
from gan_lab.images import to_unit
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder

WARMUP_ITERATIONS = 8
MEASURED_ITERATIONS = 40
ROUNDS = 7

Batches = Iterator[tuple[Tensor, Tensor]]


class TutorialDataset(Dataset[tuple[Tensor, int]]):
    """A data set as in tutorials: PIL images that are transformed on access."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, 0].numpy())), int(
            self.labels[index]
        )


def time_steps(step: Callable[[], None]) -> float:
    """Measure the seconds of ``MEASURED_ITERATIONS`` calls after the warmup."""
    for _ in range(WARMUP_ITERATIONS):
        step()
    synchronize()
    started = time.perf_counter()
    for _ in range(MEASURED_ITERATIONS):
        step()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    """Wait until the GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def make_step(
    built: builder.Experiment, batches: Batches
) -> tuple[torch.nn.Module, Callable[[], None]]:
    """Return a new generator and a hand-written step, with labels if the generator has classes."""
    family, device = built.family, get_default_device()
    recipe = family.generator.recipe["arguments"]
    from gan_lab import networks

    G, D = (
        networks.from_recipe(network.recipe).to(device)
        for network in (family.generator, family.discriminator)
    )
    optimizer_g = torch.optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))

    def step() -> None:
        x, labels = (part.to(device) for part in next(batches))
        y = (labels,) if recipe["classes"] else ()
        ones, zeros = x.new_ones(len(x)), x.new_zeros(len(x))
        optimizer_d.zero_grad()
        fake = G(torch.randn(len(x), recipe["z_dim"], device=device), *y)
        loss_d = bce(D(x, *y), ones) + bce(D(fake.detach(), *y), zeros)
        loss_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        loss_g = bce(D(G(torch.randn(len(x), recipe["z_dim"], device=device), *y), *y), ones)
        loss_g.backward()
        optimizer_g.step()

    return G, step


def measure_plain_loop(built: builder.Experiment) -> float:
    data = built.data.train.__getitems__(range(len(built.data.train)))
    device = get_default_device()
    images = to_unit(data.images).to(device)
    labels = (
        torch.zeros(len(images), device=device) if data.labels is None else data.labels.to(device)
    )
    size = built.config.data.batch_size

    def batches() -> Batches:
        while True:
            for rows in torch.randperm(len(images), device=images.device).split(size):
                if len(rows) == size:
                    yield images[rows], labels[rows]

    return time_steps(make_step(built, batches())[1])


def measure_tutorial_loop(built: builder.Experiment) -> float:
    return time_steps(make_step(built, list_tutorial_batches(built, workers=2))[1])


def list_tutorial_batches(built: builder.Experiment, workers: int) -> Batches:
    """Return endless batches of a DataLoader that transforms PIL images one by one."""
    data = built.data.train.__getitems__(range(len(built.data.train)))
    loader = DataLoader(
        TutorialDataset(data.images, data.labels),
        built.config.data.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


class Clock(Callback):
    """Records the end of each iteration."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def build(
    name: str, overrides: list[str], folder: Path, clock: Callback, images: int | None = None
) -> builder.Experiment:
    """Build a training without evaluations and grids, by default of the measured iterations."""
    loaded = loading.load(name, overrides)
    if images is None:
        images = loaded.config.data.batch_size * (WARMUP_ITERATIONS + MEASURED_ITERATIONS)
    never = {"run.evaluate_every_images": 10**9, "log.grid_every_images": 10**9}
    config = with_values(loaded.config, {"run.images": images, **never})
    (folder / "checkpoints").mkdir(parents=True)
    # The clock precedes only the progress bar, so an interval between two of its records has all
    # callbacks of one iteration.
    return builder.build(*builder.load_data(config), RunFolder(folder), extra=[clock])


def measure_lab(name: str, overrides: list[str]) -> float:
    """Measure the seconds of the lab's training, without the last evaluation."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        built = build(name, overrides, Path(folder) / name, clock)
        built.evaluation.evaluator.metrics = []
        for tracker in built.trackers:
            tracker.start(built.images)
        built.trainer.fit(built.family, datamodule=built.data)
        for tracker in built.trackers:
            tracker.finish()
    return clock.ends[-2] - clock.ends[WARMUP_ITERATIONS - 2]


def main() -> None:
    options = parse_arguments(__doc__, ["dcgan", "cgan", "ring"], ROUNDS)
    # Make rich draw the progress bar although stdout is redirected.
    os.environ["TTY_COMPATIBLE"] = "1"
    for name in options.experiments:
        speeds: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            built = build(name, ["log.wandb=off", *options.overrides], Path(folder) / name, Clock())
        loops = {"plain": measure_plain_loop}
        if built.data.spec.content != "points":
            loops["tutorial"] = measure_tutorial_loop
        images = built.config.data.batch_size * MEASURED_ITERATIONS
        ratios: dict[str, list[float]] = {loop: [] for loop in loops}
        for number in range(options.rounds + 1):
            seconds = {"lab": measure_lab(name, options.overrides)}
            seconds |= {loop: measure(built) for loop, measure in loops.items()}
            # The first round is a warmup of the machine.
            if number == 0:
                continue
            speeds.append(images / seconds["lab"])
            for loop, values in ratios.items():
                values.append(seconds[loop] / seconds["lab"])
            line = "  ".join(f"{kind} {images / s:,.0f} images/s" for kind, s in seconds.items())
            print(f"{name} {number}: {line}", flush=True)
        for loop, values in ratios.items():
            report_ratios(f"lab / {loop}", name, options, values)
        print(
            f"{name}: {statistics.median(speeds):,.0f} images/s on {torch.get_num_threads()} "
            "threads"
        )


if __name__ == "__main__":
    main()
