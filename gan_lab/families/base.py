"""The contract between a family and the training loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from gan_lab import seeding
from gan_lab.augmentation import Augmentation, Augmented
from gan_lab.config.schema import AugmentConfig, ModelConfig
from gan_lab.images import Batch, ImageSpec
from gan_lab.networks.layers import Network
from gan_lab.schedules import decay_factor
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError


class Family(LightningModule, ABC):
    """A method of one paper: its networks, its losses, its step. One call of ``training_step`` is one iteration."""

    Config: ClassVar[type]  # the dataclass of the keys under ``model:``
    ema_networks: ClassVar[tuple[str, ...]] = ("generator",)  # the networks that make images: the EMA follows them
    output_names: ClassVar[tuple[str, ...]] = ("generated",)  # the names of outputs()
    conditional: bool = False  # whether generate() shows the label that it is given
    image_to_image: ClassVar[bool] = False  # whether it needs data with sources
    semi_supervised: ClassVar[bool] = False  # whether it can do with labels of a few images only
    minibatches: ClassVar[int] = 1  # of different reals that one iteration needs
    generator: Network
    discriminator: nn.Module

    def __init__(self, spec: ImageSpec, cfg: Any, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.cfg, self.seed = spec, cfg, seed
        self.iteration = 0  # completed calls of training_step; counted by the Progress callback
        self.images_seen = 0  # iterations x global batch, at the start of this one; as well
        self.branch = 0  # how often the run went back to a checkpoint, to go on with other random numbers
        self.parts, self.part = 1, 0  # in which a step takes its batch, and the one whose turn it is
        # in a step that has parts: lets the others come this far, and returns what each has brought
        self.end_turn: Callable[[Any], list[Any]] | None = None
        self.logged_scalars: dict[str, Tensor] = {}  # what the last step recorded
        self.augmentation: Augmentation | None = None  # of what the discriminator sees; set by the experiment
        self._moved_by: dict[int, dict[str, list[Tensor]]] = {}  # by optimizer, made once

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """The paper's algorithm box on one real minibatch."""

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

    def augment_by(self, cfg: AugmentConfig, batch_size: int) -> None:
        """Augment what the discriminator sees. Raises UserError for a family that has none, or does not see images alone."""
        if cfg.policy == "off":
            return
        if self.spec.content == "points" or self.spec.source_channels or not hasattr(self, "discriminator"):
            raise UserError(
                f"augment.policy={cfg.policy} is for what makes images of latents, with a discriminator: "
                f"{type(self).__name__} on these data is not, so leave it off"
            )
        self.augmentation = Augmentation(cfg, batch_size)

    def augmented(self, network: nn.Module, alike: int = 1) -> Any:
        """The network on augmented images, for one step; where ``augment.policy`` is off, the network itself.

        Image i of each of ``alike`` equal parts of a batch is augmented in the same way.
        """
        return Augmented(network, self.augmentation, self.stream, alike) if self.augmentation else network

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
        return bare if isinstance(bare, list) else [bare]  # Lightning gives a single one without a list

    def minimize(self, loss: Tensor, optimizer: Optimizer) -> None:
        """One step of the optimizer down the gradient of the loss, which is that of all processes and parts."""
        if self.part == 0:
            optimizer.zero_grad(set_to_none=True)
        loss = loss / self.parts if self.end_turn else loss
        if self.trainer.world_size > 1:
            self.manual_backward(loss)  # the strategy averages
        else:
            loss.backward()
        if self.part == self.parts - 1:
            self._record_gradients(optimizer)
            optimizer.step()
        torch.clear_autocast_cache()  # or autocast would go on with the weights from before the step
        if self.end_turn:
            self.end_turn(None)

    def mean_of_parts(self, value: Tensor) -> Tensor:
        """The mean over the parts of a batch, in which each part has the gradient of its own: ``minimize`` takes theirs."""
        return (
            torch.stack(self.end_turn(value.detach())).mean(dim=0) + value - value.detach() if self.end_turn else value
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
            for group in (group for optimizer in self.optimizer_list() for group in optimizer.param_groups):
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * left  # which the checkpoints keep

    def log_scalars(self, **values: Tensor) -> None:
        """Scalars of this iteration for the log, means over the batch; nothing is synchronised here."""
        for name, value in values.items():
            mean = value.detach() / self.parts if self.end_turn else value.detach()
            self.logged_scalars[name] = self.logged_scalars[name] + mean if self.part else mean

    def log_discriminator(
        self, real_logits: Tensor, fake_logits: Tensor, threshold: float | None = 0.0, suffix: str = ""
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
        accuracy_real, accuracy_fake = (real > middle).double().mean(), (fake < middle).double().mean()
        values = {"d_real": d_real, "d_fake": d_fake, "accuracy_real": accuracy_real, "accuracy_fake": accuracy_fake}
        self.log_scalars(**{name + suffix: value for name, value in values.items()})

    @torch.no_grad()
    def _record_gradients(self, optimizer: Optimizer) -> None:
        """The norm of the gradient of each network that the optimizer is about to move."""
        if id(optimizer) not in self._moved_by:
            own_weights = {id(weight) for weight in _weights(optimizer)}
            moved: dict[str, list[Tensor]] = {}
            for name, network in self.named_children():
                moved[name] = [weight for weight in network.parameters() if id(weight) in own_weights]
            self._moved_by[id(optimizer)] = {name: weights for name, weights in moved.items() if weights}
        for name, weights in self._moved_by[id(optimizer)].items():
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            if gradients:
                self.logged_scalars[f"gradient_{name}"] = get_total_norm(gradients)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Learning rates fall, and draws inside networks are seeded."""
        self.decay_learning_rates()
        self.seed_networks()

    def seed_networks(self) -> None:
        """Draws inside networks (dropout) become a function of (seed, iteration, share of the batch) as well."""
        share, _ = self.shares[self.part]
        seeding.seed_torch(seeding.branch_seed(self.seed, self.branch), "networks", self.iteration, share)


def _weights(optimizer: Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
