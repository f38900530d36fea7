"""The dry run says what the run will be, and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gan_lab import networks
from gan_lab.cli import console
from gan_lab.config import loading
from gan_lab.report.compare import Cell, Column, Comparison, Row
from gan_lab.runs.results import write_summary
from gan_lab.runs.run import Run
from gan_lab.training import profiling
from tests.helpers.families import small


def test_the_dry_run_names_origins_networks_and_the_expected_time(
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = small("cgan", tmp_path, data_root, "run.images=1600", "run.evaluate_every_images=800")
    loaded = loading.load("cgan", words)
    console.print_dry_run(loaded)
    said = capsys.readouterr().out
    rows = {
        cells[1].strip(): cells[2:4]
        for line in said.splitlines()
        if len(cells := line.split("│")) > 4
    }
    assert [cell.strip() for cell in rows["model.width"]] == ["4", "command line"]
    assert [cell.strip() for cell in rows["model.z_dim"]] == ["64", "experiment/cgan.yaml"]
    assert [cell.strip() for cell in rows["model.betas"]] == ["[0.5, 0.999]", "default"]
    generator = networks.generator(
        "dcgan", z_dim=64, shape=(1, 28, 28), width=4, norm="batch", classes=10
    )
    count = sum(parameter.numel() for parameter in generator.parameters())
    assert [cell.strip() for cell in rows["generator"]] == [f"{count:,}", "16 x 1 x 28 x 28"]
    assert rows["discriminator"][1].strip() == "16"
    assert "full run: 100 iterations and 2 evaluations" in said
    assert re.search(r"one iteration, measured on this machine: [\d.]+ ms", said)
    assert not list(tmp_path.iterdir())


def test_the_dry_run_says_how_few_images_each_of_many_processes_has(
    tmp_path: Path, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = small("gan", tmp_path, data_root, "run.devices=4", "run.num_nodes=2")
    console.print_dry_run(loading.load("gan", words))
    assert "8 processes: 2 images per process and batch" in " ".join(
        capsys.readouterr().out.split()
    )


def test_the_dry_run_of_an_encoder_shows_the_shape_of_its_means(
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    console.print_dry_run(
        loading.load(
            "vaegan", small("vaegan", tmp_path, data_root, "run.images=160", "model.z_dim=5")
        )
    )
    rows = {cells[1].strip(): cells[3] for line in capsys.readouterr().out.splitlines()
            if len(cells := line.split("│")) > 4}  # fmt: skip
    assert rows["encoder"].strip() == "16 x 5"


def test_measuring_ends_when_it_has_taken_long_enough(
    tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, watch = loading.load("gan", small("gan", tmp_path, data_root)), profiling.Stopwatch()
    monkeypatch.setattr(profiling, "MAX_MEASUREMENT_S", 0.0)
    _, iteration, _ = profiling.measure(loaded, tmp_path / "measured", watch)
    assert [iteration] == watch.seconds


def test_the_table_shows_a_score_with_its_spread_and_what_it_was_measured_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    protocol = {"extractor": "digits", "fakes": 800, "reals": 90, "split": "test", "floor": 0.5}
    best = {
        "kd_digits": {"value": 0.25, "spread": 0.0125, "protocol": protocol},
        "fd_digits": {"value": 3.0, "protocol": protocol, "note": "of real images it is 0.5"},
    }
    last = {"fd_digits": {"value": 4.0, "protocol": protocol}}
    (tmp_path / "config.yaml").write_text("family: gan\n")
    write_summary(tmp_path, {"scores": {"best": best, "last": last}})
    console.print_scores(Run(tmp_path))
    said = capsys.readouterr().out
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:6]] for line in said.splitlines()
            if len(cells := line.split("│")) > 4}  # fmt: skip
    assert rows == {
        "fd_digits": ["", "4", "3", "0.5"],
        "kd_digits": ["", "", "0.25 ± 0.013", "0.5"],
    }
    assert "fd_digits: of real images it is 0.5" in said
    assert "800 generated and 90 real test images, extractor digits: fd_digits, kd_digits" in said


@pytest.mark.parametrize(("is_terminal", "tables"), [("1", 2), ("0", 1)])
def test_print_comparison_fits_terminal_without_losing_columns(
    is_terminal: str,
    tables: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Columns that do not fit are in a second table; a file gets one table of any width."""
    monkeypatch.setenv("TTY_COMPATIBLE", is_terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    cells = [Cell(1.25, 0.125, 3), None]
    columns = [Column(f"a_long_name_{i}", {}, f"a_long_name_{i}", False) for i in range(4)]
    rows = [Row(name, [], cells * 2) for name in ("cgan model.z_dim=7", "dcgan")]
    console.print_comparison(Comparison(columns, rows))
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert (max(map(len, said.splitlines())) <= 60) == (is_terminal == "1")
    assert said.count("EXP") == said.count("model.z_dim=7") == tables
    assert [said.count(column.title) for column in columns] == [1] * 4
