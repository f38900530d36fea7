"""Export the networks of a run that make images: files that others can use, without the lab."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gan_lab import __version__, networks
from gan_lab.inference import graph, model_card
from gan_lab.inference.sampling import class_names_in, import_family, read_config_beside
from gan_lab.networks.encoder import Encoder
from gan_lab.report.reading import Run
from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint
from gan_lab.runs.exports import CARD, CONFIG, FORMAT, is_export
from gan_lab.runs.results import read_summary
from gan_lab.seeding import Stream
from gan_lab.utils.files import write_text

FORMATS = ("safetensors", "torch")
SUFFIXES = (".json", ".md", ".safetensors", ".pt2")  # of what an export writes, and may replace


def export(run: Path, out: Path, also: str = "safetensors", weights: str = "best") -> Path:
    """Write the averaged networks of a run into a folder: weights, ``config.json`` and a model card; return the folder.

    The config has each network as a list of operations too, checked against it, which runs without the lab. With
    ``also="torch"`` a program of ``torch.export`` lies beside each. Raises ValueError for a run without a checkpoint,
    another format, and a folder that holds something else.
    """
    if also not in FORMATS:
        raise ValueError(f"format={also}: there are {' and '.join(FORMATS)}")
    if others := [path.name for path in out.glob("*") if not is_export(out) or path.suffix not in SUFFIXES]:
        raise ValueError(f"{out} holds something else than an export, {others[0]}: name another folder by --out")
    checkpoint = find_checkpoint(run, weights)
    content, config = read_checkpoint(checkpoint), read_config_beside(checkpoint)
    import_family(config)
    unfinished = out.with_name(f".{out.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    described: dict[str, Any] = {}
    with explain_mismatch(checkpoint):
        for name, recipe in content["recipes"].items():
            network = networks.from_recipe(recipe)
            network.load_state_dict(content["ema"][name])
            network.float().requires_grad_(False).eval()
            described[name] = _write(name, network, recipe, unfinished, also)
    classes = content["recipes"]["generator"]["arguments"].get("classes", 0)
    summary = read_summary(run) if run.is_dir() else {}
    written = {
        "format": FORMAT,
        "lab": __version__,
        "experiment": summary.get("experiment", run.parent.name),
        "command": " ".join(["gan-lab", *Run(run).words]) if run.is_dir() else "",
        "iteration": content["iteration"],
        "classes": class_names_in(config, classes),
        "data": summary.get("data", "unknown"),
        "scores": summary.get("scores", {}).get(weights, {}),
        "networks": described,
    }
    write_text(unfinished / CONFIG, json.dumps(written))
    write_text(unfinished / CARD, model_card.text(written))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return out


def _write(name: str, network: nn.Module, recipe: dict[str, Any], folder: Path, also: str) -> dict[str, Any]:
    """Write one network; return what the config says of it."""
    inputs, dynamic = example(network, recipe)
    traced, tensors = graph.trace(network, inputs, dynamic)
    save_file({**{key: value.contiguous() for key, value in network.state_dict().items()}, **tensors},
              folder / f"{name}.safetensors")  # fmt: skip
    if also == "torch":
        torch.export.save(graph.program(network, inputs, dynamic), folder / f"{name}.pt2")
    shapes = {key: list(value.shape[1:]) for key, value in inputs.items()}
    return {"recipe": recipe, "inputs": shapes, "graph": traced}


def example(network: Any, recipe: dict[str, Any]) -> tuple[dict[str, Tensor], list[int]]:
    """Inputs of a network by their names, and which of their sides may have another length.

    ``z`` [B, Z] latents and ``y`` [B, classes] weights of the classes; or ``image`` [B, C, H, W] in [-1, 1].
    """
    arguments = recipe["arguments"]
    if "z_dim" in arguments and not isinstance(network, Encoder):
        inputs = {"z": network.sample_latents(Stream(0, "export"), 2, like=torch.zeros(0))}
        if classes := arguments.get("classes"):
            inputs["y"] = torch.eye(classes)[[0, classes - 1]]
        return inputs, [0]
    channels, height, width = arguments["shape"]
    translator = "source_channels" in arguments
    shape = (2, arguments["source_channels"] if translator else channels, height, width)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image}, [0, 2, 3] if translator else [0]
