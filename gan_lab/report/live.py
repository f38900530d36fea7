"""The networks of a run as its page holds them, to be run there by ``assets/engine.js``."""

from __future__ import annotations

import base64
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.report import pictures
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.run import Run
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError

MAX_WEIGHTS = 4_000_000  # of all networks of a page, two or four bytes each
HALF_A_LEVEL = 1 / 255  # of gray, in images in [-1, 1]
MAX_LATENT_NUMBERS = 100_000  # of all seeds together
MAX_SEEDS = 1000
DIRECTIONS = 8
PLAYED_NETWORKS = ("generator", "generator_back", "encoder")


def describe_run(
    run: Run, max_weights: int = MAX_WEIGHTS, latents_only: bool = False
) -> tuple[dict[str, Any] | None, str]:
    """Describe the networks of a run for the script of the page; None, and the reason, if it cannot run them.

    Points in the plane and runs without a checkpoint are left out without a reason.
    ``latents_only``: the generator alone, and only if it takes latents.
    """
    if not (run.path / "checkpoints").is_dir():
        return None, ""
    try:
        loaded = load_ema_networks(run.path)
        names = PLAYED_NETWORKS[:1] if latents_only else PLAYED_NETWORKS
        played = {name: loaded.networks[name] for name in names if name in loaded.networks}
        size = sum(weight.numel() for network in played.values() for weight in network.parameters())
        from_latents = "z_dim" in played["generator"].recipe["arguments"]
        if shape_of(played["generator"])[1:] == (1, 1) or (latents_only and not from_latents):
            return None, ""
        if size > max_weights:
            return None, f"they have {size:,} weights, and a page takes {max_weights:,}"
        traced = {
            name: graph.trace(network, *graph.make_example_inputs(network))
            for name, network in played.items()
        }
        described = {name: describe(network, *traced[name]) for name, network in played.items()}
    except ValueError as error:
        return None, f"they cannot run in a page: {error}"
    model = {"name": run.name, "networks": described, "weights": size}
    return model | (_describe_latents(loaded, *traced["generator"]) if from_latents else {}), ""


def shape_of(network: Network) -> tuple[int, int, int]:
    """The shape of its images, (channels, height, width)."""
    channels, height, width = network.recipe["arguments"]["shape"]
    return channels, height, width


def describe(network: Network, traced: graph.Graph, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A network as the script reads it: operations, shapes, and weights as text.

    The weights are float16 if images stay within half a gray level of what float32 makes. Raises
    UserError for an operation that the script does not have.
    """
    if unknown := {step["op"] for step in traced["steps"]} - operations():
        raise UserError(f"the page has no {sorted(unknown)[0]}")
    half = _is_close_in_half(network, traced, tensors)
    array = np.concatenate([value.numpy().ravel() for value in tensors.values()] or [np.zeros(0)])
    return {
        "graph": traced,
        "tensors": [[name, list(value.shape)] for name, value in tensors.items()],
        "half": half,
        "weights": _text(array, np.float16 if half else np.float32),
        "shape": list(shape_of(network)),
        "source_channels": network.recipe["arguments"].get("source_channels", 0),
    }


@cache
def operations() -> frozenset[str]:
    """The operations that the script has, by their names."""
    script = (Path(__file__).parent / "assets" / "engine.js").read_text("utf-8")
    return frozenset(re.findall(r'^    "(aten\.[\w.]+)":', script, re.MULTILINE))


def _is_close_in_half(network: Network, traced: graph.Graph, tensors: dict[str, Tensor]) -> bool:
    """True if halved weights make the same images, of 64 fresh latents or 8 images, up to half a gray level."""
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
            (graph.run_graph(traced, halved, fresh) - exact).abs().max() <= HALF_A_LEVEL
        )


def _describe_latents(
    loaded: EMANetworks, traced: graph.Graph, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    """The latents of the seeds, as ``gan-lab sample --seed`` draws the first of each; the directions, the classes."""
    network = loaded.networks["generator"]
    arguments = network.recipe["arguments"]
    seeds = min(MAX_SEEDS, MAX_LATENT_NUMBERS // arguments["z_dim"])
    z = [
        network.sample_latents(Stream(seed, "sample"), 1, like=torch.empty(0))
        for seed in range(seeds)
    ]
    return {
        "z": _text(torch.cat(z).numpy(), np.float32),
        "seeds": seeds,
        "straight": network.codes > 0,  # the prior is no ball
        "directions": [
            [round(x, 4) for x in row]
            for row in directions(traced, tensors, arguments["z_dim"]).tolist()
        ],
        "classes": loaded.class_names if arguments.get("classes") else [],
    }


def directions(traced: graph.Graph, tensors: dict[str, Tensor], z_dim: int) -> Tensor:
    """The directions in the latent space [K, Z] along which the first layer changes most, of length 1, largest first.

    They are the right singular vectors of the weights that the first linear map has for the latent.

    Source: Shen & Zhou 2021 (arXiv 2007.06600), section 3.2.
    """
    carries = {"z"}  # what begins with the latent
    for step in traced["steps"]:
        first = step["args"][0]
        first = first[0] if isinstance(first, list) else first
        if not isinstance(first, dict) or first["ref"] not in carries:
            continue
        if step["op"] == "aten.linear.default":
            weight = tensors[step["args"][1]["ref"]][:, :z_dim]
            found = torch.linalg.svd(weight.double(), full_matrices=False).Vh[:DIRECTIONS]
            return found * found.sum(dim=1, keepdim=True).sign()  # of two signs one
        carries.add(step["out"])
    return torch.zeros(0, z_dim)


def examples(run: Run, model: dict[str, Any]) -> list[list[str]]:
    """Held-out inputs of a translator or an autoencoder, as data URIs: the first column of its last grid; of others none.

    Those of the way back, where there is one, begin the other half of the grid.
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
    if (grid.width - 2) % (width + 2) or (grid.height - 2) % (height + 2):  # captions
        return []
    half = (grid.width - 2) // (width + 2) // 2 * (width + 2)
    found: list[list[str]] = []
    for left in (2, 2 + half)[: 1 + ("generator_back" in networks)]:
        found.append([])
        for top in range(2, grid.height - height, height + 2):
            file = io.BytesIO()
            grid.crop((left, top, left + width, top + height)).save(file, "PNG")
            found[-1].append(pictures.uri(file.getvalue()))
    return found


def _text(array: np.ndarray, kind: Any) -> str:
    """The numbers as the script reads them: little endian, in base 64."""
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
