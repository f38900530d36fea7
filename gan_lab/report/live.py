"""The networks of a run for its page, where ``assets/engine.js`` runs them."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lab import __version__
from gan_lab.data.degradations import Degradation
from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.report import pictures
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.run import Run, find_family_class
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

# Number of weights of all networks of a page, with two or four bytes each.
MAX_WEIGHTS = 4_000_000
# Half of a gray level of images in [-1, 1].
HALF_GRAY_LEVEL = 1 / 255
# Numbers in the latents of all seeds together.
MAX_LATENT_NUMBERS = 100_000
MAX_SEEDS = 1000
DIRECTIONS = 8
# the two generators and the encoder of a run have up to three recipes
MAX_CACHED_RECIPES = 8
PLAYED_NETWORKS = ("generator", "generator_back", "encoder")
# by recipe: the operations, the names of their tensors, and constants
_traced: dict[str, tuple[graph.Graph, list[str], dict[str, Tensor]]] = {}


def describe_run(
    run: Run,
    max_weights: int = MAX_WEIGHTS,
    latents_only: bool = False,
    loaded: EMANetworks | None = None,
) -> tuple[dict[str, Any] | None, str]:
    """Describe the networks of a run for the script of the page.

    Args:
        run: The run.
        max_weights: Maximum number of weights.
        latents_only: Whether to describe only the generator, and only if it takes latents.
        loaded: The networks of a training; by default those of the best checkpoint.

    Returns:
        The description, and an empty reason; or None, and the reason why the page cannot run the
        networks. The reason is empty for toy data and for runs without a checkpoint.
    """
    if not (run.path / "checkpoints").is_dir():
        return None, ""
    try:
        loaded = loaded or load_ema_networks(run.path)
        names = PLAYED_NETWORKS[:1] if latents_only else PLAYED_NETWORKS
        played = {name: loaded.networks[name] for name in names if name in loaded.networks}
        size = sum(weight.numel() for network in played.values() for weight in network.parameters())
        from_latents = "z_dim" in played["generator"].recipe["arguments"]
        if read_shape(played["generator"])[1:] == (1, 1) or (latents_only and not from_latents):
            return None, ""
        if size > max_weights:
            return None, f"they have {size:,} weights, more than the limit of {max_weights:,}"
        traced = {name: trace(network) for name, network in played.items()}
        described = {
            name: describe_network(network, *traced[name]) for name, network in played.items()
        }
    except ValueError as error:
        return None, f"they cannot run in a page: {error}"
    record = loaded.describe_source() | {"version": __version__}
    model = {"name": run.name, "networks": described, "weights": size, "record": record}
    degradation = Degradation.from_values(run.values)
    if degradation.kind == "downsample":
        model["enlarged"] = degradation.factor
    return model | (_describe_latents(loaded, *traced["generator"]) if from_latents else {}), ""


def trace(network: Network) -> tuple[graph.Graph, dict[str, Tensor]]:
    """Trace a network like ``graph.trace``, faster for another network of the same recipe.

    A training writes the page many times. The operations depend on the recipe alone, so only the
    weights are read again; the result is checked against the network each time.
    """
    key = json.dumps(network.recipe, sort_keys=True)
    inputs, dynamic = graph.make_example_inputs(network)
    if key in _traced:
        traced, names, constants = _traced[key]
        return traced, graph.bind_weights(traced, names, constants, network, inputs)
    traced, tensors = graph.trace(network, inputs, dynamic)
    weights = graph.read_weights(network)
    constants = {name: value for name, value in tensors.items() if name not in weights}
    # the comparison of many runs does not keep the operations of all of them
    if len(_traced) >= MAX_CACHED_RECIPES:
        _traced.clear()
    _traced[key] = traced, list(tensors), constants
    return traced, tensors


def draws_only_generated(run: Run) -> bool:
    """Return True if the sample grids of a run's family show no real or reconstructed images."""
    family = find_family_class(str(run.values.get("family")))
    if family is None:
        return False
    return not family.image_to_image and "reconstructed" not in family.output_names


def read_shape(network: Network) -> tuple[int, int, int]:
    """Read the shape of a network's images, (channels, height, width), from its recipe."""
    channels, height, width = network.recipe["arguments"]["shape"]
    return channels, height, width


def describe_network(
    network: Network, traced: graph.Graph, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """Describe a network for the script: operations, shapes, and weights in base 64.

    The weights are float16 if the images stay within half a gray level of those in float32.

    Raises:
        UserError: The script does not support an operation.
    """
    unknown = {step["op"] for step in traced["steps"]} - list_operations()
    if unknown:
        raise UserError(f"the page does not support {sorted(unknown)[0]}")
    half = _is_close_in_half(network, traced, tensors)
    array = np.concatenate([value.numpy().ravel() for value in tensors.values()] or [np.zeros(0)])
    return {
        "graph": traced,
        "tensors": [[name, list(value.shape)] for name, value in tensors.items()],
        "half": half,
        "weights": _encode(array, np.float16 if half else np.float32),
        "shape": list(read_shape(network)),
        "source_channels": network.recipe["arguments"].get("source_channels", 0),
    }


@cache
def list_operations() -> frozenset[str]:
    """List the names of the operations that the script supports."""
    script = (Path(__file__).parent / "assets" / "engine.js").read_text("utf-8")
    return frozenset(re.findall(r'^    "(aten\.[\w.]+)":', script, re.MULTILINE))


def _is_close_in_half(network: Network, traced: graph.Graph, tensors: dict[str, Tensor]) -> bool:
    """Return True if float16 weights change no image by more than half a gray level.

    The images are those of 64 random latents or 8 random inputs.
    """
    generator, inputs = torch.Generator().manual_seed(2), graph.make_example_inputs(network)[0]
    n = 64 if "z" in inputs else 8
    fresh = {name: value.repeat(n // 2, *[1] * (value.dim() - 1)) for name, value in inputs.items()}
    fresh = {
        name: x if name == "y" else torch.randn(x.shape, generator=generator)
        for name, x in fresh.items()
    }
    halved = {name: value.half().float() for name, value in tensors.items()}
    with torch.no_grad():
        exact = graph.run_graph(traced, tensors, fresh)
        return exact.dim() == 4 and bool(
            (graph.run_graph(traced, halved, fresh) - exact).abs().max() <= HALF_GRAY_LEVEL
        )


def _describe_latents(
    loaded: EMANetworks, traced: graph.Graph, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """Describe the latents of the seeds, the directions in latent space, and the classes.

    The latent of a seed is the first one that ``gan-lab sample --seed`` draws.
    """
    network = loaded.networks["generator"]
    arguments = network.recipe["arguments"]
    seeds = min(MAX_SEEDS, MAX_LATENT_NUMBERS // arguments["z_dim"])
    z = [
        network.sample_latents(Stream(seed, "sample"), 1, like=torch.empty(0))
        for seed in range(seeds)
    ]
    return {
        "z": _encode(torch.cat(z).numpy(), np.float32),
        "seeds": seeds,
        # A prior with codes is not Gaussian, so latents are interpolated linearly.
        "straight": network.codes > 0,
        # The page has no w, and shortens the latent: not the truncation of all generators.
        "truncates": not network.codes and not network.normalizes_latents,
        "directions": [
            [round(x, 4) for x in row]
            for row in find_directions(traced, tensors, arguments["z_dim"]).tolist()
        ],
        "classes": loaded.class_names if arguments.get("classes") else [],
    }


def find_directions(traced: graph.Graph, tensors: dict[str, Tensor], z_dim: int) -> Tensor:
    """Find the directions in latent space along which the first layer changes most.

    They are the right singular vectors of the first linear layer's weights for the latent.

    Returns:
        Vectors of length 1, largest change first, [K, Z].

    Source: Shen & Zhou 2021 (arXiv 2007.06600), section 3.2.
    """
    # Tensors whose first columns are the latent.
    latents = {"z"}
    for step in traced["steps"]:
        first = step["args"][0]
        first = first[0] if isinstance(first, list) else first
        if not isinstance(first, dict) or first["ref"] not in latents:
            continue
        if step["op"] == "aten.linear.default":
            weight = tensors[step["args"][1]["ref"]][:, :z_dim]
            found = torch.linalg.svd(weight.double(), full_matrices=False).Vh[:DIRECTIONS]
            # The sign of a singular vector is arbitrary: choose the one with a positive sum.
            return found * found.sum(dim=1, keepdim=True).sign()
        latents.add(step["out"])
    return torch.zeros(0, z_dim)


def crop_examples(run: Run, model: dict[str, Any]) -> list[list[str]]:
    """Crop held-out inputs of a translator or an autoencoder from its last grid.

    They are the first column of the grid; for inpainting the third one, which has no holes.

    The inputs of the opposite direction are the first column of the right half of the grid.

    Returns:
        Data URIs for each direction; empty for other models.
    """
    networks = model["networks"]
    if not run.grids or ("z" in model and "encoder" not in networks):
        return []
    _, height, width = networks["generator"]["shape"]
    try:
        with Image.open(run.grids[-1][1]) as image:
            grid = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return []
    # A grid with captions has another size.
    if (grid.width - 2) % (width + 2) or (grid.height - 2) % (height + 2):
        return []
    half = (grid.width - 2) // (width + 2) // 2 * (width + 2)
    # the page cuts holes itself, into the ground truth of the third column
    first = 2 + 2 * (width + 2) if fills_holes(networks["generator"]) else 2
    found: list[list[str]] = []
    for left in (first, 2 + half)[: 1 + ("generator_back" in networks)]:
        found.append([])
        for top in range(2, grid.height - height, height + 2):
            file = io.BytesIO()
            grid.crop((left, top, left + width, top + height)).save(file, "PNG")
            found[-1].append(pictures.encode_data_uri(file.getvalue()))
    return found


def fills_holes(described: Mapping[str, Any]) -> bool:
    """Return whether the last channel of a described network's inputs is a mask."""
    return bool(described["source_channels"] == described["shape"][0] + 1)


def _encode(array: np.ndarray, kind: Any) -> str:
    """Encode numbers for the script, little endian in base 64."""
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
