"""Load the EMA networks of a run folder, a checkpoint file or an export, without the family."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from gan_lab import networks
from gan_lab.config.loading import family_class
from gan_lab.degradations import Degradation
from gan_lab.networks.layers import Network
from gan_lab.runs import addresses
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.runs.exports import CONFIG
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import name_run
from gan_lab.runs.snapshots import is_snapshot
from gan_lab.utils.errors import UserError

# Length of a digest of weights, which distinguishes checkpoints.
DIGEST_CHARACTERS = 16
RAW_WEIGHTS = "raw"


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
        is_raw: Whether the weights are the raw ones, without EMA.
        address: ``zoo:name`` or ``hf:owner/name`` if the run was named so, else empty.
        degradation: How the inputs of a translator were made in training.
    """

    checkpoint: Path
    networks: dict[str, Network]
    class_names: list[str]
    iteration: int
    values: dict[str, Any]
    levels: list[float]
    is_raw: bool = False
    address: str = ""
    degradation: Degradation = field(default_factory=Degradation)

    @property
    def folder(self) -> Path | None:
        """The run folder or the export; None for a checkpoint or snapshot outside of one."""
        if self.checkpoint.name == CONFIG:
            return self.checkpoint.parent
        folder = self.checkpoint.parent.parent
        return folder if (folder / "config.yaml").is_file() else None

    def compute_digest(self) -> str:
        """Compute a digest of the weights, which is the same for a checkpoint and its export."""
        digest = hashlib.sha256()
        for name, network in sorted(self.networks.items()):
            for key, value in network.state_dict().items():
                digest.update(f"{name}.{key}".encode())
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()[:DIGEST_CHARACTERS]

    def describe_source(self) -> dict[str, Any]:
        """Describe the weights for the record of an image, see ``utils/provenance.py``."""
        folder = self.checkpoint.parent.parent
        if self.checkpoint.name == CONFIG:
            name = self.checkpoint.resolve().parent.name
            run, weights = self.address or name, "export"
        elif (folder / "config.yaml").is_file():
            run, weights = name_run(folder), RAW_WEIGHTS if self.is_raw else self.checkpoint.stem
        else:
            run, weights = self.checkpoint.name, "checkpoint"
        return {
            "run": run,
            "weights": weights,
            "iteration": self.iteration,
            "digest": self.compute_digest(),
        }


def load_ema_networks(run: str | Path, weights: str = "best") -> EMANetworks:
    """Load the EMA networks of a run folder, a checkpoint file, an export or a snapshot.

    Args:
        run: The run folder, checkpoint, export or StyleGAN2 snapshot, ``zoo:name`` or
            ``hf:owner/name``.
        weights: best, last, raw (without EMA) or a number of training images; see
            ``find_checkpoint``.

    Raises:
        UserError: There is no such checkpoint, it has no generator, or it does not fit this lab.
    """
    checkpoint = find_checkpoint(addresses.find_run(run), weights)
    content, values = read_checkpoint(checkpoint), _read_values(checkpoint)
    if "." in str(values.get("family")):
        # Import the module of a user's family, because it may define networks.
        family_class(values["family"])
    if "generator" not in content["recipes"]:
        names = ", ".join(content["recipes"]) or "none"
        raise UserError(f"{checkpoint} has no generator. Its networks: {names}")
    with explain_mismatch(checkpoint):
        chosen = content["ema"]
        if weights == RAW_WEIGHTS:
            chosen = {name: _select_raw(content, name, checkpoint) for name in content["recipes"]}
        loaded = build_networks(content["recipes"], chosen)
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
        degradation = (
            Degradation.from_record(content["export"].get("degradation"))
            if checkpoint.name == CONFIG
            else Degradation.from_values(values)
        )
    return EMANetworks(
        checkpoint,
        loaded,
        name_classes(class_names, classes),
        content["iteration"],
        values,
        [*(levels or [])],
        is_raw=weights == RAW_WEIGHTS,
        address=str(run) if addresses.is_address(run) else "",
        degradation=degradation,
    )


def build_networks(
    recipes: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Network]:
    """Build networks from their recipes and weights, float32 on the CPU in evaluation mode."""
    built = {}
    for name, recipe in recipes.items():
        network = networks.from_recipe(recipe)
        network.load_state_dict(weights[name])
        built[name] = network.float().requires_grad_(False).eval()
    return built


def _select_raw(content: Mapping[str, Any], name: str, checkpoint: Path) -> dict[str, Tensor]:
    """Select the raw weights of a network from a checkpoint."""
    prefix = f"{name}."
    raw = {
        key.removeprefix(prefix): value
        for key, value in content["state_dict"].items()
        if key.startswith(prefix)
    }
    if not raw:
        raise UserError(f"{checkpoint} has only EMA weights. Omit weights=raw")
    return raw


def name_classes(names: Sequence[str], classes: int) -> list[str]:
    """Return the names of a generator's classes; their indices if the names are not known."""
    return list(names) if len(names) == classes else [str(i) for i in range(classes)]


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
