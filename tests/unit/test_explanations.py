"""Each number of a page is explained from the declaration of its metric, and has its reference."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from markupsafe import escape

from gan_lab import report
from gan_lab.metrics.explanations import explain, list_explanations
from gan_lab.report.summary import summarize_run
from gan_lab.runs.run import Run
from tests.helpers.reports import PROTOCOL, entry, written_run


@pytest.mark.parametrize(
    ("name", "title", "direction"),
    [
        ("fd_lite0_mid", "Fréchet distance", "lower is better"),
        ("fid", "Fréchet Inception distance (FID)", "lower is better"),
        ("back_psnr_of_nearest", "PSNR of the nearest neighbor", ""),
        ("back_cycle_psnr", "PSNR of the cycle", "higher is better"),
        ("near_copies_digits", "Near copies", ""),
        ("ema_distance", "EMA distance", ""),
    ],
)
def test_explain_finds_most_specific_pattern(name: str, title: str, direction: str) -> None:
    found = explain(name)
    assert found is not None
    assert (found.title, found.direction) == (title, direction)


def test_explain_unknown_score_is_none() -> None:
    """A metric of a user has no explanation here."""
    assert explain("my_score") is None
    assert len({each.meaning for each in list_explanations().values()}) == len(list_explanations())


OWN_METRIC = """
raise RuntimeError("a report must not run code that the config of a run names")

class Own(Metric):
    explanations = {
        "own_*": Explanation(
            "Own score", "Share of own images", higher_is_better=True, typical_range="0 to 1"
        ),
    }
"""


def test_pages_explain_scores_of_included_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's module is read, not imported; a damaged or missing one explains nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.py").write_text(OWN_METRIC)
    (tmp_path / "mine" / "damaged.py").write_text("explanations = {'x': Explanation(1 +")
    include = "metrics.include=[mine.own,mine.damaged,mine.missing]"
    folders = [written_run(tmp_path / f"r{i}", include, f"run.seed={i}") for i in range(2)]
    for folder in folders:
        path = folder / "summary.json"
        summary = json.loads(path.read_text())
        summary["scores"]["best"]["own_1"] = entry(0.5)
        path.write_text(json.dumps(summary))
    for runs in (folders[:1], folders):
        explained = report.render_runs(runs).partition("What the numbers mean")[2]
        for name, meaning in (("own_1", "Share of own images"), ("fd_digits", "")):
            assert f"<code>{name}</code>" in explained.partition("</dl>")[0]
            assert meaning in explained.partition("</dl>")[0]


@pytest.mark.parametrize(
    ("value", "real", "mean_image", "share"),
    [
        # lower is better: the mean image has 100, real images 20
        (100, 20, 100, 0),
        (40, 20, 100, 0.75),
        # better than real images, or worse than the mean image
        (10, 20, 100, 1),
        (150, 20, 100, 0),
        # higher is better
        (0.25, 1, 0, 0.25),
        # nothing to compare with
        (40, None, 100, None),
        (40, 20, None, None),
        (40, 20, 20, None),
    ],
)
def test_bar_lies_between_mean_image_and_real_images(
    tmp_path: Path, value: float, real: float | None, mean_image: float | None, share: float | None
) -> None:
    folder = written_run(tmp_path / "run")
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    best = {"fd_digits": entry(value, protocol={**PROTOCOL, "floor": real})}
    if mean_image is not None:
        best["fd_digits_of_mean_image"] = entry(mean_image)
    path.write_text(json.dumps(summary | {"scores": {"best": best}}))
    (row,) = summarize_run(Run(folder)).rows
    assert row.share == (None if share is None else pytest.approx(share))
    drawn = re.findall(r'aria-label="(\d+)% of the way', report.render_runs([folder]))
    assert drawn == ([] if share is None else [f"{100 * share:.0f}"])


def test_page_explains_each_score_and_shows_the_reference(tmp_path: Path) -> None:
    """Next to the headline, which is 2 for generated images and 0.25 for real ones."""
    run = Run(written_run(tmp_path / "run"))
    summary = summarize_run(run)
    assert (summary.figure, summary.reference) == ("2", "0.25")
    page = report.render_runs([run])
    assert re.search(r"fd_digits, lower is better; real images: <strong>0.25</strong>", page)
    explained = page.partition("What the numbers mean")[2].partition("</dl>")[0]
    for name in ("fd_digits", "kd_digits", "diversity", "loss_d", "d_real"):
        found = explain(name)
        assert found is not None
        assert f"<code>{name}</code>" in explained
        assert escape(found.meaning) in explained
    unfinished = Run(written_run(tmp_path / "unfinished", ended=False))
    assert summarize_run(unfinished).reference == ""
