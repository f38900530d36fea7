"""The page of a study in Markdown, with its figure, and the index of all studies."""

from __future__ import annotations

import math
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_lab import studies
from gan_lab.report.statistics import compare_with_bound
from gan_lab.studies import BUDGETS, Study, measurement_record, measures, verdict
from gan_lab.studies.measures import Results, Values
from gan_lab.studies.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    SUPPORTED,
    JudgedPrediction,
    count_verdicts,
)
from gan_lab.utils.files import read_json, write_text
from gan_lab.utils.numbers import format_rounded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches. Panels are stacked, so that a phone shows the figure at nearly this size.
WIDTH_INCHES = 5.0
HEIGHT_INCHES = 3.2
CHART_STYLE: dict[Any, Any] = {
    # Text stays text.
    "svg.fonttype": "none",
    # Without a fixed salt the identifiers in the file would be random.
    "svg.hashsalt": "gan-lab",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}
VERDICT_SENTENCES = {
    SUPPORTED: "The prediction is",
    CONTRADICTED: "The prediction is",
    NO_EFFECT: "The result is",
    INCONCLUSIVE: "The result is",
}
INDEX_COLUMNS = [
    "",
    "study",
    "claim",
    "prediction",
    "verdict",
    "what this says about the claim",
    "minutes",
]
# The endings of the names of their distances (``metrics/evaluator.py``), and how they are called.
TRIVIAL_GENERATORS = {
    "_of_replay": "copies of training images",
    "_of_mean_image": "the mean training image, of the class if conditional",
}
# The rules that all pages share.
TEST_RULES = """\
All tests are two-sided, at 5 % for all predictions of a study together. Values are compared on the
scale of their kind (`gan_lab/report/scales.py`), which `make compare` and sweeps use too:

| kind of score | scale | difference shown as |
| --- | --- | --- |
| non-negative distances and ratios (`fd_*`, `fid`, `lpips`, `sharpness`) | logarithm | ratio |
| rates and accuracies (`recall_*`, `label_accuracy`, `near_copies_*`) | logit; a rate \
x counts as (1000 x + 0.5) / 1001, so that 0 and 1 have one | odds ratio |
| correlations and `ssim` | Fisher z of 1000/1001 of the value | difference of z |
| signed scores (`kd_*`, `psnr`, gains, logarithms), counts and all others | untransformed | \
difference |

If one value is not on the scale, such as a distance of 0, all stay untransformed. A limit "by at
least" and a margin of no effect are in units of the rate or correlation itself, so these are then
untransformed too.

Discrete values (some are equal, and fewer than four distinct) are tested by permutation, against
a bound by the sign test; a margin between two arms of them is not tested. If all values are 0 or 1,
a permutation test is Fisher's exact test, and a bound is tested by the exact binomial test. A seed
without a value, or two arms that both fail (mean precision and recall below 0.1, or no smaller
distance than the mean training image), make a prediction inconclusive. So does a base arm whose
values are all at a bound of the score (a floor effect or ceiling effect), unless the difference is
significant.

A table with a Fréchet or kernel distance also has the distances of two trivial generators: copies
of the training images, and their mean (for a conditional generator, that of their class). They need
no training; for trainings that did not record them they were computed later
(`scripts/record_trivial_distances.py`).

A study may add seeds in steps and test after each \
([group-sequential designs](../sequential.md))."""


@dataclass(frozen=True)
class RecordedResults:
    """The results of a study with one budget.

    Attributes:
        budget: ``quick`` or ``full``.
        results: Values by arm, one entry per seed.
        seconds: Duration of the measurements; None if it was not recorded.
        runs: Folders of the trainings, relative to ``runs`` next to the pages; none in docs.
        conclusion: What the results say about the claim, written by hand; empty for new results.
        concluded_verdict: The verdict that the conclusion is about; empty without one.
        measured: The record of ``measurement_record.py``; None if there is none.
        samples: The picture of ``arm_samples.py``, of the quick edition if the full one has none;
            None if there is none.
        sampled_arms: The arms in it.
        sampled_budget: The edition of its trainings.
        superseded: Whether the study with the better design has results.
    """

    budget: str
    results: Results
    seconds: float | None
    runs: list[str]
    conclusion: str = ""
    concluded_verdict: str = ""
    measured: dict[str, Any] | None = None
    samples: Path | None = None
    sampled_arms: Sequence[str] = ()
    sampled_budget: str = ""
    superseded: bool = False


def read_results(folder: Path, study: Study) -> dict[str, RecordedResults]:
    """Read ``<study>/<budget>.json`` in a folder, by budget, without results of another design."""
    found = {}
    for budget in BUDGETS:
        path = folder / study.name / f"{budget}.json"
        recorded = _read_current(path, study, budget)
        if recorded is None:
            continue
        cost = path.with_suffix(".cost.json")
        seconds = read_json(cost)["seconds"] if cost.is_file() else None
        runs = path.with_suffix(".runs.json")
        trained = read_json(runs) if runs.is_file() else []
        trivial = path.with_suffix(".trivial.json")
        distances = read_json(trivial)["distances"] if trivial.is_file() else {}
        # JSON sorts the arms; the page has the order of the study's file.
        ordered = {
            arm: [
                _add_distances(values, distances.get(arm, {}))
                for values in recorded["results"][arm]
            ]
            for arm in study.arms
        }
        path_of_conclusion = path.with_suffix(".conclusion.json")
        conclusion = read_json(path_of_conclusion) if path_of_conclusion.is_file() else {}
        record = path.with_suffix(".measured.json")
        measured = read_json(record) if record.is_file() else None
        sampled = _find_samples(path.parent, budget)
        found[budget] = RecordedResults(
            budget,
            ordered,
            seconds,
            trained,
            conclusion.get("text", ""),
            conclusion.get("verdict", ""),
            measured,
            *sampled,
            is_superseded(folder, study),
        )
    return found


def _add_distances(values: Values, trivial: Values) -> Values:
    """Add the distances of trivial generators, unless the training has diverged."""
    return trivial | values if values else values


def _read_current(path: Path, study: Study, budget: str) -> Any:
    """Read the results of a budget; return None if they are missing or of another design."""
    if not path.is_file():
        return None
    recorded = read_json(path)
    return recorded if recorded["fingerprint"] == study.compute_fingerprint(budget) else None


def _find_samples(folder: Path, budget: str) -> tuple[Path | None, Sequence[str], str]:
    """Find the picture of a budget, or of a smaller one; return it, its arms and its budget."""
    for sampled in reversed(BUDGETS[: BUDGETS.index(budget) + 1]):
        arms = folder / f"{sampled}.samples.json"
        if arms.is_file():
            return arms.with_suffix(".png"), read_json(arms), sampled
    return None, (), ""


def read_verdicts(folder: Path, study: Study) -> dict[str, str]:
    """Return the verdict for each budget with results in a folder.

    Results with a conclusion have the verdict that it is about: a test compares it with the
    results, and a list of all studies need not test every prediction again.
    """
    return {
        budget: recorded.concluded_verdict
        or verdict.combine_verdicts(verdict.judge_predictions(study, budget, recorded.results))
        for budget, recorded in read_results(folder, study).items()
    }


def write_page(study: Study, recorded: RecordedResults, out: Path) -> Path:
    """Write the page ``<study>.md`` and its figures; return the page's path.

    The figures are ``<study>.svg`` and, with samples of the arms, ``<study>_samples.png``.
    """
    out.mkdir(parents=True, exist_ok=True)
    if recorded.samples:
        shutil.copyfile(recorded.samples, out / f"{study.name}_samples.png")
    write_text(out / f"{study.name}.svg", render_figure(study, recorded.results))
    write_text(out / f"{study.name}.md", render_page(study, recorded))
    return out / f"{study.name}.md"


def render_page(study: Study, recorded: RecordedResults) -> str:
    """Return the page in Markdown."""
    budget, results = recorded.budget, recorded.results
    judged = verdict.judge_predictions(study, budget, results)
    chosen = study.get_budget(budget)
    measured = max(len(values) for values in results.values())
    seeds = f"{measured} seed{'s' * (measured > 1)} per arm"
    columns = list_columns(study)
    arms = []
    for arm in study.arms:
        values = [verdict.format_values(results, arm, value) for value in columns]
        arms.append([f"`{arm}`", *values])
    arms += _format_baselines(results, columns)
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
        f"**Prediction**, as recorded before the first run of these seeds: {study.prediction}",
        f"**Known before:** {study.known_before}" if study.known_before else "",
        f"**Verdict:** {VERDICT_SENTENCES[verdict.combine_verdicts(judged)]} "
        f"**{verdict.format_combined_verdict(judged)}**: "
        f"{count_verdicts([each.verdict for each in judged])} ({budget} edition, {seeds}).",
        _describe_successor(study) if recorded.superseded else "",
        _describe_age(study, recorded),
        _describe_failures(study, results),
        f"**What this says about the claim:** {recorded.conclusion}" if recorded.conclusion else "",
        f"![The values of each arm]({study.name}.svg)",
        _format_table(
            ["prediction", "scale", "difference (95 % CI)", "p", "verdict"],
            [_format_prediction(each) for each in judged],
        ),
        _format_table(["arm", *columns], arms),
        "Scores of runs are explained in [Metrics](../metrics.md), other values in "
        f"`gan_lab/studies/measures/{study.measure}.py`.",
        _show_samples(study, recorded),
        _describe_tests(study, budget, judged),
        f"**Not shown:** {study.not_shown}",
        "## Design",
        design,
        command,
        _describe_versions(recorded.measured),
    ]
    if recorded.runs:
        reports = [f"- [{run}](../runs/{run}/report.html)" for run in recorded.runs]
        parts += ["The reports of its trainings:", "\n".join(reports)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _format_baselines(results: Results, columns: Sequence[str]) -> list[list[str]]:
    """Return a row per trivial generator whose distances were recorded.

    Arms with other data or scores have a row each.
    """
    rows = []
    for ending, title in TRIVIAL_GENERATORS.items():
        arms_by_cells: dict[tuple[str, ...], list[str]] = {}
        for arm in results:
            cells = tuple(
                format_rounded(statistics.mean(found), 3) if found else ""
                for value in columns
                for found in [verdict.select_values(results, arm, value + ending)]
            )
            if any(cells):
                arms_by_cells.setdefault(cells, []).append(f"`{arm}`")
        for cells, arms in arms_by_cells.items():
            note = f" ({', '.join(arms)})" if len(arms_by_cells) > 1 else ""
            rows.append([title + note, *cells])
    return rows


def is_superseded(folder: Path, study: Study) -> bool:
    """Return True if the study with the better design has full results in a folder."""
    if not study.superseded_by:
        return False
    successor = studies.load(study.superseded_by)
    path = folder / successor.name / "full.json"
    return _read_current(path, successor, "full") is not None


def render_index(folder: Path) -> str:
    """Return the index of all studies in Markdown, with the verdicts of the results in a folder."""
    rows: list[list[str]] = []
    superseded: list[list[str]] = []
    verdicts: list[str] = []
    total_seconds = 0.0
    for study in studies.load_all():
        found = read_results(folder, study)
        title = f"[{study.title}]({study.name}.md)" if found else study.title
        concluded, label, counts, minutes, says = "", "", "", "", ""
        seconds = 0.0
        if "full" in found:
            judged = verdict.judge_predictions(study, "full", found["full"].results)
            concluded = verdict.combine_verdicts(judged)
            label = verdict.format_combined_verdict(judged)
            counts = count_verdicts([each.verdict for each in judged])
            seconds = found["full"].seconds or 0.0
            minutes = f"{seconds / 60:.0f}" if seconds else ""
            says = found["full"].conclusion
            if _describe_age(study, found["full"]):
                counts += ", measured with an older configuration"
        shown = f"**{label}** ({counts})" if concluded else "not measured yet"
        row = [str(study.chapter), title, study.claim, study.prediction, shown, says, minutes]
        if is_superseded(folder, study):
            successor = studies.load(study.superseded_by)
            superseded.append([*row, f"[{successor.title}]({successor.name}.md)"])
            continue
        if concluded:
            verdicts.append(concluded)
        total_seconds += seconds
        rows.append(row)
    unmeasured = len(rows) - len(verdicts)
    waiting = ""
    if unmeasured:
        waiting = f" Recorded, but not measured yet: {unmeasured}."
    earlier = []
    if superseded:
        earlier = [
            "## Superseded studies",
            "These could not decide their claim, or used a threshold without a justification. A "
            "study with a better design has replaced each of them. Their results "
            "stay, and are not counted above.",
            _format_table([*INDEX_COLUMNS, "replaced by"], superseded),
        ]
    parts = [
        "# Studies",
        "Each study turns a claim of the GAN literature into an experiment. Its predictions, arms "
        "and measure are recorded in `studies/<name>.yaml` before the first run of its seeds and "
        "are not changed afterwards. The wording of some claims was revised after the runs. What "
        "was known about the arms before, also from an earlier design, is on the page, under "
        '"Known before".',
        "- **Supported**: every prediction of the study passes a significance test at 5 %.\n"
        "- **Contradicted**: at least one value is significantly on the wrong side of its "
        "predicted limit, possibly because the effect is smaller than predicted.\n"
        "- **No effect larger than** a margin: at least one difference is shown to be within this "
        "margin, which was recorded beforehand, and the other predictions are supported.\n"
        "- **Inconclusive**: no prediction is contradicted, and at least one test is not "
        "significant, or not possible. The page says how many seeds would decide.",
        "The verdict is about the predictions in the form tested, not about the claim in general. "
        "The last column says what the result means for the claim.",
        f"Full edition of {len(verdicts)} studies: {count_verdicts(verdicts)}.{waiting}",
        "`make study` lists the studies, `make study STUDY=optimum` runs one, `make book` writes "
        "these pages from the results. The quick edition of all, `make study STUDY=all "
        "BUDGET=quick WORKERS=2`, uses small budgets and mostly one seed; it is a demonstration, "
        "and its tests are rarely significant.",
        _format_table(INDEX_COLUMNS, rows),
        "Verdicts and minutes are those of the full edition. These studies took "
        f"{total_seconds / 3600:.1f} hours of one process, on half of two virtual cores of an AMD "
        "EPYC or an Intel Xeon; `make study STUDY=all WORKERS=2` shares it between two processes.",
        *earlier,
        "## Tests",
        TEST_RULES,
    ]
    return "\n\n".join(parts) + "\n"


def render_figure(study: Study, results: Results) -> str:
    """Return the figure as SVG: the measure's own, or a point for each seed and predicted value."""
    # half a second, which the list of studies does not need
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(CHART_STYLE):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        draw = getattr(measures.find(study.measure), "draw", None)
        # seeds whose training diverged have no values
        drawn = {arm: [values for values in seeds if values] for arm, seeds in results.items()}
        if draw and all(drawn.values()):
            draw(figure, drawn)
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


def list_columns(study: Study) -> list[str]:
    """List the columns of the table of arms: predicted values, then the others that are shown."""
    return list(dict.fromkeys([*_list_predicted_values(study), *study.shown]))


def _list_predicted_values(study: Study) -> list[str]:
    return list(dict.fromkeys(prediction.value for prediction in study.predictions))


def _format_prediction(judged: JudgedPrediction) -> list[str]:
    effect, scale = judged.effect, judged.scale
    concluded = verdict.format_verdict(judged)
    if effect is None:
        return [str(judged.prediction), "", "", "", concluded]
    sign = 1 if judged.prediction.relation == "above" else -1
    low, high = sorted((sign * effect.low, sign * effect.high))
    difference = sign * effect.difference + 0.0
    if judged.is_discrete:
        # An interval of Student's t belongs to no permutation test, and could exceed a count.
        shown = f"{scale.effect} {scale.format_difference(difference)}".lstrip()
    else:
        shown = scale.format_effect(difference, low, high)
    p = "not tested" if math.isnan(effect.p) else f"{effect.p:.2g}" if effect.p else "< 1e-12"
    return [str(judged.prediction), scale.name, shown, p, concluded]


def _show_samples(study: Study, recorded: RecordedResults) -> str:
    """Show samples of each arm, by the first seed."""
    if not recorded.samples:
        return ""
    arms = ", ".join(f"`{arm}`" for arm in recorded.sampled_arms)
    shorter = ""
    if recorded.sampled_budget != recorded.budget:
        words = study.get_budget(recorded.sampled_budget).words
        shorter = (
            f" of the {recorded.sampled_budget} edition, which are far shorter than those of the "
            f"tables and look worse (`{words}`)"
        )
    order = ", in this order" if len(recorded.sampled_arms) > 1 else ""
    return (
        f"Samples of the trainings with the first seed{shorter}: {arms}{order}.\n\n"
        f"![Samples of the arms]({study.name}_samples.png)"
    )


def _describe_successor(study: Study) -> str:
    """Name the study that asks the same with a better design."""
    successor = studies.load(study.superseded_by)
    return (
        f"**Superseded by** [{successor.title}]({successor.name}.md), which asks the same with a "
        "better design."
    )


def _describe_age(study: Study, recorded: RecordedResults) -> str:
    """Say whether configs or code have changed since the measurement."""
    if recorded.measured is None:
        return (
            "**Perhaps measured with an older configuration:** the configuration of this "
            "measurement was not recorded."
        )
    changes = measurement_record.find_changes(study, recorded.budget, recorded.measured)
    if not changes:
        return ""
    return f"**Measured with an older configuration:** {'; '.join(changes)}."


def _describe_versions(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    if commit := measured.get("reconstructed_from"):
        return (
            "The configuration of this measurement was reconstructed later from commit "
            f"`{commit}`; the versions of libraries were not recorded."
        )
    versions = ", ".join(f"{name} {version}" for name, version in measured["versions"].items())
    return f"Measured with {versions}."


def _describe_failures(study: Study, results: Results) -> str:
    """Name the arms whose samples are neither like real images nor varied."""
    failed = verdict.find_failed_arms(study, results)
    if not failed:
        return ""
    reason = f"mean precision and recall are below {verdict.MAX_FAILED_RATE:g}"
    if len(failed) == len(study.arms):
        return (
            f"**All arms fail:** {reason} in every arm. Which of them is better says nothing about "
            "the claim."
        )
    return f"These arms fail ({reason}): {', '.join(f'`{arm}`' for arm in failed)}."


def _describe_tests(study: Study, budget: str, judged: list[JudgedPrediction]) -> str:
    """Describe the tests of a page, its looks, and what they can detect."""
    design = study.get_budget(budget)
    has_margin = any(each.prediction.margin is not None for each in judged)
    if len(design.looks) > 1 or has_margin:
        level = "at 5 % for all predictions together, an equal share for each"
    else:
        level = "at 5 % for all predictions together (Holm's correction)"
    sentences = [
        "Each prediction is tested by Welch's t-test, or by Student's against a bound, "
        f"{level}, on the [scale](README.md#tests) of its score.",
    ]
    discrete = [
        f"`{each.prediction.value}` ({each.prediction.arm})"
        for each in judged
        if each.is_discrete and each.effect is not None and math.isfinite(each.effect.p)
    ]
    if discrete:
        sentences.append(
            f"Discrete values are tested by permutation, or by the sign test against a bound, and "
            f"have no interval: {', '.join(discrete)}."
        )
    if any(each.is_share for each in judged):
        sentences.append(
            "A share of seeds is tested against a bound by the exact binomial test, and has the "
            "interval of Clopper and Pearson."
        )
    if has_margin:
        sentences.append(
            "The absence of an effect is tested by two one-sided tests within the margin."
        )
    if len(design.looks) > 1:
        at = ", ".join(map(str, design.looks))
        spending = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}[design.spending]
        stopped = "; ".join(f"{each.seeds} seeds for {each.prediction}" for each in judged)
        sentences.append(
            f"The design is group-sequential: looks at {at} seeds per arm, with {spending}-like "
            f"alpha spending. The verdicts are those of the first deciding look: {stopped}. The "
            "table of arms has all seeds."
        )
    sentences.append("The p-values and intervals shown are uncorrected.")
    return " ".join([*sentences, _describe_power(judged)]).rstrip()


def _describe_power(judged: list[JudgedPrediction]) -> str:
    """Name the smallest differences that these seeds would detect."""
    tested = [each for each in judged if math.isfinite(each.detectable_difference)]
    if all(each.effect is None for each in judged):
        return "No prediction was tested: a test needs three seeds, each with a value."
    if not tested:
        return ""
    smallest = "; ".join(
        f"{each.scale.effect or 'difference'} "
        f"{each.scale.format_difference(each.detectable_difference, '')} for {each.prediction}"
        for each in tested
    )
    return (
        "With standard deviations like these, the test has a power of at least 80 % if the true "
        f"value is so far from the predicted limit: {smallest}."
    )


def _format_table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]
    )


def _format_duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
