"""The page of a study in Markdown, with its figure, and the index of all studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lab import studies
from gan_lab.report.statistics import compare_with_bound
from gan_lab.studies import BUDGETS, Study, measures, verdict
from gan_lab.studies.measures import Results
from gan_lab.studies.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    SUPPORTED,
    VERDICTS,
    JudgedPrediction,
)
from gan_lab.utils.files import read_json, write_text
from gan_lab.utils.numbers import rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches. Panels are stacked, so that a phone shows the figure at nearly this size.
WIDTH_INCHES = 5.0
HEIGHT_INCHES = 3.2
STYLE: dict[Any, Any] = {
    # Text stays text.
    "svg.fonttype": "none",
    # Without a fixed salt the identifiers in the file would be random.
    "svg.hashsalt": "gan-lab",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}
SENTENCES = {
    SUPPORTED: "The prediction is **supported**",
    CONTRADICTED: "The prediction is **contradicted**",
    INCONCLUSIVE: "The result is **inconclusive**",
}


@dataclass(frozen=True)
class RecordedResults:
    """The results of a study with one budget.

    Attributes:
        budget: ``quick`` or ``full``.
        results: Values by arm, one entry per seed.
        seconds: Duration of the measurements; None if it was not recorded.
        runs: Folders of the trainings, relative to ``runs`` next to the pages; none in docs.
    """

    budget: str
    results: Results
    seconds: float | None
    runs: list[str]


def read_results(folder: Path, study: Study) -> dict[str, RecordedResults]:
    """Read ``<study>/<budget>.json`` in a folder, by budget, without results of another design."""
    found = {}
    for budget in BUDGETS:
        path = folder / study.name / f"{budget}.json"
        if not path.is_file():
            continue
        recorded = read_json(path)
        if recorded["fingerprint"] != study.compute_fingerprint(budget):
            continue
        cost = path.with_suffix(".cost.json")
        seconds = read_json(cost)["seconds"] if cost.is_file() else None
        runs = path.with_suffix(".runs.json")
        trained = read_json(runs) if runs.is_file() else []
        # JSON sorts the arms; the page has the order of the study's file.
        ordered = {arm: recorded["results"][arm] for arm in study.arms}
        found[budget] = RecordedResults(budget, ordered, seconds, trained)
    return found


def read_verdicts(folder: Path, study: Study) -> dict[str, str]:
    """Return the verdict for each budget with results in a folder."""
    return {
        budget: verdict.combine_verdicts(verdict.judge_predictions(study, budget, recorded.results))
        for budget, recorded in read_results(folder, study).items()
    }


def write_page(study: Study, recorded: RecordedResults, out: Path) -> Path:
    """Write the page ``<study>.md`` and its figure ``<study>.svg``; return the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{study.name}.svg", render_figure(study, recorded.results))
    write_text(out / f"{study.name}.md", render_page(study, recorded))
    return out / f"{study.name}.md"


def render_page(study: Study, recorded: RecordedResults) -> str:
    """Return the page in Markdown."""
    budget, results = recorded.budget, recorded.results
    judged = verdict.judge_predictions(study, budget, results)
    chosen = study.get_budget(budget)
    seeds = f"{chosen.seeds} seed{'s' * (chosen.seeds > 1)}"
    columns = list(dict.fromkeys([*_list_predicted_values(study), *study.shown]))
    arms = []
    for arm in study.arms:
        values = [verdict.format_values(results, arm, value) for value in columns]
        arms.append([f"`{arm}`", *values])
    design = _format_table(
        ["arm", f"arguments of `gan_lab/studies/measures/{study.measure}.py`"],
        [[f"`{arm}`", f"`{arguments}`"] for arm, arguments in study.arms.items()],
    )
    if chosen.words:
        design += f"\n\nThe {budget} edition appends `{chosen.words}` to each."
    command = f"    make study STUDY={study.name} BUDGET={budget}"
    if recorded.seconds is not None:
        command += f"\n\nDuration: {_format_duration(recorded.seconds)} of one process."
    parts = [
        f"# {study.chapter}. {study.title}",
        f"**Claim:** {study.claim}",
        f"Source: {study.source}.",
        f"**Prediction**, as recorded before the first run: {study.prediction}",
        f"{SENTENCES[verdict.combine_verdicts(judged)]}: {_count_verdicts(judged)} "
        f"({budget} edition, {seeds}).",
        f"![The values of each arm]({study.name}.svg)",
        _format_table(
            ["prediction", "difference (95 % CI)", "p", "verdict"],
            [_format_prediction(each) for each in judged],
        ),
        _format_table(["arm", *columns], arms),
        "Each prediction is tested by Welch's t-test, or by Student's against a bound, at 5 % for "
        "all predictions together (Holm's correction). Discrete values (fewer than four distinct "
        "ones) are tested by permutation, against a bound by the sign test; a margin between two "
        f"arms of them is not tested. The p-values and intervals shown are uncorrected. "
        f"{_describe_power(judged)}".rstrip(),
        f"**Not shown:** {study.not_shown}",
        "## Design",
        design,
        command,
    ]
    if recorded.runs:
        reports = [f"- [{run}](../runs/{run}/report.html)" for run in recorded.runs]
        parts += ["The reports of its trainings:", "\n".join(reports)]
    return "\n\n".join(parts) + "\n"


def render_index(folder: Path) -> str:
    """Return the index of all studies in Markdown, with the verdicts of the results in a folder."""
    rows = []
    verdicts: list[str] = []
    total_seconds = 0.0
    for name in studies.names():
        study = studies.load(name)
        found = read_results(folder, study)
        title = f"[{study.title}]({name}.md)" if found else study.title
        concluded, counts, minutes = "", "", ""
        if "full" in found:
            judged = verdict.judge_predictions(study, "full", found["full"].results)
            concluded = verdict.combine_verdicts(judged)
            counts = _count_verdicts(judged)
            seconds = found["full"].seconds or 0.0
            total_seconds += seconds
            minutes = f"{seconds / 60:.0f}" if seconds else ""
        verdicts.append(concluded)
        rows.append([str(study.chapter), title, study.claim, concluded, counts, minutes])
    totals = ", ".join(f"{verdicts.count(name)} {name}" for name in VERDICTS)
    parts = [
        "# Studies",
        "Each study turns a claim of the GAN literature into an experiment. Its predictions, arms "
        "and measure are recorded in `studies/<name>.yaml` before the first run and are not "
        "changed afterwards. The wording of some claims was revised after the runs.",
        "- **Supported**: every prediction of the study passes a significance test at 5 %.\n"
        "- **Contradicted**: at least one value is significantly on the wrong side of its "
        "predicted limit.\n"
        "- **Inconclusive**: no prediction is contradicted, and at least one test is not "
        "significant, or not possible.",
        "The verdict is about the predictions in the form tested, not about the claim in general. "
        "A claim with several parts may have parts with different verdicts: see the predictions "
        "on its page.",
        f"Full edition of {len(verdicts)} studies: {totals}.",
        "`make study` lists the studies, `make study STUDY=optimum` runs one, `make book` writes "
        "these pages from the results. The quick edition of all, `make study STUDY=all "
        "BUDGET=quick WORKERS=2`, uses small budgets and mostly one seed; it is a demonstration, "
        "and its tests are rarely significant.",
        _format_table(
            ["", "study", "claim", "verdict", "predictions", "minutes"],
            rows,
        ),
        "Verdicts, predictions and minutes are those of the full edition. It took "
        f"{total_seconds / 3600:.1f} hours of one process, on half of two virtual cores of an AMD "
        "EPYC; `make study STUDY=all WORKERS=2` shares it between two processes.",
    ]
    return "\n\n".join(parts) + "\n"


def render_figure(study: Study, results: Results) -> str:
    """Return the figure as SVG: the measure's own, or a point for each seed and predicted value."""
    # half a second, which the list of studies does not need
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        draw = getattr(measures.find(study.measure), "draw", None)
        if draw:
            draw(figure, results)
        else:
            _plot_seeds(figure, study, results)
        svg = StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in svg.getvalue().splitlines()) + "\n"


def _plot_seeds(figure: Figure, study: Study, results: Results) -> None:
    """Plot one panel per value: seeds as points, means with 95 % intervals, bounds dashed."""
    names = _list_predicted_values(study)
    found = {}
    arms = {}
    for name in names:
        found[name] = {arm: verdict.select_values(results, arm, name) for arm in study.arms}
        arms[name] = [arm for arm in study.arms if found[name][arm]]
    # One line per arm, and room for the title and the axis.
    lengths = [len(arms[name]) + 2 for name in names]
    figure.set_figheight(0.27 * sum(lengths))
    panels = figure.subplots(len(names), 1, squeeze=False, height_ratios=lengths)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        for position, arm in enumerate(arms[name]):
            values = found[name][arm]
            color = f"C{[*study.arms].index(arm)}"
            axes.plot(values, [position] * len(values), "o", color=color, markersize=4, alpha=0.6)
            if len(values) > 1:
                mean = compare_with_bound(values, 0.0)
                interval = [[mean.difference - mean.low], [mean.high - mean.difference]]
                axes.errorbar(
                    [mean.difference],
                    [position + 0.25],
                    xerr=interval,
                    fmt="|",
                    color=color,
                    capsize=3,
                )
        for prediction in study.predictions:
            if prediction.value == name and prediction.bound is not None:
                axes.axvline(prediction.bound, color="gray", linestyle="--")
        axes.set_yticks(range(len(arms[name])), arms[name])
        axes.set(title=name, ylim=(len(arms[name]) - 0.4, -0.5))


def _list_predicted_values(study: Study) -> list[str]:
    return list(dict.fromkeys(prediction.value for prediction in study.predictions))


def _count_verdicts(judged: list[JudgedPrediction]) -> str:
    """Format the number of predictions with each verdict, as in: 2 supported, 1 inconclusive."""
    verdicts = [each.verdict for each in judged]
    counts = [(verdicts.count(name), name) for name in VERDICTS]
    return ", ".join(f"{count} {name}" for count, name in counts if count)


def _format_prediction(judged: JudgedPrediction) -> list[str]:
    effect = judged.effect
    if effect is None:
        missing = ", ".join(f"{count} of {arm}" for arm, count in judged.missing.items())
        reason = f" (seeds without a value: {missing})" if missing else ""
        return [str(judged.prediction), "", "", judged.verdict + reason]
    sign = 1 if judged.prediction.relation == "above" else -1
    low, high = sorted((sign * effect.low, sign * effect.high))
    shown = replace(effect, difference=sign * effect.difference, low=low, high=high)
    p = "not tested" if math.isnan(effect.p) else f"{effect.p:.2g}" if effect.p else "< 1e-12"
    return [str(judged.prediction), str(shown), p, judged.verdict]


def _describe_power(judged: list[JudgedPrediction]) -> str:
    """Name the smallest differences that these seeds would detect."""
    tested = [each for each in judged if math.isfinite(each.detectable_difference)]
    if all(each.effect is None for each in judged):
        return "No prediction was tested: a test needs three seeds, each with a value."
    if not tested:
        return ""
    smallest = "; ".join(
        f"{rounded(each.detectable_difference, 2)} of `{each.prediction.value}` "
        f"({each.prediction.arm})"
        for each in tested
    )
    return (
        "With standard deviations like these, the test has a power of at least 80 % for these "
        f"distances from the predicted limit: {smallest}."
    )


def _format_table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]
    )


def _format_duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
