"""The commands that list runs and explain scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lab.cli.paths import parse_path

if TYPE_CHECKING:
    from gan_lab.runs.run_list import ListedRun

app = typer.Typer()
STATE_STYLES = {"training": "green", "unfinished": "yellow", "unscored": "yellow", "damaged": "red"}


@app.command()
def runs(
    folder: Annotated[
        Path, typer.Argument(help="Parent folder of runs (run.root).", parser=parse_path)
    ] = Path("runs"),
    filter: Annotated[
        str,
        typer.Option(help="Words that the path, family, status or score name must contain."),
    ] = "",
    sort: Annotated[str, typer.Option(help="age, name, status, images, score or alerts.")] = "age",
    page: Annotated[
        bool, typer.Option("--page", help="Also write index.html, with a thumbnail of each run.")
    ] = False,
) -> None:
    """List runs: status, images, headline score, alerts, age."""
    from gan_lab.runs import run_list

    found = run_list.list_runs(folder)
    selected = run_list.select_runs(found, filter, sort)
    print_runs(selected, len(found))
    if page:
        from gan_lab.report import run_index

        typer.echo(run_index.write_index(found, folder))


def print_runs(runs: Sequence[ListedRun], total: int) -> None:
    """Print a table of runs that fits the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gan_lab.runs.run_list import format_age
    from gan_lab.utils.numbers import format_rounded

    table = Table("run", "status", box=None, pad_edge=False)
    # long paths are folded, so that they can be copied
    table.columns[0].overflow = "fold"
    for name in ("images", "score", "alerts", "age"):
        table.add_column(name, justify="right", no_wrap=name != "score")
    for run in runs:
        score = "" if run.value is None else f"{run.headline} {format_rounded(run.value, 4)}"
        share = "" if run.images >= run.budget_images else f" of {run.budget_images:,}"
        table.add_row(
            Text(str(run.path)),
            Text(run.status, STATE_STYLES.get(run.status, "")),
            f"{run.images:,}{share}",
            Text(score),
            str(run.alerts or ""),
            format_age(run.changed),
        )
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        # lines for other programs are not broken
        width = console.measure(table, options=console.options.update(max_width=10_000)).maximum
        console.width = max(console.width, width)
    console.print(table)
    for run in runs:
        if run.problem:
            console.print(f"{run.path}: {run.problem}", soft_wrap=True)
    if len(runs) < total:
        console.print(f"{len(runs):,} of {total:,} runs")


@app.command()
def zoo() -> None:
    """List the trained models that ship with the package.

    Commands and `load_generator` take zoo:NAME in place of a run.
    """
    from gan_lab.runs.zoo import LICENSE_LINE, list_models

    for model in list_models():
        typer.echo(f"{model.address}: {model.summary}, {model.size_bytes / 1e6:.1f} MB")
        typer.echo(f"  try it: {model.usage}")
        typer.echo(f"  trained by: {model.config['command']}; {model.headline}")
        typer.echo(f"  license: {LICENSE_LINE}; data: {model.config['data']}")
        typer.echo(f"  card: {model.path / 'README.md'}")


@app.command()
def explain(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Scores, such as fd_digits. Without them: all.", metavar="SCORE..."),
    ] = None,
) -> None:
    """Explain scores: meaning, direction, typical range."""
    from gan_lab.config.extensions import explain_unknown_name
    from gan_lab.metrics import explanations
    from gan_lab.utils.errors import UserError

    known = explanations.list_explanations() | explanations.TRAINING_CURVES
    for name in names or known:
        found = explanations.explain(name)
        if found is None:
            raise UserError(explain_unknown_name("score", name, [*known]))
        direction = f", {found.direction}" if found.direction else ""
        typer.echo(
            f"{name}: {found.title}{direction}. {found.meaning}. Range: {found.typical_range}."
        )
