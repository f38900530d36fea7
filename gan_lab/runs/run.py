"""``Run``, the only reader of run folders, also of unfinished ones and of older versions."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lab import __version__
from gan_lab.config import groups, loading, plain_yaml
from gan_lab.config.renames import RUN_FORMAT, pop_format
from gan_lab.config.schema import Config, list_leaves
from gan_lab.config.values import convert, format_value, is_null, is_text, list_kinds
from gan_lab.runs.alert import Alert
from gan_lab.runs.results import WEIGHTS, Score, read_summary
from gan_lab.runs.run_search import suggest_runs
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import read_json, read_rows

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from gan_lab.data.base import GANDataModule
    from gan_lab.families.base import Family
    from gan_lab.inference.sampling import TrainedGenerator

# Pairs of images seen and value, which may be NaN or Inf.
Points = list[tuple[int, float]]

# In command.txt, before a command that the Makefile has called.
MAKE_MARK = "make: "
# Keys that may be overridden for an existing run, in addition to those under metrics. They locate
# its data, or say how to read them; data that are read differently have another fingerprint.
DATA_KEYS = ("data.root", "data.layout", "data.levels", "data.cache_gb", "data.workers")


@dataclass(frozen=True)
class Setting:
    """A key of the config with its value and default as text.

    ``default`` is None if this version of the lab does not have the key.
    """

    key: str
    value: str
    default: str | None

    @property
    def differs(self) -> bool:
        """True if the value is not the default."""
        return self.value != self.default


@dataclass
class RestoredRun:
    """The trained model of a run, with its data.

    Attributes:
        run: The run.
        config: Its config, with the overrides of ``Run.restore``.
        data: Its data.
        family: The family in evaluation mode, on this machine's default device.
    """

    run: Run
    config: Config
    data: GANDataModule
    family: Family

    def load(self, weights: str) -> int:
        """Load weights into the family, and return their iteration.

        Args:
            weights: One of ``WEIGHTS``, a number of training images, or the name of another
                checkpoint. ``raw`` loads the raw weights of the last checkpoint, everything else
                the EMA weights.
        """
        # imported here, because lists of runs do without torch
        from gan_lab.runs.checkpoints import explain_mismatch, find_checkpoint, read_checkpoint

        checkpoint = read_checkpoint(find_checkpoint(self.run.path, weights))
        with explain_mismatch(self.run.path):
            self.family.load_state_dict(checkpoint["state_dict"])
            if weights != "raw":
                for network, state in checkpoint["ema"].items():
                    getattr(self.family, network).load_state_dict(state)
        return int(checkpoint["iteration"])


class Run:
    """A run folder. Each part is read lazily and cached.

    Attributes:
        path: The folder.
        shown_path: The path as reports print it.
        values: The recorded config as a flat mapping, such as ``run.values["data.batch_size"]``.

    Raises:
        UserError: The folder is not a run, or its config.yaml cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.expanduser(path))
        self.shown_path = str(path)
        self.values: dict[str, Any] = _read_values(self.path)

    def __repr__(self) -> str:
        return f"Run({self.shown_path!r})"

    def _repr_html_(self) -> str:
        from gan_lab.report.notebook import render_run

        return render_run(self)

    # -------------------------------------------------------------------------------------------
    # name and config

    @property
    def id(self) -> str:
        """The last part of the path."""
        return self.path.resolve().name

    @property
    def experiment(self) -> str:
        """The name of the experiment."""
        recorded = (
            self.summary.get("experiment")
            or (self.command[1:2] or [self.path.resolve().parent.name])[0]
        )
        return str(recorded)

    @property
    def name(self) -> str:
        """Experiment and id."""
        return f"{Path(self.experiment).stem} / {self.id}"

    @cached_property
    def config(self) -> Config:
        """The typed config.

        Raises:
            UserError: This version of the lab does not accept the recorded config, which ``values``
                contains.
        """
        return self._parse([])

    @cached_property
    def shared_config(self) -> Config:
        """The typed config without ``model``, which is None: it needs no torch.

        Raises:
            UserError: This version of the lab does not accept the recorded shared keys.
        """
        with self._name_version():
            return loading.parse_shared([self.values])[0]

    def _parse(self, overrides: Sequence[Mapping[str, Any]]) -> Config:
        """Merge mappings into the recorded config.

        Raises:
            UserError: This version of the lab does not accept the config.
        """
        with self._name_version():
            recorded = loading.parse([self.values])
        return loading.parse([self.values, *overrides]) if overrides else recorded

    @contextmanager
    def _name_version(self) -> Iterator[None]:
        """Add the version that wrote the config to the message of an error about it."""
        try:
            yield
        except UserError as error:
            raise UserError(
                f"{self.path / 'config.yaml'}: {error} (a run of {self.lab_version}; this is "
                f"gan-lab {__version__})"
            ) from None

    @property
    def lab_version(self) -> str:
        """The version of the lab that trained the run last, such as 'gan-lab 0.1.0'."""
        for line in self.environment:
            if line.startswith("gan-lab "):
                return line
        return "an older gan-lab"

    @property
    def settings(self) -> list[Setting]:
        """Every key of the config with its value and its default."""
        family = str(self.values.get("family"))
        family_class = find_family_class(family)
        config = (
            Config() if family_class is None else Config(family=family, model=family_class.Config())
        )
        defaults = {key: format_value(value) for key, value in list_leaves(config)}
        return [
            Setting(key, format_value(value), defaults.get(key))
            for key, value in self.values.items()
        ]

    @cached_property
    def command(self) -> list[str]:
        """The arguments of the last command line: ``train``, the experiment, and its overrides."""
        lines = _read_lines(self.path / "command.txt")
        command = lines[-1].partition("gan-lab ")[2] if lines else ""
        try:
            return shlex.split(command)
        except ValueError:
            # Older versions wrote arguments without quotes.
            return command.split()

    @property
    def started_by_make(self) -> bool:
        """True if the last command was a target of the Makefile."""
        lines = _read_lines(self.path / "command.txt")
        return bool(lines) and lines[-1].partition("gan-lab ")[0].endswith(MAKE_MARK)

    @cached_property
    def environment(self) -> list[str]:
        """The lines of ``environment.txt``: versions and the machine."""
        return _read_lines(self.path / "environment.txt")

    @property
    def data_description(self) -> str:
        """The description of the data in ``summary.json``, or the name of the data."""
        return str(self.summary.get("data") or self.values.get("data.name") or "not recorded")

    def check_data(self, fingerprint: str) -> None:
        """Check that the data have not changed since the run began.

        Raises:
            UserError: They have changed, so the run may have been trained on the present test set.
        """
        lines = _read_lines(self.path / "data.txt")
        before = lines[0] if lines else fingerprint
        if before != fingerprint:
            raise UserError(
                f"The data of {self.path} have changed since it began: fingerprint {before}, now "
                f"{fingerprint}. Restore them, or train a new run with run.id=... or "
                "run.overwrite=true."
            )

    # -------------------------------------------------------------------------------------------
    # results

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The content of ``summary.json``; empty if the run is not finished.

        Raises:
            UserError: The file is damaged.
        """
        return read_summary(self.path)

    @property
    def scores(self) -> dict[str, Score]:
        """The reported scores by name, which are those of the best checkpoint's EMA weights."""
        return self.scores_of("best")

    def scores_of(self, weights: str) -> dict[str, Score]:
        """Return the scores of the weights ``best``, ``last`` or ``raw``; may be empty."""
        return {
            name: Score(
                value=entry["value"],
                spread=entry.get("spread"),
                higher_is_better=entry.get("higher_is_better", self.recorded_directions.get(name)),
                protocol=entry.get("protocol", {}),
                note=entry.get("note", ""),
            )
            for name, entry in self.summary.get("scores", {}).get(weights, {}).items()
        }

    @cached_property
    def recorded_directions(self) -> dict[str, bool | None]:
        """The content of ``scores.json``, which training writes first: whether higher is better."""
        path = self.path / "scores.json"
        return dict(read_json(path)) if path.is_file() else {}

    @cached_property
    def higher_is_better(self) -> dict[str, bool | None]:
        """The direction of each score, of training and final evaluation; None: it has none."""
        directions = dict(self.recorded_directions)
        for weights in ("raw", "last", "best"):
            directions |= {
                name: score.higher_is_better for name, score in self.scores_of(weights).items()
            }
        return directions

    @cached_property
    def score_names(self) -> list[str]:
        """The name of every score of this run."""
        measured = [name for name in self.higher_is_better if name in self.history]
        return list(dict.fromkeys([*self.scores_of("last"), *self.scores, *measured]))

    @property
    def headline(self) -> str | None:
        """The name of the score that selects the best checkpoint."""
        recorded = self.summary.get("headline") or self.values.get("metrics.headline")
        return (
            str(recorded)
            if recorded
            else next((name for name in self.score_names if name in self.history), None)
        )

    def describe_direction(self, score: str) -> str:
        """Return "higher is better" or "lower is better"; empty for a score without a direction."""
        higher = self.higher_is_better.get(score)
        return "" if higher is None else f"{'higher' if higher else 'lower'} is better"

    @property
    def real_vs_real(self) -> dict[str, float]:
        """The real-vs-real references of the scores that are measured during training."""
        return dict(self.summary.get("validation_floors", {}))

    @cached_property
    def alerts(self) -> list[Alert]:
        """The alerts of the run; also empty if ``watched`` is False."""
        path = self.path / "health.csv"
        rows: Sequence[Mapping[str, Any]] = (
            read_rows(path) if path.is_file() else self.summary.get("health", [])
        )
        return [
            Alert(
                kind=row.get("kind") or "",
                iteration=_to_count(row.get("iteration")),
                images=_to_count(row.get("images")),
                sentence=row.get("sentence") or "",
            )
            for row in rows
        ]

    @property
    def watched(self) -> bool:
        """True if the run was trained with health checks."""
        return (self.path / "health.csv").is_file() or "health" in self.summary

    @cached_property
    def history(self) -> dict[str, Points]:
        """Every numeric column of ``metrics.csv``, as pairs of images seen and value."""
        return _read_columns(self.path / "metrics.csv")

    @cached_property
    def timing(self) -> dict[str, Points]:
        """Every numeric column of ``timing.csv``, as pairs of images seen and value."""
        return _read_columns(self.path / "timing.csv")

    @cached_property
    def grids(self) -> list[tuple[int, Path]]:
        """The images seen and the file of each sample grid, in order."""
        paths = (self.path / "samples").glob("*.png")
        return sorted((int(path.stem), path) for path in paths if path.stem.isdecimal())

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The checkpoints by their names, such as ``best`` and ``last``."""
        paths = sorted((self.path / "checkpoints").glob("*.ckpt"))
        return {path.stem: path for path in paths if not path.name.startswith(".")}

    # -------------------------------------------------------------------------------------------
    # progress and cost

    @property
    def status(self) -> str:
        """Return "finished", "unscored" (trained, but scores are missing) or "unfinished"."""
        if not self.summary or self.summary.get("images", 0) < self.budget_images:
            return "unfinished"
        return "finished" if WEIGHTS.keys() <= self.summary.get("scores", {}).keys() else "unscored"

    @property
    def images(self) -> int:
        """Training images seen, according to the last record."""
        recorded = [points[-1][0] for points in self.history.values()]
        recorded += [images for images, _ in self.grids[-1:]]
        return max([self.summary.get("images", 0), *recorded])

    @property
    def budget_images(self) -> int:
        """The budget in training images."""
        return _to_count(self.values.get("run.images"))

    @property
    def best_images(self) -> int | None:
        """Images seen at the best checkpoint; None if it is not recorded."""
        iteration, best = self.summary.get("iteration", 0), self.summary.get("best_iteration", -1)
        return (
            best * self.summary.get("images", 0) // iteration if iteration and best >= 0 else None
        )

    @property
    def hours(self) -> float:
        """Hours of training without the pauses between sessions; 0 if nothing is recorded."""
        seconds, before = 0.0, 0
        for images, speed in self.timing.get("images_per_s", []):
            if speed > 0:
                seconds += (images - before) / speed
                before = images
        return seconds / 3600

    @property
    def speed(self) -> float | None:
        """Images per second, the median over the rows of ``timing.csv``."""
        values = sorted(
            speed for _, speed in self.timing.get("images_per_s", []) if math.isfinite(speed)
        )
        return values[len(values) // 2] if values else None

    # -------------------------------------------------------------------------------------------
    # operations, which import report/, training/ and inference/ lazily because these import this
    # module

    def restore(
        self,
        overrides: Sequence[str] = (),
        data: Any = None,
        weights: str | None = "best",
    ) -> RestoredRun:
        """Rebuild the family of this run, load its weights, and return it with its data.

        Args:
            overrides: Overrides of ``DATA_KEYS`` and of keys under ``metrics.``.
            data: The run's data module, if it is loaded; or the data set from Python on which the
                run was trained (``gan_lab.train(data=...)``).
            weights: One of ``WEIGHTS`` or a number of training images; None leaves the family
                untrained.

        Raises:
            UserError: An override is not allowed, the data have changed since the run began, or
                there is no matching checkpoint.
        """
        from gan_lab import data as datasets
        from gan_lab import device
        from gan_lab.training.builder import build_family

        config = self._override(overrides)
        if data is None or not hasattr(data, "decoded"):
            data = datasets.load(config.data, config.run.seed, data, is_recorded=True)
        self.check_data(data.decoded.fingerprint)
        family = (
            build_family(config, data).eval().requires_grad_(False).to(device.get_default_device())
        )
        restored = RestoredRun(self, config, data, family)
        if weights is not None:
            restored.load(weights)
        return restored

    def _override(self, overrides: Sequence[str]) -> Config:
        if not overrides:
            return self.config
        chosen, pairs = groups.split_overrides(overrides, loading.config_folder())
        others = [f"{group}={member}" for group, member in chosen.items() if group != "metrics"]
        for pair in [*pairs, *others]:
            key = pair.partition("=")[0]
            if key not in DATA_KEYS and not key.startswith("metrics."):
                raise UserError(
                    f"Not allowed for an existing run: {pair}. Override only "
                    f"{', '.join(DATA_KEYS)} and keys under metrics."
                )
        members = [loading.read_layer(loading.find_member(*item)) for item in chosen.items()]
        config = self._parse([*members, loading.parse_overrides(pairs)])
        return loading.expand_homes(config)

    def generator(self, device: str = "cpu", weights: str = "best") -> TrainedGenerator:
        """Load the generator, like ``gan_lab.load_generator``."""
        from gan_lab.inference.sampling import load_generator

        return load_generator(self.path, weights, device)

    def sample(
        self, n: int = 16, label: int | str | None = None, seed: int = 0, weights: str = "best"
    ) -> Tensor:
        """Generate the images of ``gan-lab sample``, float32 [n, C, H, W] in [-1, 1].

        ``weights`` is best, last, raw or a number of training images. Without a best checkpoint,
        best is the newest one.

        Raises:
            UserError: There is no checkpoint, no such label, or the run translates images.
        """
        from gan_lab.inference.sampling import load_generator

        return load_generator(self.path, weights, exact=True)(n, label, seed)

    def sample_grid(self, n: int = 64, seed: int = 0, weights: str = "best") -> Image.Image:
        """Generate n samples as one image, with 10 per row if the run has classes, else 8."""
        from gan_lab.images import draw_grid
        from gan_lab.inference.sampling import load_generator

        generator = load_generator(self.path, weights, exact=True)
        return draw_grid(generator(n, seed=seed), min(n, generator.columns))

    def report(self, out: str | Path | None = None, overwrite: bool = True) -> Path:
        """Write the HTML page of this run; return its path.

        Args:
            out: The HTML file. Default: ``report.html`` in the folder of the run.
            overwrite: Replace an earlier page.

        Raises:
            UserError: ``out`` is a file that the lab did not write.
        """
        from gan_lab import report

        return report.write([self], None if out is None else Path(out).expanduser(), overwrite)

    def published(self) -> Run:
        """Return a view of this run for publication, which contains no path of this machine.

        Absolute paths and values of path keys are reduced to their last part, because they contain
        names of people and machines.
        ``path`` is unchanged, because images and checkpoints are read from it.
        """
        environment = [line.partition(" ")[2] for line in self.environment]
        texts = [*self.values.values(), *self.command, self.summary.get("experiment"), *environment]
        paths = {
            text
            for text in texts
            if isinstance(text, str) and Path(text).is_absolute() and Path(text).name
        }
        assignments = [word.partition("=") for word in self.command]
        for key, text in [*self.values.items(), *((key, text) for key, _, text in assignments)]:
            if key in loading.PATH_KEYS and isinstance(text, str):
                relative = text.rstrip("/")
                if "/" in relative:
                    paths.add(relative)
        longest_first = sorted(paths, key=len, reverse=True)
        view = Run(self.path)
        view.shown_path = str(Path(*self.path.resolve().parts[-3:]))
        view.values = _strip_paths(self.values, longest_first)
        view.command = _strip_paths(self.command, longest_first)
        view.environment = _strip_paths(self.environment, longest_first)
        view.summary = _strip_paths(self.summary, longest_first)
        return view


def open_run(path: str | Path) -> Run:
    """Open a run folder, ``<run.root>/<experiment>/<run id>``.

    Raises:
        UserError: The folder is not a run.
    """
    return Run(path)


def find_family_class(name: str) -> Any:
    """Return the class of a family; None if this version of the lab does not have it."""
    try:
        return loading.family_class(name)
    except UserError:
        return None


def _read_values(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml`` of a run folder as a flat mapping."""
    path = folder / "config.yaml"
    if not path.is_file():
        problem = "it has no config.yaml" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder} is not a run folder: {problem}. {suggest_runs(folder)}")
    try:
        tree = plain_yaml.read_file(path, is_own=True)
    except UserError as error:
        raise UserError(f"{path} is damaged: {str(error).removeprefix(f'{path}: ')}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} is damaged: it is not a mapping of keys")
    number = plain_yaml.resolve({"format": tree.pop("format", 1)})
    values = loading.flatten(tree, f"{path} is damaged: ")
    if pop_format(number, path, default=1) < RUN_FORMAT:
        values = loading.upgrade(values)
    kinds = list_kinds(Config)
    return {key: _restore(kinds.get(key), value) for key, value in values.items()}


def _restore(kind: Any, value: Any) -> Any:
    """Convert a recorded value: text stays as it is written, also without quotation marks."""
    if is_text(kind) and not is_null(value):
        with suppress(ValueError):
            return convert(kind, value)
    return plain_yaml.resolve(value)


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def _read_columns(path: Path) -> dict[str, Points]:
    """Read the numeric columns of a CSV file without a truncated last line."""
    columns: dict[str, Points] = {}
    for row in read_rows(path):
        images = _to_number(row.get("images"))
        if images is None or not math.isfinite(images):
            continue
        for name, text in row.items():
            value = _to_number(text)
            if value is not None and name not in ("iteration", "images"):
                columns.setdefault(name, []).append((int(images), value))
    return columns


def _to_number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _to_count(text: Any) -> int:
    """Convert to an integer; 0 if that is not possible."""
    number = _to_number(text)
    return int(number) if number is not None and math.isfinite(number) else 0


def _strip_paths(tree: Any, paths: Sequence[str]) -> Any:
    """Replace each path by its last part in every string of nested lists and mappings."""
    if isinstance(tree, dict):
        return {key: _strip_paths(value, paths) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_strip_paths(item, paths) for item in tree]
    if isinstance(tree, str):
        for path in paths:
            tree = tree.replace(path, Path(path).name)
    return tree
