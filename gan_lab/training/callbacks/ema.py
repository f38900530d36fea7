"""Exponential moving average (EMA) of the generator weights."""

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
from gan_lab.distributed.gradients import is_distributed
from gan_lab.distributed.lightning_internals import subtract_all
from gan_lab.families.base import Family
from gan_lab.training.callbacks.base import FamilyCallback
from gan_lab.training.callbacks.progress import Progress


class EMA(FamilyCallback):
    """Keeps EMA copies of networks, with a half-life in images that ramps up with the images seen.

    The decay per iteration is 0.5^(batch size / half-life). Integer buffers and those in
    ``Network.copied_buffers`` are copied.

    Source: Karras et al. 2018 (arXiv 1710.10196), appendix A; half-life and ramp as the code of
    Karras et al. 2020 (arXiv 2006.06676).
    """

    def __init__(self, cfg: EmaConfig, progress: Progress) -> None:
        self.cfg = cfg
        self.progress = progress
        self.networks: dict[str, nn.Module] = {}
        # EMA tensors and raw tensors in the same order
        self._floating: tuple[list[Tensor], list[Tensor]] = ([], [])
        # buffers that are copied
        self._copied: list[tuple[Tensor, Tensor]] = []

    def setup(self, trainer: Trainer, family: Family, stage: str) -> None:
        # a warm start has created them, with EMA weights of its own
        if not self.networks:
            self.create_networks(family)

    def create_networks(self, family: Family) -> None:
        """Create the EMA networks as copies of the raw ones."""
        self.networks = {name: copy.deepcopy(getattr(family, name)) for name in family.ema_networks}
        for network in self.networks.values():
            network.requires_grad_(False).eval()

    def on_fit_start(self, trainer: Trainer, family: Family) -> None:
        for network in self.networks.values():
            network.to(family.device)
        # moving a buffer to another device creates a new tensor
        self._floating = ([], [])
        self._copied = []

    def _pair_tensors(self, family: Family) -> None:
        """Cache the pairs of EMA and raw tensors."""
        averaged: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._copied = []
        for name, network in self.networks.items():
            raw_tensors = _tensors(getattr(family, name))
            for key, ema in _tensors(network).items():
                if ema.is_floating_point() and key not in getattr(network, "copied_buffers", ()):
                    averaged[0].append(ema)
                    averaged[1].append(raw_tensors[key])
                else:
                    self._copied.append((ema, raw_tensors[key]))
        self._floating = averaged

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, family: Family, *_: Any) -> None:
        half_life = min(self.cfg.half_life_images, self.cfg.ramp * self.progress.images)
        decay = 0.5 ** (self.progress.batch_size / half_life) if half_life else 0.0
        update: Any = get_ema_multi_avg_fn(decay)
        if not self._floating[0]:
            self._pair_tensors(family)
        update(*self._floating, None)
        for ema, raw in self._copied:
            ema.copy_(raw)

    @torch.no_grad()
    def distance(self, family: Family) -> Tensor:
        """Compute ‖EMA - raw‖ / ‖raw‖ over all weights."""
        raw: list[Tensor] = []
        ema: list[Tensor] = []
        for name, network in self.networks.items():
            raw += getattr(family, name).parameters()
            ema += network.parameters()
        return get_total_norm(subtract_all(ema, raw)) / get_total_norm(raw)

    @contextmanager
    def applied(self, family: Family) -> Iterator[None]:
        """Use the EMA networks inside the context, those of rank 0 on every rank.

        A collective operation: every rank must call it.
        """
        if is_distributed():
            for network in self.networks.values():
                # batch norm statistics differ between the ranks
                for buffer in network.buffers():
                    distributed.broadcast(buffer, src=0)
        with self.applied_here(family):
            yield

    @contextmanager
    def applied_here(self, family: Family) -> Iterator[None]:
        """Use this rank's EMA networks inside the context, without the other ranks."""
        raw_networks = {name: getattr(family, name) for name in self.networks}
        try:
            for name, network in self.networks.items():
                setattr(family, name, network)
            yield
        finally:
            for name, network in raw_networks.items():
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


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}
