"""Export the networks of a run that make images: files that others can use, without the lab."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from gan_lab import __version__
from gan_lab.inference import model_card, onnx_export
from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.runs.exports import CARD, CONFIG, FORMAT, is_export
from gan_lab.runs.run import Run
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

FORMATS = ("safetensors", "torch", "onnx")
SUFFIXES = (
    ".json",
    ".md",
    ".safetensors",
    ".pt2",
    ".onnx",
)  # of what an export writes, and may replace
PAGE, PICTURE = "report.html", "samples.png"  # which an export may contain


def export(run: Path, out: Path, also: str = "safetensors", weights: str = "best") -> Path:
    """Write the EMA networks of a run into a folder: weights, ``config.json`` and a model card; return the folder.

    The config has each network as a list of operations too, checked against it, which runs without
    the lab. With ``also="torch"`` a program of ``torch.export`` is added for each, with
    ``also="onnx"`` an ONNX file. Raises UserError for a run without a checkpoint, another format,
    and a folder that holds something else.
    """
    if also not in FORMATS:
        raise UserError(f"format={also}: there are {', '.join(FORMATS)}")
    if also == "onnx":
        onnx_export.check_installed()
    known = is_export(out)
    if others := [path.name for path in out.glob("*") if not known or not _is_ours(path)]:
        raise UserError(
            f"{out} holds something else than an export, {others[0]}: name another folder by --out"
        )
    loaded = load_ema_networks(run, weights)
    unfinished = out.with_name(f".{out.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    described = {
        name: _write(name, network, unfinished, also) for name, network in loaded.networks.items()
    }
    published = Run(run).published() if run.is_dir() else None
    written = {
        "format": FORMAT,
        "lab": __version__,
        "experiment": published.experiment if published else run.parent.name,
        "command": shlex.join(["gan-lab", *published.command]) if published else "",
        "iteration": loaded.iteration,
        "classes": loaded.class_names,
        "levels": loaded.levels,
        "data": published.data_description if published else "unknown",
        "scores": published.summary.get("scores", {}).get(weights, {}) if published else {},
        "networks": described,
    }
    write_text(unfinished / CONFIG, json.dumps(written))
    write_text(unfinished / CARD, model_card.text(written, also))
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)
    return out


def _is_ours(path: Path) -> bool:
    return path.suffix in SUFFIXES or path.name in (PAGE, PICTURE)


def _write(name: str, network: Network, folder: Path, also: str) -> dict[str, Any]:
    """Write one network; return what the config says of it."""
    inputs, dynamic = graph.make_example_inputs(network)
    traced, tensors = graph.trace(network, inputs, dynamic)
    weights = {
        **{key: value.contiguous() for key, value in network.state_dict().items()},
        **tensors,
    }
    (folder / f"{name}.safetensors").write_bytes(
        save(weights)
    )  # save_file would keep others from reading it
    if also == "torch":
        torch.export.save(graph.export_program(network, inputs, dynamic), folder / f"{name}.pt2")
    if also == "onnx":
        onnx_export.write(network, inputs, dynamic, folder / f"{name}.onnx")
    shapes = {key: list(value.shape[1:]) for key, value in inputs.items()}
    return {"recipe": network.recipe, "inputs": shapes, "graph": traced}
