"""Each number of a page is explained from the declaration of its metric, and has its reference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markupsafe import escape

from gan_lab import report
from gan_lab.metrics.explanations import explain, list_explanations
from gan_lab.report.summary import verdict
from gan_lab.runs.run import Run
from tests.helpers.reports import written_run


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


def test_page_explains_each_score_and_shows_the_reference(tmp_path: Path) -> None:
    """Next to the headline, which is 2 for generated images and 0.25 for real ones."""
    run = Run(written_run(tmp_path / "run"))
    summary = verdict(run)
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
    assert verdict(unfinished).reference == ""
