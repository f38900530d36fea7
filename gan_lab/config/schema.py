"""Experiment configuration as frozen dataclasses, with the valid range of each number.

The comment above each field is its description in docs/configuration.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal

from gan_lab.utils.errors import UserError

BOUND_CHECKS = {
    "minimum": ("at least", operator.ge),
    "above": ("greater than", operator.gt),
    "maximum": ("at most", operator.le),
    "below": ("less than", operator.lt),
}

# data sets whose data.root is a folder of the user's images
USER_FOLDERS = ("folder", "pairs", "horse2zebra", "huggingface", "idx")


def number(default: Any, **bounds: float) -> Any:
    """Declare a dataclass field with a range, which ``load`` checks.

    Args:
        default: The default value.
        bounds: Keys of ``BOUND_CHECKS``, as in ``lr: float = number(2e-4, above=0)``.
    """
    assert bounds.keys() <= BOUND_CHECKS.keys()
    return field(default=default, metadata=bounds)


@dataclass(frozen=True)
class DataConfig:
    """Keys under ``data:``."""

    # data set: a module of gan_lab/data, or the dotted path of your own module
    name: str = "mnist"
    # full: the complete data set, an error if it is missing; sample: the small sample shipped with
    # the dependencies; auto: full if available, else sample
    source: Literal["auto", "full", "sample"] = "auto"
    # folder of the downloaded data sets and of the decoded-image cache; for folder, pairs and
    # horse2zebra: the data set itself
    root: str = "data"
    # image height in pixels, and the width too unless data.width is set; default: the native size
    # of the data set. data.size=64x96 sets height 64 and width 96
    size: int = number(28, minimum=1, maximum=4096)
    # image width in pixels; null: equal to the height
    width: int | None = number(None, minimum=1, maximum=4096)
    # meaning of the first-level folders of your own images; auto: splits if all of them have names
    # of splits (train, test, val), else classes, and an error if they could be either
    layout: Literal["auto", "classes", "splits"] = "auto"
    # how your own images are fitted to the size: center crop, pad with edge pixels, or stretch
    fit: Literal["crop", "pad", "stretch"] = "crop"
    # black and white level of images with more than 8 bits, such as [0, 4095]; four numbers: of
    # integer and of float images, of unpaired sets eight: of inputs and of targets; []: inferred
    # from all files
    levels: list[float] = field(default_factory=list)
    # 1: grayscale, 3: RGB; null: inferred from the data set (for a folder: from the majority of
    # its files)
    channels: Literal[1, 3] | None = None
    # global batch size in images, summed over all processes
    batch_size: int = number(64, minimum=1)
    # maximum number of training images; null: all
    images: int | None = number(None, minimum=2)
    # false: ignore the labels of the data set
    labels: bool = True
    # semi-supervised learning: number of labeled images per class; 0: all labels
    labels_per_class: int = number(0, minimum=0)
    # celeba only: attributes that define the classes, one class per combination
    attributes: list[str] = field(default_factory=list)
    # names of classes 0, 1, 2, ...; []: the names that the data set provides
    class_names: list[str] = field(default_factory=list)
    # image-to-image translation: AtoB takes domain A as input, BtoA domain B
    direction: Literal["AtoB", "BtoA"] = "AtoB"
    # image-to-image translation: make the input of each image from the image itself. gray: for
    # colorization; mask: with a hole, for inpainting; downsample: for super-resolution; noise: for
    # denoising; edges: a line drawing; none: the data set has its own inputs
    degradation: Literal["none", "gray", "mask", "downsample", "noise", "edges"] = "none"
    # hole of data.degradation=mask, center: the middle of the image; box: a random rectangle;
    # irregular: random blobs. Random holes are different in each epoch, but fixed in evaluations
    mask_shape: Literal["center", "box", "irregular"] = "box"
    # area of the hole as a fraction of the image
    mask_share: float = number(0.25, above=0, below=1)
    # factor by which data.degradation=downsample divides height and width
    downsample_factor: int = number(4, minimum=2, maximum=64)
    # standard deviation of the Gaussian noise of data.degradation=noise, in gray levels of 255
    noise_sigma: float = number(25.0, above=0)
    # image-to-image translation: false shuffles the pairs, for unpaired training
    paired: bool = True
    # augment the training images by random horizontal flips
    flip: bool = False
    # random crop augmentation: enlarge training images by this many pixels, then crop at random;
    # input and target of a pair get the same crop
    jitter: int = number(0, minimum=0)
    # maximum size in GB of the decoded-image cache; larger data sets are decoded on the fly by the
    # workers
    cache_gb: float = number(8.0, minimum=0)
    # maximum size in GB of a decoded data set that is kept in GPU memory; 0: never
    device_gb: float = number(1.0, minimum=0)
    # maximum fraction of unreadable files before loading fails
    max_unreadable: float = number(0.01, minimum=0, maximum=1)
    # DataLoader workers per process; 0: load in the training process
    workers: int = number(0, minimum=0)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.width or self.size

    @property
    def is_own(self) -> bool:
        """True for images of the user; False for published data sets and shipped samples."""
        is_users = self.name in USER_FOLDERS or self.name == "python" or "." in self.name
        return is_users and self.source != "sample"


@dataclass(frozen=True)
class RunConfig:
    """Keys under ``run:``."""

    # training budget in images shown to the discriminator, repeats included
    images: int = number(100_000, minimum=1)
    # random seed
    seed: int = number(0, minimum=0)
    # name of the run folder; null: built from the overrides and the seed
    id: str | None = None
    # parent folder of all runs
    root: str = "runs"
    # processes per machine: a number, a list of GPUs such as "0,1", or auto; null: set by torchrun
    # or srun, else 1
    devices: str | None = None
    # number of machines; 0: set by torchrun or srun, else 1
    num_nodes: int = number(0, minimum=0)
    # timeout of distributed operations in seconds
    timeout_s: int = number(300, minimum=1)
    # tf32 is faster than 32-true on a GPU, with float32 products rounded to a 10-bit mantissa; on
    # a CPU the two are equal
    precision: Literal["32-true", "tf32", "bf16-mixed", "64-true"] = "32-true"
    # gradient accumulation: micro-batches per batch, to reduce memory
    micro_batches: int = number(1, minimum=1)
    # compile the networks with torch.compile, which needs a C++ compiler
    compile: bool = False
    # auto: replay steps as CUDA graphs where that is possible, which saves the time of Python; not
    # yet run on a GPU, so off is the default
    graph: Literal["off", "auto"] = "off"
    # images between two evaluations
    evaluate_every_images: int = number(50_000, minimum=1)
    # replace an existing run; refused if its folder contains files that the lab did not write
    overwrite: bool = False
    # warm start: a run folder, checkpoint, export (also hf:owner/name or hf:owner/name@revision) or
    # StyleGAN2 snapshot (.pkl) that provides the initial weights
    start_from: str | None = None
    # your own Lightning callbacks, dotted paths of classes such as mine.MyCallback
    callbacks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MetricsConfig:
    """Keys under ``metrics:``."""

    # metric that selects best.ckpt; null: the first one available for the data
    headline: str | None = None
    # number of generated images; null: 1,000 during training; in the final evaluation 50,000 on a
    # GPU, on a CPU four times the reals, up to 10,000
    num_fakes: int | None = number(None, minimum=2)
    # maximum number of real images; null: 1,000 during training, the whole split in the final
    # evaluation
    num_reals: int | None = number(None, minimum=2)
    # real images of the final evaluation; most published scores use train. During training the
    # reals are from the validation set, or with train from the training set
    split: Literal["test", "train"] = "test"
    # feature extractors of every evaluation; []: chosen by the content of the images
    extractors: list[str] = field(default_factory=list)
    # your own metric modules, in addition to the built-in metrics that apply
    include: list[str] = field(default_factory=list)
    # maximum number of images used by kernel distance, precision, recall, density and coverage
    max_features_kept: int = number(10_000, minimum=20)
    # auto: use local weights or download them; off: skip the Inception metrics; or a local path
    inception_weights: str = "auto"
    # path of the official DINOv2 weights (without registers), for metrics.extractors=[dinov2]
    dinov2_weights: str = ""
    # path of the official OpenAI CLIP weights, for metrics.extractors=[clip]
    clip_weights: str = ""
    # compute Fréchet distances even with fewer than 10 images per feature dimension
    allow_small_n: bool = False


@dataclass(frozen=True)
class LogConfig:
    """Keys under ``log:``."""

    # W&B mode; auto: online if an API key is set, else offline
    wandb: Literal["auto", "online", "offline", "off"] = "auto"
    # send real images of your own data to W&B, TensorBoard and trackio: the contact sheet, inputs
    # and targets in sample grids, nearest neighbors, and the report page with them. false:
    # generated images only. Real images of published data sets are always sent
    wandb_reals: bool = False
    # project of W&B, for which WANDB_PROJECT wins, and of trackio
    wandb_project: str = "gan-lab"
    # W&B user or team; null: the default of the key. WANDB_ENTITY wins
    wandb_entity: str | None = None
    # W&B tags of the run; WANDB_TAGS (comma-separated) wins
    wandb_tags: list[str] = field(default_factory=list)
    # W&B notes of the run; WANDB_NOTES wins
    wandb_notes: str = ""
    # upload the best checkpoint to W&B after training
    wandb_artifacts: bool = False
    # write TensorBoard event files to the run folder
    tensorboard: bool = False
    # log to trackio, a local dashboard with the API of W&B (pip install '.[trackio]')
    trackio: bool = False
    # images between two logged rows of losses
    log_every_images: int = number(2_000, minimum=1)
    # images between two sample grids; null: after about 1, 2, 4, 8, ... seconds of training, then
    # about every 30 s or more, and at each evaluation
    grid_every_images: int | None = number(None, minimum=1)
    # rewrite report.html during training, with each grid and the generator of that moment; takes
    # up to 2% of the training time
    live_page: bool = True
    # show a progress bar, or one line every 30 s if the output is not a terminal
    progress_bar: bool = True


@dataclass(frozen=True)
class EmaConfig:
    """Keys under ``ema:``."""

    # half-life of the EMA weights in images; 0: no EMA
    half_life_images: float = number(10_000.0, minimum=0)
    # EMA warmup: limits the half-life to this fraction of the images seen so far
    ramp: float = number(0.05, above=0)


@dataclass(frozen=True)
class AugmentConfig:
    """Keys under ``augment:``: discriminator augmentation of unconditional and conditional GANs."""

    # diffaugment: color, translation and cutout, always applied; ada: adaptive discriminator
    # augmentation, each transform applied with an adaptive probability p
    policy: Literal["off", "diffaugment", "ada"] = "off"
    # ada: initial augmentation probability
    p: float = number(0.0, minimum=0, maximum=1)
    # ada: target of the overfitting heuristic r_t, the mean sign of the discriminator outputs on
    # reals
    target: float = number(0.6, minimum=-1, maximum=1)
    # ada: number of images over which p can rise from 0 to 1
    speed_images: int = number(500_000, minimum=1)


@dataclass(frozen=True)
class HealthConfig:
    """Keys under ``health:``."""

    # what to do when a weight becomes NaN or Inf. stop: end the run; rollback: resume from the
    # last good checkpoint with a new random seed, up to 3 times
    on_nan: Literal["stop", "rollback"] = "stop"


@dataclass(frozen=True)
class ModelConfig:
    """Keys under ``model:`` shared by all families: learning rate decay and frozen layers."""

    # shape of the learning rate decay
    decay: Literal["linear", "cosine"] = "linear"
    # images after which the decay begins
    decay_from: int = number(0, minimum=0)
    # duration of the decay in images; 0: constant learning rates
    decay_images: int = number(0, minimum=0)
    # final learning rate as a fraction of the initial one
    decay_to: float = number(0.0, minimum=0, maximum=1)
    # FreezeD (Mo et al. 2020), with run.start_from: number of discriminator layers, counted from
    # the image, that are not trained
    freeze_d: int = number(0, minimum=0)


@dataclass(frozen=True)
class Config:
    """Configuration of one experiment; ``model`` is the ``Config`` dataclass of the family."""

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
        """Training budget in iterations, rounded up."""
        return -(-self.run.images // self.data.batch_size)

    @property
    def evaluations(self) -> int:
        """Number of evaluations in the training, up to one per iteration; the last at its end."""
        return min(self.iterations, -(-self.run.images // self.run.evaluate_every_images))


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of a config with some values replaced, as in ``{"run.images": 100}``."""
    for key, value in values.items():
        group, name = key.split(".")
        config = replace(config, **{group: replace(getattr(config, group), **{name: value})})
    return config


def list_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over the leaves of nested mappings or dataclasses, as ('data.batch_size', 64)."""
    if is_dataclass(tree):
        tree = {item.name: getattr(tree, item.name) for item in fields(tree)}
    for key, value in tree.items():
        if (isinstance(value, dict) and value) or is_dataclass(value):
            yield from list_leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def check_ranges(config: Any, prefix: str = "") -> None:
    """Check every number against the range declared by its field.

    Raises:
        UserError: A number is out of range, NaN or Inf.
    """
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            check_ranges(value, f"{prefix}{item.name}.")
        if value is None:
            continue
        numbers = value if isinstance(value, tuple) else (value,)
        for name, bound in item.metadata.items():
            description, is_within = BOUND_CHECKS[name]
            if not all(is_within(x, bound) and math.isfinite(x) for x in numbers):
                raise UserError(
                    f"{prefix}{item.name}={value} is out of range: it must be {description} {bound}"
                )
        if not all(math.isfinite(x) for x in numbers if isinstance(x, float)):
            raise UserError(f"{prefix}{item.name}={value} is out of range: it must be finite")
