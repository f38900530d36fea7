"""The sweep commands."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

app = typer.Typer()
SweepName = Annotated[
    str,
    typer.Argument(
        help="A sweep of sweeps/, or the path of a YAML file. Without it: list the sweeps."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key=value overrides of all trials, such as run.images=20_000."),
]
Trials = Annotated[
    int | None, typer.Option(min=1, help="Number of trials. Default: run_cap, or the whole grid.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="postgresql://user@host/database, shared by workers anywhere. Default: SQLite."
    ),
]


@app.command()
def sweep(
    name: SweepName = "",
    overrides: Overrides = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of concurrent trials on this machine.")
    ] = 1,
    trials: Trials = None,
    backend: Annotated[
        Literal["auto", "local", "wandb"],
        typer.Option(help="auto: W&B if an API key is set and its server responds, else local."),
    ] = "auto",
    storage: Storage = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also retry the failed trials.")
    ] = False,
) -> None:
    """Run a hyperparameter sweep and report it.

    Bad trials end early. The same command resumes an interrupted sweep.
    """
    from gan_lab.sweeps import check, run_sweep, sweep_file

    if not name:
        for listed, question in sweep_file.list_sweeps().items():
            typer.echo(f"{listed:<15} {question}")
        return
    loaded = sweep_file.load(name)
    check.check_values(loaded, overrides or [])
    check.check_metric(loaded, overrides or [])
    raise typer.Exit(
        run_sweep.run(loaded, overrides or [], workers, trials, backend, storage, retry_failed)
    )


@app.command()
def sweep_check(name: SweepName, overrides: Overrides = None, trials: Trials = None) -> None:
    """Check a sweep before it starts.

    Checks its values and its metric; prints the first halving and the expected time.
    """
    from gan_lab.sweeps import check, sweep_file

    check.check(sweep_file.load(name), overrides or [], trials)


@app.command()
def sweep_report(name: SweepName, overrides: Overrides = None, storage: Storage = None) -> None:
    """Report a sweep: best values and parameter importances.

    Prints it, and writes a page and the best configuration as a YAML file.
    """
    from gan_lab.sweeps import run_sweep, sweep_file, sweep_report

    loaded = sweep_file.load(name)
    trials = run_sweep.open_trials(loaded, overrides or [], storage)
    sweep_report.report(trials, run_sweep.output_folder(loaded, overrides or []), overrides or [])
