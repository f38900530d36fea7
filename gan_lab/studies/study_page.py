"""The page of a study, in Markdown, with its figure; and the index of the book."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from gan_lab import studies
from gan_lab.report.statistics import against
from gan_lab.studies import BUDGETS, Study, measures, verdict
from gan_lab.studies.measures import Results
from gan_lab.studies.verdict import FAILS, HOLDS, OPEN, Judged
from gan_lab.utils.files import read_json, write_text
from gan_lab.utils.numbers import rounded

WIDTH, HEIGHT = 5.0, 3.2  # inches: a phone shows it nearly as large, with panels below each other
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "gan-lab",  # or the names in the file would be drawn by lot
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}
SENTENCES = {
    HOLDS: "The prediction **holds**.",
    FAILS: "The prediction **does not hold here**.",
    OPEN: "It **cannot be told here** whether the prediction holds.",
}


@dataclass(frozen=True)
class Recorded:
    """The results of a study with one budget."""

    budget: str
    results: Results
    seconds: float | None  # what they took, if that is known
    runs: list[str]  # the folders of the trainings, under ``runs`` beside the pages; none in docs


def read(folder: Path, study: Study) -> dict[str, Recorded]:
    """The results of a study by budget: ``<study>/<budget>.json`` of a folder, as far as they are of its design."""
    found = {}
    for budget in BUDGETS:
        path = folder / study.name / f"{budget}.json"
        if path.is_file():
            recorded = read_json(path)
            cost, runs = (path.with_suffix(f".{kind}.json") for kind in ("cost", "runs"))
            seconds = read_json(cost)["seconds"] if cost.is_file() else None
            trained = read_json(runs) if runs.is_file() else []
            if recorded["fingerprint"] == study.fingerprint(budget):
                ordered = {
                    arm: recorded["results"][arm] for arm in study.arms
                }  # as written, not as JSON sorts them
                found[budget] = Recorded(budget, ordered, seconds, trained)
    return found


def verdicts(folder: Path, study: Study) -> dict[str, str]:
    """The verdict of each budget that a study was run with."""
    return {budget: _concluded(study, recorded) for budget, recorded in read(folder, study).items()}


def _concluded(study: Study, recorded: Recorded) -> str:
    return verdict.conclude(verdict.judge(study, recorded.results))


def write(study: Study, recorded: Recorded, out: Path) -> Path:
    """Draw the page ``<study>.md`` and its figure ``<study>.svg`` in a folder; return the page's path."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{study.name}.svg", drawn(study, recorded.results))
    write_text(out / f"{study.name}.md", text(study, recorded))
    return out / f"{study.name}.md"


def text(study: Study, recorded: Recorded) -> str:
    """The page in Markdown."""
    budget, results, seconds = recorded.budget, recorded.results, recorded.seconds
    judged = verdict.judge(study, results)
    chosen = study.budget(budget)
    shown = list(dict.fromkeys([*_values(study), *study.shown]))
    arms = [[f"`{arm}`", f"`{told}`"] for arm, told in study.arms.items()]
    parts = [
        f"# {study.chapter}. {study.title}",
        study.claim,
        f"Source: {study.source}.",
        f"**Predicted** before it was run: {study.prediction}",
        SENTENCES[verdict.conclude(judged)] + f" ({budget} edition, {chosen.seeds} seed{'s' * (chosen.seeds > 1)})",
        f"![the values of each arm]({study.name}.svg)",
        _table(["prediction", "difference (95 %)", "p", "verdict"], [_row(one) for one in judged]),
        _table(["arm", *shown],
               [[f"`{arm}`", *(verdict.summary(results, arm, value) for value in shown)] for arm in study.arms]),
        f"The verdict is that of a test at 5 % for all predictions together (Welch's test, Student's against a bound; "
        f"Holm's correction). {_sensitivity(judged)}",
        f"**Not shown:** {study.not_shown}",
        "## Design",
        _table(["arm", f"told to `gan_lab/studies/measures/{study.measure}.py`"], arms)
        + (f"\n\nThe {budget} edition adds `{chosen.words}` to each." if chosen.words else ""),
        f"    make study STUDY={study.name} BUDGET={budget}"
        + (f"\n\nIt took {_duration(seconds)} of one process." if seconds is not None else ""),
        *(["The reports of its trainings:", "\n".join(f"- [{run}](../runs/{run}/report.html)" for run in recorded.runs)]
          if recorded.runs else []),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def index(folder: Path) -> str:
    """The index in Markdown of all studies in reading order, with the verdicts of the results in a folder."""
    rows, spent = [], 0.0
    verdicts: list[str] = []
    for name in studies.names():
        study = studies.load(name)
        found = read(folder, study)
        link = f"[{study.title}]({name}.md)" if found else study.title
        verdicts.append(_concluded(study, found["full"]) if "full" in found else "")
        seconds = found["full"].seconds or 0.0 if "full" in found else 0.0
        spent += seconds
        rows.append(
            [
                str(study.chapter),
                link,
                study.claim,
                verdicts[-1],
                f"{seconds / 60:.0f}" if seconds else "",
            ]
        )
    counts = ", ".join(f"*{name}* {verdicts.count(name)}" for name in (HOLDS, FAILS, OPEN))
    return "\n\n".join([
        "# Studies",
        "Each study turns a claim of the GAN literature into an experiment. The prediction is recorded in "
        "`studies/<name>.yaml` before the first run and is never changed afterwards. *Holds* and *does not hold here* are "
        "the outcome of a significance test at 5 %; *cannot be told here* means that the test was inconclusive for at "
        "least one part of the claim.",
        f"Full edition of {len(verdicts)} studies: {counts}.",
        "`make study` lists the studies, `make study STUDY=optimum` runs one, `make book` redraws these pages from the "
        "results. The quick edition of all, `make study STUDY=all BUDGET=quick WORKERS=2`, uses small budgets and mostly "
        "one seed; it demonstrates, and rarely decides.",
        _table(["", "study", "claim", "verdict (full edition)", "minutes (full edition)"], rows),
        f"The full edition took {spent / 3600:.1f} hours of one process, on half of two virtual cores of an AMD EPYC; "
        "`make study STUDY=all WORKERS=2` shares it between two processes.",
    ]) + "\n"  # fmt: skip


def drawn(study: Study, results: Results) -> str:
    """The figure as SVG: the measure's own, or a point for each seed of each value that is predicted."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        if own := getattr(measures.find(study.measure), "draw", None):
            own(figure, results)
        else:
            _points(figure, study, results)
        svg = StringIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in svg.getvalue().splitlines()) + "\n"


def _points(figure: Figure, study: Study, results: Results) -> None:
    """A panel for each value: the seeds as points, their mean with its interval of 95 %, bounds as dashed lines."""
    names = _values(study)
    found = {
        name: {arm: verdict.numbers(results, arm, name) for arm in study.arms} for name in names
    }
    arms = {name: [arm for arm in study.arms if found[name][arm]] for name in names}
    lengths = [
        len(arms[name]) + 2 for name in names
    ]  # a line for each, and room for the title and the axis
    figure.set_figheight(0.27 * sum(lengths))
    panels = figure.subplots(len(names), 1, squeeze=False, height_ratios=lengths)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        for place, arm in enumerate(arms[name]):
            values, color = found[name][arm], f"C{[*study.arms].index(arm)}"
            axes.plot(values, [place] * len(values), "o", color=color, markersize=4, alpha=0.6)
            if len(values) > 1:
                mean = against(values, 0.0)
                reach = [[mean.difference - mean.low], [mean.high - mean.difference]]
                axes.errorbar(
                    [mean.difference], [place + 0.25], xerr=reach, fmt="|", color=color, capsize=3
                )
        for one in study.predictions:
            if one.value == name and one.bound is not None:
                axes.axvline(one.bound, color="gray", linestyle="--")
        axes.set_yticks(range(len(arms[name])), arms[name])
        axes.set(title=name, ylim=(len(arms[name]) - 0.4, -0.5))


def _values(study: Study) -> list[str]:
    """The names of the values that are predicted."""
    return list(dict.fromkeys(one.value for one in study.predictions))


def _row(judged: Judged) -> list[str]:
    effect = judged.effect
    if effect is None:
        return [str(judged.prediction), "", "", judged.verdict]
    sign = 1 if judged.prediction.relation == "above" else -1
    low, high = sorted((sign * effect.low, sign * effect.high))
    shown = replace(effect, difference=sign * effect.difference, low=low, high=high)
    return [
        str(judged.prediction),
        str(shown),
        f"{effect.p:.2g}" if effect.p else "< 1e-12",
        judged.verdict,
    ]


def _sensitivity(judged: list[Judged]) -> str:
    """The smallest differences that these seeds would tell."""
    known = [one for one in judged if one.effect is not None]
    if not known:
        return "There are not three seeds with values, and so no test."
    least = "; ".join(
        f"{rounded(one.detectable, 2)} of `{one.prediction.value}` ({one.prediction.arm})"
        for one in known
    )
    return f"With spreads as these it tells, four of five times or more, a distance from what was predicted of {least}."


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows]
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
