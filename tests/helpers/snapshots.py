"""Snapshots in the format of the StyleGAN2-ADA authors, written without their code."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gan_lab.networks.stylegan import (
    DiscriminatorBlock,
    DiscriminatorEpilogue,
    StyleGANDiscriminator,
    StyleGANGenerator,
    SynthesisBlock,
)

# their loader would run this
CANARY = "raise RuntimeError('module_src was executed')"


class Persistent:
    """A module that pickles as the authors' modules do."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": CANARY,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self) -> Any:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict[str, Any]):
    """The dict subclass of the authors' files."""


@contextmanager
def authors_modules() -> Iterator[None]:
    """Provide modules with the names that the pickles refer to, while one is written."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util", "dnnlib.tflib",
             "dnnlib.tflib.network")  # fmt: skip
    modules = {name: ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("executed")

    class Network:
        pass

    for item, module in (
        (_reconstruct_persistent_obj, "torch_utils.persistence"),
        (EasyDict, "dnnlib.util"),
        (Network, "dnnlib.tflib.network"),
    ):
        item.__module__, item.__qualname__ = module, item.__name__
        setattr(modules[module], item.__name__, item)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def describe_module(module: nn.Module, clamp: float | None, **attributes: Any) -> Persistent:
    """Convert a module and its children."""
    children: dict[str, Any] = {
        name: describe_module(child, clamp) for name, child in module.named_children()
    }
    if isinstance(module, SynthesisBlock):
        attributes["architecture"] = "skip"
    if isinstance(module, DiscriminatorBlock):
        attributes["architecture"] = "resnet" if module.skip is not None else "orig"
    if isinstance(module, DiscriminatorEpilogue):
        attributes["architecture"] = "resnet"
        empty: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}
        children["mbstd"] = Persistent("MinibatchStdLayer", {**empty, "group_size": module.group})
    if hasattr(module, "clamp"):
        attributes["conv_clamp"] = clamp
    if hasattr(module, "layer_names"):
        attributes["num_layers"] = len(module.layer_names)
    state = {
        "training": True,
        "_parameters": {**module._parameters},
        "_buffers": {**module._buffers},
        "_modules": children,
        **attributes,
    }
    return Persistent(type(module).__name__, state)


def describe_network(network: StyleGANGenerator | StyleGANDiscriminator) -> Persistent:
    """Convert a generator or discriminator."""
    arguments = network.recipe["arguments"]
    attributes = {
        "z_dim": arguments.get("z_dim", 0),
        "w_dim": arguments.get("w_dim", 512),
        "c_dim": network.classes,
        "img_resolution": arguments["shape"][1],
        "img_channels": arguments["shape"][0],
    }
    return describe_module(network, arguments.get("clamp") or None, **attributes)


def add_stylegan3_attributes(network: Persistent) -> None:
    """Add the attributes that networks of the stylegan3 repository have, config stylegan2."""
    state = network.meta["state"]
    if network.meta["class_name"] == "ScaledLinear":
        state["out_features"], state["in_features"] = state["_parameters"]["weight"].shape
    if "architecture" in state:
        state["use_fp16"] = state["channels_last"] = True
        state["_init_kwargs"] = EasyDict(use_fp16=True, fp16_channels_last=True)
    if "img_resolution" in state:
        shared = EasyDict(num_fp16_res=4, fp16_channels_last=True)
        state["_init_kwargs"] = EasyDict(synthesis_kwargs=shared, mapping_kwargs=EasyDict())
    children = state["_modules"]
    if "synthesis" in children:
        children["synthesis"].meta["state"]["num_fp16_res"] = 4
    for child in children.values():
        add_stylegan3_attributes(child)


def build_networks(
    side: int = 16, channels: int = 3, classes: int = 2, seed: int = 0
) -> tuple[StyleGANGenerator, StyleGANDiscriminator]:
    """Build tiny networks with noise and biases that matter."""
    shared: dict[str, Any] = {"shape": (channels, side, side), "classes": classes}
    shared |= {"width": 3, "max_width": 6, "clamp": 2.0}
    torch.manual_seed(seed)
    G = StyleGANGenerator(z_dim=5, w_dim=4, **shared).eval()
    D = StyleGANDiscriminator(**shared).eval()
    with torch.no_grad():
        for name, weight in [*G.named_parameters(), *D.named_parameters()]:
            if name.endswith(("bias", "noise_strength")):
                weight += 0.3 * torch.randn(weight.shape)
    G.mapping.w_avg.normal_()
    return G, D


def write_snapshot(path: Path, **content: Any) -> Path:
    """Write a snapshot; by default of ``build_networks``, with other entries in ``content``."""
    if "G_ema" not in content:
        G, D = build_networks()
        raw, _ = build_networks(seed=1)
        content = {
            "G": describe_network(raw),
            "D": describe_network(D),
            "G_ema": describe_network(G),
            **content,
        }
    with authors_modules():
        path.write_bytes(pickle.dumps({"augment_pipe": None, **content}, protocol=4))
    return path
