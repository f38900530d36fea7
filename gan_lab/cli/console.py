"""Console output of the commands: scores, comparisons, data summaries and the dry run."""

from __future__ import annotations

# imports of the training stack are in the functions that need it: the tables of runs start sooner
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from gan_lab.config.schema import list_leaves
from gan_lab.config.values import format_value
from gan_lab.utils.numbers import format_count, format_duration
from gan_lab.utils.output import OutputFiles
from gan_lab.utils.score_names import is_trivial_score

if TYPE_CHECKING:
    from torch import nn

    from gan_lab.config.loading import LoadedConfig
    from gan_lab.report.compare import Comparison
    from gan_lab.runs.run import Run
    from gan_lab.sensitivity.detection import SensitivityReport


def print_scores(run: Run) -> None:
    """Print the final scores of a run and the real-vs-real reference.

    The columns are ``raw`` (raw weights at the end), ``last`` (EMA weights at the end), ``best``
    (EMA weights of the best checkpoint), and the number of images of other scored checkpoints.
    """
    from gan_lab.report.summary import format_number

    # checkpoints that were scored by their number of images come first
    others = [name for name in run.summary.get("scores", {}) if name not in ("raw", "last", "best")]
    scores = {weights: run.scores_of(weights) for weights in (*others, "raw", "last", "best")}
    title = f"{run.path}: {run.summary.get('images', 0):,} images"
    rows = Table("score", *scores, "real images", title=title, title_justify="left")
    notes: list[str] = []
    names_by_protocol: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for entries in scores.values() for name in entries):
        # the report has them
        if is_trivial_score(name):
            continue
        entries = [scores[weights].get(name) for weights in scores]
        protocol = next(entry for entry in reversed(entries) if entry).protocol
        star = " *" if name == run.summary.get("headline") else ""
        texts = [str(entry) if entry else "" for entry in entries]
        rows.add_row(name + star, *texts, format_number(protocol.get("floor")))
        names_by_protocol.setdefault(_describe_images(protocol), []).append(name)
        best = scores["best"].get(name)
        if best and best.note:
            notes.append(f"{name}: {best.note}")
    console = make_console(rows)
    console.print(rows if rows.row_count else f"{title}, no scores", soft_wrap=True)
    if run.summary.get("headline"):
        split = run.summary.get("validation_split")
        images = f", computed on the {split} images" if split else ""
        console.print(
            f"* selects best.ckpt (here the checkpoint at {run.best_images or 0:,} images){images}",
            style="dim",
            soft_wrap=True,
        )
    for images, names in names_by_protocol.items():
        notes.append(f"{images}: {', '.join(names)}")
    for note in notes:
        console.print(note, style="dim", soft_wrap=True)
    if run.grids:
        console.print(f"last grid: {run.grids[-1][1]}", soft_wrap=True)


def make_console(rows: Table) -> Console:
    """Create a console at least as wide as a table.

    rich truncates the cells of a table that is wider than its console. A narrow terminal wraps
    lines instead.
    """
    console = Console(markup=False)
    console.width = max(
        console.width,
        console.measure(rows, options=console.options.update(max_width=10_000)).maximum,
    )
    return console


def _describe_images(protocol: dict[str, Any]) -> str:
    fakes = f"{protocol.get('fakes', 0):,} generated"
    extractor = f"extractor {protocol.get('extractor', '')}"
    if "train" in protocol:
        return (
            f"{fakes} images against {protocol['train']:,} training images, with "
            f"{protocol.get('reals', 0):,} held-out images as reference, {extractor}"
        )
    reals = f"{protocol.get('reals', 0):,} real {protocol.get('split', '')} images"
    return f"{fakes} and {reals}, {extractor}"


def print_comparison(comparison: Comparison) -> None:
    """Print a table of experiments and scores. ``*`` marks a significantly best score."""
    console = Console(markup=False)
    if comparison.rows and not console.is_terminal:
        # lines for other programs are not broken
        rows = _build_comparison_table(comparison, range(len(comparison.columns)))
        console = make_console(rows)
        console.print(rows)
    elif comparison.rows:
        for columns in _split_columns(comparison, console):
            console.print(_build_comparison_table(comparison, columns))
    if any(cell and cell.best for row in comparison.rows for cell in row.cells):
        console.print(
            "* significantly better than every other row (Welch's t-test, each p < 0.05)",
            style="dim",
            soft_wrap=True,
        )
    titles_by_note: dict[str, list[str]] = {}
    for column in comparison.columns:
        titles_by_note.setdefault(column.note, []).append(column.title)
    protocols = [f"{', '.join(titles)}: {note}" for note, titles in titles_by_note.items() if note]
    for note in [*protocols, *comparison.notes]:
        console.print(note, soft_wrap=True, highlight=False)


def _build_comparison_table(comparison: Comparison, columns: Sequence[int]) -> Table:
    """Build a table of some columns of a comparison."""
    rows = Table("EXP", "n", *(comparison.columns[i].title for i in columns))
    for row in comparison.rows:
        cells = [row.cells[i] for i in columns]
        n = len(row.runs)
        texts = [cell.format_in_row(n, "{} *") if cell else "" for cell in cells]
        rows.add_row(row.name, str(n), *texts)
    return rows


def _split_columns(comparison: Comparison, console: Console) -> list[list[int]]:
    """Divide the columns of a comparison among tables that fit the terminal.

    A table of a single column may still be wider: then rich folds its cells.
    """
    unlimited = console.options.update(max_width=10_000)
    tables: list[list[int]] = [[]]
    for i in range(len(comparison.columns)):
        wider = _build_comparison_table(comparison, [*tables[-1], i])
        if tables[-1] and console.measure(wider, options=unlimited).maximum > console.width:
            tables.append([])
        tables[-1].append(i)
    return tables


def print_studies(
    studies: Sequence[tuple[str, str, dict[str, str], dict[str, str]]], budgets: Sequence[str]
) -> None:
    """Print name, claim and verdicts of each study.

    Args:
        studies: Name, claim, published verdicts (docs/studies) and local verdicts, each by budget.
            Local verdicts replace published ones.
        budgets: The budgets, one column each.
    """
    rows = Table("STUDY", "claim", *budgets)
    for name, claim, published, local in studies:
        verdicts = {budget: f"{verdict} *" for budget, verdict in published.items()} | local
        rows.add_row(name, claim, *(verdicts.get(budget, "") for budget in budgets))
    console = Console(markup=False)
    console.print(rows)
    if any(published.keys() - local.keys() for _, _, published, local in studies):
        console.print(
            "* published in docs/studies; other verdicts are from your own runs", style="dim"
        )


def print_sensitivity(report: SensitivityReport) -> None:
    """Print the detection threshold of each score for each distortion, and notes."""
    from gan_lab.sensitivity.sensitivity_page import list_columns, list_thresholds

    title = f"{report.data}: detection thresholds for n = {report.n}"
    rows = Table("metric", *list_columns(report), title=title, title_justify="left")
    for score, thresholds in list_thresholds(report):
        rows.add_row(score, *thresholds)
    console = make_console(rows)
    console.print(rows)
    for note in report.notes:
        console.print(note, soft_wrap=True)


def print_probe(probed: dict[str, Any], folder: Path) -> None:
    """Print the linear probe accuracy of each kind of features."""
    title = f"{folder}: {probed['labels']} labels, {probed['held_out']:,} test images"
    rows = Table("features", "accuracy", title=title, title_justify="left")
    for kind, accuracy in probed["accuracy"].items():
        rows.add_row(kind, f"{accuracy:.3f}")
    Console(markup=False).print(rows)


def print_data(loaded: LoadedConfig) -> None:
    """Print the splits, classes, duplicates and files of a data set, and save a contact sheet."""
    from gan_lab import data as datasets
    from gan_lab.data import duplicates
    from gan_lab.data.image_files import survey
    from gan_lab.images import interleave, save_grid
    from gan_lab.runs.run_folder import mark, name_output

    console = Console(markup=False)
    config = loaded.config
    served = datasets.load(config.data, config.run.seed)
    spec = served.spec
    console.print(f"data: {served.decoded.about}", soft_wrap=True)
    splits = {"train": served.train, "validation": served.validation, "test": served.test}
    shape = f"{spec.channels} x {spec.height} x {spec.width}"
    title = f"image shape {shape}, {spec.classes or 'no'} classes"
    rows = Table("", *splits, title=title, title_justify="left")
    rows.add_row("images", *(f"{len(split):,}" for split in splits.values()))
    if served.train.sources is not None:
        counts_of_inputs = [
            0 if split.sources is None else len(split.sources) for split in splits.values()
        ]
        rows.add_row("inputs", *(f"{count:,}" for count in counts_of_inputs))
    for label in range(min(spec.classes, 40)):
        counts = [
            np.count_nonzero(split.labels == label)
            for split in splits.values()
            if split.labels is not None
        ]
        rows.add_row(f"class {served.class_names[label]}", *(f"{count:,}" for count in counts))
    console.print(rows)
    if served.divided:
        note = "validation: checkpoint selection and tuning; test: final scores"
    else:
        note = "a single held-out image: the validation and test sets are the same"
    console.print(note, style="dim")
    if spec.content != "points":
        found = duplicates.count_duplicates(served)
        title = f"among {found.checked:,} images"
        columns = ("duplicates", "images", "across splits")
        rows = Table(*columns, title=title, title_justify="left")
        rows.add_row("exact", f"{found.exact:,}", f"{found.exact_across:,}")
        rows.add_row("near", f"{found.near:,}", f"{found.near_across:,}")
        console.print(rows)
    files = Table("files", "", title=config.data.root, title_justify="left")
    for kind, value in served.facts.files.list_rows() if served.facts.files else ():
        files.add_row(kind, value)
    root = Path(config.data.root)
    is_in_root = served.decoded.source == "full" and datasets.lies_in_root(config.data.name)
    for kind, value in survey(root).items() if is_in_root and root.is_dir() else ():
        files.add_row(kind, value)
    if files.row_count:
        console.print(files)
    batch, grid_columns = served.grid_batch(held_out=False, by_class=False)
    name = name_output(f"data-{config.data.name}", loaded, ["data"])
    sheet = Path(config.run.root) / loaded.experiment / f"{name}.png"
    mark(Path(config.run.root))
    with OutputFiles(default_path=True).write(sheet) as unfinished:
        images, grid_columns = interleave(batch.shown(), grid_columns)
        save_grid(images, grid_columns, unfinished, record={"output": "real images"})
    console.print(f"contact sheet: {sheet}", soft_wrap=True)


def print_dry_run(loaded: LoadedConfig) -> None:
    """Print the origin of each value, the networks, and the expected time and memory of a run."""
    from gan_lab import device
    from gan_lab.distributed import detect
    from gan_lab.runs.run_folder import RunFolder
    from gan_lab.training import auto_budget, builder, profiling

    console = Console(markup=False)
    config = loaded.config
    run = RunFolder.of(loaded)
    title = f"{loaded.experiment}: {run.path}"
    values = Table("key", "value", "from", title=title, title_justify="left")
    for key, value in list_leaves(config):
        origin = loaded.origin.get(key, "default")
        text = "see below" if key in loaded.automatic_keys else format_value(value)
        values.add_row(key, text, origin, style="" if origin == "default" else "bold")
    console.print(values)

    world = detect.count_local_processes(config.run.devices or "1") * max(1, config.run.num_nodes)
    recorded = auto_budget.find_recorded(loaded, run) if loaded.automatic_keys else None
    if recorded is None:
        auto_budget.check_processes(loaded, world)
    watch = profiling.Stopwatch()
    with tempfile.TemporaryDirectory() as folder, device.limit_memory():
        built, iteration, evaluating = profiling.measure(loaded, Path(folder), watch)
    if loaded.automatic_keys:
        config = recorded or auto_budget.choose(loaded, built.data, iteration, evaluating)
    iterations = config.iterations
    networks = Table("network", "parameters", "output", title="networks", title_justify="left")
    for name, network in built.family.named_children():
        shape = " x ".join(map(str, watch.shapes.get(name, ())))
        networks.add_row(name, f"{_count_parameters(network):,}", shape)
    console.print(networks)

    total = iterations * iteration + config.evaluations * evaluating
    console.print(f"data: {built.data.decoded.about}", soft_wrap=True)
    if loaded.automatic_keys:
        console.print(auto_budget.explain(config, loaded.automatic_keys), soft_wrap=True)
    for note in builder.explain_budget(config, built.family, built.data):
        console.print(note, soft_wrap=True)
    images_per_s = config.data.batch_size / iteration
    console.print(
        f"one iteration, measured on this machine: {iteration * 1e3:.1f} ms "
        f"({images_per_s:,.0f} images/s)"
    )
    if advice := device.advise_on_bf16(config.run.precision):
        console.print(advice, soft_wrap=True)
    if world > 1:
        per_process = config.data.batch_size // world
        console.print(
            f"{world} processes: {per_process} images per process and batch. data.batch_size="
            f"{config.data.batch_size} is the global batch size; increase it if the GPUs are idle",
            soft_wrap=True,
        )
    console.print(
        f"full run: {format_count(iterations, 'iteration')} and "
        f"{format_count(config.evaluations, 'evaluation')}, about {format_duration(total)}, "
        f"peak memory about {device.peak_memory():,.0f} MB",
        soft_wrap=True,
    )


def _count_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
