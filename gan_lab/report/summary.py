"""The verdict on a run as text and the table of its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gan_lab.runs.alert import Alert
from gan_lab.runs.results import Score
from gan_lab.runs.run import Run
from gan_lab.utils.numbers import format_rounded
from gan_lab.utils.score_names import TRIVIAL_GENERATORS, is_trivial_score

if TYPE_CHECKING:
    from gan_lab.metrics.explanations import Explanation

# Number of alerts on a page.
MAX_ALERTS = 12


@dataclass
class Row:
    """A score as text, with its protocol.

    Attributes:
        name: Name of the score.
        best: Value of the best checkpoint.
        last: Value of the last checkpoint.
        raw: Value of the raw weights.
        reals: Value of real images, the real-vs-real reference.
        replay: Value of the images that the run learned from, repeated.
        mean_image: Value of their mean, repeated.
        protocol: Name and value of the entries of its protocol.
        explanation: What the score means; None for a metric of the user without an explanation.
        share: Where ``best`` lies between ``mean_image``, 0, and ``reals``, 1; None: not known.
    """

    name: str
    best: str
    last: str
    raw: str
    reals: str
    replay: str
    mean_image: str
    protocol: list[tuple[str, str]]
    explanation: Explanation | None = None
    share: float | None = None


@dataclass
class Verdict:
    """The summary at the top of the page.

    Attributes:
        figure: Value of the headline score.
        caption: Its name and direction.
        reference: Its real-vs-real reference; empty if it is not known.
        explanation: What it means; None for a metric of the user without an explanation.
        sentences: How good the run is and how far it is.
        rows: The table of scores.
        alerts: The first ``MAX_ALERTS`` health alerts.
        watched: Whether health checks ran.
        more: Number of alerts that are not shown.
    """

    figure: str
    caption: str
    sentences: list[str]
    reference: str = ""
    explanation: Explanation | None = None
    rows: list[Row] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    watched: bool = True
    more: int = 0


def summarize_run(run: Run) -> Verdict:
    """Summarize how good the run is, how far it is, and what went wrong."""
    summary = _summarize_scores(run) or _summarize_curve(run)
    if summary is None and run.status == "unfinished":
        share = f"{run.images / max(1, run.budget_images):.0%}"
        summary = Verdict(share, "of the training; no score yet", [])
    if summary is None:
        summary = Verdict("none", "no score", ["This run has no scores."])
    if run.status == "unfinished":
        state = (
            "The final evaluation is missing"
            if run.images >= run.budget_images
            else "The run is unfinished"
        )
        summary.sentences.insert(
            0, f"{state}: {run.images:,} of {run.budget_images:,} images are recorded."
        )
    summary.rows = build_rows(run)
    summary.sentences += [
        f"{name}: {score.note}." for name, score in run.scores.items() if score.note
    ]
    summary.watched = run.watched
    summary.alerts = run.alerts[:MAX_ALERTS]
    summary.more = len(run.alerts) - len(summary.alerts)
    return summary


def format_number(value: Any) -> str:
    """Format a number with four digits; empty for None."""
    return format_rounded(value, 4) if isinstance(value, int | float) else ""


def build_rows(run: Run) -> list[Row]:
    """Build the table of scores, the headline first."""
    best, last, raw = run.scores, run.scores_of("last"), run.scores_of("raw")
    everything = raw | last | best
    rows = []
    for name in sorted(dict.fromkeys([*best, *last, *raw]), key=lambda name: name != run.headline):
        if is_trivial_score(name):
            continue
        measured = everything[name]
        replay, mean_image = (
            everything.get(f"{name}_of_{kind}", "") for kind in TRIVIAL_GENERATORS
        )
        rows.append(
            Row(
                name=name,
                best=str(best.get(name, "")),
                last=str(last.get(name, "")),
                raw=str(raw.get(name, "")),
                reals=format_number(measured.protocol.get("floor")),
                replay=str(replay),
                mean_image=str(mean_image),
                protocol=_describe_protocol(measured),
                explanation=_explain(run, name),
                share=_locate(run, best.get(name), name, everything.get(f"{name}_of_mean_image")),
            )
        )
    return rows


def _explain(run: Run, name: str) -> Explanation | None:
    # imported here, because tables in the terminal do without torch
    from gan_lab.metrics.explanations import explain, list_included

    return explain(name, list_included(run.values))


def _locate(run: Run, score: Score | None, name: str, mean_image: Score | None) -> float | None:
    """Return where the best value lies between the mean image, 0, and real images, 1.

    None without a direction, without one of the two, or if both are equal.
    """
    if score is None or mean_image is None or run.higher_is_better.get(name) is None:
        return None
    real = score.reference
    if not isinstance(real, int | float) or real == mean_image.value:
        return None
    share = (score.value - mean_image.value) / (real - mean_image.value)
    return min(1.0, max(0.0, share)) if math.isfinite(share) else None


def _describe_protocol(score: Score) -> list[tuple[str, str]]:
    protocol = score.protocol
    counts = ""
    if {"fakes", "reals"} <= protocol.keys():
        counts = f"{protocol['fakes']:,} / {protocol['reals']:,}"
    return [
        (
            "extractor",
            f"{protocol.get('extractor', '')} {protocol.get('weights_sha256', '')}".strip(),
        ),
        ("fakes / reals", counts),
        ("data", f"{protocol.get('data', '')} {protocol.get('split', '')}".strip()),
        ("chosen on", str(protocol.get("chosen_on", ""))),
        ("weights", str(protocol.get("weights", ""))),
    ]


def _summarize_scores(run: Run) -> Verdict | None:
    name = run.headline
    if name is None or name not in run.scores:
        return None
    best, last = run.scores[name].value, run.scores_of("last").get(name)
    best_images, total = run.best_images, run.summary.get("images", 0)
    sentence = f"The best checkpoint is the last one, after {total:,} images."
    if best_images is not None and 0 < best_images < total:
        sentence = f"Best checkpoint: {best_images:,} of {total:,} images."
        if last is not None:
            change = _describe_change(run, name, best, last.value)
            sentence += f" Last checkpoint: {format_number(last.value)}{change}."
    reference = format_number(run.scores[name].reference)
    caption = _format_caption(run, name)
    return Verdict(format_number(best), caption, [sentence], reference, _explain(run, name))


def _summarize_curve(run: Run) -> Verdict | None:
    name = run.headline
    points = [
        (images, value) for images, value in run.history.get(name or "", []) if math.isfinite(value)
    ]
    if name is None or not points:
        return None
    images, best = (max if run.higher_is_better.get(name) else min)(
        points, key=lambda point: point[1]
    )
    details = f"Best so far: after {images:,} images."
    if images != points[-1][0]:
        details += f" Latest: {format_number(points[-1][1])}."
    explanation = "Measured during training; the final evaluation is still missing."
    reference = format_number(run.real_vs_real.get(name))
    caption = _format_caption(run, name)
    return Verdict(
        format_number(best), caption, [details, explanation], reference, _explain(run, name)
    )


def _format_caption(run: Run, name: str) -> str:
    return ", ".join(filter(None, (name, run.describe_direction(name))))


def _describe_change(run: Run, name: str, best: float, last: float) -> str:
    loss = best - last if run.higher_is_better.get(name) else last - best
    change = loss / abs(best) if best else math.nan
    return f", {change:.0%} worse" if math.isfinite(change) and change >= 0.005 else ""
