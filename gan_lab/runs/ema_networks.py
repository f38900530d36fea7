"""Load the EMA networks of a run folder, a checkpoint file or an export, without the family."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab import networks
from gan_lab.config.loading import family_class
from gan_lab.networks.layers import Network
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.runs.exports import CONFIG
from gan_lab.runs.run import Run
from gan_lab.runs.snapshots import is_snapshot
from gan_lab.utils.errors import UserError


@dataclass(frozen=True)
class EMANetworks:
    """The EMA networks of a checkpoint, with the config that they were trained with.

    Attributes:
        checkpoint: The file.
        networks: Networks by name, float32 on the CPU in evaluation mode.
        class_names: Names of the generator's classes.
        iteration: Iteration of the checkpoint.
        values: The flat config; empty if it is unknown.
        levels: Black and white levels of images with more than 8 bits (``data.levels``).
    """

    checkpoint: Path
    networks: dict[str, Network]
    class_names: list[str]
    iteration: int
    values: dict[str, Any]
    levels: list[float]


def load_ema_networks(path: Path, weights: str = "best") -> EMANetworks:
    """Load the EMA networks of a run folder, a checkpoint file, an export or a snapshot.

    Args:
        path: The run folder, checkpoint, export or StyleGAN2 snapshot.
        weights: The checkpoint of a run folder, best or last.

    Raises:
        UserError: There is no such checkpoint, it has no generator, or it does not fit this lab.
    """
    checkpoint = find_checkpoint(path, weights)
    content, values = read_checkpoint(checkpoint), _read_values(checkpoint)
    if "." in str(values.get("family")):
        # Import the module of a user's family, because it may define networks.
        family_class(values["family"])
    if "generator" not in content["recipes"]:
        names = ", ".join(content["recipes"]) or "none"
        raise UserError(f"{checkpoint} has no generator. Its networks: {names}")
    loaded = {}
    with explain_mismatch(checkpoint):
        for name, recipe in content["recipes"].items():
            network = networks.from_recipe(recipe)
            network.load_state_dict(content["ema"][name])
            loaded[name] = network.float().requires_grad_(False).eval()
        classes = content["recipes"]["generator"]["arguments"].get("classes", 0)
        # An export is not trusted: it must not name code to import.
        known = (
            content["export"].get("classes")
            if checkpoint.name == CONFIG
            else values.get("data.class_names")
        )
        class_names = [str(name) for name in known or []]
        levels = (
            content["export"].get("levels")
            if checkpoint.name == CONFIG
            else values.get("data.levels")
        )
    if len(class_names) != classes:
        class_names = [str(i) for i in range(classes)]
    return EMANetworks(
        checkpoint, loaded, class_names, content["iteration"], values, [*(levels or [])]
    )


def _read_values(checkpoint: Path) -> dict[str, Any]:
    """Read the flat config of a checkpoint's run; empty for an export or a separate file."""
    folder = checkpoint.parent.parent
    if (
        checkpoint.name == CONFIG
        or is_snapshot(checkpoint)
        or not (folder / "config.yaml").is_file()
    ):
        return {}
    return Run(folder).values
