"""The keys of an experiment as frozen dataclasses, with the range of each number."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from gan_lab.utils.errors import UserError

BOUNDS = {
    "minimum": ("at least", operator.ge),
    "above": ("greater than", operator.gt),
    "maximum": ("at most", operator.le),
    "below": ("less than", operator.lt),
}


def number(default: Any, **bounds: float) -> Any:
    """A dataclass field with a range out of ``BOUNDS``, which ``load`` checks: ``lr: float = number(2e-4, above=0)``."""
    assert bounds.keys() <= BOUNDS.keys()
    return field(default=default, metadata=bounds)


USER_FOLDERS = ("folder", "pairs", "horse2zebra", "huggingface")  # data sets whose data.root is the user's own folder


@dataclass(frozen=True)
class DataConfig:
    """Keys under ``data:``."""

    name: str = "mnist"  # the file of gan_lab/data, or a module of one's own
    # full: the real set, or an error; sample: the images that ship with our dependencies; auto: the first that is there
    source: Literal["auto", "full", "sample"] = "auto"
    root: str = "data"  # folder of the real sets and of the decoded cache; of folder, pairs and horse2zebra: the set
    size: int = number(28, minimum=1, maximum=4096)  # height and width in pixels; by default the set's own usual size
    # in pixels; null: as the height. data.size=64x96 sets both, 64 high and 96 wide
    width: int | None = number(None, minimum=1, maximum=4096)
    # of one's own images: crop to the middle, pad with the pixels of the edge, or stretch
    fit: Literal["crop", "pad", "stretch"] = "crop"
    # 1 is gray, 3 colour; null: of a folder what most files are, of others what the set has
    channels: Literal[1, 3] | None = None
    batch_size: int = number(64, minimum=1)  # images per iteration, over all processes
    images: int | None = number(None, minimum=2)  # training images, at most; null: all
    labels: bool = True  # false: hide the labels that the data has
    labels_per_class: int = number(0, minimum=0)  # semi-supervised: so many labels are shown; 0: all
    attributes: list[str] = field(default_factory=list)  # celeba: each combination of these is a class
    class_names: list[str] = field(default_factory=list)  # of classes 0, 1, 2 ...; []: the data's own
    direction: Literal["AtoB", "BtoA"] = "AtoB"  # image to image: which of the two is the input
    gray_input: bool = False  # image to image: the input is the gray version of each image
    paired: bool = True  # image to image: false hides in training which input belongs to which image
    flip: bool = False  # mirror half of the training images
    # pixels by which training images are enlarged, and cropped back to their size at random, inputs alike
    jitter: int = number(0, minimum=0)
    cache_gb: float = number(8.0, minimum=0)  # a larger set is decoded by the workers, image by image
    device_gb: float = number(1.0, minimum=0)  # a smaller set that is decoded lies in the memory of the GPU; 0: never
    max_unreadable: float = number(0.01, minimum=0, maximum=1)  # the share of unreadable files that is put up with
    workers: int = number(0, minimum=0)  # loader processes per device; 0 gathers in the training process

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.width or self.size


@dataclass(frozen=True)
class RunConfig:
    """Keys under ``run:``."""

    images: int = number(100_000, minimum=1)  # the budget: training images seen, repeats included
    seed: int = number(0, minimum=0)  # of all that is random
    id: str | None = None  # folder name; by default a slug of what was overridden, and the seed
    root: str = "runs"  # the folder of the runs
    # processes on each machine: a number, a list of GPUs such as "0,1", or auto; None: what torchrun or srun started, else 1
    devices: str | None = None
    num_nodes: int = number(0, minimum=0)  # machines; 0: those on which torchrun or srun started it, else 1
    timeout_s: int = number(300, minimum=1)  # seconds for which a rank waits for the others
    # 32-true is exact on a GPU too; tf32 is faster there: float32 whose factors have 10 bits; on a CPU the two are one
    precision: Literal["32-true", "tf32", "bf16-mixed", "64-true"] = "32-true"
    micro_batches: int = number(
        1, minimum=1
    )  # gradient accumulation: micro-batches per batch, for one that does not fit
    compile: bool = False  # by torch.compile, which needs a C++ compiler
    evaluate_every_images: int = number(50_000, minimum=1)  # images between two evaluations
    overwrite: bool = False  # delete the run folder first
    # a run folder, a checkpoint or an export, whose weights this run begins with where they fit
    start_from: str | None = None


@dataclass(frozen=True)
class MetricsConfig:
    """Keys under ``metrics:``."""

    headline: str | None = None  # the score that chooses best.ckpt; None: the first that the data offers
    # null: 1,000 in training; at the end 50,000 on a GPU, on a CPU four times the reals and 10,000 at most
    num_fakes: int | None = number(None, minimum=2)
    num_reals: int | None = number(None, minimum=2)  # at most; null: 1,000 in training, at the end all of the split
    # the reals that a trained run is scored against, as published figures are mostly against the training set; while it
    # trains the reals that choose are those of validation, or of train
    split: Literal["test", "train"] = "test"
    extractors: list[str] = field(default_factory=list)  # at every evaluation; []: what the content suggests
    include: list[str] = field(default_factory=list)  # metrics in modules of one's own, beside all that apply
    # images that kernel distance, precision, recall, density and coverage are of
    max_features_kept: int = number(10_000, minimum=20)
    # auto: weights that are on this machine or can be downloaded; off; or the path of a local file
    inception_weights: str = "auto"
    dinov2_weights: str = ""  # the authors' file of a DINOv2 without registers, for metrics.extractors=[dinov2]
    clip_weights: str = ""  # OpenAI's file of a CLIP, for metrics.extractors=[clip]
    allow_small_n: bool = False  # compute a Fréchet distance of fewer images than ten times its features


@dataclass(frozen=True)
class LogConfig:
    """Keys under ``log:``."""

    wandb: Literal["auto", "online", "offline", "off"] = "auto"  # auto: online if a key is present, else offline
    wandb_artifacts: bool = False  # send the best checkpoint too, when a training has ended
    tensorboard: bool = False  # write event files for TensorBoard into the run folder
    log_every_images: int = number(2_000, minimum=1)  # images between two rows of losses
    grid_every_images: int | None = number(None, minimum=1)  # images between two sample grids; null: at each evaluation
    progress_bar: bool = True  # in a log file a line every half minute; false: neither


@dataclass(frozen=True)
class EmaConfig:
    """Keys under ``ema:``."""

    half_life_images: float = number(10_000.0, minimum=0)  # 0: no averaging
    ramp: float = number(0.05, above=0)  # the half-life is at most this share of the images seen so far


@dataclass(frozen=True)
class AugmentConfig:
    """Keys under ``augment:``, of what discriminators of families from latents to images see."""

    # diffaugment: colour, translation and cutout, always; ada: each of many changes with a probability that adapts
    policy: Literal["off", "diffaugment", "ada"] = "off"
    p: float = number(0.0, minimum=0, maximum=1)  # of ada, to begin with
    target: float = number(0.6, minimum=-1, maximum=1)  # of ada: the mean sign of the discriminator's output on reals
    speed_images: int = number(500_000, minimum=1)  # of ada: images in which the probability can go from 0 to 1


@dataclass(frozen=True)
class HealthConfig:
    """Keys under ``health:``."""

    # where a weight is no number any more. stop: the run ends; rollback: it goes on from the last good checkpoint with
    # other random numbers, three times at most
    on_nan: Literal["stop", "rollback"] = "stop"


@dataclass(frozen=True)
class ModelConfig:
    """Keys under ``model:`` that all families have: how their learning rates fall, counted in images, and what stays."""

    decay: Literal["linear", "cosine"] = "linear"
    decay_from: int = number(0, minimum=0)  # images after which they begin to fall
    decay_images: int = number(0, minimum=0)  # images in which they fall; 0: they stay
    decay_to: float = number(0.0, minimum=0, maximum=1)  # the share of each that is left then
    # with run.start_from: so many layers of each discriminator, from the image on, keep their weights (Mo et al. 2020)
    freeze_d: int = number(0, minimum=0)


@dataclass(frozen=True)
class Config:
    """One experiment; ``model`` is the dataclass of the family, which stands in the family's file."""

    family: str = "gan"
    data: DataConfig = field(default_factory=DataConfig)
    run: RunConfig = field(default_factory=RunConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    model: Any = None

    @property
    def iterations(self) -> int:
        """The budget in iterations, rounded up."""
        return -(-self.run.images // self.data.batch_size)


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy of a config with other values, by their keys, such as ``{"run.images": 100}``."""
    for key, value in values.items():
        group, name = key.split(".")
        config = replace(config, **{group: replace(getattr(config, group), **{name: value})})
    return config


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested mappings or dataclasses as ('data.batch_size', 64)."""
    if is_dataclass(tree):
        tree = {item.name: getattr(tree, item.name) for item in fields(tree)}
    for key, value in tree.items():
        if (isinstance(value, dict) and value) or is_dataclass(value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_ranges(config: Any, prefix: str = "") -> None:
    """Raise UserError for the first number outside the range that its field was declared with."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            check_ranges(value, f"{prefix}{item.name}.")
        for name, bound in item.metadata.items() if value is not None else ():
            words, holds = BOUNDS[name]
            every = value if isinstance(value, tuple) else (value,)
            if not all(holds(v, bound) and math.isfinite(v) for v in every):
                raise UserError(f"{prefix}{item.name}={value} is out of range: it must be {words} {bound}")
