"""The two parts of a StyleGAN2 generator that a page runs: mapping and synthesis.

Between them the page truncates w, mixes styles and switches the noise off.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.networks.stylegan import StyleGANGenerator


class StylePart(nn.Module):
    """A part of a generator, with a recipe of its own.

    Attributes:
        recipe: The generator's recipe with the name of the part.
    """

    name: str

    def __init__(self, generator: StyleGANGenerator) -> None:
        super().__init__()
        self.generator = generator
        self.recipe: dict[str, Any] = {**generator.recipe, "part": self.name}

    def make_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the part's inputs by name for those of the generator, ``z`` and perhaps ``y``."""
        raise NotImplementedError


class MappingPart(StylePart):
    """Latents [B, z_dim] and class weights [B, classes] to w [B, w_dim]."""

    name = "mapping"

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Compute w [B, w_dim]."""
        return self.generator.map_latents(z, y)

    def make_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the generator's inputs."""
        return inputs


class SynthesisPart(StylePart):
    """Compute images of w per layer [B, num_ws, w_dim] and a factor of the noise [B, 1, 1, 1]."""

    name = "synthesis"

    def forward(self, ws: Tensor, noise: Tensor) -> Tensor:
        """Compute images [B, C, H, W]."""
        synthesis = self.generator.synthesis
        blocks = [synthesis.get_submodule(name) for name in synthesis.block_names]
        layers = [
            block.get_submodule(name)
            for block in blocks
            for name in ("conv0", "conv1")
            if hasattr(block, name)
        ]
        each_noise = [noise * layer.get_buffer("noise_const") for layer in layers]
        images: Tensor = synthesis([ws[:, i] for i in range(synthesis.num_ws)], each_noise)
        return images

    @torch.no_grad()
    def make_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the same w for each layer, and the noise as it is."""
        w = self.generator.map_latents(*inputs.values())
        return {"ws": self.generator.repeat_w(w), "noise": torch.ones(len(w), 1, 1, 1)}


def split_network(name: str, network: Network) -> dict[str, Network | StylePart]:
    """Return the parts of a network that a page runs, by name; without parts, the network."""
    if isinstance(network, StyleGANGenerator):
        return {"mapping": MappingPart(network), name: SynthesisPart(network)}
    return {name: network}


def make_example_inputs(network: Network | StylePart) -> tuple[dict[str, Tensor], list[int]]:
    """Return the inputs of ``graph.make_example_inputs`` for a network or a part."""
    if isinstance(network, StylePart):
        inputs, dynamic = graph.make_example_inputs(network.generator)
        return network.make_inputs(inputs), dynamic
    return graph.make_example_inputs(network)


def sample_inputs(network: Network | StylePart) -> dict[str, Tensor]:
    """Sample inputs by name: 64 latents, or 8 images, from N(0, I)."""
    whole = network.generator if isinstance(network, StylePart) else network
    generator, inputs = torch.Generator().manual_seed(2), graph.make_example_inputs(whole)[0]
    n = 64 if "z" in inputs else 8
    fresh = {name: value.repeat(n // 2, *[1] * (value.dim() - 1)) for name, value in inputs.items()}
    fresh = {
        name: x if name == "y" else torch.randn(x.shape, generator=generator)
        for name, x in fresh.items()
    }
    return network.make_inputs(fresh) if isinstance(network, StylePart) else fresh
