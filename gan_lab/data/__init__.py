"""Data sets. The file name is the registry: ``data.name=mnist`` is ``mnist.py`` with its function ``decode``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_lab.config.extensions import find_extension
from gan_lab.config.schema import DataConfig
from gan_lab.data import from_python
from gan_lab.data.base import GANDataModule
from gan_lab.data.image_files import seen as seen_in
from gan_lab.images import ImageSpec
from gan_lab.utils.errors import UserError


def names() -> list[str]:
    """Every data set, found without importing it: the files with a function ``decode``."""
    folder = Path(__file__).parent
    files = [path for path in folder.glob("*.py") if not path.name.startswith(".")]
    return sorted(
        path.stem for path in files if "\ndef decode(" in path.read_text(encoding="utf-8")
    )


def lies_in_root(name: str) -> bool:
    """True if the set is files under ``data.root``, and neither drawn nor a package's."""
    if name == from_python.NAME:
        return False
    module = find_extension("data", "data set", name, names(), "decode")
    return name in ("folder", "huggingface") or hasattr(module, "is_present")


def load(cfg: DataConfig, seed: int, dataset: Any = None, test: Any = None) -> GANDataModule:
    """Build the data module of ``cfg.name``, or of a data set that is passed from Python.

    Args:
        cfg: The keys under ``data:``.
        seed: The seed of the run, which decides the order of the training images.
        dataset: A data set as ``from_python.decode_dataset`` takes it. ``data.name`` is then ``python``, whatever the
            config says.
        test: A data set that is held out, next to ``dataset``.

    Raises:
        UserError: for an unknown name, data that is not available, and ``data.name=python`` without a data set.
    """
    if dataset is not None:
        cfg = replace(cfg, name=from_python.NAME)
        _check_attributes(cfg)
        return GANDataModule(from_python.decode_dataset(dataset, cfg, test), cfg, seed)
    if test is not None:
        raise UserError("test= is given without data=. Pass both.")
    if cfg.name == from_python.NAME:
        raise UserError(
            "data.name=python: the data set was passed from Python and is not stored with the run. Pass it again: "
            "gan_lab.open_run(path).restore(data=...), or gan_lab.train(experiment, data=...) to train."
        )
    _check_attributes(cfg)
    module = find_extension("data", "data set", cfg.name, names(), "decode")
    if cfg.source == "auto" and cfg.root != DataConfig().root and hasattr(module, "is_present"):
        _check_place(cfg, module)
    decoded = module.decode(cfg)
    _check_shape(cfg, decoded.spec)
    return GANDataModule(decoded, cfg, seed)


def _check_attributes(cfg: DataConfig) -> None:
    """Raise UserError for attributes of a shipped data set that has none: its labels would be other ones."""
    if cfg.attributes and cfg.name != "celeba" and cfg.name in (*names(), from_python.NAME):
        raise UserError(
            f"data.attributes={','.join(cfg.attributes)}: data.name={cfg.name} has no attributes. Use data.name=celeba, or "
            "remove data.attributes."
        )


def _check_shape(cfg: DataConfig, spec: ImageSpec) -> None:
    """Raise UserError if the images are not what somebody asked for: most sets have one shape and one kind of colour."""
    if cfg.channels not in (None, spec.channels):
        raise UserError(
            f"data.channels={cfg.channels}: the images of data.name={cfg.name} have {spec.channels}"
        )
    if cfg.shape != (spec.height, spec.width) and spec.content != "points":
        height, width = cfg.shape
        raise UserError(
            f"data.size={height}x{width}: the images of data.name={cfg.name} are here {spec.height} high and {spec.width} "
            "wide; folder, pairs and horse2zebra take one's own images of any shape"
        )


def _check_place(cfg: DataConfig, module: Any) -> None:
    """Raise UserError if the place that somebody named does not hold the set: a sample is no stand-in there, and nothing
    is written into it.
    """
    root = Path(cfg.root)
    if root.exists() and module.is_present(root):
        return
    seen = f"holds no {cfg.name} (seen: {seen_in(root)})" if root.is_dir() else "is no such folder"
    others = [f"data.source=full downloads {cfg.name} into it"] if module.DOWNLOADS else []
    others += [f"data.source=sample takes {module.SAMPLE} instead"] if module.SAMPLE else []
    raise UserError(
        f"data.root={cfg.root} {seen}. There should be {module.LAYOUT}; {', '.join(others)}"
    )
