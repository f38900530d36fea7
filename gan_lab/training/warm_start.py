"""Begin with the weights of another run, and keep some of them as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_lab.config.schema import Config
from gan_lab.families.base import Family
from gan_lab.runs.checkpoints import find_checkpoint, read_checkpoint
from gan_lab.utils.errors import UserError

LEAST = 0.5  # of the weights must fit: fewer are those of another architecture


@dataclass(frozen=True)
class Taken:
    """The tensors that a family took over, and those that it drew anew."""

    checkpoint: Path
    iteration: int
    tensors: int
    anew: list[str]  # each with its two shapes
    grown: list[str]  # taken for the classes that both have

    def __str__(self) -> str:
        """One line for the user."""
        anew = f"; drawn anew: {', '.join(self.anew)}" if self.anew else ""
        grown = f"; for the classes that both have: {', '.join(self.grown)}" if self.grown else ""
        return f"starts from {self.checkpoint}, iteration {self.iteration:,}: {self.tensors} tensors{grown}{anew}"


def begin(family: Family, config: Config) -> Taken | None:
    """Take the weights of ``run.start_from``; None if the run begins with its own draw.

    Raises UserError if there are no such weights, or most do not fit.
    """
    if config.run.start_from is None:
        return None
    return take_weights(family, find_checkpoint(Path(config.run.start_from)))


@torch.no_grad()
def take_weights(family: Family, path: Path) -> Taken:
    """Weights and buffers of the networks of a checkpoint, averaged ones where it has them, wherever name and shape agree.

    Of tensors that are longer or shorter by the difference in classes alone the common part is taken: class i keeps the
    weights of class i. Networks that are not there at all, as the discriminator of an export, are drawn anew. Raises
    ValueError if less than ``LEAST`` of the tensors of the others fit.
    """
    checkpoint = read_checkpoint(path)
    there: dict[str, Tensor] = dict(checkpoint["state_dict"])
    for network, state in checkpoint["ema"].items():
        there |= {f"{network}.{name}": value for name, value in state.items()}
    before = [recipe["arguments"].get("classes", 0) for recipe in checkpoint["recipes"].values()]
    more_classes = family.spec.classes - max(before, default=0)
    learning = [name for name, network in family.named_children() if [*network.parameters()]]
    absent = [name for name in learning if not any(key.startswith(f"{name}.") for key in there)]
    networks = tuple(f"{name}." for name in learning if name not in absent)
    here = {name: value for name, value in family.state_dict().items() if name.startswith(networks)}
    parts = {name: _common(value, there.get(name), more_classes) for name, value in here.items()}
    anew = [
        f"{name} ({_shape(there.get(name))} there, {_shape(value)} here)"
        for name, value in here.items()
        if parts[name] is None
    ]
    if not here or len(here) - len(anew) < LEAST * len(here):
        shown = ", ".join(anew[:3]) + (f" and {len(anew) - 3} more" if len(anew) > 3 else "")
        raise UserError(
            f"run.start_from: {len(here) - len(anew)} of {len(here)} tensors fit those of {path}, another architecture: {shown}"
        )
    for name, part in parts.items():
        if part is not None:
            here[name][part].copy_(there[name][part])  # a state_dict holds the tensors themselves
    grown = [name for name, part in parts.items() if part and there[name].shape != here[name].shape]
    anew += [f"{name} (not there)" for name in absent]
    return Taken(
        path,
        int(checkpoint["iteration"]),
        sum(part is not None for part in parts.values()),
        anew,
        grown,
    )


def _common(here: Tensor, there: Tensor | None, more_classes: int) -> tuple[slice, ...] | None:
    """The part of two tensors that belongs together: all of it, or, along one side, all but the classes of one of them."""
    if there is None or here.dim() != there.dim():
        return None
    longer = [a - b for a, b in zip(here.shape, there.shape, strict=True)]
    others = [by for by in longer if by]
    if others and others != [more_classes]:
        return None
    return tuple(slice(min(a, b)) for a, b in zip(here.shape, there.shape, strict=True))


def _shape(value: Tensor | None) -> str:
    return "not" if value is None else " x ".join(map(str, value.shape)) or "a number"


def freeze_discriminators(family: Family, config: Config) -> None:
    """Keep the weights of the first ``model.freeze_d`` layers of each discriminator.

    A layer is a convolution or a dense layer with the norm behind it, in the order in which the network has them, from the
    image on; embeddings of labels are none. Raises UserError where nothing was learned that is worth keeping, and if no layer would be left.

    Source: Mo et al. 2020 (arXiv 2002.10964).
    """
    count: int = config.model.freeze_d
    if not count:
        return
    if config.run.start_from is None:
        raise UserError(
            f"model.freeze_d={count} keeps layers as they were learned: name the run that they come from by run.start_from"
        )
    networks = [
        network for name, network in family.named_children() if name.startswith("discriminator")
    ]
    if not networks:
        raise UserError(
            f"model.freeze_d={count}: {config.family} has no discriminator here, leave it out"
        )
    for network in networks:
        seen, modules = (
            0,
            [module for name, module in network.named_modules() if not name.endswith("embedding")],
        )
        layers = sum(_is_layer(module) for module in modules)
        if count >= layers:
            raise UserError(
                f"model.freeze_d={count}: the discriminator has {layers} layers, and the last must learn"
            )
        for module in modules:
            seen += _is_layer(module)
            if 0 < seen <= count:
                for weight in module.parameters(recurse=False):
                    weight.requires_grad_(False)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
