"""Read exported generators: folders with ``config.json``, weights as safetensors, and a model card.

An export is not trusted: its content is never executed, no file outside of the folder is opened,
and memory is limited by the size of its files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from gan_lab import networks
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.output import EXPORT_CONFIG, EXPORT_FORMAT, MAX_EXPORT_CONFIG_BYTES

CONFIG, CARD = EXPORT_CONFIG, "README.md"
FORMAT = EXPORT_FORMAT
# Upper limit of each number in a recipe, such as layers, channels or classes.
MAX_RECIPE_NUMBER = 10_000


def has_config(folder: Path) -> bool:
    """Return True if a folder looks like an exported generator, even if it cannot be read."""
    return (folder / CONFIG).is_file() and not (folder / "checkpoints").is_dir()


def read_export(path: Path) -> dict[str, Any]:
    """Read an export by the path of its ``config.json``.

    Returns:
        Its content with the keys of a checkpoint.

    Raises:
        UserError: It is damaged or has another format, or its weights do not match its recipes.
    """
    try:
        return _read_content(path)
    except Exception as error:
        # A file from elsewhere can raise anything.
        raise UserError(
            f"{path.parent} is not a usable export of this lab, nothing was loaded: "
            f"{first_line(error)}"
        ) from None


def read_source(path: Path) -> dict[str, str] | None:
    """Read which StyleGAN2 snapshot an export was imported from; None if from none.

    Args:
        path: The path of its ``config.json``.

    Returns:
        The snapshot's file name and SHA-256, which are not trusted.
    """
    source = _read_config(path).get("source")
    if not isinstance(source, dict):
        return None
    # in one line of the model card
    return {key: " ".join(str(source.get(key, "unknown")).split()) for key in ("file", "sha256")}


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_EXPORT_CONFIG_BYTES:
        raise UserError(
            f"{CONFIG} has {path.stat().st_size:,} bytes, more than {MAX_EXPORT_CONFIG_BYTES:,}"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{CONFIG} does not have the format {FORMAT!r}")
    return config


def _read_content(path: Path) -> dict[str, Any]:
    config = _read_config(path)
    recipes, weights = {}, {}
    for name, described in config["networks"].items():
        if not name.isidentifier():
            raise UserError(f"{name!r} is not a valid name of a network")
        recipes[name] = _check_numbers(described["recipe"])
        weights[name] = _read_weights(path.parent / f"{name}.safetensors", recipes[name])
    return {
        "iteration": int(config.get("iteration", 0)),
        "recipes": recipes,
        "ema": weights,
        "state_dict": {},
        "export": config,
    }


def _check_numbers(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe if none of its numbers could fill the memory when the network is built."""
    numbers = [
        x
        for value in recipe["arguments"].values()
        for x in (value if isinstance(value, list) else [value])
    ]
    large = [x for x in numbers if isinstance(x, int | float) and not abs(x) <= MAX_RECIPE_NUMBER]
    if large:
        raise UserError(f"its recipe has the number {large[0]}, more than {MAX_RECIPE_NUMBER:,}")
    return recipe


def _read_weights(path: Path, recipe: dict[str, Any]) -> dict[str, Tensor]:
    """Read the weights of a network and check that they are finite and match its recipe."""
    # Meta tensors have shapes and need no memory.
    with torch.device("meta"):
        shapes = {
            name: tuple(value.shape)
            for name, value in networks.from_recipe(recipe).state_dict().items()
        }
    if path.is_symlink():
        raise UserError(f"{path.name} is a symbolic link")
    with safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
        for name, shape in shapes.items():
            if found.get(name) != shape:
                raise UserError(
                    f"{path.name}: {name} is {found.get(name, 'missing')}, but its recipe has "
                    f"{shape}"
                )
        weights = {name: file.get_tensor(name) for name in shapes}
    for name, value in weights.items():
        if (
            value.is_floating_point()
            and not math.isfinite(float(value.sum()))
            and not bool(value.isfinite().all())
        ):
            raise UserError(f"{path.name}: {name} contains NaN or Inf")
    return weights
