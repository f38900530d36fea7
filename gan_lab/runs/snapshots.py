"""Read snapshots of StyleGAN2-ADA (``.pkl``), as networks of ``gan_lab.networks.stylegan``."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gan_lab import networks
from gan_lab.networks.stylegan import (
    ACTIVATION_GAIN,
    MAPPING_FACTOR,
    Mapping,
    ScaledConv2d,
    ScaledLinear,
    SynthesisLayer,
    ToRGB,
)
from gan_lab.runs.snapshot_pickle import PersistentObject, read_pickle
from gan_lab.utils.errors import UserError, first_line

SUFFIX = ".pkl"
# modules inside of modules: the deepest one is generator.synthesis.block.layer.affine
MAX_DEPTH = 8
# of a name in a message
MAX_SHOWN_CHARACTERS = 80
# upper limit of each number in a recipe
MAX_NUMBER = 10_000
NETWORK_NAMES = {"G": "generator", "D": "discriminator", "G_ema": "generator"}


def is_snapshot(path: Path) -> bool:
    """Return True if a path is named like a snapshot."""
    return path.suffix == SUFFIX


def read_snapshot(path: Path) -> dict[str, Any]:
    """Read a snapshot with the keys of a checkpoint.

    ``ema`` has the generator ``G_ema``, ``state_dict`` the weights of ``G`` and ``D``, all in
    float32.

    Raises:
        UserError: It is damaged, or it is not a StyleGAN2 snapshot of PyTorch. Nothing in it was
            executed.
    """
    try:
        content = path.read_bytes()
        return _convert(read_pickle(content), len(content))
    except UserError as error:
        reason = str(error)
    except Exception as error:
        # a hostile or damaged file can raise anything
        reason = f"it is damaged ({type(error).__name__}: {first_line(error)})"
    raise UserError(f"{path} is not a usable StyleGAN2 snapshot, nothing was loaded: {reason}")


def hash_snapshot(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(content: Any, size: int) -> dict[str, Any]:
    """Convert the content of a snapshot of ``size`` bytes to that of a checkpoint."""
    if not isinstance(content, dict) or "G_ema" not in content:
        raise UserError("it is not a dict with G_ema")
    recipes: dict[str, dict[str, Any]] = {}
    weights: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    remaining = size
    for key in ("G_ema", "G", "D"):
        network = content.get(key)
        if network is None and key != "G_ema":
            continue
        modules: dict[str, PersistentObject] = {}
        tensors: dict[str, Tensor] = {}
        _collect(network, f"{key}.", modules, tensors, seen)
        modules, tensors = _strip(modules, key), _strip(tensors, key)
        describe = _describe_discriminator if key == "D" else _describe_generator
        remaining -= sum(value.numel() * value.element_size() for value in tensors.values())
        if remaining < 0:
            raise UserError("its tensors share memory, and have more bytes than the file")
        recipes[key] = describe(modules, tensors)
        # meta tensors have shapes and need no memory
        with torch.device("meta"):
            expected = networks.from_recipe(recipes[key])
        weights[key] = _check_weights(key, expected, tensors)
        _check_attributes(key, expected, modules)
    state_dict = {
        f"{NETWORK_NAMES[key]}.{name}": value
        for key in ("G", "D")
        for name, value in weights.get(key, {}).items()
    }
    return {
        "iteration": 0,
        "recipes": {"generator": recipes["G_ema"]},
        "ema": {"generator": weights["G_ema"]},
        "state_dict": state_dict,
    }


def _collect(
    network: Any,
    prefix: str,
    modules: dict[str, PersistentObject],
    tensors: dict[str, Tensor],
    seen: set[int],
    depth: int = 0,
) -> None:
    """Collect the modules and tensors of a network by their names."""
    if not isinstance(network, PersistentObject):
        raise UserError(f"{_shorten(prefix)} is a {type(network).__name__}, not a module")
    if network.class_name in ("SynthesisInput", "FourierFeatures"):
        raise UserError(
            "it is a StyleGAN3 snapshot (it has SynthesisInput). Only StyleGAN2 can be read"
        )
    if depth > MAX_DEPTH or id(network) in seen:
        raise UserError(f"{_shorten(prefix)} is nested too deep, or occurs twice")
    seen.add(id(network))
    modules[prefix] = network
    for kind in ("_parameters", "_buffers"):
        for name, value in _get_dict(network, kind).items():
            if value is None:
                continue
            if not isinstance(value, Tensor) or not value.is_floating_point():
                raise UserError(f"{_shorten(prefix + name)} is not a tensor of floats")
            tensors[f"{prefix}{name}."] = value
    for name, module in _get_dict(network, "_modules").items():
        if module is not None:
            _collect(module, f"{prefix}{name}.", modules, tensors, seen, depth + 1)


def _strip(named: dict[str, Any], key: str) -> dict[str, Any]:
    """Remove the name of the network and the last dot from names."""
    return {name.removeprefix(f"{key}.").removesuffix("."): value for name, value in named.items()}


def _shorten(name: str) -> str:
    """Format a name from the file, which can have any length and any characters."""
    return repr(name[:MAX_SHOWN_CHARACTERS])[1:-1]


def _get_dict(module: PersistentObject, name: str) -> dict[str, Any]:
    value = module.state.get(name)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UserError(f"{_shorten(module.class_name)} has no {name}")
    return value


def _get_number(modules: dict[str, PersistentObject], module: str, name: str) -> int:
    """Return a whole number among the attributes of a module."""
    value = modules[module].state.get(name) if module in modules else None
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        found = value if isinstance(value, int | float) else type(value).__name__
        raise UserError(
            f"{module or 'the network'}.{name} is {found}, not a number up to {MAX_NUMBER}"
        )
    return value


def _get_shape(modules: dict[str, PersistentObject]) -> list[int]:
    side = _get_number(modules, "", "img_resolution")
    if side < 8 or side & (side - 1):
        raise UserError(f"img_resolution is {side}, not a power of two from 8")
    return [_get_number(modules, "", "img_channels"), side, side]


def _get_clamp(modules: dict[str, PersistentObject]) -> float:
    """Return the bound of activations, which is one for all layers."""
    clamps = {
        module.state["conv_clamp"]
        for name, module in modules.items()
        # a skip connection is linear
        if isinstance(module.state.get("conv_clamp", ""), int | float | None)
        and not name.endswith(".skip")
    }
    if len(clamps) != 1:
        raise UserError(f"its layers have {len(clamps)} different values of conv_clamp, not one")
    return float(clamps.pop() or 0)


def _get_architecture(modules: dict[str, PersistentObject], allowed: tuple[str, ...]) -> str:
    named = [module.state.get("architecture") for module in modules.values()]
    found = {_shorten(name) for name in named if isinstance(name, str)}
    if len(found) != 1 or not found <= set(allowed):
        names = ", ".join(sorted(found)) or "none"
        raise UserError(f"it has the architecture {names}, not {' or '.join(allowed)}")
    return found.pop()


def _get_outputs(tensors: dict[str, Tensor], name: str) -> int:
    if name not in tensors or tensors[name].dim() == 0:
        raise UserError(f"{name} is missing")
    return tensors[name].shape[0]


def _describe_generator(
    modules: dict[str, PersistentObject], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    shape = _get_shape(modules)
    _get_architecture(modules, ("skip",))
    arguments = {
        "z_dim": _get_number(modules, "", "z_dim"),
        "shape": shape,
        "classes": _get_number(modules, "", "c_dim"),
        "w_dim": _get_number(modules, "", "w_dim"),
        "mapping_layers": _get_number(modules, "mapping", "num_layers"),
        "clamp": _get_clamp(modules),
        # the rule of the channels; _check_weights compares all of them
        "width": _get_outputs(tensors, f"synthesis.b{shape[1]}.conv1.weight"),
        "max_width": _get_outputs(tensors, "synthesis.b4.conv1.weight"),
    }
    return {"network": "StyleGANGenerator", "arguments": arguments}


def _describe_discriminator(
    modules: dict[str, PersistentObject], tensors: dict[str, Tensor]
) -> dict[str, Any]:
    shape, classes = _get_shape(modules), _get_number(modules, "", "c_dim")
    group = modules["b4.mbstd"].state.get("group_size") if "b4.mbstd" in modules else None
    arguments = {
        "shape": shape,
        "classes": classes,
        "architecture": _get_architecture(modules, ("resnet", "orig")),
        "clamp": _get_clamp(modules),
        "label_dim": _get_outputs(tensors, "b4.out.weight") if classes else 0,
        # None is the whole batch
        "group": group if type(group) is int and 0 < group <= MAX_NUMBER else MAX_NUMBER,
        "width": _get_outputs(tensors, f"b{shape[1]}.conv0.weight"),
        "max_width": _get_outputs(tensors, "b4.conv.weight"),
    }
    return {"network": "StyleGANDiscriminator", "arguments": arguments}


def _check_weights(key: str, network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in float32, if their names and shapes are those of the network."""
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        if found != expected.get(name):
            other = expected.get(name, "no such tensor")
            raise UserError(
                f"{key}.{_shorten(name)} is {found}, but StyleGAN2 of this size has {other}"
            )
    converted = {name: tensors[name].float().contiguous().clone() for name in expected}
    for name, value in converted.items():
        if not bool(value.isfinite().all()):
            raise UserError(f"{key}.{name} contains NaN or Inf")
    return converted


def _check_attributes(key: str, network: nn.Module, modules: dict[str, PersistentObject]) -> None:
    """Refuse layers whose attributes differ from those of the network: their outputs would differ.

    Weights of any gain or activation have the same names and shapes.
    """
    for name, module in network.named_modules():
        if name not in modules:
            continue
        state = modules[name].state
        arguments = state.get("_init_kwargs")
        for source in (state, arguments if isinstance(arguments, dict) else {}):
            for attribute, expected in _list_attributes(name, module).items():
                if attribute in source and not _is_same(source[attribute], expected):
                    value = source[attribute]
                    shown = value if isinstance(value, str | int | float) else type(value).__name__
                    raise UserError(
                        f"{key}.{name}.{attribute} is {_shorten(str(shown))}, but StyleGAN2 of "
                        f"this size has {expected}"
                    )


def _list_attributes(name: str, module: nn.Module) -> dict[str, Any]:
    """List the attributes of the authors' layer that change its outputs, with the known values."""
    match module:
        case ScaledLinear():
            # the other dense layers are affine, embed and out
            is_activated = name.startswith("mapping.fc") or name == "b4.fc"
            return {
                "activation": "lrelu" if is_activated else "linear",
                "lr_multiplier": module.factor,
                "weight_gain": module.factor / math.sqrt(module.in_features),
                "bias_gain": module.factor,
            }
        case ScaledConv2d():
            kernel = module.kernel_size[0]
            # a skip connection is linear
            is_activated = module.bias is not None
            return {
                "activation": "lrelu" if is_activated else "linear",
                "act_gain": ACTIVATION_GAIN if is_activated else 1.0,
                "lr_multiplier": 1.0,
                "weight_gain": 1 / math.sqrt(module.in_channels * kernel**2),
                "up": 1,
                "down": 2 if module.down else 1,
                "padding": kernel // 2,
            }
        case SynthesisLayer():
            return {
                "activation": "lrelu",
                "act_gain": ACTIVATION_GAIN,
                "lr_multiplier": 1.0,
                "weight_gain": 1.0,
                "up": 2 if module.upsample else 1,
                "padding": 1,
                "use_noise": True,
            }
        case ToRGB():
            return {"activation": "linear", "lr_multiplier": 1.0, "weight_gain": module.gain}
        case Mapping():
            return {"activation": "lrelu", "lr_multiplier": MAPPING_FACTOR}
    return {}


def _is_same(value: Any, expected: Any) -> bool:
    if isinstance(expected, bool | str):
        return type(value) is type(expected) and bool(value == expected)
    return type(value) in (int, float) and math.isclose(value, expected, rel_tol=1e-5)
