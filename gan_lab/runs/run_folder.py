"""Name, create and lock the run folder of a training. ``run.py`` reads it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gan_lab.config import plain_yaml
from gan_lab.config.loading import LoadedConfig
from gan_lab.config.renames import RUN_FORMAT
from gan_lab.config.schema import USER_FOLDERS, Config, list_leaves
from gan_lab.config.values import format_value
from gan_lab.runs.environment import describe_environment, is_started_by_make
from gan_lab.runs.results import WEIGHTS
from gan_lab.runs.run import MAKE_MARK, Run
from gan_lab.runs.run_files import clear_run
from gan_lab.runs.run_lock import is_locked, lock_path
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import MARKER_NAME, make_file_name, write_text

# A file name has up to 255 bytes, and the lock file has a longer name than the folder.
MAX_RUN_ID_BYTES = 240
# Keys that may change when a run resumes, because they do not change its results up to that point.
# All keys under log. and health. may change too.
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
    "data.layout",
    "data.levels",
    "metrics.inception_weights",
    "metrics.dinov2_weights",
    "metrics.clip_weights",
)
# Resumable keys that say how the data are read. Another reading has another fingerprint, so a run
# resumes only with its own data. A user who sets them wants another run.
READING_KEYS = ("data.layout", "data.levels")
# lock files that this process holds
_held_locks: set[Path] = set()


@dataclass(frozen=True)
class RunFolder:
    """The folder ``<run.root>/<experiment>/<run id>`` of one training."""

    path: Path

    @classmethod
    def of(cls, loaded: LoadedConfig) -> RunFolder:
        """Return the folder in which this config is trained."""
        return cls(Path(loaded.config.run.root) / loaded.experiment / run_id(loaded))

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.name

    @property
    def experiment(self) -> str:
        """The name of the experiment, which is the name of the parent folder."""
        return self.path.resolve().parent.name

    @property
    def has_config(self) -> bool:
        """True if a training has begun in this folder."""
        return (self.path / "config.yaml").is_file()

    @property
    def is_run(self) -> bool:
        """True for a run. Many programs have a config.yaml."""
        return self.has_config and (self.path / "checkpoints").is_dir()

    def prepare(
        self, config: Config, overrides: Sequence[str], fingerprint: str = "", about: str = ""
    ) -> None:
        """Create the folder, or check that its run has this config and this data.

        Args:
            config: The config of the training.
            overrides: The arguments of the command line, for ``command.txt``.
            fingerprint: The fingerprint of the data.
            about: One line that describes the data and their license.

        Raises:
            UserError: The folder has a run with another config or other data, is not a run folder,
                or contains a file of the user that run.overwrite would delete.
            OSError: The folder cannot be written.
        """
        folder = self.path
        if config.run.overwrite and self.is_run:
            clear_run(folder)
        if folder.is_dir() and any(folder.iterdir()):
            if not self.is_run:
                raise UserError(
                    f"{folder} exists and is not a run folder. Choose another run.id or run.root."
                )
            run = Run(folder)
            differing = find_differences(run.config, config)
            if differing:
                raise UserError(
                    f"{folder} is a run with another config: {'; '.join(differing)}. Set "
                    "run.id=... to start a second run, or run.overwrite=true to replace this one."
                )
            run.check_data(fingerprint)
        mark(Path(config.run.root))
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        tree = {"format": RUN_FORMAT} | to_dict(config)
        write_text(folder / "config.yaml", plain_yaml.write(tree))
        with (folder / "command.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  "
                f"{MAKE_MARK if is_started_by_make() else ''}"
                f"{shlex.join(['gan-lab', *overrides])}\n"
            )
        write_text(folder / "environment.txt", describe_environment())
        write_text(folder / "data.txt", f"{fingerprint}\n{about}\n")

    def finished(self, config: Config) -> Run | None:
        """Return the run of this folder if it has used this config's budget and has all scores.

        Otherwise, and for a run with another config, return None.
        """
        if not self.has_config:
            return None
        run = Run(self.path)
        spent = run.summary.get("iteration", 0) >= config.iterations
        if not spent or not WEIGHTS.keys() <= run.summary.get("scores", {}).keys():
            return None
        return None if find_differences(run.config, config) else run

    @property
    def is_locked_elsewhere(self) -> bool:
        """True if another process on this machine is training this run."""
        return lock_path(self.path) not in _held_locks and is_locked(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this folder during a training.

        Raises:
            UserError: Another process has locked it.
            OSError: The lock file cannot be written.
        """
        path = lock_path(self.path)
        lock = FileLock(path)
        try:
            # before the folder of the lock: only a new root is marked
            mark(self.path.parent.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another process is training {self.path}. Wait, or choose another run.id."
            ) from None
        except OSError as error:
            raise OSError(
                f"{self.path.parent} cannot be written: {error.strerror}. Choose another run.root."
            ) from None
        _held_locks.add(path)
        try:
            yield
        finally:
            _held_locks.discard(path)
            lock.release()


# --------------------------------------------------------------------------------------------------
# names


def name_run(folder: Path) -> str:
    """Return ``experiment/id`` of a run folder, which contains no path of this machine."""
    return "/".join(folder.resolve().parts[-2:])


def is_resumable(key: str) -> bool:
    """Return True if a run may resume with another value of this key."""
    return key in RESUMABLE_KEYS or key.startswith(("log.", "health."))


def defines_results(key: str) -> bool:
    """Return True if results with another value of this key are not comparable."""
    return key == "run.images" or _names_outputs(key)


def _names_outputs(key: str) -> bool:
    """Return True if runs and outputs are named after this key when the user sets it."""
    return key in READING_KEYS or not is_resumable(key)


def run_id(loaded: LoadedConfig) -> str:
    """Return ``run.id``, or a readable slug of the overrides and the seed.

    The slug contains no time, so that the same command resumes the same run.

    Raises:
        UserError: ``run.id`` is not the name of a folder.
    """
    name = loaded.config.run.id
    if name:
        if name in (".", "..") or Path(name).name != name:
            raise UserError(
                f"run.id={name} is not the name of a folder. Omit '/', and set run.root to choose "
                "the parent folder."
            )
        if len(os.fsencode(name)) > MAX_RUN_ID_BYTES:
            raise UserError(
                f"run.id={name[:40]}… has {len(os.fsencode(name))} bytes, more than "
                f"{MAX_RUN_ID_BYTES}. Choose a shorter name"
            )
        return name
    values = dict(list_leaves(loaded.config))
    overridden = _list_overridden(loaded)
    parts = [f"{group}={member}" for group, member in sorted(loaded.groups.items())]
    for key in sorted(overridden):
        if key in values and _names_outputs(key) and key != "run.seed":
            parts.append(f"{key.removeprefix('model.')}={_format_short(values[key])}")
    data = loaded.config.data
    if "data.root" in overridden and data.name in USER_FOLDERS and data.source != "sample":
        parts.append(f"root={Path(data.root).resolve().name}")
    parts.append(f"seed{loaded.config.run.seed}")
    return make_file_name("-".join(parts))


def name_output(prefix: str, loaded: LoadedConfig, groups: Sequence[str]) -> str:
    """Return the name of an output file that distinguishes the data and options it depends on.

    Args:
        prefix: The start of the name.
        loaded: The config.
        groups: Groups of keys that it depends on, such as ``data``.
    """
    values = dict(list_leaves(loaded.config))
    parts = [prefix]
    for group, member in sorted(loaded.groups.items()):
        if group in groups and member not in prefix.split("-"):
            parts.append(f"{group}={member}")
    for key in sorted(_list_overridden(loaded)):
        group, _, name = key.partition(".")
        if group not in groups or key == "data.name":
            continue
        if key == "data.root" and loaded.config.data.name in USER_FOLDERS:
            root = Path(values[key]).resolve()
            digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
            parts.append(f"root={root.name}-{digest}")
        elif _names_outputs(key):
            parts.append(f"{name}={_format_short(values[key])}")
    return make_file_name("-".join(parts))


def _list_overridden(loaded: LoadedConfig) -> list[str]:
    """List the keys that are set on the command line, except those that change nothing."""
    return [
        key
        for key, origin in loaded.origin.items()
        if origin == "command line" and key not in loaded.redundant
    ]


def _format_short(value: Any) -> str:
    """Format a value for a file name. The form never changes: runs are found by their names."""
    return ",".join(str(item) for item in value) if isinstance(value, tuple | list) else str(value)


def mark(root: Path) -> None:
    """Create ``run.root`` with a hidden file, so that its images are not read as training data."""
    if not root.exists():
        root.mkdir(parents=True)
        (root / MARKER_NAME).touch()


# --------------------------------------------------------------------------------------------------
# configs


def to_dict(config: Config) -> dict[str, Any]:
    """Convert a config to plain containers, tuples to lists."""
    container: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return container


def find_differences(before: Config, now: Config) -> list[str]:
    """List the keys whose values define different runs, each as "key: before -> now"."""
    # With data.source=auto, a run resumes with the source that it began with.
    if now.data.source == "auto":
        now = replace(now, data=replace(now.data, source=before.data.source))
    old, new = dict(list_leaves(to_dict(before))), dict(list_leaves(to_dict(now)))
    keys = sorted(
        key
        for key in old.keys() | new.keys()
        if not is_resumable(key) and old.get(key) != new.get(key)
    )
    return [f"{key}: {format_value(old.get(key))} -> {format_value(new.get(key))}" for key in keys]
