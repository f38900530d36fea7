"""Base class of all families: the contract with the lab's loop or any ``lightning.Trainer``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from typing import Any, ClassVar, Protocol, final, get_args, get_type_hints

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, distributed, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from gan_lab import seeding
from gan_lab.augmentation import Augmentation, Augmented
from gan_lab.batches import BatchReader, PixelRange
from gan_lab.config.loading import model_config
from gan_lab.config.schema import AugmentConfig, ModelConfig
from gan_lab.distributed.gradients import average_gradients, is_distributed
from gan_lab.distributed.lightning_internals import convert_pil_images, count_iteration
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.networks.layers import Network
from gan_lab.schedules import decay_factor, round_to_float32
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

# float16 would need a gradient scaler, which several losses and optimizers cannot share well
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
# degradations whose restored images are nearly the held-out ones, which stay on the machine
REVEALING_DEGRADATIONS = ("gray", "mask", "downsample", "noise")
# more than any grid has
MAX_GRID_SETS = 16


Step = Callable[[Batch], None]


class ScheduleTensors(Protocol):
    """Static tensors of the numbers that change between iterations."""

    def take(self, name: str, compute: Callable[[], float]) -> Tensor:
        """Return the tensor [] of a number."""


class Family(LightningModule, ABC):
    """A method of one paper: its networks, losses and training step.

    One iteration is one call of ``step``.

    A family trains in the lab's loop and in any ``lightning.Trainer``::

        model = gan_lab.WGANGP(image_shape=(1, 28, 28), width=8, lr_d=2e-4)
        lightning.Trainer(max_steps=200).fit(model, DataLoader(dataset, batch_size=32))
        images = model(16)  # [16, 1, 28, 28] in [-1, 1]

    Batches are images, ``(image, label)`` or dicts; uint8, or floats in [0, 1] or [-1, 1]
    (``gan_lab.batches``).
    """

    # the dataclass of the keys under ``model:``
    Config: ClassVar[type]
    # networks that are evaluated with EMA weights
    ema_networks: ClassVar[tuple[str, ...]] = ("generator",)
    # the keys of outputs()
    output_names: ClassVar[tuple[str, ...]] = ("generated",)
    # names of the sets of sample_grid(), the column titles of the page; empty: none
    set_names: ClassVar[tuple[str, ...]] = ()
    # indices of the sets of sample_grid() that reconstruct held-out images, nearly copies of them
    reconstructed_sets: tuple[int, ...] = ()
    # whether generate() uses the batch's labels
    conditional: bool = False
    # whether batches need source images
    image_to_image: ClassVar[bool] = False
    # image-to-image translation: whether source i corresponds to image i
    paired: ClassVar[bool] = False
    # whether training accepts images without a label
    semi_supervised: ClassVar[bool] = False
    # number of different real minibatches in one iteration
    minibatches: ClassVar[int] = 1
    # whether steps of one phase() launch the same operations on the device: no Python condition on
    # values of tensors, and numbers that change come from scheduled(). Subclasses do not inherit it
    capturable: ClassVar[bool] = False
    generator: Network
    discriminator: nn.Module

    def __init__(
        self,
        image_shape: Sequence[int] | None = None,
        *,
        num_classes: int = 0,
        source_channels: int | None = None,
        pixel_range: PixelRange | None = None,
        augment: str = "off",
        seed: int = 0,
        spec: ImageSpec | Mapping[str, Any] | None = None,
        config: Any = None,
        **model: Any,
    ) -> None:
        """Build the networks.

        Args:
            image_shape: (channels, height, width) of the images.
            num_classes: Number of classes; 0: unconditional.
            source_channels: Input channels of an image-to-image family; default: as many as the
                images have.
            pixel_range: (low, high) of float images, (0, 1) or (-1, 1), if it cannot be inferred.
            augment: Discriminator augmentation: off, diffaugment or ada (``gan_lab.augmentation``).
            seed: Seed of the latents and all other random numbers of the training. Initial weights
                come from torch's global generator.
            spec: Full description of the images; replaces ``image_shape``, ``num_classes`` and
                ``source_channels``.
            config: The family's ``Config``; replaces the keyword arguments in ``model``.
            **model: The keys under ``model:`` (docs/configuration.md).

        Raises:
            UserError: A key is unknown or out of range, or the family does not support such images.
        """
        super().__init__()
        self.automatic_optimization = False
        if spec is None:
            spec = self._describe_images(image_shape, num_classes, source_channels)
        self.spec = spec if isinstance(spec, ImageSpec) else ImageSpec(**spec)
        self.cfg = model_config(type(self), model) if config is None else config
        self.seed = seed
        # plain containers only: load_from_checkpoint passes them back to this constructor
        self.save_hyperparameters(
            {
                "spec": asdict(self.spec),
                "seed": seed,
                "pixel_range": pixel_range,
                "augment": augment,
                **asdict(self.cfg),
            }
        )
        # completed iterations
        self.iteration = 0
        # images of completed iterations, summed over ranks
        self.images_seen = 0
        # number of rollbacks so far; each one resumes with a new random seed
        self.branch = 0
        # gradient accumulation: number of micro-batches per batch, and index of the current one
        self.parts = 1
        self.part = 0
        # gradient accumulation: a barrier that all-gathers one value from each micro-batch
        self.end_turn: Callable[[Any], list[Any]] | None = None
        # in the lab's loop its callbacks do the logging, and torch's generators need no restoring
        self.in_lab_loop = False
        # static tensors of scheduled numbers, while a step is captured as a graph
        self._schedule: ScheduleTensors | None = None
        # the scalars of the last step
        self.logged_scalars: dict[str, Tensor] = {}
        # discriminator augmentation
        self.augmentation: Augmentation | None = None
        # cache: for each optimizer (by id), the weights it updates in each network
        self._updated_weights: dict[int, dict[str, list[Tensor]]] = {}
        self._check_data()
        self.build_networks(self.spec, self.cfg)
        if self.spec.degradation in REVEALING_DEGRADATIONS:
            # every set of a grid is a held-out image, or nearly one
            self.reconstructed_sets = tuple(range(MAX_GRID_SETS))
        if num_classes and not (self.conditional or self.semi_supervised):
            raise UserError(
                f"num_classes={num_classes}: {type(self).__name__} does not use labels, "
                "leave it out"
            )
        labels = "ignored"
        if self.conditional:
            labels = "required"
        elif self.semi_supervised:
            labels = "optional"
        self.batch_reader = BatchReader(self.spec, labels, self.image_to_image, pixel_range)
        if augment not in get_args(get_type_hints(AugmentConfig)["policy"]):
            raise UserError(f"augment={augment!r}: pass off, diffaugment or ada")
        if augment != "off":
            self.augment_by(AugmentConfig(policy=augment))  # type: ignore[arg-type]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Add the keys of ``Config`` to the signature, for ``help()`` and completion."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "Config"):
            return
        hidden = ("self", "spec", "config", "model")
        common = [
            item
            for item in inspect.signature(Family.__init__).parameters.values()
            if item.name not in hidden
        ]
        keys = [
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=item.default,
                annotation=item.type,
            )
            for item in fields(cls.Config)
            if item.default is not MISSING
        ]
        cls.__signature__ = inspect.Signature([*common, *keys])  # type: ignore[attr-defined]

    def _check_data(self) -> None:
        """Raise UserError if the data lacks labels or sources that the class declares to need."""
        name = type(self).__module__.rpartition(".")[2]
        if self.spec.classes == 0 and (self.conditional or self.semi_supervised):
            use = "is conditional on" if self.conditional else "learns to classify from"
            raise UserError(
                f"{name} {use} labels, but the data has 0 classes. Choose labeled data or "
                "family=gan, or pass num_classes"
            )
        if self.spec.source_channels == 0 and self.image_to_image and not self.paired:
            raise UserError(
                f"{name} translates between two domains, but the data has one. "
                "Choose data.name=horse2zebra"
            )
        if self.spec.degradation != "none" and not self.image_to_image:
            raise UserError(
                f"{name} has no inputs, so data.degradation={self.spec.degradation} does not "
                "apply. Set data.degradation=none, or choose family=pix2pix"
            )
        if self.spec.degradation == "mask" and self.image_to_image and not self.paired:
            raise UserError(
                f"{name} translates in both directions, but data.degradation=mask adds a mask to "
                "the inputs. Choose family=pix2pix"
            )

    @classmethod
    def _describe_images(
        cls, shape: Sequence[int] | None, num_classes: int, source_channels: int | None
    ) -> ImageSpec:
        """Build the spec from the constructor's shorthand arguments."""
        if shape is None or len(shape) != 3 or min(shape) < 1:
            raise UserError(
                f"image_shape={shape} is invalid. Pass (channels, height, width), "
                "such as image_shape=(3, 64, 64)"
            )
        if shape[0] > 4 and shape[2] <= 4:
            raise UserError(
                f"image_shape={tuple(shape)}: channels come first, pass {(shape[2], *shape[:2])}"
            )
        if num_classes < 0:
            raise UserError(
                f"num_classes={num_classes} is negative. Pass the number of classes, or 0 for none"
            )
        channels, height, width = shape
        if not cls.image_to_image:
            if source_channels:
                raise UserError(
                    f"source_channels={source_channels}: {cls.__name__} generates images from "
                    "latents and has no input images. Leave source_channels out"
                )
            return ImageSpec(channels, height, width, num_classes)
        sources = channels if source_channels is None else source_channels
        return ImageSpec(
            channels, height, width, 0, "photos", sources, "all" if cls.paired else "none"
        )

    @abstractmethod
    def build_networks(self, spec: ImageSpec, cfg: Any) -> None:
        """Build the networks as attributes.

        Raises:
            UserError: The family does not support such images.
        """

    @abstractmethod
    def step(self, batch: Batch) -> None:
        """Run one iteration of the paper's algorithm on a real minibatch."""

    def wrap_step(self, wrap: Callable[[Step], Step]) -> None:
        """Replace ``step`` by what ``wrap`` makes of it."""
        vars(self)["step"] = wrap(self.step)

    def phase(self) -> Hashable:
        """Return what the conditions of ``step`` on the host decide in this iteration.

        Steps of one phase launch the same operations, and share a graph (``run.graph``).
        """
        return ()

    def scheduled(self, name: str, compute: Callable[[], float]) -> float | Tensor:
        """Return a number that changes between iterations: a float, or in a graph a tensor [].

        Args:
            name: Its name, unique in the step.
            compute: Computes it for the present iteration.
        """
        if self._schedule is None:
            return compute()
        return self._schedule.take(name, compute)

    @contextmanager
    def scheduling(self, schedule: ScheduleTensors) -> Iterator[None]:
        """Take scheduled numbers from static tensors inside the context."""
        self._schedule = schedule
        try:
            yield
        finally:
            self._schedule = None

    def describe_obstacle_to_capture(self) -> str:
        """Return why steps cannot be captured as graphs (``run.graph``); empty if they can."""
        if "capturable" not in vars(type(self)) or not self.capturable:
            return f"{type(self).__name__} does not set capturable"
        if self.decays_learning_rates:
            for optimizer in self.configure_optimizers():
                if not optimizer.defaults.get("fused"):
                    return (
                        f"{type(optimizer).__name__} does not support a scheduled learning rate "
                        "in a CUDA graph"
                    )
        return ""

    @final
    def training_step(self, batch: Any, batch_idx: int = 0) -> None:
        """Run one iteration: read the batch, call ``step``, update the counters and log."""
        batch = self._prepare_batch(self.batch_reader.read(batch))
        images = len(batch.images) // self.minibatches * self.trainer.world_size
        self.decay_learning_rates()
        with self._seeded_networks():
            try:
                self.step(batch)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UserError(
                    f"batch of {len(batch.images)} is too small: batch norm needs at least 2 "
                    f"images per process ({error}). Use a larger batch, "
                    "DataLoader(..., drop_last=True) or norm=none (model.norm=none)"
                ) from None
        if self.augmentation and self.augmentation.cfg.policy == "ada":
            accuracy = self.mean_over_ranks(self.logged_scalars["accuracy_real"])
            self.log_scalars(augment_p=self.augmentation.p.clone())
            self.augmentation.update_probability(accuracy, self.iteration, images)
        self.iteration += 1
        self.images_seen += images
        count_iteration(self.trainer)
        if not self.in_lab_loop:
            self._log_to_trainer(len(batch.images))

    def _prepare_batch(self, batch: Batch) -> Batch:
        """Drop images that do not fill all minibatches, and cast the rest to the weights' dtype."""
        # the last batch of an epoch can be incomplete
        extra = len(batch.images) % self.minibatches
        if extra:
            kept = len(batch.images) - extra
            batch = batch._replace(
                images=batch.images[:kept],
                labels=None if batch.labels is None else batch.labels[:kept],
            )
        if self.in_lab_loop:
            return batch
        return batch.map(lambda images: to_unit(images).to(self.dtype))

    def _log_to_trainer(self, batch_size: int) -> None:
        """Log the scalars of the step to the Trainer, with the losses in the progress bar."""
        distributed_run = self.trainer.world_size > 1
        losses = {
            name: value for name, value in self.logged_scalars.items() if name.startswith("loss")
        }
        others = {name: value for name, value in self.logged_scalars.items() if name not in losses}
        self.log_dict(losses, prog_bar=True, sync_dist=distributed_run, batch_size=batch_size)
        self.log_dict(others, sync_dist=distributed_run, batch_size=batch_size)
        self.logged_scalars = {}

    def forward(
        self, x: int | Tensor = 1, labels: Tensor | Sequence[int] | None = None, seed: int = 0
    ) -> Tensor:
        """Generate or translate images with the networks in eval mode, without gradients.

        Args:
            x: Number of images, or latents [N, z_dim]; for an image-to-image family source images
                [N, C, H, W] in [-1, 1].
            labels: Class labels [N] for a conditional family; default: cycle through all classes.
            seed: Seed of the latents: the same seed gives the same images.

        Returns:
            Images [N, C, H, W] in [-1, 1].

        Raises:
            UserError: ``x`` is not an image batch but the family needs one, or a label is invalid.
        """
        if self.image_to_image and not isinstance(x, Tensor):
            raise UserError(
                f"{type(self).__name__} translates images and got {x!r}. "
                "Pass source images [N, C, H, W]"
            )
        n = len(x) if isinstance(x, Tensor) else x
        classes = self._check_labels(labels, n) if self.conditional else None
        dtype = next(self.generator.parameters()).dtype
        training = {name: module.training for name, module in self.named_modules()}
        self.eval()
        try:
            with torch.no_grad():
                if isinstance(x, Tensor):
                    inputs = [x.to(self.device, dtype)]
                    if classes is not None:
                        inputs.append(classes)
                    return self.generator(*inputs)
                blank = torch.zeros(n, *self.spec.shape, device=self.device, dtype=dtype)
                return self.generate(Batch(blank, classes), Stream(seed, "sample"))
        finally:
            for name, module in self.named_modules():
                module.training = training[name]

    def _check_labels(self, labels: Tensor | Sequence[int] | None, n: int) -> Tensor:
        """Return class labels [n], int64 on the model's device; by default cycle through all."""
        last = self.spec.classes - 1
        classes = torch.arange(n) % self.spec.classes if labels is None else torch.as_tensor(labels)
        if classes.shape != (n,) or int(classes.min()) < 0 or int(classes.max()) > last:
            raise UserError(f"labels={labels} are invalid. Pass {n} class labels from 0 to {last}")
        return classes.long().to(self.device)

    @abstractmethod
    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        """Generate one fake per real image of the batch.

        Args:
            batch: Real images, labels and sources; a family uses what its generator needs.
            stream: The only source of random numbers.

        Returns:
            Images [B, C, H, W] in [-1, 1].
        """

    @abstractmethod
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers, in the order in which the step unpacks them."""

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        """Compute everything that the metrics score, keyed by ``output_names``.

        The metrics know ``generated``, ``reconstructed``, ``logits`` and ``baseline_logits``
        [B, classes]; and for translation in both directions ``back`` (the images translated back),
        ``cycled`` (the sources after a full cycle) and ``back_cycled`` (the images after one).
        """
        return {"generated": self.generate(batch, stream)}

    @property
    def adversarial_loss(self) -> str:
        """The name of the adversarial loss in ``losses.LOSSES``; "other" for another one."""
        return "nonsaturating"

    def rate_reals(self, batch: Batch) -> Tensor | None:
        """Compute the discriminator's logits of real images, without augmentation.

        The health check compares those of training images and of validation images.

        Args:
            batch: Real images, with labels and sources.

        Returns:
            Logits [B, ...] that are higher for images that look more real; None without a
            discriminator.
        """
        if not hasattr(self, "discriminator"):
            return None
        inputs = [batch.images]
        if self.conditional and batch.labels is not None:
            inputs.append(batch.labels)
        if self.paired and batch.sources is not None:
            inputs.append(batch.sources)
        logits: Tensor = self.discriminator(*inputs)
        return logits

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        """Return the images of a sample grid: one batch, or several to show side by side.

        Real images of own data are recognized and do not leave the machine; a family that shows
        reconstructions of them names those sets in ``reconstructed_sets``.
        """
        return [self.generate(batch, stream)]

    def split_minibatches(self, batch: Batch) -> list[tuple[Tensor, Tensor | None]]:
        """Split a batch into ``minibatches`` interleaved minibatches of images and labels."""
        k, labels = self.minibatches, batch.labels
        return [(batch.images[i::k], None if labels is None else labels[i::k]) for i in range(k)]

    def augment_by(self, cfg: AugmentConfig) -> None:
        """Enable discriminator augmentation.

        Raises:
            UserError: The family has no discriminator, or one whose input is not an image alone.
        """
        if cfg.policy == "off":
            return
        if (
            self.spec.content == "points"
            or self.spec.source_channels
            or not hasattr(self, "discriminator")
        ):
            raise UserError(
                f"augment.policy={cfg.policy} needs a latent-to-image generator with a "
                f"discriminator, which {type(self).__name__} does not have on this data. "
                "Set augment.policy=off"
            )
        self.augmentation = Augmentation(cfg)
        # checkpoints contain the augmentation's state, so load_from_checkpoint must create it too
        self.hparams["augment"] = cfg.policy

    def augmented(self, network: nn.Module, chunks: int = 1) -> Any:
        """Wrap a discriminator so that it sees augmented images; a no-op without augmentation.

        Args:
            network: The discriminator.
            chunks: Number of equal chunks of each input that get the same augmentation: image i of
                one chunk is transformed like image i of the others.
        """
        if self.augmentation is None:
            return network
        return Augmented(network, self.augmentation, self.stream, chunks)

    @property
    def shares(self) -> list[tuple[int, int]]:
        """The (index, count) of each micro-batch of this rank among all of the global batch."""
        world = self.trainer.world_size
        return [(part * world + self.global_rank, self.parts * world) for part in range(self.parts)]

    def stream(self, purpose: str) -> Stream:
        """Return this iteration's random numbers for a purpose, sliced for the micro-batch."""
        seed = seeding.branch_seed(self.seed, self.branch)
        return Stream(seed, purpose, self.iteration, *self.shares[self.part])

    def optimizer_list(self) -> list[Optimizer]:
        """Return the optimizers of ``configure_optimizers``, in the same order.

        They are torch's own. Lightning's wrappers run every callback's optimizer hooks twice per
        step, and the lab has no such hooks.
        """
        optimizers = self.optimizers(use_pl_optimizer=False)
        # Lightning unpacks a list of one
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def minimize(self, loss: Tensor, optimizer: Optimizer) -> None:
        """Update the weights: backward, average gradients over ranks and micro-batches, step.

        Args:
            loss: One number, a mean over the images of this rank's micro-batch.
            optimizer: One of ``optimizer_list``.
        """
        if loss.dim():
            raise UserError(
                f"minimize got a loss of shape {tuple(loss.shape)}: a loss or penalty is one "
                "number, the mean over the images"
            )
        if self.part == 0:
            optimizer.zero_grad(set_to_none=True)
        if self.end_turn:
            loss = loss / self.parts
        # not manual_backward: DDP would wait for the gradients of all networks, but each update of
        # a GAN step moves only some of them
        loss.backward()
        # gradients accumulate until the last micro-batch
        if self.part == self.parts - 1:
            if self.trainer.world_size > 1:
                average_gradients(
                    [weight.grad for weight in _weights(optimizer) if weight.grad is not None]
                )
            self._record_gradient_norms(optimizer)
            optimizer.step()
        # autocast caches the weights' low-precision copies, which the update has made stale
        torch.clear_autocast_cache()
        if self.end_turn:
            self.end_turn(None)

    def mean_over_micro_batches(self, value: Tensor) -> Tensor:
        """Average a value over micro-batches.

        The gradient is only that of this micro-batch's own value: ``minimize`` sums the gradients
        of all micro-batches and divides by their number.
        """
        if self.end_turn is None:
            return value
        mean = torch.stack(self.end_turn(value.detach())).mean(dim=0)
        return mean + value - value.detach()

    def mean_over_ranks(self, value: Tensor) -> Tensor:
        """Average a value over all ranks and micro-batches, without gradients."""
        value = value.detach().clone()
        if is_distributed():
            distributed.all_reduce(value)
            value = value / distributed.get_world_size()
        return self.mean_over_micro_batches(value)

    @property
    def decays_learning_rates(self) -> bool:
        """Return True if learning rates follow a schedule (``model.decay``)."""
        return isinstance(self.cfg, ModelConfig) and self.cfg.decay_images > 0

    def decay_learning_rates(self) -> None:
        """Set all learning rates to their scheduled values at ``images_seen`` (``model.decay``)."""
        if not self.decays_learning_rates:
            return
        factor = decay_factor(self.cfg, self.images_seen, self.cfg.decay_to)
        for optimizer in self.optimizer_list():
            for group in optimizer.param_groups:
                # in the group, so that checkpoints keep the initial value
                initial = group.setdefault("initial_lr", group["lr"])
                lr = initial * factor
                # a step that is captured as a graph reads it from the device
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = round_to_float32(lr)

    def log_scalars(self, **values: Tensor) -> None:
        """Record scalars of this iteration, means over the batch, without synchronizing ranks."""
        for name, value in values.items():
            mean = value.detach() / self.parts if self.end_turn else value.detach()
            self.logged_scalars[name] = self.logged_scalars[name] + mean if self.part else mean

    def log_discriminator(
        self,
        real_logits: Tensor,
        fake_logits: Tensor,
        threshold: float | None = 0.0,
        suffix: str = "",
    ) -> None:
        """Record d_real and d_fake, the mean logits, and accuracy_real and accuracy_fake.

        Args:
            real_logits: The discriminator's logits on reals, of any shape.
            fake_logits: The discriminator's logits on fakes, of any shape.
            threshold: The accuracies are the shares of real logits above and of fake logits below
                it. None: the midpoint of the two mean logits, over all ranks and micro-batches, for
                losses that depend only on logit differences.
            suffix: Appended to the names, for a second discriminator.
        """
        real, fake = real_logits.detach().double(), fake_logits.detach().double()
        d_real, d_fake = real.mean(), fake.mean()
        boundary: Tensor | float | None = threshold
        if boundary is None:
            boundary = self.mean_over_ranks((d_real + d_fake) / 2)
        values = {
            "d_real": d_real,
            "d_fake": d_fake,
            "accuracy_real": (real > boundary).double().mean(),
            "accuracy_fake": (fake < boundary).double().mean(),
        }
        self.log_scalars(**{name + suffix: value for name, value in values.items()})

    @torch.no_grad()
    def _record_gradient_norms(self, optimizer: Optimizer) -> None:
        """Record the gradient norm of each network that the optimizer is about to update."""
        if id(optimizer) not in self._updated_weights:
            optimized = {id(weight) for weight in _weights(optimizer)}
            updated: dict[str, list[Tensor]] = {}
            for name, network in self.named_children():
                moved: list[Tensor] = [w for w in network.parameters() if id(w) in optimized]
                if moved:
                    updated[name] = moved
            self._updated_weights[id(optimizer)] = updated
        for name, weights in self._updated_weights[id(optimizer)].items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if gradients:
                self.logged_scalars[f"gradient_{name}"] = get_total_norm(gradients)

    @contextmanager
    def _seeded_networks(self) -> Iterator[None]:
        """Seed dropout for this iteration; in a user's Trainer restore torch's generator after."""
        before = None if self.in_lab_loop else torch.get_rng_state()
        self.seed_networks()
        yield
        if before is not None:
            torch.set_rng_state(before)

    def seed_networks(self) -> None:
        """Seed torch's generators by (seed, iteration, micro-batch), so that dropout can resume."""
        share, _ = self.shares[self.part]
        seeding.seed_torch(
            seeding.branch_seed(self.seed, self.branch), "networks", self.iteration, share
        )

    # ---------------------------------------------------------------------------------------------
    # Lightning hooks

    def setup(self, stage: str) -> None:
        """Check the Trainer's settings, and convert PIL images to tensors in its loaders."""
        if self.in_lab_loop or stage != "fit":
            return
        if not isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            name = type(self.trainer.strategy).__name__
            raise UserError(
                f"{type(self).__name__} does not support sharded weights (strategy {name}). "
                "Use strategy='ddp'"
            )
        if self.trainer.precision not in PRECISIONS:
            raise UserError(
                f"precision={self.trainer.precision!r} is not supported. "
                f"Use one of {', '.join(PRECISIONS)}"
            )
        convert_pil_images(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the counters, and optimizers without the settings of captured steps."""
        checkpoint |= {
            "iteration": self.iteration,
            "images_seen": self.images_seen,
            "branch": self.branch,
        }
        for state in checkpoint.get("optimizer_states", []):
            for group in state["param_groups"]:
                group["lr"] = float(group["lr"])
                if "capturable" in group:
                    group["capturable"] = False

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters."""
        self.iteration, self.branch = checkpoint["iteration"], checkpoint["branch"]
        self.images_seen = checkpoint["images_seen"]


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
