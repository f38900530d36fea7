"""Find and read the checkpoints of a run safely. Needs torch, but not Lightning."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gan_lab.runs import exports, snapshots
from gan_lab.runs.run_search import suggest_runs
from gan_lab.utils.errors import UserError, first_line


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of this lab, an export or a StyleGAN2 snapshot.

    Only tensors and plain values are unpickled, so that no code in the file runs.

    Raises:
        UserError: The file is missing, damaged, or not a checkpoint of this lab.
    """
    if not path.is_file():
        raise UserError(
            f"There is no checkpoint {path}. Name a file in checkpoints/ of a run folder."
        )
    if path.name == exports.CONFIG:
        return exports.read_export(path)
    if snapshots.is_snapshot(path):
        return snapshots.read_snapshot(path)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if (
            not isinstance(checkpoint, dict)
            or not {"iteration", "ema", "recipes"} <= checkpoint.keys()
        ):
            raise UserError("it was not written by this lab")
        return checkpoint
    except pickle.UnpicklingError:
        reason = "it is not a complete file of plain tensors, and other pickles could run code"
    except Exception as error:
        # A damaged file can raise anything.
        reason = first_line(error)
    raise UserError(
        f"The checkpoint {path} is corrupt or not of this lab, nothing was loaded: {reason}"
    )


@contextmanager
def explain_mismatch(path: Path) -> Iterator[None]:
    """Convert the errors of loading a checkpoint that does not fit into a UserError of one line."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"The checkpoint of {path} does not fit this run or this lab: {first_line(error)}"
        ) from None


def latest_checkpoint(folder: Path) -> Path | None:
    """Find the latest readable checkpoint of a run folder, and warn about unreadable newer ones.

    Returns:
        The path; None if the folder has no checkpoint.

    Raises:
        UserError: There are checkpoints, and none can be read.
    """
    checkpoints = folder / "checkpoints"
    candidates = [
        *sorted(checkpoints.glob("iteration-*.ckpt"), reverse=True),
        checkpoints / "last.ckpt",
    ]
    present = [path for path in candidates if path.exists()]
    for path in present:
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            warnings.warn(f"Skipping a checkpoint: {error}", stacklevel=2)
    if present:
        raise UserError(
            f"No checkpoint in {checkpoints} can be read. Set run.overwrite=true to restart the "
            "run."
        )
    return None


def find_checkpoint(run: Path, weights: str = "best") -> Path:
    """Find the checkpoint of a run folder, or the config of an export; return a file as it is.

    Args:
        run: A run folder, an export or a file.
        weights: best, last, raw (the last checkpoint, for its weights without EMA), a number of
            training images, or another name of a checkpoint. A training that was stopped before
            its first evaluation has no best checkpoint: then it is the newest one, with a warning.

    Raises:
        UserError: There is no checkpoint.
    """
    if exports.has_config(run):
        return run / exports.CONFIG
    if not run.is_dir():
        path = run
    elif weights.isdecimal():
        path = _find_by_images(run, int(weights))
    else:
        name = "last" if weights == "raw" else weights
        path = run / "checkpoints" / f"{name}.ckpt"
        if name in ("best", "last") and not path.is_file():
            path = _find_newest(path)
            if weights == "best" and path.is_file():
                warnings.warn(
                    f"{run} has no best.ckpt, because it has not been evaluated yet. Using the "
                    f"newest checkpoint, {path.name}",
                    stacklevel=2,
                )
    if not path.is_file():
        if not (run / "config.yaml").is_file():
            remedy = suggest_runs(run)
        elif any((run / "checkpoints").glob("[!.]*.ckpt")):
            remedy = "Weights are best, last, raw, or a number of training images"
        else:
            remedy = "Train the run first"
        raise UserError(f"There is no checkpoint {path}. {remedy}")
    return path


def _find_newest(missing: Path) -> Path:
    """Return the newest checkpoint in the folder of a missing one; the missing one if none."""
    numbered = sorted(missing.parent.glob("iteration-*.ckpt"), reverse=True)
    candidates = [missing.with_name("last.ckpt"), *numbered]
    return next((path for path in candidates if path.is_file()), missing)


def _find_by_images(run: Path, images: int) -> Path:
    """Find the checkpoint after a number of training images. Raises UserError if there is none."""
    # run.py imports this module
    from gan_lab.runs.run import Run

    opened = Run(run)
    batch_size = int(opened.values["data.batch_size"])
    # last.ckpt is one of the numbered ones
    paths = [path for name, path in opened.checkpoints.items() if name != "last"]
    by_images = {read_checkpoint(path)["iteration"] * batch_size: path for path in paths}
    if images not in by_images:
        present = ", ".join(f"{count:,}" for count in sorted(by_images)) or "none"
        raise UserError(
            f"{run} has no checkpoint after {images:,} images. Choose one of: {present}"
        )
    return by_images[images]
