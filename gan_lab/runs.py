"""The run folder: its name, what may differ when a run goes on, its checkpoints. Needs torch, but not Lightning."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from gan_lab.config import Loaded, parse
from gan_lab.schema import Config, leaves

# Keys that do not make another run: how long, where, how it is watched.
FREE = (
    "run.images",
    "run.id",
    "run.root",
    "run.overwrite",
    "run.devices",
    "run.num_nodes",
    "run.timeout",
    "data.root",
    "data.workers",
    "data.device_gb",
    "data.class_names",
    "metrics.inception_weights",
)
MARK = ".gan-lab"  # lies in folders that the lab has made
OWN = ("folder", "pairs", "horse2zebra")  # data sets of which data.root is the user's own folder
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "omegaconf", "numpy", "wandb")


def is_free(key: str) -> bool:
    """Whether a run may go on with another value of this key."""
    return key in FREE or key.startswith(("log.", "health."))


def run_id(loaded: Loaded) -> str:
    """``run.id``, or a readable slug of what the command line overrode, and the seed; never the clock."""
    name = loaded.config.run.id
    if name:
        if name in (".", "..") or Path(name).name != name:
            raise ValueError(f"run.id={name} must be the name of a folder, without '/'; run.root says where it lies")
        return name
    values = dict(leaves(loaded.config))
    overridden = [key for key, origin in loaded.origin.items() if origin == "command line"]
    words = [f"{key.removeprefix('model.')}={_short(values[key])}" for key in sorted(overridden) if key in values
             and not is_free(key) and key != "run.seed"]  # fmt: skip
    words = [*(f"{group}={member}" for group, member in sorted(loaded.groups.items())), *words]
    data = loaded.config.data
    if "data.root" in overridden and data.name in OWN and data.source != "sample":
        words.append(f"root={Path(data.root).resolve().name}")
    slug = re.sub(r"[^\w.=,-]+", "_", "-".join([*words, f"seed{loaded.config.run.seed}"]))
    return slug if len(slug) <= 100 else f"{slug[:88]}-{hashlib.sha256(slug.encode()).hexdigest()[:10]}"


def _short(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple | list) else str(value)


def folder_of(loaded: Loaded) -> Path:
    """``<run.root>/<experiment>/<run id>``."""
    return Path(loaded.config.run.root) / loaded.experiment / run_id(loaded)


def prepare(folder: Path, config: Config, words: Sequence[str], fingerprint: str = "") -> None:
    """Make the folder, or check that what is in it is this very run, on the data of this fingerprint.

    Raises ValueError if it holds a run of another config (naming each difference), of other data or something else,
    OSError if it cannot be written.
    """
    if config.run.overwrite and (folder / "config.yaml").is_file():
        shutil.rmtree(folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / "config.yaml").is_file():
            raise ValueError(f"{folder} exists and is no run folder: choose another run.id or run.root")
        differing = differences(read_config(folder), config)
        if differing:
            raise ValueError(
                f"{folder} is a run of another config ({'; '.join(differing)}): "
                "run.id=... starts a second run, run.overwrite=true replaces this one"
            )
        check_data(folder, fingerprint)
    mark(Path(config.run.root))
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write(folder / "config.yaml", OmegaConf.to_yaml(plain(config)))
    with (folder / "command.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  gan-lab {' '.join(words)}\n")
    write(folder / "environment.txt", environment())
    write(folder / "data.txt", f"{fingerprint}\n")


def mark(root: Path) -> None:
    """Make ``run.root``; one that is new says by a hidden file that what lies in it is the lab's, and no data."""
    if not root.exists():
        root.mkdir(parents=True)
        (root / MARK).touch()


def check_data(folder: Path, fingerprint: str) -> None:
    """Raise ValueError if a run began with other data: what it learned from could be held out now."""
    known = folder / "data.txt"
    before = known.read_text(encoding="utf-8").strip() if known.is_file() else fingerprint
    if before != fingerprint:
        raise ValueError(
            f"the data of {folder} have changed since it began (fingerprint {before}, now {fingerprint}): put them back, "
            "or train anew by run.id=... or run.overwrite=true"
        )


def plain(config: Config) -> dict[str, Any]:
    """A config as plain containers, tuples as lists."""
    container: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return container


def read_config(folder: Path) -> Config:
    """The config of a run. Raises ValueError if the folder is not a run."""
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder: it has no config.yaml")
    try:
        return parse([OmegaConf.load(path)])
    except ValueError:
        raise
    except Exception as error:  # the YAML reader has many
        raise ValueError(f"{path} is damaged: {str(error).splitlines()[0]}") from None


def differences(before: Config, now: Config) -> list[str]:
    """The keys that make these two different runs, each as 'key: before -> now'."""
    if now.data.source == "auto":  # a run goes on with the data it began with
        now = replace(now, data=replace(now.data, source=before.data.source))
    old, new = dict(leaves(plain(before))), dict(leaves(plain(now)))
    keys = sorted(key for key in old.keys() | new.keys() if not is_free(key) and old.get(key) != new.get(key))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys]


def write(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text, encoding="utf-8", errors="surrogateescape")  # names that are no text
    os.replace(unfinished, path)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that may be written at this moment: none without the file, and no last one that is cut off."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))


def environment() -> str:
    """Versions and the machine, one line each."""
    lines = [f"python {platform.python_version()}", f"platform {platform.platform()}"]
    lines += [f"{name} {metadata.version(name)}" for name in PACKAGES]
    lines += [f"cores {os.cpu_count()}", f"threads {torch.get_num_threads()}", f"executable {sys.executable}"]
    lines += [f"gpu {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return "\n".join(lines) + "\n"


def summary(folder: Path) -> dict[str, Any]:
    """What ``summary.json`` holds; empty if the run has not ended yet."""
    path = folder / "summary.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return loaded


def finished(folder: Path, config: Config) -> dict[str, Any] | None:
    """The summary of a run that has spent this config's budget; None if it has not, or is another run."""
    ended = summary(folder)
    if (
        not {"iteration", "scores"} <= ended.keys()
        or ended["iteration"] < config.iterations
        or differences(read_config(folder), config)
    ):
        return None
    return ended


def locked(folder: Path) -> FileLock:
    """The right to train in this folder, until it is released or the process ends. Raises ValueError if it is taken."""
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is being trained by another process: wait, or choose another run.id") from None
    except OSError as error:
        raise OSError(f"{folder.parent} cannot be written ({error.strerror}): choose another run.root") from None
    return lock


# ---------------------------------------------------------------------------------------------------------------------
# checkpoints


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of this lab. Raises ValueError in one line if it is not there, torn, or holds more than tensors."""
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict) or not {"iteration", "ema", "recipes"} <= checkpoint.keys():
            raise ValueError("it was not written by this lab")
        return checkpoint
    except pickle.UnpicklingError:
        reason = "it is no whole file of plain tensors, and other pickles could run code"
    except Exception as error:  # a torn file can raise anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    raise ValueError(f"checkpoint {path} is corrupt or not of this lab, nothing was loaded: {reason}")


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Inside, what a checkpoint that can be read but does not fit raises becomes a ValueError in one line."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"the checkpoint of {path} does not fit this run or this lab: {reason}") from None


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a run that can be read; newer ones that cannot are passed over with a warning.

    Raises ValueError if there are checkpoints and none can be read.
    """
    checkpoints = folder / "checkpoints"
    every = [*sorted(checkpoints.glob("iteration-*.ckpt"), reverse=True), checkpoints / "last.ckpt"]
    present = [path for path in every if path.exists()]
    for path in present:
        try:
            read(path)
            return path
        except ValueError as error:
            warnings.warn(f"passed over: {error}", stacklevel=2)
    if present:
        raise ValueError(f"no checkpoint in {checkpoints} can be read: run.overwrite=true starts the run anew")
    return None


def checkpoint_of(run: Path, weights: str = "best") -> Path:
    """The checkpoint of a run folder (``weights``: best or last), or the file itself.

    Raises ValueError if there is none.
    """
    path = run / "checkpoints" / f"{weights}.ckpt" if run.is_dir() else run
    if not path.is_file():
        raise ValueError(
            f"there is no checkpoint {path}: train the run first, or name its folder runs/<experiment>/<id>"
        )
    return path
