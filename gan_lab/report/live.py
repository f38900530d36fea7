"""The networks of a run for its page, where ``assets/engine.js`` runs them."""

from __future__ import annotations

import base64
import hashlib
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
from gan_lab.degradations import Degradation
from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.networks.stylegan import StyleGANGenerator
from gan_lab.report import pictures, style_parts
from gan_lab.report.style_parts import StylePart, make_example_inputs, sample_inputs, split_network
from gan_lab.runs import directions
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.run import Run, find_family_class
from gan_lab.seeding import Stream
from gan_lab.utils.errors import UserError
from gan_lab.utils.provenance import GRID_PADDING, read_record, shows_only_generated

# Number of weights of all networks of a page, with two or four bytes each.
MAX_WEIGHTS = 4_000_000
# Half of a gray level of images in [-1, 1].
HALF_GRAY_LEVEL = 1 / 255
# Numbers in the latents of all seeds together.
MAX_LATENT_NUMBERS = 100_000
MAX_SEEDS = 1000
# Of one seed, as ``gan-lab sample`` draws by default.
NUM_IMAGES = 64
# of a grid whose images open in the player
MAX_TILES = 4096
MAX_TILE_PIXELS = 4096
# where ``Family.sample_grid`` is, which draws fixed latents
BASE_MODULE = "gan_lab.families.base"
NUM_DIRECTIONS = 8
# sliders of saved directions: more do not fit next to an image
MAX_SAVED_DIRECTIONS = 16
# the two generators and the encoder of a run have up to three recipes
MAX_CACHED_RECIPES = 8
# weights to compare with the best ones, and what differs in their description
OTHER_WEIGHTS = ("last", "raw")
OWN_KEYS = ("networks", "record", "images_seen", "styles")
# what follows the description of the weights
ADDED_KEYS = ("grid", "others", "omitted")
PLAYED_NETWORKS = ("generator", "generator_back", "encoder")
# by recipe: the operations before constants are folded, the names of their tensors, and constants
_traced: dict[str, tuple[graph.Graph, list[str], dict[str, Tensor]]] = {}


def describe_run(
    run: Run,
    max_weights: int = MAX_WEIGHTS,
    latents_only: bool = False,
    loaded: EMANetworks | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any] | None, str]:
    """Describe the networks of a run for the script of the page.

    Args:
        run: The run.
        max_weights: Maximum number of weights.
        latents_only: Whether to describe only the generator, and only if it takes latents.
        loaded: The networks of a training; by default those of the best checkpoint.
        earlier: The description in an earlier page, which is returned if it is of the same weights
            and of the same version of this code: tracing them takes seconds.

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
        size = _count_weights(played)
        from_latents = "z_dim" in played["generator"].recipe["arguments"]
        if read_shape(played["generator"])[1:] == (1, 1) or (latents_only and not from_latents):
            return None, ""
        if size > max_weights:
            return None, f"they have {size:,} weights, more than the limit of {max_weights:,}"
        record = loaded.describe_source() | {"version": __version__}
        model: dict[str, Any] = {"name": run.name}
        # those of several runs would be different ones
        saved = _describe_saved_directions(loaded) if from_latents and not latents_only else {}
        if earlier and _is_description(earlier, record, saved):
            model = {key: value for key, value in earlier.items() if key not in ADDED_KEYS} | model
            return _add_grid(run, played["generator"], model, latents_only), ""
        model |= _describe_played(loaded, played)
    except ValueError as error:
        return None, f"they cannot run in a page: {error}"
    model["images_seen"] = loaded.iteration * int(run.values.get("data.batch_size") or 0)
    degradation = Degradation.from_values(run.values)
    if degradation.kind == "downsample":
        model["enlarged"] = degradation.factor
    if from_latents:
        model |= saved
    return _add_grid(run, played["generator"], model, latents_only), ""


def describe_networks(loaded: EMANetworks) -> dict[str, Any]:
    """Describe networks without a run, such as those of an export, for ``embedding.render_script``.

    Raises:
        ValueError: A network has an operation that pages do not have.
    """
    played = {name: loaded.networks[name] for name in PLAYED_NETWORKS if name in loaded.networks}
    return _describe_played(loaded, played)


def _describe_played(loaded: EMANetworks, played: Mapping[str, Network]) -> dict[str, Any]:
    """Describe the networks that a page runs, and the latents of the generator if it takes any."""
    parts = {
        part: module
        for name, network in played.items()
        for part, module in split_network(name, network).items()
    }
    traced = {name: trace(module) for name, module in parts.items()}
    model: dict[str, Any] = {
        "networks": {
            name: describe_network(module, *traced[name]) for name, module in parts.items()
        },
        "weights": _count_weights(played),
        "record": loaded.describe_source() | {"version": __version__},
        "code": hash_code(),
    }
    if "z_dim" in played["generator"].recipe["arguments"]:
        model |= _describe_latents(loaded, *(traced.get("mapping") or traced["generator"]))
    return model


def _count_weights(played: Mapping[str, Network]) -> int:
    return sum(weight.numel() for network in played.values() for weight in network.parameters())


def _is_description(
    earlier: Mapping[str, Any], record: Mapping[str, Any], saved: Mapping[str, Any]
) -> bool:
    """Return True if an earlier description is of these weights, this code and these directions."""
    if (earlier.get("record"), earlier.get("code")) != (record, hash_code()):
        return False
    if not {"networks", "weights"} <= earlier.keys():
        return False
    if not saved:
        return "saved" not in earlier
    return all(earlier.get(key) == value for key, value in saved.items())


def _add_grid(
    run: Run, generator: Network, model: dict[str, Any], latents_only: bool
) -> dict[str, Any]:
    """Add the sample grids of a generator that takes latents to its description."""
    if "z" in model and not latents_only and (grid := _describe_grid(run, generator)):
        model["grid"] = grid
    return model


@cache
def hash_code() -> str:
    """Hash the code that describes networks, and the version of torch, which traces them."""
    modules = (__file__, graph.__file__, style_parts.__file__)
    sources = [Path(str(path)).read_text("utf-8") for path in modules]
    return hashlib.sha256("".join([*sources, torch.__version__]).encode()).hexdigest()[:16]


def add_other_weights(
    run: Run, model: dict[str, Any], earlier: Mapping[str, Any] | None = None
) -> None:
    """Add the last EMA weights and the raw ones to the description of the best ones, if they fit.

    All networks of a page have up to ``MAX_WEIGHTS`` weights together.

    Args:
        run: The run.
        model: The description, which gets ``others``, and the names of those ``omitted``.
        earlier: The description in an earlier page, as for ``describe_run``.
    """
    known = []
    if earlier and earlier.get("code") == hash_code():
        known = [*earlier.get("others", ())]
    others: list[dict[str, Any]] = []
    omitted: list[str] = []
    for weights in OTHER_WEIGHTS:
        try:
            loaded = load_ema_networks(run.path, weights)
        # without such a checkpoint there is nothing to compare
        except UserError:
            continue
        shown = [each["record"]["digest"] for each in (model, *others)]
        if loaded.compute_digest() in shown:
            continue
        record = loaded.describe_source() | {"version": __version__}
        if found := next((each for each in known if each.get("record") == record), None):
            others.append(found)
            continue
        left = MAX_WEIGHTS - model["weights"] * (1 + len(others))
        other, reason = describe_run(run, left, loaded=loaded)
        if other is not None:
            # latents, directions and examples are the same
            others.append({key: other[key] for key in OWN_KEYS if key in other})
        elif reason:
            omitted.append(weights)
    if others or omitted:
        model |= {"others": others, "omitted": omitted}


def trace(network: Network | StylePart) -> tuple[graph.Graph, dict[str, Tensor]]:
    """Trace a network like ``graph.trace``, faster for another network of the same recipe.

    A training writes the page many times. The operations depend on the recipe alone, so only the
    weights are read again; the result is checked against the network each time.
    """
    key = json.dumps(network.recipe, sort_keys=True)
    inputs, dynamic = make_example_inputs(network)
    if key in _traced:
        traced, names, constants = _traced[key]
        return graph.bind_weights(traced, names, constants, network, inputs)
    traced, tensors = graph.trace_operations(network, inputs, dynamic)
    weights = graph.read_weights(network)
    constants = {name: value for name, value in tensors.items() if name not in weights}
    # the comparison of many runs does not keep the operations of all of them
    if len(_traced) >= MAX_CACHED_RECIPES:
        _traced.clear()
    _traced[key] = traced, list(tensors), constants
    return graph.bind_weights(traced, list(tensors), constants, network, inputs)


def draws_only_generated(run: Run) -> bool:
    """Return True if the sample grids of a run's family show no real or reconstructed images."""
    family = find_family_class(str(run.values.get("family")))
    if family is None:
        return False
    return not family.image_to_image and "reconstructed" not in family.output_names


def read_shape(network: Network | StylePart) -> tuple[int, int, int]:
    """Read the shape of a network's images, (channels, height, width), from its recipe."""
    channels, height, width = network.recipe["arguments"]["shape"]
    return channels, height, width


def describe_network(
    network: Network | StylePart, traced: graph.Graph, tensors: dict[str, Tensor]
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
        "weights": encode(array, np.float16 if half else np.float32),
        "shape": list(read_shape(network)),
        "source_channels": network.recipe["arguments"].get("source_channels", 0),
    }


@cache
def list_operations() -> frozenset[str]:
    """List the names of the operations that the script supports."""
    script = (Path(__file__).parent / "assets" / "engine.js").read_text("utf-8")
    return frozenset(re.findall(r'^    "(aten\.[\w.]+)":', script, re.MULTILINE))


def _is_close_in_half(
    network: Network | StylePart, traced: graph.Graph, tensors: dict[str, Tensor]
) -> bool:
    """Return True if float16 weights change no image by more than half a gray level.

    The images are those of 64 random latents or 8 random inputs.
    """
    fresh = sample_inputs(network)
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
    styles = {}
    if isinstance(network, StyleGANGenerator):
        mean = encode(network.mapping.w_avg.numpy(), np.float32)
        styles = {"styles": {"layers": network.num_ws, "mean": mean}}
    images = max(1, MAX_LATENT_NUMBERS // 4 // (NUM_IMAGES * arguments["z_dim"]))
    more = [
        network.sample_latents(Stream(seed, "sample"), NUM_IMAGES, like=torch.empty(0))
        for seed in range(min(images, seeds))
    ]
    return {
        **styles,
        "z": encode(torch.cat(z).numpy(), np.float32),
        # the images of --n 64 of the first seeds
        "images": {
            "count": NUM_IMAGES,
            "seeds": len(more),
            "z": encode(torch.cat(more).numpy(), np.float32),
        },
        "seeds": seeds,
        # A prior with codes is not Gaussian, so latents are interpolated linearly.
        "straight": network.codes > 0,
        # Codes have no middle that is likelier.
        "truncates": not network.codes,
        "directions": [
            [round(x, 4) for x in row]
            for row in find_directions(traced, tensors, arguments["z_dim"]).tolist()
        ],
        "classes": loaded.class_names if arguments.get("classes") else [],
    }


def _describe_saved_directions(loaded: EMANetworks) -> dict[str, Any]:
    """Describe the directions that ``gan-lab directions`` has stored in the run folder.

    A slider moves by standard deviations of the latents, as ``sample --move``.

    Returns:
        The vectors of one step, names and captions of the first ``MAX_SAVED_DIRECTIONS``, the total
        number of directions, and their space; empty if there are none of these weights.
    """
    stored = directions.find_stored_directions(loaded.folder)
    if stored is None:
        return {}
    try:
        found = directions.read_directions(stored)
    # a damaged file
    except UserError:
        return {}
    network = loaded.networks["generator"]
    if isinstance(network, StyleGANGenerator):
        space, size = "w", len(network.mapping.w_avg)
    else:
        space, size = "z", network.recipe["arguments"]["z_dim"]
    fits = (found.space, len(found.directions[0].vector)) == (space, size)
    if not fits or found.source.get("digest") != loaded.compute_digest():
        return {}
    shown = found.directions[:MAX_SAVED_DIRECTIONS]
    steps = [[each.std * x for x in each.vector] for each in shown]
    return {
        "directions": [[float(f"{x:.6g}") for x in step] for step in steps],
        "saved": {
            "names": [each.name for each in shown],
            "captions": [directions.describe(each) for each in shown],
            "digests": [each.compute_digest() for each in shown],
            "total": len(found.directions),
            "space": found.space,
        },
    }


def _is_geometry(count: Any, columns: Any, tile: Any, labels: Any, classes: int) -> bool:
    """Return whether the record of a grid, which anyone could have written, is one of the lab."""

    def is_number(value: Any, limit: int) -> bool:
        return type(value) is int and 0 <= value < limit

    if not (is_number(count, MAX_TILES) and is_number(columns, MAX_TILES) and count and columns):
        return False
    if not isinstance(tile, list) or len(tile) != 2:
        return False
    if not all(is_number(side, MAX_TILE_PIXELS) for side in tile):
        return False
    if classes == 0:
        return True
    if not isinstance(labels, list) or len(labels) != count:
        return False
    return all(is_number(label, classes) for label in labels)


def _describe_grid(run: Run, network: Network) -> dict[str, Any] | None:
    """Describe the latents, the labels and the geometry of the sample grids for the player.

    Returns:
        The description; None if the grids show other images than those of fixed latents, or do not
        record their geometry.
    """
    family = find_family_class(str(run.values.get("family")))
    seed = run.values.get("run.seed")
    if family is None or not isinstance(seed, int) or not run.grids:
        return None
    own_grids = any(
        "sample_grid" in vars(each) and each.__module__ != BASE_MODULE for each in family.__mro__
    )
    if own_grids or not draws_only_generated(run):
        return None
    path = run.grids[-1][1]
    record = read_record(path) or {}
    count, columns, tile, labels = (record.get(k) for k in ("count", "columns", "tile", "labels"))
    classes = network.recipe["arguments"].get("classes", 0)
    if not shows_only_generated(record) or not _is_geometry(count, columns, tile, labels, classes):
        return None
    assert count is not None
    assert tile is not None
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return None
    z = network.sample_latents(Stream(seed, "samples"), count, like=torch.empty(0))
    return {
        "z": encode(z.numpy(), np.float32),
        "count": count,
        "labels": labels or [],
        "columns": columns,
        "tile": tile,
        "padding": GRID_PADDING,
        "width": width,
        "height": height,
        # width of the captions
        "left": width - columns * (tile[1] + GRID_PADDING) - GRID_PADDING,
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
            found = torch.linalg.svd(weight.double(), full_matrices=False).Vh[:NUM_DIRECTIONS]
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
    if "z" in model and "encoder" not in networks:
        return []
    # the opposite direction has the right half of the grid
    halves = (0.0, 0.5)[: 1 + ("generator_back" in networks)]
    # the page cuts holes itself, into the ground truth of the third column
    column = 2 if fills_holes(networks["generator"]) else 0
    return [found for share in halves if (found := _crop_column(run, model, share, column))]


def crop_ground_truth(run: Run, model: dict[str, Any]) -> list[str]:
    """Crop the ground truth of the held-out inputs of ``crop_examples``, the grid's third column.

    Returns:
        Data URIs; empty for models that are not trained on pairs.
    """
    family = find_family_class(str(run.values.get("family")))
    if "z" in model or not getattr(family, "paired", False):
        return []
    return _crop_column(run, model, 0.0, 2)


def _crop_column(run: Run, model: dict[str, Any], share: float, column: int = 0) -> list[str]:
    """Crop a column of the last grid, counted from a share of its width; empty if it is damaged."""
    if not run.grids:
        return []
    _, height, width = model["networks"]["generator"]["shape"]
    try:
        with Image.open(run.grids[-1][1]) as image:
            grid = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return []
    # A grid with captions has another size.
    if (grid.width - 2) % (width + 2) or (grid.height - 2) % (height + 2):
        return []
    columns = (grid.width - 2) // (width + 2)
    left = 2 + (int(columns * share) + column) * (width + 2)
    found = []
    for top in range(2, grid.height - height, height + 2):
        file = io.BytesIO()
        grid.crop((left, top, left + width, top + height)).save(file, "PNG")
        found.append(pictures.encode_data_uri(file.getvalue()))
    return found


def fills_holes(described: Mapping[str, Any]) -> bool:
    """Return whether the last channel of a described network's inputs is a mask."""
    return bool(described.get("source_channels", 0) == described["shape"][0] + 1)


def encode(array: np.ndarray, kind: Any) -> str:
    """Encode numbers for the script, little endian in base 64."""
    return base64.b64encode(array.astype(np.dtype(kind).newbyteorder("<")).tobytes()).decode()
