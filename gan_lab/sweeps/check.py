"""Check a sweep before it runs (legal values, known metric) and estimate its cost."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gan_lab.config import extensions, loading
from gan_lab.sweeps.sweep_file import Sweep, to_words
from gan_lab.utils.errors import UserError


def check_values(sweep: Sweep, words: Sequence[str] = ()) -> None:
    """Load the experiment with every value and both ends of each range. Raises UserError naming the first bad one."""
    for parameter in sweep.parameters:
        for value in parameter.ends():
            (word,) = to_words({parameter.key: value})
            if value is None:
                raise UserError(f"sweep {sweep.name}: {parameter.key}: None arrives at the trial as the text 'None'")
            try:
                loading.load(sweep.experiment, [*sweep.fixed, *words, word])
            except ValueError as error:
                raise UserError(f"sweep {sweep.name}: {word}: {error}") from None


def check(sweep: Sweep, words: Sequence[str] = (), limit: int | None = None) -> None:
    """Print the values that a sweep tries, how it ends trials early, and its expected time on this machine.

    Raises UserError if a value is not legal or the experiment has no such metric.
    """
    from rich.console import Console
    from rich.table import Table

    check_values(sweep, words)
    console = Console(markup=False)
    rows = Table("parameter", "values", "legal", title=f"{sweep.name}: {sweep.about}", title_justify="left")
    for parameter in sweep.parameters:
        rows.add_row(parameter.key, str(parameter), ", ".join(str(value) for value in parameter.ends()))
    console.print(rows)
    loaded = loading.load(sweep.experiment, [*sweep.fixed, *words])
    run, batch = loaded.config.run, loaded.config.data.batch_size
    seconds = _measure_trial(sweep, [*sweep.fixed, *words])
    evaluations = -(-run.images // run.evaluate_every_images)
    goal = "the greater the better" if sweep.maximize else "the smaller the better"
    lines = [f"metric: {sweep.metric}, {goal}, logged at each of {evaluations} evaluations of a trial"]
    if sweep.halving is None:
        lines.append("no trial is ended early")
    else:
        rungs = [sweep.halving.first * sweep.halving.eta**k for k in range(20)]
        rungs = [rung for rung in rungs if rung < evaluations]
        images = [f"{-(-rung * run.evaluate_every_images // batch) * batch:,}" for rung in rungs]
        lines.append(
            f"the first halving falls after {images[0]} images (evaluation {rungs[0]} of {evaluations}); all: "
            f"{', '.join(images)}; about 1 of {sweep.halving.eta} continues at each"
            if rungs else f"no trial reaches a halving: the first would follow evaluation {sweep.halving.first}"
        )  # fmt: skip
    trials = limit or sweep.run_cap or (len(sweep.points()) if sweep.method == "grid" else 0)
    total = "without run_cap or --trials the sweep never ends"
    if trials:
        hours = trials * seconds / 3600
        total = f"{trials} trials one after the other, none ended early: about {hours:.1f} hours"
    lines.append(f"one trial, measured on this machine: about {seconds / 60:.1f} minutes; {total}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def check_metric(sweep: Sweep, words: Sequence[str] = ()) -> None:
    """Raise UserError if the experiment does not compute the sweep's metric: no trial could be compared."""
    from gan_lab.distributed import detect
    from gan_lab.runs.folder import RunFolder
    from gan_lab.training.builder import build, load_data

    first = to_words({p.key: p.ends()[0] for p in sweep.parameters})
    loaded = loading.load(sweep.experiment, [*sweep.fixed, *words, *first, "log.wandb=off", "log.progress_bar=false"])
    with tempfile.TemporaryDirectory() as folder:
        built = build(*load_data(loaded.config), RunFolder(Path(folder)), launched=detect.SINGLE_PROCESS)
    _check_known(sweep, [name for metric in built.evaluation.evaluator.metrics for name in metric.names])


def _check_known(sweep: Sweep, names: Sequence[str]) -> None:
    if sweep.metric not in names:
        problem = extensions.explain_unknown_name("score", sweep.metric, names)
        raise UserError(f"sweep {sweep.name}: {problem} (of {sweep.experiment})")


def _measure_trial(sweep: Sweep, words: Sequence[str]) -> float:
    """Measure the seconds of a trial. Raises UserError if the experiment does not compute the metric."""
    from gan_lab.training import profiling

    first = to_words({p.key: p.ends()[0] for p in sweep.parameters})
    loaded = loading.load(sweep.experiment, [*words, *first])
    with tempfile.TemporaryDirectory() as folder:
        experiment, iteration, evaluating = profiling.measure(loaded, Path(folder), profiling.Stopwatch())
    _check_known(sweep, [name for metric in experiment.evaluation.evaluator.metrics for name in metric.names])
    config = loading.load(sweep.experiment, list(words)).config
    return config.iterations * iteration + -(-config.run.images // config.run.evaluate_every_images) * evaluating
