"""The run folder: its name, its config, its lock, and what may differ when a run goes on."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from gan_lab.config.loading import LoadedConfig, parse
from gan_lab.config.schema import USER_FOLDERS, Config, leaves
from gan_lab.runs.environment import describe_environment
from gan_lab.runs.results import WEIGHTS, read_summary
from gan_lab.utils.errors import UserError, first_line
from gan_lab.utils.files import MARKER, write_text

# Keys that do not make another run: how long, where, how it is watched; so do all of log. and health.
RESUMABLE_KEYS = (
    "run.images",
    "run.id",
    "run.root",
    "run.overwrite",
    "run.devices",
    "run.num_nodes",
    "run.timeout_s",
    "data.root",
    "data.workers",
    "data.device_gb",
    "data.class_names",
    "metrics.inception_weights",
    "metrics.dinov2_weights",
    "metrics.clip_weights",
)


@dataclass(frozen=True)
class RunFolder:
    """The folder ``<run.root>/<experiment>/<run id>`` of one training."""

    path: Path

    @classmethod
    def of(cls, loaded: LoadedConfig) -> RunFolder:
        """The folder in which this config is trained."""
        return cls(Path(loaded.config.run.root) / loaded.experiment / run_id(loaded))

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def experiment(self) -> str:
        """The name of the experiment, which is that of the folder above."""
        return self.path.resolve().parent.name

    @property
    def has_config(self) -> bool:
        """True if a training has begun here."""
        return (self.path / "config.yaml").is_file()

    def config(self) -> Config:
        """Read the config of the run. Raises UserError if the folder is not a run."""
        path = self.path / "config.yaml"
        if not path.is_file():
            raise UserError(f"{self.path} is not a run folder: it has no config.yaml")
        try:
            return parse([OmegaConf.load(path)])
        except ValueError:
            raise
        except Exception as error:  # the YAML reader has many
            raise UserError(f"{path} is damaged: {first_line(error)}") from None

    def prepare(self, config: Config, overrides: Sequence[str], fingerprint: str = "", about: str = "") -> None:
        """Make the folder, or check that it holds this very run on the data of this fingerprint.

        ``about`` is the line about the data, their licence with it.

        Raises UserError if it holds a run of another config (naming each difference), of other data or something else,
        OSError if it cannot be written.
        """
        folder = self.path
        if config.run.overwrite and self.has_config:
            shutil.rmtree(folder)
        if folder.is_dir() and any(folder.iterdir()):
            if not self.has_config:
                raise UserError(f"{folder} exists and is not a run folder: choose another run.id or run.root")
            differing = differences(self.config(), config)
            if differing:
                raise UserError(
                    f"{folder} is a run of another config ({'; '.join(differing)}): "
                    "run.id=... starts a second run, run.overwrite=true replaces this one"
                )
            self.check_data(fingerprint)
        mark(Path(config.run.root))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", OmegaConf.to_yaml(to_dict(config)))
        with (folder / "command.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {shlex.join(['gan-lab', *overrides])}\n")
        write_text(folder / "environment.txt", describe_environment())
        write_text(folder / "data.txt", f"{fingerprint}\n{about}\n")

    def check_data(self, fingerprint: str) -> None:
        """Raise UserError if the run began with other data: what it learned from could be held out now."""
        known = self.path / "data.txt"
        before = known.read_text(encoding="utf-8").partition("\n")[0] if known.is_file() else fingerprint
        if before != fingerprint:
            raise UserError(
                f"the data of {self.path} have changed since it began (fingerprint {before}, now {fingerprint}): put them "
                "back, or train anew by run.id=... or run.overwrite=true"
            )

    def finished(self, config: Config) -> dict[str, Any] | None:
        """The summary of a run that has spent this config's budget and has all scores; None if it has not, or is another."""
        summary = read_summary(self.path)
        if summary.get("iteration", 0) < config.iterations or not WEIGHTS.keys() <= summary.get("scores", {}).keys():
            return None
        return None if differences(self.config(), config) else summary

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to train in this folder. Raises UserError if another process has it."""
        path = self.path.with_name(f".{self.path.name}.lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process: wait, or choose another run.id"
            ) from None
        except OSError as error:
            raise OSError(f"{path.parent} cannot be written ({error.strerror}): choose another run.root") from None
        try:
            yield
        finally:
            lock.release()


# ---------------------------------------------------------------------------------------------------------------------
# names


def is_resumable(key: str) -> bool:
    """True if a run may go on with another value of this key."""
    return key in RESUMABLE_KEYS or key.startswith(("log.", "health."))


def run_id(loaded: LoadedConfig) -> str:
    """``run.id``, or a readable slug of what the command line overrode, and the seed; never the clock."""
    name = loaded.config.run.id
    if name:
        if name in (".", "..") or Path(name).name != name:
            raise UserError(f"run.id={name} must be the name of a folder, without '/'; run.root says where it lies")
        return name
    values = dict(leaves(loaded.config))
    overridden = [key for key, origin in loaded.origin.items() if origin == "command line"]
    words = [f"{key.removeprefix('model.')}={_short(values[key])}" for key in sorted(overridden) if key in values
             and not is_resumable(key) and key != "run.seed"]  # fmt: skip
    words = [*(f"{group}={member}" for group, member in sorted(loaded.groups.items())), *words]
    data = loaded.config.data
    if "data.root" in overridden and data.name in USER_FOLDERS and data.source != "sample":
        words.append(f"root={Path(data.root).resolve().name}")
    slug = re.sub(r"[^\w.=,-]+", "_", "-".join([*words, f"seed{loaded.config.run.seed}"]))
    return slug if len(slug) <= 100 else f"{slug[:88]}-{hashlib.sha256(slug.encode()).hexdigest()[:10]}"


def _short(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple | list) else str(value)


def mark(root: Path) -> None:
    """Make ``run.root``; a hidden file in a new one says that it holds runs of the lab, and no data."""
    if not root.exists():
        root.mkdir(parents=True)
        (root / MARKER).touch()


# ---------------------------------------------------------------------------------------------------------------------
# configs


def to_dict(config: Config) -> dict[str, Any]:
    """Convert a config to plain containers, tuples to lists."""
    container: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return container


def differences(before: Config, now: Config) -> list[str]:
    """The keys that make these two different runs, each as 'key: before -> now'."""
    if now.data.source == "auto":  # a run goes on with the data it began with
        now = replace(now, data=replace(now.data, source=before.data.source))
    old, new = dict(leaves(to_dict(before))), dict(leaves(to_dict(now)))
    keys = sorted(key for key in old.keys() | new.keys() if not is_resumable(key) and old.get(key) != new.get(key))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys]
