"""Console output of the commands: scores, comparisons, data, and the dry run of an experiment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from gan_lab import data as datasets
from gan_lab import device
from gan_lab.config.loading import LoadedConfig
from gan_lab.config.schema import leaves
from gan_lab.data import duplicates
from gan_lab.data.image_files import survey
from gan_lab.distributed import detect
from gan_lab.images import interleave, save_grid
from gan_lab.report.compare import Comparison
from gan_lab.report.summary import format_number
from gan_lab.runs.folder import RunFolder, mark
from gan_lab.runs.run import Run
from gan_lab.sensitivity.detection import SensitivityReport
from gan_lab.sensitivity.sensitivity_page import list_columns, list_thresholds
from gan_lab.training import profiling


def print_scores(run: Run) -> None:
    """Print the scores of a run's raw, last and best weights and of real images, and the path of the last grid."""
    scores = {weights: run.scores_of(weights) for weights in ("live", "last", "best")}
    title = f"{run.path}: {run.summary.get('images', 0):,} images"
    rows = Table("score", *scores, "real images", title=title, title_justify="left")
    notes: list[str] = []
    names_by_protocol: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for entries in scores.values() for name in entries):
        entries = [scores[weights].get(name) for weights in scores]
        protocol = next(entry for entry in reversed(entries) if entry).protocol
        star = " *" if name == run.summary.get("headline") else ""
        texts = [str(entry) if entry else "" for entry in entries]
        rows.add_row(name + star, *texts, format_number(protocol.get("floor")))
        names_by_protocol.setdefault(_describe_images(protocol), []).append(name)
        best = scores["best"].get(name)
        if best and best.note:
            notes.append(f"{name}: {best.note}")
    console = _as_wide_as(rows)
    console.print(rows if rows.row_count else f"{title}, nothing could be scored", soft_wrap=True)
    if run.summary.get("headline"):
        split = run.summary.get("validation_split")
        chosen = f", on the images of {split}" if split else ""
        console.print(
            f"* selects best.ckpt, here after {run.best_images or 0:,} images{chosen}", style="dim"
        )
    for note in [
        *notes,
        *(f"{protocol}: {', '.join(names)}" for protocol, names in names_by_protocol.items()),
    ]:
        console.print(note, style="dim", soft_wrap=True)
    if run.grids:
        console.print(f"last grid: {run.grids[-1][1]}", soft_wrap=True)


def _as_wide_as(rows: Table) -> Console:
    """A console on which no name and no number of a table is truncated: a terminal wraps lines that are too wide."""
    console = Console(markup=False)
    console.width = max(
        console.width,
        console.measure(rows, options=console.options.update(max_width=10_000)).maximum,
    )
    return console


def _describe_images(protocol: dict[str, Any]) -> str:
    of = f"{protocol.get('fakes', 0):,} fakes and {protocol.get('reals', 0):,} reals"
    return f"{of} ({protocol.get('split', '')}), {protocol.get('extractor', '')}"


def print_comparison(comparison: Comparison) -> None:
    """Print a row for each experiment, a column for each score, and notes. ``*`` marks the best of a column."""
    rows = Table("EXP", "n", *(column.title for column in comparison.columns))
    for row in comparison.rows:
        rows.add_row(
            row.name,
            str(len(row.runs)),
            *(cell.among(len(row.runs), "{} *") if cell else "" for cell in row.cells),
        )
    console = _as_wide_as(rows)
    if comparison.rows:
        console.print(rows)
    if any(cell and cell.best for row in comparison.rows for cell in row.cells):
        console.print(
            "* told apart from every other row by Welch's test at 5 %, corrected by Holm",
            style="dim",
        )
    titles_by_note: dict[str, list[str]] = {}
    for column in comparison.columns:
        titles_by_note.setdefault(column.note, []).append(column.title)
    protocols = [f"{', '.join(titles)}: {note}" for note, titles in titles_by_note.items() if note]
    for note in [*protocols, *comparison.notes]:
        console.print(note, soft_wrap=True, highlight=False)


def print_studies(
    studies: Sequence[tuple[str, str, dict[str, str], dict[str, str]]], budgets: Sequence[str]
) -> None:
    """Print name and claim of every study, and its verdicts so far: those kept in docs, and in their place own ones."""
    rows = Table("STUDY", "claim", *budgets)
    for name, claim, kept, own in studies:
        told = {budget: f"{verdict} *" for budget, verdict in kept.items()} | own
        rows.add_row(name, claim, *(told.get(budget, "") for budget in budgets))
    console = Console(markup=False)
    console.print(rows)
    if any(kept.keys() - own.keys() for _, _, kept, own in studies):
        console.print(
            "* by the results that docs/studies tells of; the others are those of this folder of runs",
            style="dim",
        )


def print_sensitivity(report: SensitivityReport) -> None:
    """Print the detection threshold of each score for each distortion, and notes."""
    title = f"{report.data}: detection thresholds for n = {report.n}"
    rows = Table("score", *list_columns(report), title=title, title_justify="left")
    for score, thresholds in list_thresholds(report):
        rows.add_row(score, *thresholds)
    console = _as_wide_as(rows)
    console.print(rows)
    for note in report.notes:
        console.print(note, soft_wrap=True)


def print_probe(probed: dict[str, Any], folder: Path) -> None:
    """Print the accuracy of each set of features."""
    title = f"{folder}: {probed['labels']} labels, {probed['held_out']:,} held-out images"
    rows = Table("features", "accuracy", title=title, title_justify="left")
    for kind, accuracy in probed["accuracy"].items():
        rows.add_row(kind, f"{accuracy:.3f}")
    Console(markup=False).print(rows)


def print_data(loaded: LoadedConfig) -> None:
    """Print the data of an experiment as served and the files of its folder, and save a contact sheet."""
    console, config = Console(markup=False), loaded.config
    served = datasets.load(config.data, config.run.seed)
    spec = served.spec
    console.print(f"data: {served.decoded.about}", soft_wrap=True)
    splits = {"train": served.train, "validation": served.validation, "test": served.test}
    rows = Table("", *splits, title=f"served as {spec.channels} x {spec.height} x {spec.width}, "
                 f"{spec.classes or 'no'} classes", title_justify="left")  # fmt: skip
    rows.add_row("images", *(f"{len(split):,}" for split in splits.values()))
    if served.train.sources is not None:
        rows.add_row("inputs", *(f"{len(split.sources or ()):,}" for split in splits.values()))
    for label in range(min(spec.classes, 40)):
        counts = [
            np.count_nonzero(split.labels == label)
            for split in splits.values()
            if split.labels is not None
        ]
        rows.add_row(f"class {label}", *(f"{count:,}" for count in counts))
    console.print(rows)
    console.print("validation chooses checkpoints and settings, test is what a trained run is scored on" if served.divided
                  else "one image is held out: it is validation and test at once", style="dim")  # fmt: skip
    if spec.content != "points":
        twice = duplicates.count_duplicates(served)
        rows = Table(
            "duplicates",
            "images",
            "across the split",
            title=f"among {twice.checked:,} images",
            title_justify="left",
        )
        rows.add_row("exact", f"{twice.exact:,}", f"{twice.exact_across:,}")
        rows.add_row("near", f"{twice.near:,}", f"{twice.near_across:,}")
        console.print(rows)
    if (
        served.decoded.source == "full"
        and datasets.lies_in_root(config.data.name)
        and Path(config.data.root).is_dir()
    ):
        on_disk = Table("on disk", "", title=config.data.root, title_justify="left")
        for kind, value in survey(Path(config.data.root)).items():
            on_disk.add_row(kind, str(value))
        console.print(on_disk)
    batch, columns = served.grid_batch(held_out=False, by_class=False)
    sheet = Path(config.run.root) / loaded.experiment / f"data-{config.data.name}.png"
    mark(Path(config.run.root))
    save_grid(*interleave(batch.shown(), columns), sheet)
    console.print(f"contact sheet: {sheet}", soft_wrap=True)


def print_dry_run(loaded: LoadedConfig) -> None:
    """Print the config with the origin of each value, the networks, and the expected time and memory of the run."""
    console, config = Console(markup=False), loaded.config
    values = Table(
        "key",
        "value",
        "from",
        title=f"{loaded.experiment}: {RunFolder.of(loaded).path}",
        title_justify="left",
    )
    for key, value in leaves(config):
        origin = loaded.origin.get(key, "default")
        values.add_row(key, str(value), origin, style="" if origin == "default" else "bold")
    console.print(values)

    iterations = config.iterations
    world = detect.count_local_processes(config.run.devices or "1") * max(1, config.run.num_nodes)
    watch = profiling.Stopwatch()
    with tempfile.TemporaryDirectory() as folder, device.within_memory():
        built, iteration, evaluating = profiling.measure(loaded, Path(folder), watch)
    networks = Table("network", "parameters", "output", title="networks", title_justify="left")
    for name, network in built.family.named_children():
        networks.add_row(
            name, f"{_parameters(network):,}", " x ".join(map(str, watch.shapes.get(name, ())))
        )
    console.print(networks)

    evaluations = config.run.images // config.run.evaluate_every_images + 1
    total = iterations * iteration + evaluations * evaluating
    console.print(f"data: {built.data.decoded.about}", soft_wrap=True)
    console.print(f"one iteration, measured on this machine: {iteration * 1e3:.1f} ms "
                  f"({config.data.batch_size / iteration:,.0f} images/s)")  # fmt: skip
    if world > 1:
        share = config.data.batch_size // world
        console.print(f"with {world} processes each has {share} images of a batch of {config.data.batch_size}, which "
                      "data.batch_size sets for all of them: too few do not keep a GPU busy", soft_wrap=True)  # fmt: skip
    console.print(f"the whole run: {iterations:,} iterations and {evaluations} evaluations, about {total / 60:.1f} "
                  f"minutes, peak memory about {device.peak_memory():,.0f} MB", soft_wrap=True)  # fmt: skip


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
