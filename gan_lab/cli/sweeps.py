"""Commands of sweeps; each imports what it needs inside."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

app = typer.Typer()
Sweep = Annotated[str, typer.Argument(help="a sweep of sweeps/, or the path of a YAML file; empty: list them")]
Words = Annotated[list[str] | None, typer.Argument(help="key=value overrides of all trials, such as run.images=20_000")]
Trials = Annotated[int | None, typer.Option(min=1, help="trials in total; default: run_cap, or the whole grid")]
Storage = Annotated[
    str | None, typer.Option(help="postgresql://user@host/database, shared by workers anywhere; default: SQLite")
]


@app.command()
def sweep(
    name: Sweep = "",
    words: Words = None,
    workers: Annotated[int, typer.Option(min=1, help="trials at a time on this machine")] = 1,
    trials: Trials = None,
    backend: Annotated[
        Literal["auto", "local", "wandb"], typer.Option(help="auto: W&B where a key is present and it answers")
    ] = "auto",
    storage: Storage = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="retry the failed trials too")] = False,
) -> None:
    """Run many trials, side by side, and report them.

    Bad trials end early; an interrupted sweep continues.
    """
    from gan_lab.sweeps import check, run_sweep, sweep_file

    if not name:
        for known, about in sweep_file.list_sweeps().items():
            typer.echo(f"{known:<15} {about}")
        return
    loaded = sweep_file.load(name)
    check.check_values(loaded, words or [])
    check.check_metric(loaded, words or [])
    raise typer.Exit(run_sweep.run(loaded, words or [], workers, trials, backend, storage, retry_failed))


@app.command()
def sweep_check(name: Sweep, words: Words = None, trials: Trials = None) -> None:
    """Check a sweep before it starts.

    Its values, its metric, the first halving and the expected time.
    """
    from gan_lab.sweeps import check, sweep_file

    check.check(sweep_file.load(name), words or [], trials)


@app.command()
def sweep_report(name: Sweep, words: Words = None, storage: Storage = None) -> None:
    """Report a sweep: the best values and what mattered.

    Prints it, and writes a page and the best configuration as a YAML file.
    """
    from gan_lab.sweeps import run_sweep, sweep_file, sweep_report

    loaded = sweep_file.load(name)
    sweep_report.report(
        run_sweep.open_trials(loaded, words or [], storage), run_sweep.folder_of(loaded, words or []), words or []
    )
