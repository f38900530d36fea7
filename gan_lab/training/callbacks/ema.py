"""The exponential moving average of the networks that make images."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, distributed, nn
from torch.nn.utils import get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from gan_lab.config.schema import EmaConfig
from gan_lab.distributed.lightning_internals import subtract_all
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.progress import Progress


class EMA(FamilyCallback):
    """Averages parameters and floating buffers with a half-life in images, which grows with the images seen so far.

    The weight of the past is 0.5^(batch size / half-life).

    Source: Karras et al. 2018 (arXiv 1710.10196), appendix A; half-life and ramp as the code of Karras et al. 2020
    (arXiv 2006.06676).
    """

    def __init__(self, cfg: EmaConfig, progress: Progress) -> None:
        self.cfg, self.progress = cfg, progress
        self.networks: dict[str, nn.Module] = {}
        self._floating: tuple[list[Tensor], list[Tensor]] = (
            [],
            [],
        )  # averaged and live, in the same order
        self._counts: list[tuple[Tensor, Tensor]] = []  # buffers of whole numbers, which are copied

    def setup(self, trainer: Trainer, family: Family, stage: str) -> None:
        if not self.networks:
            self.networks = {
                name: copy.deepcopy(getattr(family, name)) for name in family.ema_networks
            }
            for network in self.networks.values():
                network.requires_grad_(False).eval()

    def on_fit_start(self, trainer: Trainer, family: Family) -> None:
        for network in self.networks.values():
            network.to(family.device)
        self._floating, self._counts = ([], []), []  # buffers that move are other tensors

    def _pair(self, family: Family) -> None:
        """Make the lists of tensors once, not in each iteration."""
        pairs = [pair for name, network in self.networks.items()
                 for pair in zip(_tensors(network), _tensors(getattr(family, name)), strict=True)]  # fmt: skip
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._floating = [mean for mean, _ in floating], [now for _, now in floating]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        half_life = min(self.cfg.half_life_images, self.cfg.ramp * self.progress.images)
        average: Any = get_ema_multi_avg_fn(
            0.5 ** (self.progress.batch_size / half_life) if half_life else 0.0
        )
        if not self._floating[0]:
            self._pair(family)
        average(*self._floating, None)
        for count, now in self._counts:
            count.copy_(now)

    @torch.no_grad()
    def distance(self, family: Family) -> Tensor:
        """‖average - live‖ / ‖live‖ over all weights of the averaged networks."""
        live: list[Tensor] = [
            weight for name in self.networks for weight in getattr(family, name).parameters()
        ]
        average: list[Tensor] = [
            weight for network in self.networks.values() for weight in network.parameters()
        ]
        return get_total_norm(subtract_all(average, live)) / get_total_norm(live)

    @contextmanager
    def applied(self, family: Family) -> Iterator[None]:
        """Let the family generate with the averaged networks inside the context; every rank with those of rank 0."""
        live = {name: getattr(family, name) for name in self.networks}
        if distributed.is_available() and distributed.is_initialized():
            for network in self.networks.values():
                for buffer in (
                    network.buffers()
                ):  # batch-norm statistics, which each rank has of its own images
                    distributed.broadcast(buffer, src=0)
        try:
            for name, network in self.networks.items():
                setattr(family, name, network)
            yield
        finally:
            for name, network in live.items():
                setattr(family, name, network)

    def on_save_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["ema"] = {
            name: dict(network.state_dict()) for name, network in self.networks.items()
        }
        checkpoint["recipes"] = {name: getattr(family, name).recipe for name in self.networks}

    def on_load_checkpoint(
        self, trainer: Trainer, family: Family, checkpoint: dict[str, Any]
    ) -> None:
        for name, network in self.networks.items():
            network.load_state_dict(checkpoint["ema"][name])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
