"""The command-line interface.

Commands import torch and the modules that need it in their bodies, so that ``--help``, shell
completion and errors about arguments are fast.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lab import __version__
from gan_lab.cli import inference, listing, score, sweeps
from gan_lab.cli.inference import DataOverrides, Run, Weights
from gan_lab.cli.paths import Overwrite, parse_html, parse_path
from gan_lab.utils import errors, openmp, terminal
from gan_lab.utils.errors import UserError
from gan_lab.utils.postponed_imports import postpone_imports

# before torch is imported, which starts OpenMP
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ["GOMP_SPINCOUNT"] = str(openmp.choose_spin_count())

if TYPE_CHECKING:
    from gan_lab.config.loading import LoadedConfig

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(inference.app)
app.add_typer(sweeps.app)
app.add_typer(score.app)
app.add_typer(listing.app)


def complete_experiment(incomplete: str) -> list[str]:
    """List the experiments that begin with a text, for shell completion."""
    from gan_lab.config import loading

    return [name for name in loading.experiments() if name.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value overrides and config groups, such as model.z_dim=64 data=faces64."
    ),
]
Experiment = Annotated[
    str,
    typer.Argument(
        help="An experiment of configs/experiment, or a YAML file. Without it: list experiments.",
        autocompletion=complete_experiment,
    ),
]


def print_version(requested: bool) -> None:
    """Print the version and exit, if requested."""
    if requested:
        typer.echo(f"gan-lab {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train, evaluate and compare generative adversarial networks."""
    terminal.log_to_stdout()


# options are explained by _check_for_options
OVERRIDES_ONLY = {"ignore_unknown_options": True}


@app.command(context_settings=OVERRIDES_ONLY)
def train(experiment: Experiment = "", overrides: Overrides = None) -> None:
    """Train an experiment, or resume it, and score it."""
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console
    from gan_lab.runs.run import Run as OpenedRun
    from gan_lab.runs.run_folder import RunFolder
    from gan_lab.training.builder import rank
    from gan_lab.training.loop import train as run_training

    code = run_training(loaded, overrides or [])
    folder = RunFolder.of(loaded).path
    if code == 0 and rank() == 0:
        console.print_scores(OpenedRun(folder))
    raise typer.Exit(code)


@app.command()
def evaluate(
    run: Run,
    overrides: DataOverrides = None,
    weights: Weights = "best",
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Also run a long evaluation for which weights are missing."),
    ] = False,
) -> None:
    """Score a run on the test set.

    Stores each score with its protocol in summary.json.
    """
    from gan_lab import report
    from gan_lab.cli import console
    from gan_lab.runs.run import Run as OpenedRun
    from gan_lab.training.final_evaluation import evaluate as score

    score(run, weights, overrides or [], ask=not yes)
    console.print_scores(OpenedRun(run))
    report.write_or_warn([run])


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="A run folder, or several to compare.", parser=parse_path
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file. Default: report.html in the run folder.", parser=parse_html),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write an HTML report of one run, or of several side by side."""
    from gan_lab import report as reporting

    typer.echo(reporting.write(runs, out, overwrite))


@app.command(context_settings=OVERRIDES_ONLY)
def inspect_data(experiment: Experiment = "", overrides: Overrides = None) -> None:
    """Inspect the data: layout, sizes, duplicates, contact sheet."""
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console

    console.print_data(loaded)


@app.command()
def judge(
    data: Annotated[
        str,
        typer.Argument(
            help="A data set, such as emoji, or a config group option, such as faces64."
        ),
    ],
    overrides: Overrides = None,
    n: Annotated[int, typer.Option("--n", "-n", min=6, help="Number of fakes, and of reals.")] = 50,
) -> None:
    """Measure the sensitivity of metrics to distorted images.

    Writes a page with the smallest blur, noise, collapse and so on that each metric detects.
    """
    from gan_lab import data as datasets
    from gan_lab.cli import console
    from gan_lab.config import loading
    from gan_lab.runs.run_folder import name_output
    from gan_lab.sensitivity import detection, sensitivity_page

    loaded = loading.load("gan", [f"data={data}", *(overrides or [])])
    config = loaded.config
    served = datasets.load(config.data, config.run.seed)
    report = detection.measure_sensitivity(served, n, config.metrics.extractors, config.metrics)
    console.print_sensitivity(report)
    name = name_output(f"{data}-n{report.n}", loaded, ["data", "metrics"])
    page = Path(config.run.root) / "judge" / f"{name}.html"
    typer.echo(sensitivity_page.write_page(report, page))


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="A table of configs/tables.")] = "families",
    overrides: Overrides = None,
) -> None:
    """Train and compare all rows of a benchmark table.

    All rows get the same budget. Resumes interrupted runs and prints the table in Markdown.
    """
    from gan_lab import benchmark as tables

    loaded_table = tables.load(name)
    typer.echo(tables.render(loaded_table, tables.train(loaded_table, overrides or [])))


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="A study of studies/, or all: those that none supersedes. Without it: list them."
        ),
    ] = "",
    budget: Annotated[str, typer.Option(help="quick or full.")] = "full",
    root: Annotated[
        Path, typer.Option(help="Parent folder of the runs.", parser=parse_path)
    ] = Path("runs"),
    workers: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 1,
    measure_only: Annotated[
        bool,
        typer.Option("--measure-only", help="Only share the work of another process; no page."),
    ] = False,
    samples_only: Annotated[
        bool,
        typer.Option(
            "--samples-only",
            help="Only train the first seed of each arm, and write a picture of their samples.",
        ),
    ] = False,
) -> None:
    """Test a claim of the literature by an experiment.

    Resumes interrupted work, and writes a page with the results and a verdict.
    """
    from gan_lab import studies
    from gan_lab.cli import console
    from gan_lab.studies import study_page

    if samples_only and (measure_only or workers > 1):
        raise UserError("--samples-only trains in this process. Omit --measure-only and --workers")
    if samples_only:
        _write_study_samples(name, budget, root)
        return
    if name:
        _run_studies(name, budget, root, workers, measure_only)
    rows = []
    for each in studies.load_all():
        published = study_page.read_verdicts(studies.find_committed_results(), each)
        local = study_page.read_verdicts(root / "studies", each)
        rows.append((each.name, each.claim, published, local))
    console.print_studies(rows, studies.BUDGETS)


def _write_study_samples(name: str, budget: str, root: Path) -> None:
    """Write the samples of the arms of a study, or of ``all``."""
    from gan_lab import studies
    from gan_lab.studies import engine

    if not name:
        raise UserError(
            "--samples-only needs the name of a study, or all. `gan-lab study` lists them"
        )
    for each in studies.find(name):
        if picture := engine.write_arm_samples(each, budget, root):
            typer.echo(picture)
        else:
            typer.echo(f"{each.name}: no arm trains a generator")


def _run_studies(name: str, budget: str, root: Path, workers: int, measure_only: bool) -> None:
    """Measure a study, or ``all``, and write its page."""
    from gan_lab import studies
    from gan_lab.studies import engine, study_page

    pending = studies.find(name)
    # report an unknown budget before any study starts
    for each in pending:
        each.get_budget(budget)
    worker_command = [sys.executable, "-m", "gan_lab", "study", name, "--budget", budget]
    worker_command += ["--root", str(root), "--measure-only"]
    with engine.start_workers(worker_command, workers):
        # the first pass skips studies that another process is measuring, the second waits for them
        for wait in (False, True):
            for each in list(pending):
                if engine.measure(each, budget, root, wait):
                    pending.remove(each)
                    if not measure_only:
                        engine.collect(each, budget, root)
                        results = study_page.read_results(root / "studies", each)[budget]
                        typer.echo(study_page.write_page(each, results, root / "studies" / "pages"))


@app.command()
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, runs/<experiment>/<run id>.", metavar="RUN", parser=parse_path
        ),
    ],
    weights: Annotated[str, typer.Option(help="best, last, or raw (last without EMA).")] = "best",
) -> None:
    """Compare runs: mean and standard deviation over seeds.

    Scores with different protocols are in separate columns.
    """
    from gan_lab.cli import console
    from gan_lab.report import compare as comparing

    console.print_comparison(comparing.compare(folders, weights))


@app.command(context_settings=OVERRIDES_ONLY)
def dry_run(experiment: Experiment = "", overrides: Overrides = None) -> None:
    """Show the config, networks and expected time of a training.

    Shows the origin of every value, and measures some iterations to estimate time and memory.
    """
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console

    console.print_dry_run(loaded)


@app.command()
def slurm(
    experiment: Experiment,
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(help="Number of nodes.")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs per node, one process per GPU.")] = 1,
    time: Annotated[
        str, typer.Option(help="Time limit of one job, HH:MM:SS or D-HH:MM:SS.")
    ] = "04:00:00",
) -> None:
    """Write a SLURM batch script that requeues and resumes."""
    from gan_lab.distributed import slurm as batch

    typer.echo(f"sbatch {batch.write(experiment, overrides or [], nodes, gpus, time)}")


@app.command()
def doctor(overrides: Overrides = None) -> None:
    """Check in under a minute that this machine can train.

    Prints one line per check, with the remedy of each problem.
    """
    from gan_lab import doctor as checks

    raise typer.Exit(checks.examine(overrides or []))


def _load(experiment: str, overrides: list[str] | None) -> LoadedConfig:
    """Load an experiment with its overrides; without a name list all experiments and exit."""
    from gan_lab.config import loading

    if not experiment:
        _list_experiments()
        raise typer.Exit
    _check_for_options([experiment, *(overrides or [])])
    loaded = loading.load(experiment, overrides or [])
    loading.check_root(loaded)
    return loaded


def _check_for_options(arguments: list[str]) -> None:
    """Raise UserError for ``--images 100``, and name the key: ``run.images=100``."""
    from gan_lab.config.schema import Config, list_leaves

    for option, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if not option.startswith("-"):
            continue
        name, equals, value = option.lstrip("-").partition("=")
        name = name.replace("-", "_")
        keys = [key for key, _ in list_leaves(Config()) if name in (key, key.rpartition(".")[2])]
        # run.images, and then data.images
        keys.sort(key=lambda key: not key.startswith("run."))
        value = value if equals else following
        examples = [f"{key}={value or '...'}" for key in keys] or ["model.z_dim=64"]
        raise UserError(
            f"Unknown option {option}: values of the config are written key=value. Write "
            f"{' or '.join(examples)}"
        )


def _list_experiments() -> None:
    from gan_lab.config import groups, loading

    for name, description in loading.experiments().items():
        typer.echo(f"{name:<13} {description}")
    for group, members in groups.group_members(loading.config_folder()).items():
        typer.echo(f"config group: {group}=<{' | '.join(members)}>")


def main() -> None:
    """Run the console script.

    Exits with 2 and one line for a user error, 1 and a traceback for a bug, 130 for Ctrl-C.
    """
    warnings.showwarning = lambda message, *_, **__: print(
        f"warning: {errors.escape_line_breaks(message)}", file=sys.stderr
    )
    # process 1 of a container: the kernel ignores SIGTERM if it has no handler
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    terminal.protect_streams()
    postpone_imports()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        explanation = errors.explain_error(error)
        if explanation is None or os.environ.get("GAN_LAB_TRACEBACK"):
            traceback.print_exception(error)
            print(errors.explain_bug(error), file=sys.stderr)
            sys.exit(1)
        print(f"error: {explanation}", file=sys.stderr)
        sys.exit(2)
