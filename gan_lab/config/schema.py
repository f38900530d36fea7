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


USER_FOLDERS = (
    "folder",
    "pairs",
    "horse2zebra",
    "huggingface",
)  # data sets whose data.root is the user's own folder


@dataclass(frozen=True)
class DataConfig:
    """Keys under ``data:``."""

    # A data set: a file of gan_lab/data, or your own module.
    name: str = "mnist"
    # full: the real set, or an error. sample: the images bundled with our dependencies. auto:
    # full if it is available, else sample.
    source: Literal["auto", "full", "sample"] = "auto"
    # Folder of downloaded sets and of the decoded cache. For folder, pairs and horse2zebra:
    # your images.
    root: str = "data"
    # Height and width in pixels. Default: the set's usual size. data.size=64x96 sets height 64
    # and width 96.
    size: int = number(28, minimum=1, maximum=4096)
    # Width in pixels. null: the same as the height.
    width: int | None = number(None, minimum=1, maximum=4096)
    # For your own images: center crop, pad with the edge pixels, or stretch.
    fit: Literal["crop", "pad", "stretch"] = "crop"
    # 1 for gray, 3 for color. null: inferred from the data set; in a folder, the majority of
    # the files decides.
    channels: Literal[1, 3] | None = None
    # Images per iteration, over all processes.
    batch_size: int = number(64, minimum=1)
    # Number of training images to use. null: all.
    images: int | None = number(None, minimum=2)
    # false: ignore the labels of the data.
    labels: bool = True
    # Semi-supervised: labeled images per class. 0: all are labeled.
    labels_per_class: int = number(0, minimum=0)
    # CelebA: each combination of these attributes is a class.
    attributes: list[str] = field(default_factory=list)
    # Names of classes 0, 1, 2 ... []: the data set's own names.
    class_names: list[str] = field(default_factory=list)
    # Image-to-image: which of the two images is the input.
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    # Image-to-image: the input is the gray version of each image.
    gray_input: bool = False
    # Image-to-image: false hides the correspondence of inputs and images in training.
    paired: bool = True
    # Mirror half of the training images.
    flip: bool = False
    # Enlarge training images and inputs by this many pixels, then crop them back to their size
    # at random.
    jitter: int = number(0, minimum=0)
    # Sets larger than this are not cached; the workers decode them image by image.
    cache_gb: float = number(8.0, minimum=0)
    # Decoded sets smaller than this stay in GPU memory. 0: never.
    device_gb: float = number(1.0, minimum=0)
    # Tolerated share of unreadable files.
    max_unreadable: float = number(0.01, minimum=0, maximum=1)
    # Loader processes per device. 0: load in the training process.
    workers: int = number(0, minimum=0)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.size, self.width or self.size


@dataclass(frozen=True)
class RunConfig:
    """Keys under ``run:``."""

    # Budget: training images seen, repeats included.
    images: int = number(100_000, minimum=1)
    # Random seed.
    seed: int = number(0, minimum=0)
    # Name of the run folder. Default: a slug of the overrides, and the seed.
    id: str | None = None
    # Folder of all runs.
    root: str = "runs"
    # Processes per machine: a number, a list of GPUs such as "0,1", or auto. null: what
    # torchrun or srun started, else 1.
    devices: str | None = None
    # Number of machines. 0: those on which torchrun or srun started the run, else 1.
    num_nodes: int = number(0, minimum=0)
    # Seconds that a rank waits for the others.
    timeout_s: int = number(300, minimum=1)
    # 32-true is exact float32, on a GPU too. tf32 is faster on a GPU: its factors have 10
    # bits. On a CPU the two are the same.
    precision: Literal["32-true", "tf32", "bf16-mixed", "64-true"] = "32-true"
    # Gradient accumulation: micro-batches per batch, for a batch that does not fit into
    # memory.
    micro_batches: int = number(1, minimum=1)
    # Compile the networks with torch.compile, which needs a C++ compiler.
    compile: bool = False
    # Training images between two evaluations.
    evaluate_every_images: int = number(50_000, minimum=1)
    # Delete the run folder first.
    overwrite: bool = False
    # Fine-tuning: a run folder, a checkpoint or an export, whose weights are loaded where they
    # match.
    start_from: str | None = None


@dataclass(frozen=True)
class MetricsConfig:
    """Keys under ``metrics:``."""

    # Score that selects best.ckpt. null: the first one that the data offer.
    headline: str | None = None
    # Generated images per evaluation. null: 1,000 during training; finally 50,000 on a GPU, on
    # a CPU four times the reals and up to 10,000.
    num_fakes: int | None = number(None, minimum=2)
    # Maximum number of real images per evaluation. null: 1,000 during training, finally all of
    # the split.
    num_reals: int | None = number(None, minimum=2)
    # Reals that a finished run is scored on. Published scores mostly use the training set.
    # During training the validation set is used, or the training set with train.
    split: Literal["test", "train"] = "test"
    # Extractors of every evaluation. []: chosen by the content of the data.
    extractors: list[str] = field(default_factory=list)
    # Your own metrics, as modules, in addition to all that apply.
    include: list[str] = field(default_factory=list)
    # Images whose features are kept for kernel distance, precision, recall, density and
    # coverage.
    max_features_kept: int = number(10_000, minimum=20)
    # auto: weights on this machine, or downloaded. off. Or the path of a local file.
    inception_weights: str = "auto"
    # The authors' file of a DINOv2 without registers, for metrics.extractors=[dinov2].
    dinov2_weights: str = ""
    # OpenAI's file of a CLIP, for metrics.extractors=[clip].
    clip_weights: str = ""
    # Compute a Fréchet distance even with fewer than ten images per feature.
    allow_small_n: bool = False


@dataclass(frozen=True)
class LogConfig:
    """Keys under ``log:``."""

    # auto: online if a W&B key is present, else offline. The report page, which shows training
    # images, is uploaded too.
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    # Upload the best checkpoint at the end of training.
    wandb_artifacts: bool = False
    # Write TensorBoard event files into the run folder.
    tensorboard: bool = False
    # Training images between two rows of losses.
    log_every_images: int = number(2_000, minimum=1)
    # Training images between two sample grids. null: at each evaluation.
    grid_every_images: int | None = number(None, minimum=1)
    # In a log file: a line every half minute. false: neither.
    progress_bar: bool = True


@dataclass(frozen=True)
class EmaConfig:
    """Keys under ``ema:``."""

    # Half-life of the EMA weights, in images seen. 0: no EMA.
    half_life_images: float = number(10_000.0, minimum=0)
    # Upper limit of the half-life, as a share of the images seen so far.
    ramp: float = number(0.05, above=0)


@dataclass(frozen=True)
class AugmentConfig:
    """Keys under ``augment:``, for unconditional and class-conditional families."""

    # diffaugment: color, translation and cutout in every pass. ada: many changes, each with an
    # adaptive probability.
    policy: Literal["off", "diffaugment", "ada"] = "off"
    # ADA: initial probability.
    p: float = number(0.0, minimum=0, maximum=1)
    # ADA: target for the mean sign of the discriminator's output on real images.
    target: float = number(0.6, minimum=-1, maximum=1)
    # ADA: images in which the probability can go from 0 to 1.
    speed_images: int = number(500_000, minimum=1)


@dataclass(frozen=True)
class HealthConfig:
    """Keys under ``health:``."""

    # If a weight becomes NaN or Inf. stop: end the run. rollback: return to the last good
    # checkpoint with a new random seed, up to three times.
    on_nan: Literal["stop", "rollback"] = "stop"


@dataclass(frozen=True)
class ModelConfig:
    """Keys under ``model:`` of all families: learning-rate decay and frozen layers."""

    # Schedule of the learning rates.
    decay: Literal["linear", "cosine"] = "linear"
    # Images seen at which the learning rates begin to decay.
    decay_from: int = number(0, minimum=0)
    # Images over which they decay. 0: constant.
    decay_images: int = number(0, minimum=0)
    # Final share of each learning rate.
    decay_to: float = number(0.0, minimum=0, maximum=1)
    # With run.start_from: number of frozen layers of each discriminator, counted from the
    # image (FreezeD, Mo et al. 2020).
    freeze_d: int = number(0, minimum=0)


@dataclass(frozen=True)
class Config:
    """One experiment; ``model`` is the dataclass in the file of the family."""

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
                raise UserError(
                    f"{prefix}{item.name}={value} is out of range: it must be {words} {bound}"
                )
