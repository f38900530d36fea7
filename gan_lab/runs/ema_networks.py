"""The averaged networks of a run, of a checkpoint file or of an export, without its family."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gan_lab import networks
from gan_lab.config.loading import family_class
from gan_lab.networks.layers import Network
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.runs.exports import CONFIG


@dataclass(frozen=True)
class Averaged:
    """Networks by their names, float32 on the CPU in evaluation mode, and the names of the classes of the generator."""

    networks: dict[str, Network]
    class_names: list[str]
    iteration: int


def load_averaged(run: Path, weights: str = "best") -> Averaged:
    """Load them. Raises ValueError if there are none, or they do not fit this lab."""
    checkpoint = find_checkpoint(run, weights)
    content, config = read_checkpoint(checkpoint), read_config_beside(checkpoint)
    import_family(config)
    loaded = {}
    with explain_mismatch(checkpoint):
        for name, recipe in content["recipes"].items():
            network = networks.from_recipe(recipe)
            network.load_state_dict(content["ema"][name])
            loaded[name] = network.float().requires_grad_(False).eval()
        classes = content["recipes"]["generator"]["arguments"].get("classes", 0)
    return Averaged(loaded, class_names_in(config, classes), content["iteration"])


def read_config_beside(checkpoint: Path) -> Any:
    """Read the config of the run that a checkpoint belongs to; empty if there is no config file.

    Of an export it has the names of the classes alone: nothing in a foreign folder names code to be imported.
    """
    if checkpoint.name == CONFIG:
        classes = json.loads(checkpoint.read_text(encoding="utf-8")).get("classes", [])
        return OmegaConf.create({"data": {"class_names": [str(name) for name in classes]}})
    path = checkpoint.parent.parent / "config.yaml"
    return OmegaConf.load(path) if path.is_file() else OmegaConf.create()


def import_family(config: Any) -> None:
    """Import the module of a run's family if it is outside the lab, because its networks may be there too."""
    family = OmegaConf.select(config, "family")
    if family and "." in family:
        family_class(family)


def class_names_in(config: Any, classes: int) -> list[str]:
    """Class names of a run; the numbers if its config has no names."""
    names = OmegaConf.select(config, "data.class_names")
    return [str(name) for name in names] if names and len(names) == classes else [str(i) for i in range(classes)]
