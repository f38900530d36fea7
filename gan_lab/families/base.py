"""The contract between a family and whatever trains it: the lab's own loop, or anyone's ``lightning.Trainer``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from typing import Any, ClassVar, final

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
from gan_lab.distributed.gradients import average_gradients
from gan_lab.distributed.lightning_internals import convert_pil_images, count_iteration
from gan_lab.images import Batch, ImageSpec, to_unit
from gan_lab.networks.layers import Network
from gan_lab.schedules import decay_factor
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

PRECISIONS = (
    "32-true",
    "64-true",
    "bf16-mixed",
)  # under others gradients would need a scaler, which GANs share badly


class Family(LightningModule, ABC):
    """A method of one paper: its networks, its losses, its step. One iteration is one call of ``step``.

    A family trains in the lab's loop and in any ``lightning.Trainer``::

        model = gan_lab.WGANGP(image_shape=(1, 28, 28), width=8, lr_d=2e-4)
        lightning.Trainer(max_steps=200).fit(model, DataLoader(dataset, batch_size=32))
        images = model(16)  # [16, 1, 28, 28] in [-1, 1]

    Batches are images, ``(image, label)`` or dicts; uint8, or floats in [0, 1] or [-1, 1] (``gan_lab.batches``).
    """

    Config: ClassVar[type]  # the dataclass of the keys under ``model:``
    ema_networks: ClassVar[tuple[str, ...]] = (
        "generator",
    )  # the networks that make images: the EMA follows them
    output_names: ClassVar[tuple[str, ...]] = ("generated",)  # the names of outputs()
    conditional: bool = False  # whether generate() shows the label that it is given
    image_to_image: ClassVar[bool] = False  # whether it needs data with sources
    paired: ClassVar[bool] = False  # image to image: whether source i belongs to image i
    semi_supervised: ClassVar[bool] = False  # whether it can do with labels of a few images only
    minibatches: ClassVar[int] = 1  # of different reals that one iteration needs
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
        """Make the networks.

        Args:
            image_shape: (channels, height, width) of the images.
            num_classes: Number of classes of a conditional family; 0 for an unconditional one.
            source_channels: Channels of the input of a translation family; by default those of the images.
            pixel_range: (low, high) of float images where the data do not show it: (0, 1) or (-1, 1).
            augment: What the discriminator sees: off, diffaugment or ada (``gan_lab.augmentation``).
            seed: Seed of latents and other draws of the training. Initial weights come from torch's generator.
            spec: Everything about the images, in place of ``image_shape``, ``num_classes`` and ``source_channels``.
            config: The keys under ``model:`` as the family's ``Config``, in place of keyword arguments.
            **model: The keys under ``model:`` (docs/configuration.md).

        Raises:
            UserError: A key is unknown or out of range, or the family cannot learn such images.
        """
        super().__init__()
        self.automatic_optimization = False
        if spec is None:
            spec = self._describe_images(image_shape, num_classes, source_channels)
        self.spec = spec if isinstance(spec, ImageSpec) else ImageSpec(**spec)
        self.cfg = model_config(type(self), model) if config is None else config
        self.seed = seed
        # plain containers: Lightning saves them, and load_from_checkpoint calls this constructor with them
        self.save_hyperparameters(
            {
                "spec": asdict(self.spec),
                "seed": seed,
                "pixel_range": pixel_range,
                "augment": augment,
                **asdict(self.cfg),
            }
        )
        self.iteration = 0  # completed iterations
        self.images_seen = 0  # images of completed iterations, over all processes
        self.branch = 0  # how often the run was rolled back to a checkpoint, to resume with another random seed
        self.parts, self.part = (
            1,
            0,
        )  # the micro-batches of a batch, and the one that is being processed
        # with micro-batches: waits until all have come this far, and returns the value that each has brought
        self.end_turn: Callable[[Any], list[Any]] | None = None
        self.in_lab_loop = (
            False  # whether the lab's own callbacks log, and torch's generator is the lab's alone
        )
        self.logged_scalars: dict[str, Tensor] = {}  # what the last step recorded
        self.augmentation: Augmentation | None = None  # of what the discriminator sees
        self._moved_by: dict[int, dict[str, list[Tensor]]] = {}  # by optimizer, made once
        self.build_networks(self.spec, self.cfg)
        labels = (
            "required" if self.conditional else "optional" if self.semi_supervised else "ignored"
        )
        self.batch_reader = BatchReader(self.spec, labels, self.image_to_image, pixel_range)
        if augment != "off":
            self.augment_by(AugmentConfig(policy=augment))  # type: ignore[arg-type]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show the keys of ``Config`` in ``help()`` and in the completion of a notebook."""
        super().__init_subclass__(**kwargs)
        if not hasattr(cls, "Config"):
            return
        common = [
            item
            for item in inspect.signature(Family.__init__).parameters.values()
            if item.name != "self"
        ]
        common = [item for item in common if item.name not in ("spec", "config", "model")]
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

    @classmethod
    def _describe_images(
        cls, shape: Sequence[int] | None, num_classes: int, source_channels: int | None
    ) -> ImageSpec:
        """The spec of ``image_shape`` and its companions."""
        if shape is None or len(shape) != 3 or min(shape) < 1:
            raise UserError(
                f"image_shape={shape}: pass (channels, height, width), such as image_shape=(3, 64, 64)"
            )
        if num_classes < 0:
            raise UserError(f"num_classes={num_classes}: pass the number of classes, or 0 for none")
        channels, height, width = shape
        if not cls.image_to_image:
            if source_channels:
                raise UserError(
                    f"source_channels={source_channels}: {cls.__name__} makes images from latents, it has no input"
                )
            return ImageSpec(channels, height, width, num_classes)
        sources = channels if source_channels is None else source_channels
        return ImageSpec(
            channels, height, width, 0, "photos", sources, "all" if cls.paired else "none"
        )

    @abstractmethod
    def build_networks(self, spec: ImageSpec, cfg: Any) -> None:
        """Make the networks as attributes. Raises UserError for images that the family cannot learn."""

    @abstractmethod
    def step(self, batch: Batch) -> None:
        """The paper's algorithm box on one real minibatch."""

    @final
    def training_step(self, batch: Any, batch_idx: int = 0) -> None:
        """One iteration: read the batch, call ``step``, count and log it."""
        batch = self._usable(self.batch_reader.read(batch))
        images = len(batch.images) // self.minibatches * self.trainer.world_size
        self.decay_learning_rates()
        with self._network_draws():
            try:
                self.step(batch)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise UserError(
                    f"a batch of {len(batch.images)} is too small: batch norm needs two images or more per process "
                    f"({error}). Use a larger batch, DataLoader(..., drop_last=True) or norm=none (model.norm=none)"
                ) from None
        if self.augmentation and self.augmentation.cfg.policy == "ada":
            accuracy = self.mean_of_shares(self.logged_scalars["accuracy_real"])
            self.log_scalars(augment_p=self.augmentation.p.clone())
            self.augmentation.follow(accuracy, self.iteration, images)
        self.iteration += 1
        self.images_seen += images
        count_iteration(self.trainer)
        if not self.in_lab_loop:
            self._log_to_trainer(len(batch.images))

    def _usable(self, batch: Batch) -> Batch:
        """The batch as the step needs it: floats of the weights' type, and a whole number of minibatches."""
        extra = len(batch.images) % self.minibatches
        if extra:  # the last batch of a data set
            kept = len(batch.images) - extra
            batch = batch._replace(
                images=batch.images[:kept],
                labels=None if batch.labels is None else batch.labels[:kept],
            )
        return (
            batch if self.in_lab_loop else batch.map(lambda images: to_unit(images).to(self.dtype))
        )

    def _log_to_trainer(self, batch_size: int) -> None:
        """Log the scalars of the step to the Trainer, and through it to its logger; losses are in the progress bar."""
        several = self.trainer.world_size > 1
        losses = {
            name: value for name, value in self.logged_scalars.items() if name.startswith("loss")
        }
        others = {name: value for name, value in self.logged_scalars.items() if name not in losses}
        self.log_dict(losses, prog_bar=True, sync_dist=several, batch_size=batch_size)
        self.log_dict(others, sync_dist=several, batch_size=batch_size)
        self.logged_scalars = {}

    def forward(
        self, x: int | Tensor = 1, labels: Tensor | Sequence[int] | None = None, seed: int = 0
    ) -> Tensor:
        """Generate or translate images with the networks in eval mode, without gradients.

        Args:
            x: A number of images; or latents [N, z_dim]; for a translation family source images [N, C, H, W] in [-1, 1].
            labels: Class numbers [N] for a conditional family; by default 0, 1, 2, ... in turn.
            seed: Seed of the latents: the same seed gives the same images.

        Returns:
            Images [N, C, H, W] in [-1, 1].
        """
        if self.image_to_image and not isinstance(x, Tensor):
            raise UserError(
                f"{type(self).__name__} translates images: pass source images [N, C, H, W], not {x!r}"
            )
        n = len(x) if isinstance(x, Tensor) else x
        given = None
        if self.conditional:
            numbers = (
                torch.arange(n) % self.spec.classes if labels is None else torch.as_tensor(labels)
            )
            if (
                numbers.shape != (n,)
                or int(numbers.min()) < 0
                or int(numbers.max()) >= self.spec.classes
            ):
                raise UserError(
                    f"labels={labels}: pass {n} class numbers from 0 to {self.spec.classes - 1}"
                )
            given = numbers.long().to(self.device)
        dtype = next(self.generator.parameters()).dtype
        training = {name: module.training for name, module in self.named_modules()}
        self.eval()
        try:
            with torch.no_grad():
                if isinstance(x, Tensor):
                    return self.generator(
                        x.to(self.device, dtype), *([] if given is None else [given])
                    )
                blank = torch.zeros(n, *self.spec.shape, device=self.device, dtype=dtype)
                return self.generate(Batch(blank, given), Stream(seed, "sample"))
        finally:
            for name, module in self.named_modules():
                module.training = training[name]

    @abstractmethod
    def generate(self, batch: Batch, stream: Stream) -> Tensor:
        """One fake for each real of the batch, [B, C, H, W] in [-1, 1]; all that is random comes from the stream."""

    @abstractmethod
    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers, in the order in which the step unpacks them."""

    def outputs(self, batch: Batch, stream: Stream) -> dict[str, Tensor]:
        """All that can be scored on held-out reals, by the names of ``output_names``.

        The metrics know ``generated``, ``reconstructed``, ``logits`` and ``baseline_logits`` [B, classes], and of what
        translates both ways ``back`` (of the images), ``cycled`` (the sources there and back) and ``back_cycled``.
        """
        return {"generated": self.generate(batch, stream)}

    def sample_grid(self, batch: Batch, stream: Stream) -> list[Tensor]:
        """Images for a grid: one set, or several whose images i stand side by side."""
        return [self.generate(batch, stream)]

    def split_minibatches(self, batch: Batch) -> list[tuple[Tensor, Tensor | None]]:
        """The images and labels of each of the ``minibatches`` of a batch, in which they stand by turns."""
        k, labels = self.minibatches, batch.labels
        return [(batch.images[i::k], None if labels is None else labels[i::k]) for i in range(k)]

    def augment_by(self, cfg: AugmentConfig) -> None:
        """Augment what the discriminator sees. Raises UserError for a family that has none, or does not see images alone."""
        if cfg.policy == "off":
            return
        if (
            self.spec.content == "points"
            or self.spec.source_channels
            or not hasattr(self, "discriminator")
        ):
            raise UserError(
                f"augment.policy={cfg.policy} is for what makes images of latents, with a discriminator: "
                f"{type(self).__name__} on these data is not, so leave it off"
            )
        self.augmentation = Augmentation(cfg)
        self.hparams["augment"] = (
            cfg.policy
        )  # its state is in the checkpoints: load_from_checkpoint needs the module

    def augmented(self, network: nn.Module, alike: int = 1) -> Any:
        """The network on augmented images, for one step; where ``augment.policy`` is off, the network itself.

        Image i of each of ``alike`` equal parts of a batch is augmented in the same way.
        """
        return (
            Augmented(network, self.augmentation, self.stream, alike)
            if self.augmentation
            else network
        )

    @property
    def shares(self) -> list[tuple[int, int]]:
        """For each part that this process takes of a batch: which of how many equal shares of the global batch it is."""
        world = self.trainer.world_size
        return [(part * world + self.global_rank, self.parts * world) for part in range(self.parts)]

    def stream(self, purpose: str) -> Stream:
        """This iteration's random numbers for a purpose; this share's rows of the global draw."""
        seed = seeding.branch_seed(self.seed, self.branch)
        return Stream(seed, purpose, self.iteration, *self.shares[self.part])

    def optimizer_list(self) -> list[Optimizer]:
        """Those of ``configure_optimizers``, in their order.

        They are torch's own: Lightning's wrappers call hooks of every callback twice a step, which the lab does not
        use.
        """
        bare = self.optimizers(use_pl_optimizer=False)
        return (
            bare if isinstance(bare, list) else [bare]
        )  # Lightning gives a single one without a list

    def minimize(self, loss: Tensor, optimizer: Optimizer) -> None:
        """One step of the optimizer down the gradient of the loss, which is that of all processes and parts."""
        if self.part == 0:
            optimizer.zero_grad(set_to_none=True)
        loss = loss / self.parts if self.end_turn else loss
        # not manual_backward: stock DDP would wait for the gradients of all networks, and a step moves one at a time
        loss.backward()
        if self.part == self.parts - 1:
            if self.trainer.world_size > 1:
                average_gradients(
                    [weight.grad for weight in _weights(optimizer) if weight.grad is not None]
                )
            self._record_gradients(optimizer)
            optimizer.step()
        torch.clear_autocast_cache()  # or autocast would go on with the weights from before the step
        if self.end_turn:
            self.end_turn(None)

    def mean_of_parts(self, value: Tensor) -> Tensor:
        """The mean over the parts of a batch, in which each part has the gradient of its own: ``minimize`` takes theirs."""
        return (
            torch.stack(self.end_turn(value.detach())).mean(dim=0) + value - value.detach()
            if self.end_turn
            else value
        )

    def mean_of_shares(self, value: Tensor) -> Tensor:
        """The mean over all processes and parts, without gradients."""
        value = value.detach().clone()
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(value)
            value = value / distributed.get_world_size()
        return self.mean_of_parts(value)

    def decay_learning_rates(self) -> None:
        """Set the learning rate of each optimizer to what ``model.decay`` leaves of it after ``images_seen``."""
        if isinstance(self.cfg, ModelConfig) and self.cfg.decay_images:
            left = decay_factor(self.cfg, self.images_seen, self.cfg.decay_to)
            for group in (
                group for optimizer in self.optimizer_list() for group in optimizer.param_groups
            ):
                group["lr"] = (
                    group.setdefault("initial_lr", group["lr"]) * left
                )  # which the checkpoints keep

    def log_scalars(self, **values: Tensor) -> None:
        """Scalars of this iteration for the log, means over the batch; nothing is synchronised here."""
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
        """Record the discriminator's mean logits, d_real and d_fake, and accuracy_real and accuracy_fake.

        The accuracies are the shares of logits, of any shape, above ``threshold`` for reals and below it for fakes;
        None, where only differences mean something, puts it halfway between the two means, which are those of all
        processes and parts.
        """
        real, fake = real_logits.detach().double(), fake_logits.detach().double()
        d_real, d_fake = real.mean(), fake.mean()
        middle: Tensor | float = (d_real + d_fake) / 2 if threshold is None else threshold
        middle = self.mean_of_shares(middle) if isinstance(middle, Tensor) else middle
        accuracy_real, accuracy_fake = (
            (real > middle).double().mean(),
            (fake < middle).double().mean(),
        )
        values = {
            "d_real": d_real,
            "d_fake": d_fake,
            "accuracy_real": accuracy_real,
            "accuracy_fake": accuracy_fake,
        }
        self.log_scalars(**{name + suffix: value for name, value in values.items()})

    @torch.no_grad()
    def _record_gradients(self, optimizer: Optimizer) -> None:
        """The norm of the gradient of each network that the optimizer is about to move."""
        if id(optimizer) not in self._moved_by:
            own_weights = {id(weight) for weight in _weights(optimizer)}
            moved: dict[str, list[Tensor]] = {}
            for name, network in self.named_children():
                moved[name] = [
                    weight for weight in network.parameters() if id(weight) in own_weights
                ]
            self._moved_by[id(optimizer)] = {
                name: weights for name, weights in moved.items() if weights
            }
        for name, weights in self._moved_by[id(optimizer)].items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if gradients:
                self.logged_scalars[f"gradient_{name}"] = get_total_norm(gradients)

    @contextmanager
    def _network_draws(self) -> Iterator[None]:
        """Seed draws inside networks (dropout) for this iteration; in a user's Trainer torch's generator is put back."""
        before = None if self.in_lab_loop else torch.get_rng_state()
        self.seed_networks()
        yield
        if before is not None:
            torch.set_rng_state(before)

    def seed_networks(self) -> None:
        """Make draws inside networks (dropout) a function of (seed, iteration, share of the batch) as well."""
        share, _ = self.shares[self.part]
        seeding.seed_torch(
            seeding.branch_seed(self.seed, self.branch), "networks", self.iteration, share
        )

    # -----------------------------------------------------------------------------------------------------------------
    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Check the Trainer before anything is trained; let loaders of PIL images yield tensors."""
        if self.in_lab_loop or stage != "fit":
            return
        if not isinstance(self.trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            name = type(self.trainer.strategy).__name__
            raise UserError(
                f"strategy {name} shards the weights, which {type(self).__name__} does not support: use strategy='ddp'"
            )
        if self.trainer.precision not in PRECISIONS:
            raise UserError(
                f"precision={self.trainer.precision!r} is not supported: use one of {', '.join(PRECISIONS)}"
            )
        convert_pil_images(self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the counters."""
        checkpoint |= {
            "iteration": self.iteration,
            "images_seen": self.images_seen,
            "branch": self.branch,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the counters."""
        self.iteration, self.branch = checkpoint["iteration"], checkpoint["branch"]
        self.images_seen = checkpoint["images_seen"]


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
