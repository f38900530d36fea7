"""Identify images of the lab by their records, and find the command that draws them again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_lab import __version__
from gan_lab.runs import exports
from gan_lab.runs.addresses import is_address
from gan_lab.runs.checkpoints import find_checkpoint
from gan_lab.runs.directions import FILE_NAME as DIRECTIONS_FILE
from gan_lab.runs.directions import read_directions
from gan_lab.runs.ema_networks import RAW_WEIGHTS, load_ema_networks
from gan_lab.runs.environment import is_started_by_make, name_program
from gan_lab.runs.run_folder import name_run
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import find_outputs
from gan_lab.utils.provenance import read_record

# Of a record, which anyone could have written.
MAX_TEXT_LENGTH = 200
MAX_MOVE = 1e6
# What the command needs from the user.
SOURCE, FOLDER = "IN", "OUT"


@dataclass(frozen=True)
class Record:
    """The record of an image, with values that are safe to print.

    Values of another type than expected are as if they were missing.
    """

    values: dict[str, Any]

    def get_text(self, key: str) -> str:
        """Return a text without control characters; empty if it is missing."""
        value = self.values.get(key)
        text = value if isinstance(value, str) else ""
        return "".join(c if c.isprintable() else "?" for c in text)[:MAX_TEXT_LENGTH]

    def get_integer(self, key: str) -> int | None:
        """Return an integer of at least 0; None if it is missing."""
        value = self.values.get(key)
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return value if is_count else None

    def get_truncation(self) -> float:
        """Return the truncation; 1 if it is missing."""
        value = self.values.get("truncation")
        return float(value) if isinstance(value, int | float) and 0 < value < 1 else 1.0

    def get_moves(self) -> dict[str, float]:
        """Return the moves along latent directions; empty if they are missing or invalid."""
        value = self.values.get("move")
        if not isinstance(value, dict) or not all(
            name.isprintable()
            and len(name) <= MAX_TEXT_LENGTH
            and isinstance(steps, int | float)
            and abs(steps) <= MAX_MOVE
            for name, steps in value.items()
        ):
            return {}
        return {name: float(steps) for name, steps in value.items()}

    def get_span(self) -> float:
        """Return the largest move in a picture of directions; 0 if it is missing or invalid."""
        value = self.values.get("span")
        if not isinstance(value, int | float) or abs(value) > MAX_MOVE:
            return 0.0
        return float(value)

    def get_digests(self) -> dict[str, str]:
        """Return the digest of each direction that the image is moved along."""
        value = self.values.get("directions")
        digests = value if isinstance(value, dict) else {}
        return {name: digest for name, digest in digests.items() if name in self.get_moves()}


def identify(path: Path, root: Path = Path("runs")) -> list[str]:
    """Describe an image of the lab.

    Args:
        path: A PNG file.
        root: The parent folder of the runs, which is searched for the run of the image.

    Returns:
        A line that describes the image, notes, and as the last line the command that draws it
        again, if there is one.

    Raises:
        UserError: The file has no record of the lab.
    """
    if not path.is_file():
        raise UserError(f"There is no such file: {path}. Name a PNG file that gan-lab wrote")
    values = read_record(path)
    if values is None:
        if path.name in find_outputs(path.parent):
            raise UserError(
                f"{path} was written by an earlier version of gan-lab, which did not record how. "
                "Draw it again with this version"
            )
        raise UserError(
            f"{path} has no record of gan-lab. Another program wrote it, or removed its metadata"
        )
    record = Record(values)
    lines = [f"{path}: {describe(record)}"]
    version = record.get_text("version")
    if version != __version__:
        lines.append(
            f"Written by gan-lab {version}; this is {__version__}, whose images may differ"
        )
    run, weights, note = find_run(record, path, root)
    moved_from, changed = find_moves(record, run)
    lines += [line for line in (note, changed) if line]
    arguments = list_arguments(record)
    if arguments is None:
        return [*lines, "No command draws it again"]
    if record.get_text("output") == "page image":
        lines.append("Drawn in a browser: pixels may differ by one level")
    command, *options = arguments
    program = name_program(is_started_by_make())
    return [*lines, shlex.join([program, command, run, *options, *moved_from, *weights])]


def describe(record: Record) -> str:
    """Describe an image: kind, run, weights, seed, class and truncation."""
    kind = record.get_text("output") or "image"
    n, index, seed = (record.get_integer(key) for key in ("n", "index", "seed"))
    parts = [kind if n is None else f"{kind}, n = {n:,}"]
    if index is not None:
        parts.append(f"image {index}")
    if run := record.get_text("run"):
        weights, iteration = record.get_text("weights"), record.get_integer("iteration")
        after = "" if iteration is None else f", iteration {iteration:,}"
        parts.append(f"run {run}" + (f" ({weights}{after})" if weights else ""))
    images = record.get_integer("images")
    if images is not None:
        parts.append(f"after {images:,} training images")
    if seed is not None:
        parts.append(f"seed {seed}")
    if label := record.get_text("class"):
        parts.append(f"class {label}")
    if record.get_truncation() != 1:
        parts.append(f"truncation {record.get_truncation()}")
    if source := record.get_text("source"):
        parts.append(f"translated from {source}, {record.get_text('direction')}")
    return ", ".join(parts)


def list_arguments(record: Record) -> list[str] | None:
    """List the command and its options without the run; None if there is no such command."""
    output = record.get_text("output")
    n, seed = record.get_integer("n"), record.get_integer("seed")
    if output in ("samples", "interpolation", "code") and n and seed is not None:
        options = ["--n", str(n), "--seed", str(seed), *_list_label(record)]
        steps, code = record.get_integer("steps"), record.get_integer("code")
        if output == "interpolation":
            return ["sample", *options, "--interpolate", str(steps)] if steps else None
        if output == "code":
            return None if code is None else ["sample", *options, "--code", str(code)]
        return ["sample", *options, *_list_truncation(record), *_list_moves(record)]
    first, second = record.get_integer("first"), record.get_integer("second")
    layers = re.fullmatch(r"\d+-?\d*", record.get_text("layers"))
    if output == "style mixing" and n and first is not None and second is not None and layers:
        seeds = ["--mix", str(first), str(second), "--layers", layers[0]]
        return ["sample", "--n", str(n), *seeds, *_list_label(record), *_list_truncation(record)]
    if output == "page image" and seed is not None:
        second = record.get_integer("second")
        if second is not None and layers:
            mixed = ["--n", "1", "--mix", str(seed), str(second), "--layers", layers[0]]
            return ["sample", *mixed, *_list_label(record), *_list_truncation(record)]
        count = 1 + (record.get_integer("index") or 0)
        options = ["--n", str(count), "--seed", str(seed), *_list_label(record)]
        return ["sample", *options, *_list_truncation(record), *_list_moves(record)]
    index = record.get_integer("index")
    if output == "sample" and index is not None and seed is not None:
        # image i depends on the seed, i and its class alone
        options = ["--n", str(index + 1), "--seed", str(seed), *_list_label(record)]
        options += [*_list_truncation(record), *_list_moves(record)]
        return ["sample", *options, "--folder", FOLDER]
    steps = record.get_integer("steps")
    components, span = record.get_integer("count"), record.get_span()
    labels = re.fullmatch("[a-z]+", record.get_text("labels"))
    is_complete = n and seed is not None and components and labels and steps and span
    if output == "directions" and is_complete and labels:
        options = ["--count", str(components), "--n", str(n), "--labels", labels[0]]
        options += ["--seed", str(seed), "--steps", str(steps), "--span", str(span)]
        options += [*_list_label(record), *(["--layers", layers[0]] if layers else [])]
        # the stored directions of the run stay as they are
        return ["directions", *options, "--folder", FOLDER]
    source, space = record.get_text("source"), record.get_text("space")
    if output == "projection" and space in ("z", "w", "w+") and (n or source):
        images = [_avoid_option(source)] if source else ["--n", str(n)]
        options = ["--steps", str(steps)] if steps else []
        return ["project", *images, *_list_label(record), "--space", space, *options]
    if output == "translation":
        direction = record.get_text("direction")
        known = ["--direction", direction] if direction in ("AtoB", "BtoA") else []
        if mask := record.get_text("mask"):
            known += ["--mask", _avoid_option(mask)]
        return ["translate", _avoid_option(source or SOURCE), FOLDER, *known]
    if output == "reconstruction" and n:
        return ["reconstruct", "--n", str(n)]
    if output == "test interpolation" and n and steps:
        return ["interpolate", "--n", str(n), "--steps", str(steps)]
    return None


def _avoid_option(name: str) -> str:
    """Return a file name as an argument; one that begins like an option gets a folder."""
    return f"./{name}" if name.startswith("-") else name


def _list_label(record: Record) -> list[str]:
    label = record.get_text("class")
    return ["--class", label] if label else []


def _list_truncation(record: Record) -> list[str]:
    """List the options of truncation and, for StyleGAN2, of noise."""
    truncation, cutoff = record.get_truncation(), record.get_integer("cutoff")
    options = [] if truncation == 1 else ["--truncation", str(truncation)]
    if cutoff is not None:
        options += ["--cutoff", str(cutoff)]
    noise = record.get_text("noise")
    return [*options, "--noise", noise] if noise in ("random", "none") else options


def _list_moves(record: Record) -> list[str]:
    """List the options of moves along latent directions."""
    options = [
        option
        for name, steps in record.get_moves().items()
        for option in ("--move", f"{name}={steps}")
    ]
    layers = re.fullmatch(r"\d+-?\d*", record.get_text("layers"))
    return [*options, "--layers", layers[0]] if options and layers else options


def find_moves(record: Record, run: str) -> tuple[list[str], str]:
    """Find the directions that an image is moved along, and compare them with those of the image.

    Returns:
        The option that selects their file, and a note if they are not those of the image; else
        empty.
    """
    digests = record.get_digests()
    # those of a model with an address are part of it; older images do not record them
    if not digests or is_address(run):
        return [], ""
    # a record has no path
    name = Path(record.get_text("directions_file")).name
    options = ["--directions", _avoid_option(name)] if name else []
    path = Path(name) if name else Path(run) / DIRECTIONS_FILE
    moved = ", ".join(record.get_moves())
    if not path.is_file():
        return options, f"The directions of the image ({moved}) were not found: {path}"
    try:
        current = read_directions(path).compute_digests(digests)
    except UserError as error:
        return options, str(error)
    if current != digests:
        return options, f"The directions {moved} in {path} have changed since: images will differ"
    return options, ""


def find_run(record: Record, path: Path, root: Path) -> tuple[str, list[str], str]:
    """Find the run of an image next to it or below ``root``, and the checkpoint that drew it.

    Returns:
        The run as an argument of a command, the options that select its weights, and a note if it
        is not certain that it draws the same image; else empty.
    """
    name, digest = record.get_text("run"), record.get_text("digest")
    weights = record.get_text("weights")
    if is_address(name):
        return name, [], ""
    folders = list(_list_candidates(name, path, root))
    if not folders:
        return name or "RUN", [], f"The run {name or 'of the image'} was not found. Set --root"
    if not digest:
        options = ["--weights", weights] if weights not in ("", "best") else []
        return str(folders[0]), options, ""
    for folder in folders:
        if exports.has_config(folder):
            if _compute_digest(folder) == digest:
                return str(folder), [], ""
            continue
        if weights == RAW_WEIGHTS:
            if _compute_digest(folder, RAW_WEIGHTS) == digest:
                return str(folder), ["--weights", RAW_WEIGHTS], ""
            continue
        best = find_checkpoint_or_none(folder)
        others = sorted((folder / "checkpoints").glob("[!.]*.ckpt"))
        for checkpoint in dict.fromkeys([*([best] if best else []), *others]):
            if _compute_digest(checkpoint) == digest:
                # some commands take only run folders
                options = [] if checkpoint == best else ["--weights", checkpoint.stem]
                return str(folder), options, ""
    note = f"The weights of {folders[0]} have changed since: images will differ"
    return str(folders[0]), [], note


def find_checkpoint_or_none(folder: Path) -> Path | None:
    """Find the checkpoint that commands use for a run folder."""
    try:
        return find_checkpoint(folder)
    except UserError:
        return None


def _list_candidates(name: str, path: Path, root: Path) -> Iterator[Path]:
    """List the run folders, or exports, that may have drawn an image."""
    experiment, _, run_id = name.rpartition("/")
    below_root = root / experiment / run_id
    inside = run_id not in ("", ".", "..") and experiment not in (".", "..")
    for folder in (*path.absolute().parents, *([below_root] if inside else [])):
        is_run = (folder / "config.yaml").is_file() and name_run(folder) == name
        is_export = exports.has_config(folder) and folder.resolve().name == name
        if is_run or is_export:
            # short paths for files below the current folder
            here = Path.cwd()
            yield folder.relative_to(here) if folder.is_relative_to(here) else folder


def _compute_digest(checkpoint: Path, weights: str = "best") -> str:
    try:
        return load_ema_networks(checkpoint, weights).compute_digest()
    except UserError:
        return ""
