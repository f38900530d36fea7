"""The verdict of a run in plain words, and the table of its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from gan_lab.runs.run import Alert, Run
from gan_lab.utils.numbers import mean_and_spread, rounded

MAX_ALERTS = 12  # so many are shown


@dataclass
class Row:
    """A score of the best and of the last weights, averaged and live, and of reals, and how the best was measured."""

    name: str
    best: str
    last: str
    live: str
    reals: str
    protocol: list[tuple[str, str]]


@dataclass
class Verdict:
    """The summary on top of the page."""

    figure: str  # the headline's value, or a dash
    caption: str
    sentences: list[str]
    rows: list[Row] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    watched: bool = True
    more: int = 0  # alerts that are not shown


def verdict(run: Run) -> Verdict:
    """Say how good the run is, how far it came, and what went wrong."""
    sentences = [] if run.ended else [_progress(run)]
    summary = _of_scores(run) or _of_curve(run)
    if summary is None:
        summary = Verdict("none", "no score", ["Nothing has been scored in this run."])
    summary.sentences[:0] = sentences
    summary.rows = rows(run)
    notes = {name: entry["note"] for name, entry in run.scores("best").items() if "note" in entry}
    summary.sentences += [f"{name}: {note}." for name, note in notes.items()]
    summary.watched, summary.alerts = run.alerts is not None, (run.alerts or [])[:MAX_ALERTS]
    summary.more = len(run.alerts or []) - len(summary.alerts)
    return summary


def number(value: Any) -> str:
    """Four digits; empty for None."""
    return rounded(value, 4) if isinstance(value, int | float) else ""


def rows(run: Run) -> list[Row]:
    """The table of scores, the headline first."""
    best, last, live = run.scores("best"), run.scores("last"), run.scores("live")
    every = live | last | best
    names = sorted(dict.fromkeys([*best, *last, *live]), key=lambda name: name != run.headline)
    return [Row(name, score(best.get(name, {})), score(last.get(name, {})), score(live.get(name, {})),
                number(every[name].get("protocol", {}).get("floor")), _protocol(every[name]))
            for name in names]  # fmt: skip


def score(entry: dict[str, Any]) -> str:
    """The value of a score with its spread, if it has one; empty where it has no value."""
    value = entry.get("value")
    return mean_and_spread(value, entry.get("spread"), 4) if isinstance(value, int | float) else ""


def _protocol(entry: dict[str, Any]) -> list[tuple[str, str]]:
    details = entry.get("protocol", {})
    found = [
        ("extractor", " ".join(str(details.get(key, "")) for key in ("extractor", "weights_sha256")).strip()),
        (
            "fakes / reals",
            f"{details['fakes']:,} / {details['reals']:,}" if {"fakes", "reals"} <= details.keys() else "",
        ),
        ("data", " ".join(str(details.get(key, "")) for key in ("data", "split")).strip()),
        ("chosen on", str(details.get("chosen_on", ""))),
        ("weights", str(details.get("weights", ""))),
    ]
    return found


def _progress(run: Run) -> str:
    what = "It was not summed up" if run.images >= run.wanted else "It has not ended"
    return f"{what}: {run.images:,} of {run.wanted:,} images are recorded."


def _of_scores(run: Run) -> Verdict | None:
    name = run.headline
    best, last = (run.scores(weights).get(name or "", {}).get("value") for weights in ("best", "last"))
    if name is None or best is None:
        return None
    at = run.state.get("best_iteration", -1) * int(run.values.get("data.batch_size", 0))
    total = run.state.get("images", 0)
    if 0 < at < total:
        sentences = [f"The best generator is that of {at:,} of {total:,} images"]
        sentences[0] += (
            f"; the last one has {number(last)}{_worse(run, name, best, last)}." if last is not None else "."
        )
    else:
        sentences = [f"The best generator is the last one, after {total:,} images."]
    return Verdict(number(best), _caption(run, name), sentences)


def _of_curve(run: Run) -> Verdict | None:
    name = run.headline
    points = [(images, value) for images, value in run.curves.get(name or "", []) if math.isfinite(value)]
    if name is None or not points:
        return None
    images, best = (max if run.higher_is_better.get(name) else min)(points, key=lambda point: point[1])
    details = f"So far the best was after {int(images):,} images"
    details += "." if images == points[-1][0] else f"; the latest is {number(points[-1][1])}."
    return Verdict(
        number(best), _caption(run, name), [details, "Measured while it trained; it is not scored in full yet."]
    )


def _caption(run: Run, name: str) -> str:
    return ", ".join(filter(None, (name, run.direction(name))))


def _worse(run: Run, name: str, best: float, last: float) -> str:
    change = (best - last if run.higher_is_better.get(name) else last - best) / abs(best) if best else math.nan
    return f", {change:.0%} worse" if math.isfinite(change) and change >= 0.005 else ""
