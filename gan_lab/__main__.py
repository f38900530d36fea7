"""The command line: parses words and calls experiment.py. torch is imported inside a command only."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

# How long a thread that waits for the others keeps its core, in turns of a loop. The default is 30 times longer, is no
# faster on an idle machine, and makes two trainings on the same cores several times slower than they must be.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
Words = Annotated[list[str] | None, typer.Argument(help="key=value overrides, such as model.z_dim=64 run.seed=1")]
Name = Annotated[str, typer.Argument(help="an experiment of configs/, or the path of a YAML file; empty: list them")]
Run = Annotated[Path, typer.Argument(help="a run folder, runs/<experiment>/<run id>")]


@app.callback()
def main_options() -> None:
    """Train, compare and understand generative adversarial networks."""


@app.command()
def train(experiment: Name = "", words: Words = None) -> None:
    """Train an experiment, or go on training it, and score it."""
    from gan_lab import config

    if not experiment:
        _list()
        return
    loaded = config.load(experiment, words or [])
    from gan_lab import experiment as lab
    from gan_lab import runs, show

    folder = runs.folder_of(loaded)
    code = lab.train(loaded, words or [], typer.echo)
    if code == 0 and lab.rank() == 0:
        show.table(runs.summary(folder), folder)
    raise typer.Exit(code)


@app.command()
def evaluate(run: Run, weights: Annotated[str, typer.Option(help="best or last")] = "best") -> None:
    """Score a run's generator on held-out reals; each score is stored with its protocol in summary.json."""
    from gan_lab import experiment as lab
    from gan_lab import show

    show.table(lab.evaluate(run, weights, typer.echo), run)


@app.command()
def sample(
    run: Run,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="how many images")] = 64,
    label: Annotated[int | None, typer.Option(help="the class, of a conditional generator")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="PNG file; default: in the run folder")] = None,
) -> None:
    """Draw images from a run's generator into one PNG."""
    from gan_lab import load_generator
    from gan_lab.images import save_grid

    generator = load_generator(run)
    images = generator(n, label, seed)
    name = f"sample-n{n}-seed{seed}" + ("" if label is None else f"-class{label}")
    out = out or (run if run.is_dir() else run.parent) / f"{name}.png"
    save_grid(images, min(n, 10 if generator.classes else 8), out)
    typer.echo(out)


@app.command()
def show(experiment: Name = "", words: Words = None) -> None:
    """The dry run: every value and where it came from, the networks, one measured iteration, the expected time."""
    from gan_lab import config

    if not experiment:
        _list()
        return
    loaded = config.load(experiment, words or [])
    from gan_lab import show as drawing

    drawing.dry_run(loaded)


def _list() -> None:
    from gan_lab import config

    for name, about in config.experiments().items():
        typer.echo(f"{name:<10} {about}")


def main() -> None:
    """The console script: one line and exit code 2 for what the user can mend, 130 for Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("GAN_LAB_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
