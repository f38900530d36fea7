"""Training speed of the lab against two hand-written loops with the same networks: `make bench`.

Each round measures all three, one after the other, so that a drift of the machine's speed meets them alike; what is
reported is the median over the rounds of the ratios within a round. The lab trains as a user does: progress bar,
metrics, EMA, W&B offline. The loops do the same two steps of the algorithm and nothing else:

- plain: the whole data set as a float tensor in memory, Adam and memory format as PyTorch has them by default;
- tutorial: PIL images through torchvision's transforms one by one, in a DataLoader with two workers.
"""

from __future__ import annotations

import io
import os
import statistics
import sys
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

from benchmarks import asked, told
from gan_lab.config import loading
from gan_lab.config.schema import with_values
from gan_lab.device import get_default_device
from gan_lab.images import to_unit
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder

WARM_UP, MEASURED = 8, 40  # iterations
ROUNDS = 7

Batches = Iterator[tuple[Tensor, Tensor]]


class Pictures(Dataset[tuple[Tensor, int]]):
    """What torchvision's MNIST is to a tutorial: PIL images, transformed when they are asked for."""

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


def timed(step: Callable[[], None]) -> float:
    """Seconds of MEASURED calls after WARM_UP of them."""
    for _ in range(WARM_UP):
        step()
    wait()
    started = time.perf_counter()
    for _ in range(MEASURED):
        step()
    wait()
    return time.perf_counter() - started


def wait() -> None:
    """Until the GPU, if there is one, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def loop(built: builder.Experiment, batches: Batches) -> float:
    """The usual loop: both networks as they are, labels if the generator has classes."""
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

    return timed(step)


def plain(built: builder.Experiment) -> float:
    everything = built.data.train.__getitems__(range(len(built.data.train)))
    device = get_default_device()
    images = to_unit(everything.images).to(device)
    labels = (
        torch.zeros(len(images), device=device)
        if everything.labels is None
        else everything.labels.to(device)
    )
    size = built.config.data.batch_size

    def batches() -> Batches:
        while True:
            for rows in torch.randperm(len(images), device=images.device).split(size):
                if len(rows) == size:
                    yield images[rows], labels[rows]

    return loop(built, batches())


def tutorial(built: builder.Experiment) -> float:
    everything = built.data.train.__getitems__(range(len(built.data.train)))
    pictures = Pictures(everything.images, everything.labels)
    loader = DataLoader(
        pictures,
        built.config.data.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
    )

    def batches() -> Batches:
        while True:
            yield from loader

    return loop(built, batches())


class Clock(Callback):
    """When each iteration ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(time.perf_counter())


def build(name: str, words: list[str], folder: Path, clock: Clock) -> builder.Experiment:
    loaded = loading.load(name, words)
    images = loaded.config.data.batch_size * (WARM_UP + MEASURED)
    never = {"run.evaluate_every_images": 10**9, "log.grid_every_images": 10**9}
    made = with_values(loaded.config, {"run.images": images, **never})
    (folder / "checkpoints").mkdir(parents=True)
    # last but the bar: the time of everything before it, and of the bar of the iteration before
    return builder.build(*builder.load_data(made), RunFolder(folder), extra=[clock])


def lab(name: str, words: list[str]) -> float:
    """Seconds of MEASURED iterations of the real training; the evaluation after the last one is not among them."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        built = build(name, words, Path(folder) / name, clock)
        built.evaluation.evaluator.metrics = []
        for tracker in built.trackers:
            tracker.start(built.images)
        built.trainer.fit(built.family, datamodule=built.data)
        for tracker in built.trackers:
            tracker.finish()
    return clock.ends[-2] - clock.ends[WARM_UP - 2]


def main() -> None:
    experiments, words, rounds = asked(__doc__, ["dcgan", "cgan", "ring"], ROUNDS)
    os.environ["TTY_COMPATIBLE"] = "1"  # rich draws the bar although nobody looks
    for name in experiments:
        speeds: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            built = build(name, ["log.wandb=off", *words], Path(folder) / name, Clock())
        batch = built.config.data.batch_size
        loops = (
            {"plain": plain}
            if built.data.spec.content == "points"
            else {"plain": plain, "tutorial": tutorial}
        )
        ratios: dict[str, list[float]] = {other: [] for other in loops}
        for number in range(rounds + 1):
            seconds = {"lab": lab(name, words)} | {
                other: other_loop(built) for other, other_loop in loops.items()
            }
            if number == 0:
                continue  # the first round warms the machine up
            speeds.append(batch * MEASURED / seconds["lab"])
            for other, values in ratios.items():
                values.append(seconds[other] / seconds["lab"])
            print(
                f"{name} {number}: "
                + "  ".join(
                    f"{who} {batch * MEASURED / s:,.0f} images/s" for who, s in seconds.items()
                )
            )
            sys.stdout.flush()
        for other, values in ratios.items():
            print(f"{name}: lab / {other} = {told(values)}")
        print(
            f"{name}: {statistics.median(speeds):,.0f} images/s on {torch.get_num_threads()} threads"
        )


if __name__ == "__main__":
    main()
