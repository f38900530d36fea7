"""Comparisons: seeds are grouped, protocols have columns, a significant best is marked."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gan_lab.cli import console
from gan_lab.config import loading, plain_yaml
from gan_lab.report.compare import Cell, Comparison, compare
from gan_lab.report.statistics import compare_with_bound, is_best, welch
from gan_lab.runs.results import read_summary
from gan_lab.runs.run_folder import RunFolder, to_dict

HIGHER = {"digit_score": True, "fd_digits": False, "baseline_accuracy": None}
PROTOCOL = {"extractor": "digits", "reals": 1000, "fakes": 1000, "data": "mnist-sample",
            "fingerprint": "f", "weights": "ema best, iteration 7", "seed": 0,
            "versions": {"torch": "2.15", "numpy": "2.4"}}  # fmt: skip


def run(
    root: Path,
    experiment: str,
    *words: str,
    scores: dict[str, float] | None = None,
    **protocol: Any,
) -> Path:
    """A run as it lies there when it has ended; without scores one that was interrupted."""
    loaded = loading.load(experiment, [f"run.root={root}", "run.images=6400", *words])
    folder = RunFolder.of(loaded).path
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(plain_yaml.write(to_dict(loaded.config)))
    if scores is not None:
        said = PROTOCOL | {"seed": loaded.config.run.seed} | protocol
        best = {
            name: {"value": value, "higher_is_better": HIGHER[name], "protocol": said}
            for name, value in scores.items()
        }
        state = {
            "experiment": loaded.experiment,
            "iteration": loaded.config.iterations,
            "scores": {"best": best},
        }
        (folder / "summary.json").write_text(json.dumps(state))
    return folder


def seeds(
    root: Path, experiment: str, score: str, *values: float, words: tuple[str, ...] = ()
) -> list[Path]:
    return [
        run(root, experiment, f"run.seed={i}", *words, scores={score: value})
        for i, value in enumerate(values)
    ]


def column(made: Comparison, title: str) -> dict[str, Cell | None]:
    (place,) = (i for i, column in enumerate(made.columns) if column.title == title)
    return {row.name: row.cells[place] for row in made.rows}


def test_seeds_are_averaged_into_row_per_config(tmp_path: Path) -> None:
    """Seeds are averaged, and each config is a row that is named by its own overrides."""
    folders = seeds(tmp_path, "cgan", "fd_digits", 1.0, 2.0, 6.0)
    folders += seeds(
        tmp_path,
        "cgan",
        "fd_digits",
        4.0,
        words=("model.lr_g=5e-4", "data.workers=3", "log.log_every_images=7"),
    )
    folders += seeds(tmp_path, "gan", "fd_digits", 9.0, words=("model.dropout=0.3",))
    made = compare(folders)
    assert [column.title for column in made.columns] == ["fd_digits"]
    assert column(made, "fd_digits") == {
        "cgan": Cell(3.0, math.sqrt(7), 3),
        "cgan model.lr_g=0.0005": Cell(4.0, None, 1),
        "gan": Cell(9.0, None, 1),  # its dropout sets it apart from no other run of gan
    }
    assert [[run.path for run in row.runs] for row in made.rows] == [
        folders[:3],
        folders[3:4],
        folders[4:],
    ]


def test_row_name_contains_differing_budget(tmp_path: Path) -> None:
    """The name of a row contains its budget if budgets differ."""
    folders = seeds(tmp_path, "cgan", "fd_digits", 1.0)
    folders += seeds(tmp_path, "cgan", "fd_digits", 2.0, words=("run.images=64", "run.id=short"))
    folders += seeds(tmp_path, "gan", "fd_digits", 3.0)
    names = [row.name for row in compare(folders).rows]
    assert names == ["cgan run.images=6400", "cgan run.images=64", "gan run.images=6400"]
    assert [row.name for row in compare(folders[::2]).rows] == ["cgan", "gan"]


def test_config_written_differently_is_the_same_row(tmp_path: Path) -> None:
    """A run of an earlier version lacks a key, and a number may be written in another form."""
    folders = seeds(tmp_path, "cgan", "fd_digits", 1.0, 2.0)
    config = folders[1] / "config.yaml"
    text = config.read_text().replace("lr_g: 0.001", "lr_g: 1e-3").replace("  freeze_d: 0\n", "")
    assert len(text) == len(config.read_text()) - len("  freeze_d: 0\n") - 1
    config.write_text(text)
    assert column(compare(folders), "fd_digits") == {"cgan": Cell(1.5, math.sqrt(0.5), 2)}


def test_score_has_column_per_protocol(tmp_path: Path) -> None:
    """Each protocol of a score has a separate column."""
    a = run(tmp_path, "cgan", scores={"fd_digits": 1.0, "digit_score": 9.0})
    b = run(tmp_path, "gan", scores={"fd_digits": 2.0}, reals=500, resize="none")
    c = run(tmp_path, "dcgan", scores={"fd_digits": 3.0}, weights="ema best, iteration 9")
    made = compare([a, b, c])
    assert [(column.title, column.note) for column in made.columns] == [
        ("fd_digits [1]", "reals=1000, resize=unknown"),
        ("fd_digits [2]", "reals=500, resize=none"),
        ("digit_score", ""),
    ]
    assert made.columns[1].protocol["reals"] == 500
    assert [[cell and cell.mean for cell in row.cells] for row in made.rows] == [
        [1.0, None, 9.0], [None, 2.0, None], [3.0, None, None]
    ]  # fmt: skip


def test_row_with_differing_protocols_is_refused(tmp_path: Path) -> None:
    """Runs of one row with different protocols are an error."""
    a = run(tmp_path, "cgan", scores={"fd_digits": 1.0})
    b = run(tmp_path, "cgan", "run.seed=1", scores={"fd_digits": 2.0}, fingerprint="g")
    expected = (
        f"fd_digits of {a} and {b} has different protocols (fingerprint=f and fingerprint=g), "
        "so it has no mean"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        compare([a, b])


def test_versions_share_column_with_note(tmp_path: Path) -> None:
    """Scores of different library versions share a column, with a note."""
    a = run(tmp_path, "cgan", scores={"fd_digits": 1.0})
    b = run(
        tmp_path,
        "cgan",
        "run.seed=1",
        scores={"fd_digits": 2.0},
        versions={"torch": "2.16", "numpy": "2.4"},
    )
    made = compare([a, b])
    assert column(made, "fd_digits")["cgan"] == Cell(1.5, math.sqrt(0.5), 2)
    assert made.notes == ["measured with different versions: torch 2.15 and 2.16"]


@pytest.mark.parametrize(
    ("score", "first", "second", "best"),
    [
        ("fd_digits", (1.0, 1.1, 1.2), (6.0, 6.1, 6.2), "cgan"),
        ("fd_digits", (1.0, 2.0, 3.0), (2.0, 3.0, 4.0), ""),
        ("digit_score", (1.0, 1.1, 1.2), (6.0, 6.1, 6.2), "gan"),  # more is better
        (
            "baseline_accuracy",
            (1.0, 1.1, 1.2),
            (6.0, 6.1, 6.2),
            "",
        ),  # no achievement of a generator
        ("fd_digits", (1.0, 3.0), (60.0, 62.0), ""),  # two seeds tell nothing apart
    ],
)
def test_best_is_marked_only_if_significant(
    score: str, first: tuple[float, ...], second: tuple[float, ...], best: str, tmp_path: Path
) -> None:
    """The best value is marked only if it is significantly better than every other one."""
    third = (-50.0, -50.5, -51.0) if score == "digit_score" else (90.0, 80.0, 85.0)
    names = ("cgan", "gan", "dcgan")
    every = [
        seeds(tmp_path, name, score, *values)
        for name, values in zip(names, (first, second, third), strict=True)
    ]
    made = compare([folder for folders in every for folder in folders])
    assert "".join(name for name, cell in column(made, score).items() if cell and cell.best) == best


def test_best_is_not_marked_if_third_row_overlaps() -> None:
    """A third row with a large standard deviation prevents the best from being marked."""
    first, second, wide = (0.9, 1.0, 1.1), (1.9, 2.0, 2.1), (-0.95, 2.05, 5.05)
    assert is_best(first, [second])
    assert not is_best(first, [second, wide])


@pytest.mark.parametrize("distribution", ["normal", "lognormal", "t3", "unequal", "one image"])
@pytest.mark.parametrize(("rows", "n"), [(2, 3), (2, 5), (7, 3)])
def test_among_equals_best_is_rarely_marked(distribution: str, rows: int, n: int) -> None:
    """Among equal rows, a best value is marked in up to 6 of 100 tables."""
    rng, marked, count = np.random.default_rng(0), 0, 2000
    tables = {
        "normal": rng.normal(10, 1, (count, rows, n)),
        "lognormal": rng.lognormal(0, 0.8, (count, rows, n)),
        "t3": rng.standard_t(3, (count, rows, n)),
        "unequal": rng.normal(0, 1, (count, rows, n)) * rng.choice([1, 5], (count, rows, 1)),
        "one image": rng.binomial(650, 0.999, (count, rows, n)) / 650,
    }
    for table in tables[distribution]:
        first, *others = sorted(table.tolist(), key=sum)
        marked += is_best(first, others)
    assert marked / count <= 0.06


def test_gap_of_six_sd_is_significant_among_seven_rows() -> None:
    """With three seeds, a row six standard deviations better than six others is marked."""
    tables, marked = np.random.default_rng(0).normal(0, 1, (500, 7, 3)), 0
    for table in tables:
        table[0] -= 6
        marked += is_best(table[0].tolist(), table[1:].tolist())
    assert marked / len(tables) > 0.95


@pytest.mark.parametrize("value", [math.nan, None])
def test_row_with_failed_seed_prevents_mark(tmp_path: Path, value: float | None) -> None:
    """The best of the other rows is not the best of all if a row cannot be tested."""
    score = "fd_digits"
    folders = seeds(tmp_path, "cgan", score, 1.0, 1.1, 1.2)
    folders += seeds(tmp_path, "gan", score, 6.0, 6.1, 6.2)
    assert any(cell and cell.best for cell in column(compare(folders), score).values())
    folders += seeds(tmp_path, "dcgan", score, 0.5, 0.6)
    scores = {"digit_score": 1.0} if value is None else {score: value}
    folders.append(run(tmp_path, "dcgan", "run.seed=2", scores=scores))
    made = compare(folders)
    assert not any(cell and cell.best for cell in column(made, score).values())
    note = "no best value is marked for fd_digits: a seed has no finite value in dcgan"
    assert note in made.notes


def test_gap_of_two_sd_is_significant_with_ten_seeds() -> None:
    """A difference of two standard deviations is significant with ten seeds."""
    draws = np.random.default_rng(0).normal(0, 1, (500, 2, 10))
    seen = sum(is_best(first.tolist(), [(second + 2).tolist()]) for first, second in draws)
    assert seen / len(draws) > 0.95  # 0.99 is its power


def test_welch_equals_scipy_and_interval_covers() -> None:
    """The test equals SciPy's, and the confidence interval has its nominal coverage."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(500):
        one, other = rng.normal(3, 1, 4).tolist(), rng.normal(1, 3, 9).tolist()
        effect = welch(one, other)
        theirs = stats.ttest_ind(one, other, equal_var=False)
        low, high = theirs.confidence_interval(0.95)
        assert (effect.p, effect.low, effect.high) == pytest.approx((theirs.pvalue, low, high))
        held += effect.low <= 2 <= effect.high
    assert 0.92 <= held / 500 <= 0.98
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1
    assert welch([1.0, 1.0], [2.0, 2.0]).p == pytest.approx(2 / math.comb(4, 2))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (3, 7), (8, 8), (9, 9)])
def test_permutation_p_equals_scipy(n: int, m: int) -> None:
    """Also that of values whose sums depend on their order, and of random permutations of 18."""

    def subtract_means(one: np.ndarray, other: np.ndarray, axis: int) -> Any:
        return one.mean(axis=axis) - other.mean(axis=axis)

    rng = np.random.default_rng(n + m)
    for _ in range(3):
        one = rng.choice([0.1, 0.7, 1.3], n).tolist()
        other = [*rng.choice([0.1, 0.7], m - 2).tolist(), 0.1, 0.1]
        test = stats.permutation_test(
            (one, other), subtract_means, n_resamples=13_000, vectorized=True, rng=0
        )
        assert welch(one, other).p == pytest.approx(test.pvalue, abs=1e-12)


@pytest.mark.parametrize(("above", "below"), [(5, 0), (7, 1), (1, 7), (4, 4), (13, 9)])
def test_sign_test_p_equals_scipy(above: int, below: int) -> None:
    values = [1.0] * above + [-1.0] * below
    expected = stats.binomtest(above, above + below).pvalue
    assert compare_with_bound(values, 0.0).p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bound", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("collapsed", [0, 1, 4, 9, 10])
def test_share_of_seeds_has_exact_interval_and_tail(collapsed: int, bound: float) -> None:
    """Whether a seed collapsed or not: the binomial test, also with the opposite sign."""
    values = [1.0] * collapsed + [0.0] * (10 - collapsed)
    effect = compare_with_bound(values, bound)
    tails = [
        stats.binomtest(collapsed, 10, bound, side).pvalue  # type: ignore[arg-type]
        for side in ("less", "greater")
    ]
    interval = stats.binomtest(collapsed, 10).proportion_ci(0.95)
    assert effect.p == pytest.approx(min(1, 2 * min(tails)), abs=1e-12)
    assert (effect.low + bound, effect.high + bound) == pytest.approx(tuple(interval), abs=1e-9)
    mirrored = compare_with_bound([-value for value in values], -bound)
    assert mirrored.p == effect.p
    assert (mirrored.low, mirrored.high) == pytest.approx((-effect.high, -effect.low))


@pytest.mark.parametrize(("one", "other"), [(3, 7), (0, 8), (5, 5)])
def test_two_shares_of_seeds_have_fishers_exact_test(one: int, other: int) -> None:
    """A permutation test of zeros and ones has the tail of the hypergeometric distribution."""
    samples = [[1.0] * count + [0.0] * (8 - count) for count in (one, other)]
    table = [[one, 8 - one], [other, 8 - other]]
    tails = [stats.fisher_exact(table, side).pvalue for side in ("less", "greater")]
    assert welch(*samples).p == pytest.approx(min(1, 2 * min(tails)), abs=1e-12)


def test_notes_contain_effect_and_real_vs_real(tmp_path: Path) -> None:
    """The notes contain the difference of the two best rows and the real-vs-real score."""
    folders = [
        run(tmp_path, name, f"run.seed={i}", scores={"fd_digits": value + i / 10}, floor=floor)
        for name, value, floor in (("cgan", 1.0, 0.25), ("gan", 6.0, 0.38))
        for i in range(3)
    ]
    notes = compare(folders).notes
    assert notes[0].startswith(
        "fd_digits: the ratio of the best to the next (gan) is 0.18 (0.145 to 0.223), p = "
    )
    assert notes[1] == "fd_digits, real vs. real: 0.25 to 0.38"


def test_best_is_not_marked_with_single_seed(tmp_path: Path) -> None:
    """No best value is marked if one of the two best rows has a single seed."""
    folders = seeds(tmp_path, "cgan", "fd_digits", 1.0, 1.1) + seeds(
        tmp_path, "gan", "fd_digits", 99.0
    )
    made = compare(folders)
    assert not any(cell.best for cell in column(made, "fd_digits").values() if cell)
    assert [note.partition(":")[0] for note in made.notes] == [
        "no best value is marked for fd_digits"
    ]
    assert compare(folders[:2]).notes == []  # alone nobody is the best
    assert made.notes[0].endswith(
        "the test needs 3 seeds per row. Train another seed with run.seed=1"
    )
    more = seeds(tmp_path, "dcgan", "fd_digits", 1.0, 1.1)
    note = compare([*folders[:2], *more]).notes[-1]
    assert note.endswith("Train another seed with run.seed=2")


def test_notes_name_unscored_and_unfinished_runs(tmp_path: Path) -> None:
    """The notes name runs without scores and unfinished runs."""
    a = run(tmp_path, "cgan", scores={"fd_digits": 1.0})
    b = run(tmp_path, "gan")
    made = compare([b, a, a])
    assert [row.name for row in made.rows] == ["cgan"]
    assert made.notes == [
        f"{b} has no scores. After training, run 'gan-lab evaluate {b} --weights best'."
    ]
    assert compare([a, b], weights="last").rows == []
    state = read_summary(a) | {"iteration": 10, "images": 640}
    (a / "summary.json").write_text(json.dumps(state))
    assert compare([a]).notes == [f"{a} is unfinished: its scores are those after 640 images"]


def test_compare_of_incomparable_runs_is_refused(tmp_path: Path) -> None:
    """Equal seeds, other folders and unknown weights are errors."""
    a = run(tmp_path, "cgan", scores={"fd_digits": 1.0})
    b = run(tmp_path, "cgan", "run.id=again", scores={"fd_digits": 1.0})
    with pytest.raises(
        ValueError, match=r"seed0 and .*again are the same experiment with the same seed"
    ):
        compare([a, b])
    with pytest.raises(ValueError, match="is not a run folder: it has no config"):
        compare([a, tmp_path])
    with pytest.raises(ValueError, match=r"Unknown weights: lats\. Choose one of best, last, raw"):
        compare([a], "lats")


def test_console_table_is_complete_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed table is not truncated, and a legend explains the numbers."""
    monkeypatch.setenv("COLUMNS", "40")
    folders = seeds(tmp_path, "cgan", "fd_digits", 1.0, 1.1, 1.2) + seeds(
        tmp_path, "gan", "fd_digits", 8.0, 8.5, 9.0
    )
    folders += [run(tmp_path, "dcgan", scores={"fd_digits": 1.0, "digit_score": 4.0}, reals=500)]
    folders += [run(tmp_path, "dcgan", "run.seed=1", scores={"digit_score": 6.0}, reals=500)]
    console.print_comparison(compare(folders))
    said = capsys.readouterr().out
    cells = [
        [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        for line in said.splitlines()
        if line[0] in "│┃"
    ]
    assert cells == [
        ["EXP", "n", "fd_digits [1]", "fd_digits [2]", "digit_score"],
        ["cgan", "3", "1.1 ± 0.1 *", "", ""],
        ["gan", "3", "8.5 ± 0.5", "", ""],
        ["dcgan", "2", "", "1 (n=1)", "5 ± 1.4"],
    ]
    assert "fd_digits [2]: reals=500" in said
    assert "* significantly better than every other row (Welch's t-test" in said
    console.print_comparison(compare([run(tmp_path, "wgan")]))
    assert len(capsys.readouterr().out.splitlines()) == 1
