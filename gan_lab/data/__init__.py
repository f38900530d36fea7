"""Data sets, found by file name: ``data.name=mnist`` is the function ``decode`` in ``mnist.py``."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lab.config.extensions import find_extension, list_data_sets
from gan_lab.config.schema import USER_FOLDERS, DataConfig
from gan_lab.data import from_python
from gan_lab.data.base import GANDataModule
from gan_lab.data.image_files import IMAGE_SUFFIXES, count_suffixes
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError


def names() -> list[str]:
    """List the data sets, without importing them."""
    return list_data_sets()


def lies_in_root(name: str) -> bool:
    """True if the set consists of files in ``data.root``, and is not generated or in a package."""
    if name == from_python.DATA_NAME:
        return False
    module = find_extension("data", "data set", name, names(), "decode")
    return name in USER_FOLDERS or hasattr(module, "is_present")


def load(
    cfg: DataConfig, seed: int, dataset: Any = None, test: Any = None, is_recorded: bool = False
) -> GANDataModule:
    """Build the data module of ``cfg.name``, or of a data set that is passed from Python.

    Args:
        cfg: The keys under ``data:``.
        seed: The seed of the run, which decides the order of the training images.
        dataset: A data set for ``from_python.decode_dataset``. It overrides ``data.name``.
        test: A held-out data set, in addition to ``dataset``.
        is_recorded: The keys are those of an existing run: warn of a ``data.root`` that is not
            read.

    Raises:
        UserError: The name is unknown, the data are not available, or ``data.name=python`` has no
            data set.
    """
    if dataset is not None:
        cfg = replace(cfg, name=from_python.DATA_NAME)
        _check_attributes(cfg)
        return GANDataModule(from_python.decode_dataset(dataset, cfg, test), cfg, seed)
    if test is not None:
        raise UserError("test= is given without data=. Pass both.")
    if cfg.name == from_python.DATA_NAME:
        raise UserError(
            "data.name=python: the data set was passed from Python and is not stored with the run. "
            "Pass it again: gan_lab.open_run(path).restore(data=...), or "
            "gan_lab.train(experiment, data=...) to train."
        )
    _check_attributes(cfg)
    module = find_extension("data", "data set", cfg.name, names(), "decode")
    if cfg.source == "auto" and cfg.root != DataConfig().root and hasattr(module, "is_present"):
        _check_root(cfg, module)
    is_typed = cfg.root != DataConfig().root and cfg.name in names()
    if is_typed and (cfg.source == "sample" or not lies_in_root(cfg.name)):
        problem = _explain_unused_root(cfg)
        if problem and not is_recorded:
            raise UserError(problem)
        if problem:
            warnings.warn(problem, stacklevel=2)
    decoded = module.decode(cfg)
    _check_shape(cfg, decoded.spec)
    return GANDataModule(decoded, cfg, seed)


def _check_attributes(cfg: DataConfig) -> None:
    """Raise UserError for attributes of a built-in data set that has none."""
    if cfg.attributes and cfg.name != "celeba" and cfg.name in (*names(), from_python.DATA_NAME):
        raise UserError(
            f"data.attributes={','.join(cfg.attributes)}: data.name={cfg.name} has no attributes. "
            "Use data.name=celeba, or remove data.attributes."
        )


def _check_shape(cfg: DataConfig, spec: ImageSpec) -> None:
    """Raise UserError if a data set does not support the configured shape or number of channels."""
    if cfg.channels not in (None, spec.channels):
        raise UserError(
            f"data.channels={cfg.channels}: the images of data.name={cfg.name} have "
            f"{spec.channels} {'channel' if spec.channels == 1 else 'channels'}. Remove "
            "data.channels."
        )
    if cfg.shape != (spec.height, spec.width) and spec.content != "points":
        height, width = cfg.shape
        raise UserError(
            f"data.size={height}x{width}: data.name={cfg.name} supports {spec.height}x{spec.width} "
            "(height x width). For your own images of any shape, use data.name=folder, pairs or "
            "horse2zebra."
        )


def _explain_unused_root(cfg: DataConfig) -> str:
    """Say why ``data.root`` of a data set that does not read it may be a mistake; '' if it is none.

    An existing folder without images is accepted, for the decoded-image cache.
    """
    root = Path(cfg.root)
    if not root.exists():
        problem = f"data.root={cfg.root} does not exist, and"
    elif not root.is_dir():
        problem = f"data.root={cfg.root} is a file, but"
    # photos, or class folders of photos
    elif any(
        path.suffix.lower() in IMAGE_SUFFIXES
        for pattern in ("*", "*/*")
        for path in root.glob(pattern)
    ):
        problem = f"data.root={cfg.root} contains images, but"
    else:
        return ""
    if lies_in_root(cfg.name):
        return (
            f"{problem} data.source=sample does not read data.root. Remove data.source=sample to "
            f"read it, or set data.root={DataConfig().root}."
        )
    return (
        f"{problem} data.name={cfg.name} is not read from data.root. Set "
        f"data.root={DataConfig().root}, or use data.name=folder for your own images."
    )


def _check_root(cfg: DataConfig, module: Any) -> None:
    """Raise UserError if the user's ``data.root`` does not contain the data set.

    A mistyped folder must neither be replaced by the sample nor be filled by a download.
    """
    root = Path(cfg.root)
    if root.exists() and module.is_present(root):
        return
    problem = "does not exist"
    if root.is_dir():
        problem = f"does not contain {cfg.name} (found: {count_suffixes(root)})"
    options = []
    if module.DOWNLOADS:
        options.append(f"download {cfg.name} into it with data.source=full")
    if module.SAMPLE:
        options.append(f"use {module.SAMPLE} with data.source=sample data.root={DataConfig().root}")
    alternatives = f" Or {', or '.join(options)}." if options else ""
    raise UserError(f"data.root={cfg.root} {problem}. Expected {module.LAYOUT}.{alternatives}")
