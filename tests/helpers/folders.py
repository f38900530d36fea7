"""Run folders as a training leaves them, without one: initial weights with a little noise."""

from __future__ import annotations

from pathlib import Path

import torch

from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training.builder import build_family
from tests.helpers.families import experiment_of, small


def averaged(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Other weights than the network's own, as an average has."""
    state = network.state_dict()
    return {
        name: 0.8 * tensor if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def run_folder(family: str, root: Path, data_root: Path, *words: str) -> Path:
    """The folder of a family's run on digits, whose ``best.ckpt`` and ``last.ckpt`` differ."""
    loaded = loading.load(experiment_of(family), small(family, root, data_root, *words))
    data = datasets.load(loaded.config.data, loaded.config.run.seed)
    made, folder = build_family(loaded.config, data), root / family
    RunFolder(folder).prepare(loaded.config, ["train", loaded.experiment], data.decoded.fingerprint)
    for number, name in enumerate(("best", "last"), 1):
        with torch.no_grad():
            draws = torch.Generator().manual_seed(number)
            for tensor in made.parameters():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=draws))
        networks = {part: getattr(made, part) for part in made.ema_networks}
        state = {
            "iteration": number,
            "state_dict": made.state_dict(),
            "ema": {part: averaged(network) for part, network in networks.items()},
            "recipes": {part: network.recipe for part, network in networks.items()},
        }
        torch.save(state, folder / "checkpoints" / f"{name}.ckpt")
    return folder
