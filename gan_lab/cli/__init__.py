"""The command line: parses words and calls what does the work. torch is imported inside a command only."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lab.cli import inference, score, sweeps
from gan_lab.cli.inference import Places, Run
from gan_lab.utils import terminal

# How long a thread that waits for the others keeps its core, in turns of a loop. The default is 30 times longer, is no
# faster on an idle machine, and makes two trainings on the same cores several times slower than they must be.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if TYPE_CHECKING:
    from gan_lab.config.loading import LoadedConfig

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(inference.app)
app.add_typer(sweeps.app)
app.add_typer(score.app)
Words = Annotated[
    list[str] | None,
    typer.Argument(
        help="key=value overrides and config groups, such as model.z_dim=64 data=faces64 budget=smoke"
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        help="an experiment of configs/experiment, or the path of a YAML file; empty: list them"
    ),
]


@app.callback()
def main_options() -> None:
    """Train, compare and understand generative adversarial networks."""
    terminal.log_to_stdout()


@app.command()
def train(experiment: Name = "", overrides: Words = None) -> None:
    """Train an experiment, or continue it, and score it."""
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console
    from gan_lab.runs.folder import RunFolder
    from gan_lab.runs.run import Run as OpenedRun
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
    overrides: Places = None,
    weights: Annotated[str, typer.Option(help="best or last")] = "best",
) -> None:
    """Score a run on held-out reals.

    Each score is stored in summary.json with its protocol.
    """
    from gan_lab import report
    from gan_lab.cli import console
    from gan_lab.runs.run import Run as OpenedRun
    from gan_lab.training.final_evaluation import evaluate as score

    score(run, weights, overrides or [])
    console.print_scores(OpenedRun(run))
    report.write_or_warn([run])


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="a run folder, or several to compare")
    ],
    out: Annotated[
        Path | None, typer.Option(help="HTML file; default: report.html in the run folder")
    ] = None,
) -> None:
    """Draw a run, or several side by side, on an HTML page."""
    from gan_lab import report as reporting

    typer.echo(reporting.write(runs, out))


@app.command()
def inspect_data(experiment: Name = "", overrides: Words = None) -> None:
    """Look at the data: layout, sizes, a contact sheet."""
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console

    console.print_data(loaded)


@app.command()
def judge(
    data: Annotated[
        str,
        typer.Argument(
            help="a data set, such as emoji, or a member of configs/data, such as faces64"
        ),
    ],
    overrides: Words = None,
    n: Annotated[int, typer.Option("--n", "-n", min=6, help="fakes, and as many reals")] = 50,
) -> None:
    """Measure the sensitivity of metrics to distorted images.

    Writes a page with the smallest blur, noise, collapse and so on that each score detects.
    """
    from gan_lab import data as datasets
    from gan_lab.cli import console
    from gan_lab.config import groups, loading
    from gan_lab.sensitivity import detection, sensitivity_page

    members = groups.group_members(loading.config_folder())["data"]
    word = (
        f"data={data}" if data in members and data not in datasets.names() else f"data.name={data}"
    )
    config = loading.load("gan", [word, *(overrides or [])]).config
    served = datasets.load(config.data, config.run.seed)
    report = detection.measure_sensitivity(served, n, config.metrics.extractors, config.metrics)
    console.print_sensitivity(report)
    typer.echo(
        sensitivity_page.write_page(
            report, Path(config.run.root) / "judge" / f"{data}-n{report.n}.html"
        )
    )


@app.command()
def benchmark(
    name: Annotated[str, typer.Argument(help="a file of configs/tables")] = "families",
    overrides: Words = None,
) -> None:
    """Train all rows of a table at equal budget.

    What was interrupted continues; then the table is drawn.
    """
    from gan_lab import benchmark as tables

    loaded_table = tables.load(name)
    typer.echo(tables.render(loaded_table, tables.train(loaded_table, overrides or [])))


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="a file of studies, or all; empty: list them")] = "",
    budget: Annotated[str, typer.Option(help="quick or full")] = "full",
    root: Annotated[Path, typer.Option(help="the folder of runs")] = Path("runs"),
    workers: Annotated[int, typer.Option(min=1, help="processes that share the work")] = 1,
    measure_only: Annotated[
        bool, typer.Option("--measure-only", help="share the work of another, draw nothing")
    ] = False,
) -> None:
    """Run a study: a claim of the texts, with a verdict.

    What was interrupted continues; then its page is drawn.
    """
    from gan_lab import studies
    from gan_lab.cli import console
    from gan_lab.studies import engine, study_page

    chosen = [
        studies.load(each)
        for each in (studies.names() if name == "all" else [name] if name else [])
    ]
    for each in chosen:
        each.budget(budget)  # an unknown one is refused once, before others begin
    same = [
        sys.executable,
        "-m",
        "gan_lab",
        "study",
        name,
        "--budget",
        budget,
        "--root",
        str(root),
        "--measure-only",
    ]
    with engine.shared(same, workers if chosen else 1):
        for wait in (False, True):  # first what no other process measures
            for each in list(chosen):
                if engine.measure(each, budget, root, wait):
                    chosen.remove(each)
                    if not measure_only:
                        engine.collect(each, budget, root)
                        drawn = study_page.read(root / "studies", each)[budget]
                        typer.echo(study_page.write(each, drawn, root / "studies" / "pages"))
    rows = [
        (
            each.name,
            each.claim,
            study_page.verdicts(studies.results(), each),
            study_page.verdicts(root / "studies", each),
        )
        for each in map(studies.load, studies.names())
    ]
    console.print_studies(rows, studies.BUDGETS)


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="run folders, runs/<experiment>/<run id>", metavar="RUN")
    ],
    weights: Annotated[str, typer.Option(help="best or last")] = "best",
) -> None:
    """Compare runs: mean and spread over seeds.

    Only scores that were measured alike stand in one column.
    """
    from gan_lab.cli import console
    from gan_lab.report import compare as comparing

    console.print_comparison(comparing.compare(folders, weights))


@app.command()
def dry_run(experiment: Name = "", overrides: Words = None) -> None:
    """Show what train would do, and how long it takes.

    Every value and where it came from, the networks, one measured iteration, the expected time.
    """
    loaded = _load(experiment, overrides)
    from gan_lab.cli import console

    console.print_dry_run(loaded)


@app.command()
def slurm(
    experiment: Name,
    overrides: Words = None,
    nodes: Annotated[int, typer.Option(help="machines")] = 1,
    gpus: Annotated[int, typer.Option(help="GPUs of each machine, one process for each")] = 1,
    time: Annotated[
        str, typer.Option(help="limit of one stay on the cluster, HH:MM:SS or D-HH:MM:SS")
    ] = "04:00:00",
) -> None:
    """Write a SLURM batch script that resumes by itself."""
    from gan_lab.distributed import slurm as batch

    typer.echo(f"sbatch {batch.write(experiment, overrides or [], nodes, gpus, time)}")


@app.command()
def doctor(overrides: Words = None) -> None:
    """Check this machine in under a minute.

    One line for each thing that a training needs, with its remedy.
    """
    from gan_lab import doctor as checks

    raise typer.Exit(checks.examine(overrides or []))


def _load(experiment: str, overrides: list[str] | None) -> LoadedConfig:
    """Load an experiment with the words about it; without a name list all experiments and end."""
    from gan_lab.config import loading

    if not experiment:
        _list()
        raise typer.Exit
    return loading.load(experiment, overrides or [])


def _list() -> None:
    from gan_lab.config import groups, loading

    for name, about in loading.experiments().items():
        typer.echo(f"{name:<13} {about}")
    for group, members in groups.group_members(loading.config_folder()).items():
        typer.echo(f"with any of them {group}=<{' | '.join(members)}>")


def main() -> None:
    """Run the console script. Exit code 2 and one line for a user error, 1 and a traceback for a bug, 130 for Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: print(
        f"warning: {terminal.flat(message)}", file=sys.stderr
    )
    if (
        os.getpid() == 1
    ):  # in a container: the kernel ignores a SIGTERM that process 1 has no handler for
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    terminal.make_lasting()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        explanation = terminal.in_one_line(error)
        if explanation is None or os.environ.get("GAN_LAB_TRACEBACK"):
            traceback.print_exception(error)
            print(terminal.explain_bug(error), file=sys.stderr)
            sys.exit(1)
        print(f"error: {explanation}", file=sys.stderr)
        sys.exit(2)
