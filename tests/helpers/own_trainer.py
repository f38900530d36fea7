"""Families in a user's Trainer: small models and data; as a script, train all on 1 or 2 ranks."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gan_lab.config import loading
from gan_lab.families.base import Family

SHAPE = (1, 28, 28)


def reals(n: int, seed: int = 0) -> Tensor:
    """Random gray images [n, 1, 28, 28] in [0, 1]."""
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def make(family: str, **keys: Any) -> Family:
    """A narrow model of a family; ``keys`` that the family does not have are ignored."""
    kind = loading.family_class(family)
    known = kind.Config.__dataclass_fields__
    wanted = {"width": 4, "blocks": 1, "n_critic": 2, "patches": 16, **keys}
    labeled = kind.conditional or kind.semi_supervised
    model: Family = kind(
        image_shape=SHAPE,
        num_classes=10 if labeled else 0,
        **{k: v for k, v in wanted.items() if k in known},
    )
    return model


def batches_of(family: str, n: int = 64) -> TensorDataset:
    """Pairs (source, target) for a translation family, else (image, label)."""
    if loading.family_class(family).image_to_image:
        return TensorDataset(reals(n), reals(n, seed=1))
    return TensorDataset(reals(n), torch.arange(n) % 10)


def networks_of(model: Family) -> dict[str, Tensor]:
    """The weights of each network as one vector, copied."""
    return {
        name: torch.cat([weight.detach().flatten().clone() for weight in network.parameters()])
        for name, network in model.named_children()
        if list(network.parameters())
    }


def train_all(folder: Path, world: int) -> None:
    """Train every family for three iterations of 16 images and write the norms of its weights."""
    warnings.simplefilter("ignore")
    norms = {}
    for family in loading.families():
        torch.manual_seed(0)
        model = make(family, norm="none", critic_norm="none", dropout=0.0, group=1)
        data = batches_of(family, 48)
        # as in the lab's loop: rank r sees the r-th part of each batch (Lightning would shuffle and
        # deal out one by one)
        rank, share = int(os.environ.get("RANK", "0")), 16 // world
        rows = [start + rank * share + i for start in range(0, 48, 16) for i in range(share)]
        loader = DataLoader(data, batch_size=share, sampler=rows)
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=world,
            strategy="ddp" if world > 1 else "auto",
            precision="64-true",
            use_distributed_sampler=False,
            max_steps=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, loader)
        norms[family] = {
            name: float(weights.norm()) for name, weights in networks_of(model).items()
        }
    (folder / f"{world}-{os.environ.get('RANK', '0')}.json").write_text(json.dumps(norms))


if __name__ == "__main__":
    train_all(Path(sys.argv[1]), int(sys.argv[2]))
    torch.distributed.destroy_process_group()
