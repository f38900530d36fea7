"""Exported generators: a folder of ``config.json``, weights as safetensors, and a card; read with suspicion.

Nothing in such a folder is run, nothing outside it is opened, and no more memory is used than its
files are large.
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
LARGEST_NUMBER = 10_000  # of layers, channels or classes in a recipe


def has_config(folder: Path) -> bool:
    """True if a folder looks like an exported generator, whether it can be read or not."""
    return (folder / CONFIG).is_file() and not (folder / "checkpoints").is_dir()


def read_export(path: Path) -> dict[str, Any]:
    """The content of an exported folder, by its ``config.json``, with the keys of a checkpoint.

    Raises UserError, in one line, for what is damaged, of another format, or not what it says.
    """
    try:
        return _read(path)
    except Exception as error:  # a foreign file can raise anything
        raise UserError(
            f"{path.parent} is no export of this lab that can be used, nothing was loaded: "
            f"{first_line(error)}"
        ) from None


def _config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_EXPORT_CONFIG_BYTES:
        raise UserError(
            f"{CONFIG} has {path.stat().st_size:,} bytes, more than {MAX_EXPORT_CONFIG_BYTES:,}"
        )
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{CONFIG} does not say that it is {FORMAT!r}")
    return config


def _read(path: Path) -> dict[str, Any]:
    config = _config(path)
    recipes, weights = {}, {}
    for name, described in config["networks"].items():
        if not name.isidentifier():
            raise UserError(f"{name!r} is no name of a network")
        recipes[name] = _modest(described["recipe"])
        weights[name] = _weights(path.parent / f"{name}.safetensors", recipes[name])
    return {
        "iteration": int(config.get("iteration", 0)),
        "recipes": recipes,
        "ema": weights,
        "state_dict": {},
        "export": config,
    }


def _modest(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without numbers that would fill the memory before its weights are looked at."""
    numbers = [
        x
        for value in recipe["arguments"].values()
        for x in (value if isinstance(value, list) else [value])
    ]
    large = [x for x in numbers if isinstance(x, int | float) and not abs(x) <= LARGEST_NUMBER]
    if large:
        raise UserError(f"its recipe asks for {large[0]}, more than {LARGEST_NUMBER:,}")
    return recipe


def _weights(path: Path, recipe: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a network, of the names and shapes that its recipe has; finite."""
    with torch.device("meta"):  # shapes alone
        shapes = {
            name: tuple(value.shape)
            for name, value in networks.from_recipe(recipe).state_dict().items()
        }
    if path.is_symlink():
        raise UserError(f"{path.name} is a link")
    with safe_open(path, "pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
        for name, shape in shapes.items():
            if found.get(name) != shape:
                raise UserError(
                    f"{path.name}: {name} is {found.get(name, 'not there')}, but its recipe has "
                    f"{shape}"
                )
        weights = {name: file.get_tensor(name) for name in shapes}
    for name, value in weights.items():
        if (
            value.is_floating_point()
            and not math.isfinite(float(value.sum()))
            and not bool(value.isfinite().all())
        ):
            raise UserError(f"{path.name}: {name} has values that are no finite numbers")
    return weights
