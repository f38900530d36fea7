from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from gan_lab.training.callbacks.csv_logger import Row, Table

ROWS: list[Row] = [
    {"iteration": 1, "images": 16, "loss_d": 0.1 + 0.2},
    {"iteration": 2, "images": 32, "loss_d": 1e-17, "fd_digits": 1 / 3},
    {"iteration": 3, "images": 48, "loss_d": -5e300},
    {"iteration": 4, "images": 64, "loss_d": 2.0, "loss_g": 7.0},
    {"iteration": 5, "images": 80, "loss_d": 3.0, "fd_digits": 4.0, "loss_g": 8.0},
]


def filled(path: Path, rows: list[Row]) -> Table:
    table = Table(path)
    table.rewind(0)
    for row in rows:
        table.append(row)
    return table


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_values_are_exact_and_new_column_is_empty(
    tmp_path: Path,
) -> None:
    """Values are read back bit-identical, and a later column is empty in earlier rows."""
    path = tmp_path / "metrics.csv"
    filled(path, ROWS)
    rows = read(path)
    assert list(rows[0]) == ["iteration", "images", "loss_d", "fd_digits", "loss_g"]
    for written, row in zip(ROWS, rows, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == written


def test_table_keeps_nan_and_inf(tmp_path: Path) -> None:
    """NaN and Inf are written and read back."""
    path = tmp_path / "metrics.csv"
    filled(path, [{"iteration": 1, "loss": math.nan}, {"iteration": 2, "loss": -math.inf}])
    first, second = (float(row["loss"]) for row in read(path))
    assert math.isnan(first)
    assert second == -math.inf


@pytest.mark.parametrize("kept", range(6))
def test_rewound_table_equals_uninterrupted_table(tmp_path: Path, kept: int) -> None:
    """A table that was rewound and extended equals an uninterrupted one."""
    filled(tmp_path / "whole.csv", ROWS)
    filled(tmp_path / "rewound.csv", ROWS)
    resumed = Table(tmp_path / "rewound.csv")
    resumed.rewind(kept)
    assert (
        resumed.path.read_bytes() == filled(tmp_path / "short.csv", ROWS[:kept]).path.read_bytes()
    )
    for row in ROWS[kept:]:
        resumed.append(row)
    assert resumed.path.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_truncated_last_line_is_removed(tmp_path: Path) -> None:
    """A last line that is truncated at any position is removed."""
    whole = tmp_path / "whole.csv"
    filled(whole, ROWS)
    text = whole.read_bytes()
    header = text.index(b"\n") + 1
    for length in range(len(text) + 1):
        path = tmp_path / "torn.csv"
        path.write_bytes(text[:length])
        table = Table(path)
        table.rewind(5)
        complete = text[:length].count(b"\n") - 1 if length >= header else 0
        assert [int(row["iteration"]) for row in read(path)] == list(range(1, complete + 1))
        for row in ROWS[complete:]:
            table.append(row)
        assert path.read_bytes() == text


def test_the_file_is_whole_after_every_row(tmp_path: Path) -> None:
    table = filled(tmp_path / "metrics.csv", [])
    for count, row in enumerate(ROWS, 1):
        table.append(row)
        assert len(read(table.path)) == count
        assert table.path.read_text().endswith("\n")
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]
