"""Check a sweep before it runs (legal values, known metric) and estimate its cost."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gan_lab.config import extensions, loading
from gan_lab.config.schema import Config
from gan_lab.config.values import format_overrides
from gan_lab.sweeps.sweep_file import Sweep
from gan_lab.utils.errors import UserError
from gan_lab.utils.numbers import format_count, format_duration


def check_values(sweep: Sweep, overrides: Sequence[str] = ()) -> None:
    """Load the experiment with every value and both ends of each range.

    Raises:
        UserError: A value is invalid. The message names the first one.
    """
    loading.load(sweep.experiment, [*sweep.fixed_overrides, *overrides]).check_comparable()
    for parameter in sweep.parameters:
        for value in parameter.boundary_values():
            if value is None:
                raise UserError(
                    f"sweep {sweep.name}: the value of {parameter.key} is null. "
                    "W&B passes it as the text 'None': leave the parameter out"
                )
            (override,) = format_overrides({parameter.key: value})
            try:
                loading.load(sweep.experiment, [*sweep.fixed_overrides, *overrides, override])
            except UserError as error:
                # most errors begin with the key and the value
                is_named = str(error).startswith(f"{parameter.key}=")
                cause = str(error) if is_named else f"{override}: {error}"
                raise UserError(f"sweep {sweep.name}: {cause}") from None


def check_metric(sweep: Sweep, overrides: Sequence[str] = ()) -> None:
    """Check that the experiment computes the sweep's metric.

    Raises:
        UserError: It does not.
    """
    from gan_lab.distributed import detect
    from gan_lab.runs.run_folder import RunFolder
    from gan_lab.training.builder import build, load_data

    quiet = ["log.wandb=off", "log.progress_bar=false"]
    loaded = loading.load(sweep.experiment, [*_first_trial(sweep, overrides), *quiet])
    with tempfile.TemporaryDirectory() as folder:
        built = build(
            *load_data(loaded.config), RunFolder(Path(folder)), launched=detect.SINGLE_PROCESS
        )
    _check_metric_name(
        sweep, [name for metric in built.evaluation.evaluator.metrics for name in metric.names]
    )


def check(sweep: Sweep, overrides: Sequence[str] = (), limit: int | None = None) -> None:
    """Print a sweep's values, when it ends trials early, and its expected time here.

    Raises:
        UserError: A value is not legal, or the experiment has no such metric.
    """
    from rich.console import Console
    from rich.table import Table

    check_values(sweep, overrides)
    console = Console(markup=False)
    table = Table(
        "parameter",
        "values",
        "legal",
        title=f"{sweep.name}: {sweep.question}",
        title_justify="left",
    )
    for parameter in sweep.parameters:
        legal = ", ".join(str(value) for value in parameter.boundary_values())
        table.add_row(parameter.key, str(parameter), legal)
    console.print(table)
    config = loading.load(sweep.experiment, [*sweep.fixed_overrides, *overrides]).config
    goal = "higher is better" if sweep.maximize else "lower is better"
    each = f"each of {config.evaluations} evaluations"
    if config.evaluations == 1:
        each = "the one evaluation"
    lines = [
        f"Metric: {sweep.metric} ({goal}), logged at {each} of a trial",
        _describe_halving(sweep, config),
        _describe_duration(sweep, _measure_trial(sweep, overrides, config), limit),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def _describe_halving(sweep: Sweep, config: Config) -> str:
    evaluations = config.evaluations
    if sweep.halving is None:
        return "No trial ends early"
    rungs = [sweep.halving.first]
    while rungs[-1] * sweep.halving.eta < evaluations:
        rungs.append(rungs[-1] * sweep.halving.eta)
    if rungs[0] >= evaluations:
        return (
            "No trial reaches a halving: "
            f"the first comes after evaluation {rungs[0]} of {evaluations}"
        )
    batch_size = config.data.batch_size
    # An evaluation comes at the end of the batch that reaches its number of images.
    images = [
        -(-rung * config.run.evaluate_every_images // batch_size) * batch_size for rung in rungs
    ]
    return (
        f"First halving: after {images[0]:,} images (evaluation {rungs[0]} of {evaluations}). "
        f"All: {', '.join(f'{count:,}' for count in images)}. "
        f"About 1 of {sweep.halving.eta} trials survives each"
    )


def _describe_duration(sweep: Sweep, seconds: float, limit: int | None) -> str:
    trials = limit or sweep.run_cap or (len(sweep.grid_points()) if sweep.method == "grid" else 0)
    total = "Without run_cap or --trials the sweep never ends"
    if trials:
        trials_text = format_count(trials, "consecutive trial")
        total = f"{trials_text}, none ended early: about {format_duration(trials * seconds)}"
    return f"One trial, measured on this machine: about {format_duration(seconds)}. {total}"


def _measure_trial(sweep: Sweep, overrides: Sequence[str], config: Config) -> float:
    """Measure the duration of a trial with the budget of ``config``, in seconds.

    Raises:
        UserError: The experiment does not compute the metric.
    """
    from gan_lab.training import profiling

    loaded = loading.load(sweep.experiment, _first_trial(sweep, overrides))
    with tempfile.TemporaryDirectory() as folder:
        built, iteration_s, evaluation_s = profiling.measure(
            loaded, Path(folder), profiling.Stopwatch()
        )
    _check_metric_name(
        sweep, [name for metric in built.evaluation.evaluator.metrics for name in metric.names]
    )
    return config.iterations * iteration_s + config.evaluations * evaluation_s


def _first_trial(sweep: Sweep, overrides: Sequence[str]) -> list[str]:
    """Overrides of a trial whose parameters all have their first boundary value."""
    values = {parameter.key: parameter.boundary_values()[0] for parameter in sweep.parameters}
    return [*sweep.fixed_overrides, *overrides, *format_overrides(values)]


def _check_metric_name(sweep: Sweep, names: Sequence[str]) -> None:
    if sweep.metric not in names:
        problem = extensions.explain_unknown_name("score", sweep.metric, names)
        raise UserError(f"sweep {sweep.name}: {problem} (of {sweep.experiment})")
