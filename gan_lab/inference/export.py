"""Export the networks of a run that make images: files that others can use, without the lab."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from gan_lab import __version__
from gan_lab.inference import model_card, onnx_export
from gan_lab.inference.sampling import TrainedGenerator
from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.runs import directions
from gan_lab.runs.ema_networks import EMANetworks, load_ema_networks
from gan_lab.runs.exports import CARD, CONFIG, FORMAT, read_source
from gan_lab.runs.run import Run
from gan_lab.runs.snapshots import hash_snapshot, is_snapshot
from gan_lab.utils import output
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import write_text

FORMATS = ("safetensors", "torch", "onnx")


def export(
    run: Path,
    out: Path,
    also: str = "safetensors",
    weights: str = "best",
    overwrite: bool = True,
    attach: Callable[[Path, EMANetworks], Sequence[str]] | None = None,
    directions_file: Path | None = None,
) -> Path:
    """Write the EMA networks of a run into a folder, for use without the lab; return the folder.

    The folder contains the weights, a model card and ``config.json``, which describes each network
    as a list of torch operations (checked against the network) and lists the files with their
    SHA-256. All files are written, or none.

    Args:
        run: A run folder, a checkpoint file, an export or a StyleGAN2 snapshot.
        out: The folder: new, empty, or an earlier export without other files.
        also: A format in addition to safetensors: ``torch`` (a program of ``torch.export``) or
            ``onnx``.
        weights: Of a run folder: best, last, raw or a number of training images.
        overwrite: Replace an earlier export.
        attach: Writes more files of the loaded networks into a folder, and returns their names for
            the card.
        directions_file: Latent directions of ``gan-lab directions`` to include. Default: those in
            the run folder or export, if they are of these weights.

    Raises:
        UserError: There is no checkpoint or no such format, ``out`` contains other files, or the
            directions are those of other weights.
    """
    if also not in FORMATS:
        raise UserError(f"Unknown export format: {also}. Choose {' or '.join(FORMATS)}")
    if also == "onnx":
        onnx_export.check_installed()
    # samples drawn from an earlier export stay in its folder
    earlier = output.OutputFiles(overwrite).check_folder(out) & output.read_export_files(out).keys()
    loaded = load_ema_networks(run, weights)
    found = _read_directions(directions_file, loaded)
    unfinished = _name_unfinished(out)
    with output.explain_write_error(out, unfinished), output.new_folder(unfinished):
        try:
            described = {
                name: _write(name, network, unfinished, also)
                for name, network in loaded.networks.items()
            }
            is_export = loaded.checkpoint.name == CONFIG
            published = Run(run).published() if run.is_dir() and not is_export else None
            # not those of the best checkpoint if the last one was exported instead
            scored = loaded.checkpoint.stem if run.is_dir() and weights == "best" else weights
            name = loaded.checkpoint.parent.name
            written: dict[str, Any] = {
                "format": FORMAT,
                "lab": __version__,
                "experiment": published.experiment if published else name,
                "command": _describe_command(published.command) if published else "",
                "iteration": loaded.iteration,
                "classes": loaded.class_names,
                "levels": loaded.levels,
                "degradation": asdict(loaded.degradation),
                "data": published.data_description if published else "unknown",
                "headline": published.headline if published else None,
                "scores": published.summary.get("scores", {}).get(scored, {}) if published else {},
                "networks": described,
            }
            if is_snapshot(run):
                written["experiment"] = run.stem
                written["source"] = {"file": run.name, "sha256": hash_snapshot(run)}
            elif is_export and (source := read_source(loaded.checkpoint)):
                # the license of the weights stays that of their authors
                written["source"] = source
            if found is not None:
                found.save(unfinished / directions.FILE_NAME)
                written["directions"] = found.names
            attachments = attach(unfinished, loaded) if attach else ()
            write_text(
                unfinished / CARD, model_card.format_card(written, also, attachments, loaded.is_raw)
            )
            written["files"] = output.hash_files(unfinished)
            write_text(unfinished / CONFIG, json.dumps(written))
            output.replace_folder(unfinished, out, earlier)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return out


def _describe_command(arguments: Sequence[str]) -> str:
    """Return the command that trains the weights, without overrides that do not change them."""
    kept = [word for word in arguments if not word.startswith(("log.", "run.root="))]
    return shlex.join(["gan-lab", *kept])


def _read_directions(file: Path | None, loaded: EMANetworks) -> directions.Directions | None:
    """Read the latent directions of an export; those of the run folder may not fit."""
    stored = file or directions.find_stored_directions(loaded.folder)
    if stored is None:
        return None
    found = directions.read_directions(stored)
    if file is None and found.source.get("digest") != loaded.compute_digest():
        return None
    # refuses directions of other weights
    TrainedGenerator(loaded).set_directions(found)
    return found


def _name_unfinished(out: Path) -> Path:
    """Name a temporary folder on the file system of ``out``, which may be a link."""
    name = f".gan-lab-{secrets.token_hex(8)}"
    return out / name if out.is_dir() else out.with_name(name)


def _write(name: str, network: Network, folder: Path, also: str) -> dict[str, Any]:
    """Write the files of a network; return its entry in the config."""
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
