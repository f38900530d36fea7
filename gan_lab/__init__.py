"""The GAN lab: train, compare and understand generative adversarial networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lab.inference.sampling import load_generator as load_generator

__version__ = "0.1.0"
__all__ = ["load_generator"]


def __getattr__(name: str) -> Any:
    if name == "load_generator":  # on demand: the command line answers --help without torch
        from gan_lab.inference.sampling import load_generator

        return load_generator
    raise AttributeError(name)
