"""Warm start: initialize a run with the weights of another one, and freeze some of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_lab.config.schema import Config
from gan_lab.families.base import Family
from gan_lab.networks.layers import Network
from gan_lab.runs import addresses
from gan_lab.runs.checkpoints import find_checkpoint, read_checkpoint
from gan_lab.training.callbacks.ema import EMA
from gan_lab.utils.errors import UserError

# minimum fraction of matching tensors; fewer indicate another architecture
MIN_MATCHING_FRACTION = 0.5


@dataclass(frozen=True)
class LoadedWeights:
    """Summary of a warm start.

    Attributes:
        checkpoint: The checkpoint that provided the weights.
        iteration: Its iteration.
        tensors: Number of tensors loaded, without those of the EMA networks.
        initialized: Tensors that do not match and keep their new initialization, with both shapes.
        partial: Tensors loaded only for the classes that both runs have.
        recolored: Tensors converted between color and gray images.
        ema_networks: Networks whose raw and EMA weights were both loaded.
    """

    checkpoint: Path
    iteration: int
    tensors: int
    initialized: list[str]
    partial: list[str]
    recolored: list[str]
    ema_networks: list[str]

    def __str__(self) -> str:
        """Format one log line."""
        line = (
            f"Warm start from {self.checkpoint}, iteration {self.iteration:,}: "
            f"loaded {self.tensors} tensors"
        )
        if self.ema_networks:
            line += f", and the EMA weights of {', '.join(self.ema_networks)}"
        if self.partial:
            line += f"; only the common classes: {', '.join(self.partial)}"
        if self.recolored:
            line += f"; converted between color and gray: {', '.join(self.recolored)}"
        if self.initialized:
            line += f"; newly initialized: {', '.join(self.initialized)}"
        return line


def load_initial_weights(family: Family, ema: EMA, config: Config) -> LoadedWeights | None:
    """Load the weights of ``run.start_from``; return None if it is not set.

    Raises:
        UserError: There is no such checkpoint, or it has another architecture.
    """
    path = find_start(config)
    return None if path is None else load_matching_weights(family, ema, path)


def find_start(config: Config) -> Path | None:
    """Find the checkpoint of ``run.start_from``, downloaded if it is on the Hugging Face Hub.

    Raises:
        UserError: There is no such checkpoint.
    """
    start = config.run.start_from
    if start is None:
        return None
    return find_checkpoint(addresses.find_run(start))


@torch.no_grad()
def load_matching_weights(family: Family, ema: EMA, path: Path) -> LoadedWeights:
    """Load weights and buffers with matching names and shapes.

    Raw weights initialize the networks, EMA weights their EMA copies. A file that has only EMA
    weights, such as an export, initializes both with them.

    If a tensor only differs in the number of classes, the weights of the common classes are loaded.
    Networks that can convert their weights do so if one of the runs has color and the other gray
    images.
    Networks that the checkpoint lacks, such as the discriminator in an export, stay newly
    initialized.

    Raises:
        UserError: Less than ``MIN_MATCHING_FRACTION`` of the tensors of the other networks match.
    """
    checkpoint = read_checkpoint(path)
    source: dict[str, Tensor] = dict(checkpoint["state_dict"])
    ema_networks = []
    for network, state in checkpoint["ema"].items():
        if any(key.startswith(f"{network}.") for key in source):
            ema_networks.append(network)
        else:
            source |= {f"{network}.{name}": value for name, value in state.items()}
    ema_weights = dict(checkpoint["ema"])
    shapes = {name: value.shape for name, value in source.items()}
    for network, module in family.named_children():
        if isinstance(module, Network):
            prefix = f"{network}."
            own = {k.removeprefix(prefix): v for k, v in source.items() if k.startswith(prefix)}
            converted = module.convert_colors(own)
            source |= {prefix + name: value for name, value in converted.items()}
            if network in ema_weights:
                ema_weights[network] = module.convert_colors(ema_weights[network])
    recipes = checkpoint["recipes"].values()
    source_classes = max((recipe["arguments"].get("classes", 0) for recipe in recipes), default=0)
    added_classes = family.spec.classes - source_classes
    trainable = [name for name, network in family.named_children() if [*network.parameters()]]
    missing = [name for name in trainable if not any(key.startswith(f"{name}.") for key in source)]
    prefixes = tuple(f"{name}." for name in trainable if name not in missing)
    target = {
        name: value for name, value in family.state_dict().items() if name.startswith(prefixes)
    }
    overlaps = {
        name: _find_overlap(value, source.get(name), added_classes)
        for name, value in target.items()
    }
    initialized = [
        f"{name} ({_format_shape(source.get(name))} in the checkpoint, {_format_shape(value)} here)"
        for name, value in target.items()
        if overlaps[name] is None
    ]
    matching = len(target) - len(initialized)
    if not target or matching < MIN_MATCHING_FRACTION * len(target):
        shown = ", ".join(initialized[:3])
        if len(initialized) > 3:
            shown += f" and {len(initialized) - 3} more"
        raise UserError(
            f"run.start_from: {path} has another architecture, only {matching} of {len(target)} "
            f"tensors match: {shown}"
        )
    for name, overlap in overlaps.items():
        # state_dict() returns the parameters themselves, so this copies in place
        if overlap is not None:
            target[name][overlap].copy_(source[name][overlap])
    # after the raw weights, so that tensors that do not match start equal in both
    ema.create_networks(family)
    ema_networks = [name for name in ema_networks if name in ema.networks]
    for network in ema_networks:
        state = ema_weights[network]
        for name, value in ema.networks[network].state_dict().items():
            overlap = _find_overlap(value, state.get(name), added_classes)
            if overlap is not None:
                value[overlap].copy_(state[name][overlap])
    partial = [
        name
        for name, overlap in overlaps.items()
        if overlap and source[name].shape != target[name].shape
    ]
    initialized += [f"{name} (not in the checkpoint)" for name in missing]
    recolored = [
        name
        for name, overlap in overlaps.items()
        if overlap is not None and source[name].shape != shapes[name]
    ]
    iteration = int(checkpoint["iteration"])
    return LoadedWeights(path, iteration, matching, initialized, partial, recolored, ema_networks)


def _find_overlap(
    target: Tensor, source: Tensor | None, added_classes: int
) -> tuple[slice, ...] | None:
    """Return the slices of the common part of two tensors, None if they do not match.

    They match if their shapes are equal, or differ in one dimension by the difference in classes.
    """
    if source is None or target.dim() != source.dim():
        return None
    differences = [a - b for a, b in zip(target.shape, source.shape, strict=True) if a != b]
    if differences and differences != [added_classes]:
        return None
    return tuple(slice(min(a, b)) for a, b in zip(target.shape, source.shape, strict=True))


def _format_shape(value: Tensor | None) -> str:
    if value is None:
        return "missing"
    return " x ".join(map(str, value.shape)) or "scalar"


def freeze_discriminators(family: Family, config: Config) -> None:
    """Freeze the first ``model.freeze_d`` layers of each discriminator (FreezeD).

    A layer is a convolution or linear layer with its norm, counted from the image. Label embeddings
    do not count.

    Raises:
        UserError: The run is not a warm start, or no layer would be trained.

    Source: Mo et al. 2020 (arXiv 2002.10964).
    """
    count: int = config.model.freeze_d
    if not count:
        return
    if config.run.start_from is None:
        raise UserError(
            f"model.freeze_d={count} freezes pretrained layers. Set run.start_from to a trained run"
        )
    networks = [
        network for name, network in family.named_children() if name.startswith("discriminator")
    ]
    if not networks:
        raise UserError(
            f"model.freeze_d={count}: this {config.family} has no discriminator. Remove the "
            "override"
        )
    for network in networks:
        modules = [
            module for name, module in network.named_modules() if not name.endswith("embedding")
        ]
        layers = sum(_is_layer(module) for module in modules)
        if count >= layers:
            raise UserError(
                f"model.freeze_d={count}: the discriminator has {layers} layers. Freeze at most "
                f"{layers - 1}"
            )
        depth = 0
        for module in modules:
            depth += _is_layer(module)
            if 0 < depth <= count:
                for weight in module.parameters(recurse=False):
                    weight.requires_grad_(False)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
