from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from scipy import stats

from gan_lab.config import loading
from gan_lab.config.values import format_overrides
from gan_lab.sweeps import check, run_sweep, search_space, sweep_report, wandb_agents
from gan_lab.sweeps import sweep_file as file
from gan_lab.sweeps.trials import create_pruner
from gan_lab.utils.errors import UserError
from tests.helpers.logs import logged
from tests.helpers.sweeping import sweep_file

# a distribution of W&B, its keys, and the same one of scipy
SAME: list[tuple[str, dict[str, float], Any]] = [
    ("uniform", {"min": -1.0, "max": 3.0}, stats.uniform(-1, 4)),
    ("log_uniform", {"min": -3, "max": 1}, stats.loguniform(math.exp(-3), math.e)),
    ("log_uniform_values", {"min": 1.0e-4, "max": 0.1}, stats.loguniform(1e-4, 0.1)),
    ("inv_log_uniform", {"min": -1, "max": 3}, stats.loguniform(math.exp(-3), math.e)),
    ("inv_log_uniform_values", {"min": 0.5, "max": 8}, stats.loguniform(0.5, 8)),
    ("normal", {"mu": 2.0, "sigma": 0.5}, stats.norm(2, 0.5)),
    ("log_normal", {"mu": 1.0, "sigma": 0.25}, stats.lognorm(0.25, scale=math.e)),
    ("beta", {"a": 2, "b": 5}, stats.beta(2, 5)),
]
QUANTISED = [one for one in SAME if not one[0].startswith("inv_")]


def draw(parameter: search_space.Parameter, n: int) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    asked = {parameter.key: parameter.to_optuna(grid=False)}
    return [parameter.decode(study.ask(asked).params[parameter.key]) for _ in range(n)]


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize(("name", "keys", "same"), SAME, ids=[one[0] for one in SAME])
def test_distribution_equals_textbook(name: str, keys: dict[str, float], same: Any) -> None:
    """A distribution equals its textbook definition."""
    parameter = search_space.parse("x", {"distribution": name, **keys})
    quantiles = [0.01, 0.2, 0.5, 0.9, 0.999]
    assert same.cdf([parameter.value_at(u) for u in quantiles]) == pytest.approx(
        quantiles, abs=1e-9
    )
    assert stats.kstest(draw(parameter, 200), same.cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "keys", "same"), QUANTISED, ids=[f"q_{one[0]}" for one in QUANTISED]
)
def test_quantized_distribution_rounds_to_q(name: str, keys: dict[str, float], same: Any) -> None:
    """A quantized distribution rounds the other one to multiples of q."""
    parameter, q = search_space.parse("x", {"distribution": f"q_{name}", "q": 0.05, **keys}), 0.05
    for u in (0.01, 0.2, 0.5, 0.9, 0.999):
        assert abs(parameter.value_at(u) - same.ppf(u)) <= q / 2 + 1e-9
    values = draw(parameter, 50)
    assert [value / q for value in values] == pytest.approx(
        [round(value / q) for value in values], abs=1e-6
    )
    assert len({str(value) for value in values} & {"0.30000000000000004"}) == 0


def test_integers_and_lists_have_their_shares() -> None:
    """Integers and list values are sampled with their probabilities."""
    dice = draw(search_space.parse("x", {"min": 1, "max": 6}), 600)
    assert [type(value) for value in dice[:3]] == [int] * 3
    assert stats.chisquare([dice.count(face) for face in range(1, 7)]).pvalue > 1e-3
    skewed = draw(
        search_space.parse("x", {"values": ["a", "b", "c"], "probabilities": [0.7, 0.2, 0.1]}), 500
    )
    assert stats.chisquare([skewed.count(v) for v in "abc"], [350, 100, 50]).pvalue > 1e-3
    pairs = [[0.0, 0.9], [0.5, 0.999]]
    assert {tuple(value) for value in draw(search_space.parse("x", {"values": pairs}), 20)} == {
        tuple(pair) for pair in pairs
    }
    assert draw(search_space.parse("x", {"value": None}), 1) == [None]


def test_a_bool_is_written_as_wandbs_agent_writes_it() -> None:
    assert format_overrides({"a": True, "b": [0.5, 1], "c": 1e-5, "d": None}) == [
        "a=True",
        "b=[0.5, 1]",
        "c=1e-05",
        "d=None",
    ]


@pytest.mark.parametrize(
    ("given", "ends"),
    [
        ({"min": 1, "max": 9}, [1, 9]),
        ({"min": 0.1, "max": 0.9}, [0.1, 0.9]),
        ({"min": 1.0e-4, "max": 1.0e-2, "distribution": "log_uniform_values"}, [1e-4, 1e-2]),
        ({"min": 0, "max": 1, "q": 0.25, "distribution": "q_uniform"}, [0.0, 1.0]),
        ({"values": ["a", 2]}, ["a", 2]),
        (
            {"mu": 0, "sigma": 1, "distribution": "normal"},
            [pytest.approx(-5.9978, abs=1e-4), pytest.approx(5.9978, abs=1e-4)],
        ),
    ],
)
def test_the_ends_that_must_be_legal(given: dict[str, Any], ends: list[Any]) -> None:
    assert search_space.parse("x", given).boundary_values() == ends


def test_grid_has_each_combination_once(
    tmp_path: Path,
) -> None:
    """A grid has each combination once, and the last parameter changes fastest."""
    parameters = {"run.seed": {"min": 0, "max": 1}, "c": {"value": 7},
                  "x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.5}}  # fmt: skip
    sweep = file.load(str(sweep_file(tmp_path, method="grid", parameters=parameters)))
    assert [tuple(point.values()) for point in sweep.grid_points()] == [
        (0, 7, 0.0), (0, 7, 0.5), (0, 7, 1.0), (1, 7, 0.0), (1, 7, 0.5), (1, 7, 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"distribution": "zipf", "a": 1},
            "unknown distribution: 'zipf'. Choose one of beta, categorical",
        ),
        (
            {"parameters": {"lr": {"value": 1}}},
            r"parameters.x is nested. Write its keys with dots, such as x.lr",
        ),
        (3, "parameters.x is not a mapping: 3"),
        ({"mu": 1}, "parameters.x needs value, values, min and max, or a distribution"),
        ({"distribution": "uniform", "min": 0}, "the distribution uniform needs max"),
        ({"values": [1], "q": 2}, "the distribution categorical has no q"),
        (
            {"min": "1e-4", "max": 1.0},
            "min is not a number: '1e-4'",
        ),
        ({"distribution": "int_uniform", "min": 0.5, "max": 2}, "min is not an integer: 0.5"),
        ({"distribution": "q_normal", "q": 0}, "q must be greater than 0: 0"),
        ({"min": 2, "max": 1}, "min=2 is not less than max=1"),
        (
            {"distribution": "log_uniform_values", "min": 0, "max": 1},
            "min must be greater than 0 for log_uniform_values: 0",
        ),
        ({"values": [1, 1]}, "must be a non-empty list of different values"),
        (
            {"values": [1, 2], "probabilities": [0.5, 0.6]},
            "must be one for each value, and sum to 1",
        ),
    ],
)
def test_a_parameter_that_cannot_be_mapped_is_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_space.parse("x", given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "evolution"}, "unknown method: evolution. Choose one of grid, random, bayes"),
        ({"metric": {"goal": "minimize"}}, "metric needs a name"),
        ({"metric": {"name": "a", "target": 1}}, "unknown key: metric.target"),
        ({"metric": {"name": "a", "goal": "up"}}, "metric.goal must be minimize or maximize: up"),
        ({"parameters": {}}, "parameters are missing"),
        ({"run_cap": 0}, "run_cap must be an integer of at least 1: 0"),
        ({"command": "python"}, "command must be a list"),
        (
            {"command": ["${args}"]},
            r"unknown macro in command: '\$\{args\}'. Choose one of \$\{env\}",
        ),
        ({"command": ["a", "train"]}, "command must contain 'train', the experiment, and"),
        (
            {"command": ["train", "${args_no_hyphens}"]},
            "command must name the experiment after 'train'",
        ),
        (
            {"early_terminate": {"type": "envelope"}},
            "early_terminate.type must be hyperband: .*envelope",
        ),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": True}},
            "unknown key: early_terminate.strict",
        ),
        (
            {"early_terminate": {"type": "hyperband", "max_iter": 9}},
            "needs either min_iter, or max_iter and s",
        ),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1}},
            "early_terminate.eta must be an integer of at least 2: 1",
        ),
        (
            {"method": "grid", "parameters": {"x": {"min": 0.0, "max": 1.0}}},
            "a grid cannot have the distribution uniform",
        ),
    ],
)
def test_invalid_sweep_file_error_names_key(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    """The error for an invalid sweep file names the file and the key."""
    path = sweep_file(tmp_path, **given)
    with pytest.raises(ValueError, match=f"stand_in.yaml: .*{message}"):
        file.load(str(path))


def test_misspelled_sweep_and_other_file_are_refused(tmp_path: Path) -> None:
    """A misspelled name and a file that is not a sweep are errors."""
    with pytest.raises(ValueError, match=r"unknown sweep 'cgan_rl'\. Did you mean 'cgan_lr'"):
        file.load("cgan_rl")
    for text, message in (
        ("- a\n", "bad.yaml: not a mapping"),
        ("a: [\n", "bad.yaml: line 2: "),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            file.load(str(tmp_path / "bad.yaml"))


@pytest.mark.parametrize(
    ("given", "rungs"),
    [
        ({"min_iter": 3}, [3, 9]),
        ({"max_iter": 27, "s": 2}, [3, 9]),
        ({"max_iter": 16, "s": 3, "eta": 2}, [2, 4, 8]),
    ],
)
def test_halving_has_bands_of_wandb_hyperband(
    tmp_path: Path, given: Mapping[str, int], rungs: list[int]
) -> None:
    """Trials are halved at the bands of W&B's hyperband."""
    sweep = file.load(str(sweep_file(tmp_path, early_terminate={"type": "hyperband", **given})))
    study = optuna.create_study(pruner=create_pruner(sweep))
    for _ in range(4):
        good = study.ask()
        for step in range(1, 28):
            good.report(0.0, step)
            good.should_prune()
    found = []
    for first in range(
        1, max(rungs) + 1
    ):  # a trial that is bad from there on ends at the next band
        trial = study.ask()
        for step in range(1, 28):
            trial.report(0.0 if step < first else 1.0, step)
            if trial.should_prune():
                found.append(step)
                break
    assert list(dict.fromkeys(found)) == rungs


@pytest.mark.parametrize("name", sorted(file.list_sweeps()))
def test_a_shipped_sweep_is_legal_and_asks_a_question(name: str) -> None:
    sweep = file.load(name)
    check.check_values(sweep)
    assert file.list_sweeps()[name].endswith("?")
    assert sweep.command[:4] == ("${env}", "${interpreter}", "-m", "gan_lab")
    assert all("." in parameter.key for parameter in sweep.parameters)
    if sweep.halving:  # a halving that never comes would be no early ending
        run_ = loading.load(sweep.experiment).config.run
        assert sweep.halving.first < run_.images / run_.evaluate_every_images


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"model.lr_d": {"min": 0.0, "max": 1.0}},
            "sweep stand_in: model.lr_d=0.0 is out of range",
        ),
        (
            {"model.lr": {"value": 1}},
            "sweep stand_in: model.lr=1: model.lr was renamed to model.lr_d and model.lr_g",
        ),
        ({"model.loss": {"values": ["hinge", "hing"]}}, "sweep stand_in: model.loss=hing: "),
        (
            {"run.id": {"value": None}},
            "the value of run.id is null. W&B passes it as the text 'None'",
        ),
    ],
)
def test_a_value_that_the_experiment_refuses_is_named(
    tmp_path: Path, parameters: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check.check_values(file.load(str(sweep_file(tmp_path, parameters=parameters))))


def test_sweep_folder_and_refused_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep has its folder, and incompatible options are errors."""
    sweep = file.load(str(sweep_file(tmp_path)))
    assert run_sweep.output_folder(sweep, []) == Path("runs/sweeps/stand_in")
    words = [f"run.root={tmp_path}"]
    assert run_sweep.output_folder(sweep, words) == tmp_path / "sweeps" / "stand_in"
    with pytest.raises(
        ValueError, match=r"no trials in .*stand_in\. Start the sweep: make sweep SWEEP=stand_in"
    ):
        run_sweep.open_trials(sweep, words, None)
    with pytest.raises(ValueError, match="--storage needs --backend local"):
        run_sweep.run(sweep, words, 1, None, "wandb", "postgresql://a/b")
    # a key alone is not enough: where the host is away, the sweep runs here
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with logged() as said:
        assert not run_sweep._can_use_wandb()
    assert said == ["http://127.0.0.1:9 does not respond. Running the sweep locally"]
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not run_sweep._can_use_wandb()


def test_sweep_page_escapes_values_and_has_history(tmp_path: Path) -> None:
    """The page escapes its values, and its history shows the best value so far."""
    bad = "</script><script>alert(1)</script>"
    sweep = file.load(
        str(sweep_file(tmp_path, command=["python", "train", "ring", "${args_no_hyphens}"]))
    )
    rows = [
        sweep_report.Row(i, "complete", {"x": bad}, value, {1: value + 1, 2: value})
        for i, value in enumerate([5.0, 3.0, 4.0])
    ]
    made = sweep_report.SweepResult(sweep, rows, rows[1], {bad: 1.0})
    page = sweep_report.render(made, None, tmp_path, [])
    assert bad not in page
    assert "alert(1)" in page
    drawing = sweep_report.draw_history(made)
    assert [point[1] for point in drawing["points"]] == [15.0, 180.0, 97.5]
    assert drawing["line"] == "M50.0 15.0L340.0 15.0L340.0 180.0L630.0 180.0L630.0 180.0"


def test_unknown_metric_is_refused_before_trials(tmp_path: Path, data_root: Path) -> None:
    """A metric that the experiment does not compute is an error before the first trial."""
    given = yaml.safe_load((file.sweep_folder() / "dcgan_loss.yaml").read_text())
    given["metric"]["name"] = "fd_digit"
    path = tmp_path / "typo.yaml"
    path.write_text(yaml.safe_dump(given))
    words = [f"data.root={data_root}", "data.source=sample", f"run.root={tmp_path}"]
    with pytest.raises(
        ValueError, match=r"sweep typo: unknown score 'fd_digit'. Did you mean 'fd_digits'"
    ):
        check.check_metric(file.load(str(path)), words)
    assert list(tmp_path.iterdir()) == [path]
    given["metric"]["name"] = "fd_digits"
    path.write_text(yaml.safe_dump(given))
    check.check_metric(file.load(str(path)), words)


def test_sweep_varies_config_group(
    tmp_path: Path,
) -> None:
    """A sweep can vary a config group; an unknown member is an error."""
    for members in (["mnist", "faces64"], ["mnist", "face64"]):
        sweep = file.load(str(sweep_file(tmp_path, parameters={"data": {"values": members}})))
        if "faces64" in members:
            check.check_values(sweep)
            continue
        with pytest.raises(
            ValueError, match=r"data=face64: unknown data option 'face64'. Did you mean 'faces64'"
        ):
            check.check_values(sweep)


def test_text_lists_reach_wandb_as_overrides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's agent formats a value as f"{key}={value}", which is no list of the command line."""
    created = []
    monkeypatch.setattr("wandb.sweep", lambda content, project: created.append(content) or "id")
    names = [["it's", 'a"b\\c'], ["no", "🦊"]]
    parameters = {"data.class_names": {"values": names}, "model.betas": {"value": [0.5, 0.9]}}
    sweep = file.load(str(sweep_file(tmp_path, parameters=parameters)))
    wandb_agents._find_or_create(sweep, tmp_path / "out", [], None)
    (content,) = created
    for formatted, expected in zip(
        content["parameters"]["data.class_names"]["values"], names, strict=True
    ):
        loaded = loading.load("cgan", [f"data.class_names={formatted}"])
        assert loaded.config.data.class_names == expected
    assert content["parameters"]["model.betas"] == {"value": [0.5, 0.9]}


@pytest.mark.parametrize("kind", ["wide", "run", "older run"])
def test_best_config_of_own_experiment_equals_trial(kind: str, tmp_path: Path) -> None:
    """The written file keeps width, and is made from the config of a run of any format too."""
    source = tmp_path / "mine.yaml"
    text = "family: gan\ndata: {size: 64x96, name: folder, root: photos}\nmodel: {z_dim: 7}\n"
    if kind != "wide":
        number = 2 if kind == "run" else 1
        text = f"format: {number}\n{text.replace('size: 64x96', 'size: 64, width: 96')}"
    if kind == "older run":
        text += "run: {accumulate: 2}\n"
    source.write_text(text)
    sweep = file.load(
        str(sweep_file(tmp_path, command=["python", "train", str(source), "${args_no_hyphens}"]))
    )
    row = sweep_report.Row(0, "complete", {"model.lr_d": 1e-3}, 5.0, {1: 5.0})
    result = sweep_report.SweepResult(sweep, [row], row, {})
    path = sweep_report.write_best_config(result, [], tmp_path)
    assert path is not None
    written = loading.load(str(path)).config
    assert written == loading.load(str(source), ["model.lr_d=1e-3"]).config
    assert (written.data.size, written.data.width) == (64, 96)


@pytest.mark.parametrize("name", ["made_best.yaml", "report.html"])
def test_report_of_sweep_keeps_edited_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is printed, and neither file is written once the user has edited one."""
    command = ["python", "train", "gan", "${args_no_hyphens}"]
    parameters = {"model.lr_d": {"values": [1e-3, 2e-3]}}
    path = sweep_file(tmp_path, command=command, parameters=parameters)
    sweep = replace(file.load(str(path)), name="made")
    row = sweep_report.Row(0, "complete", {"model.lr_d": 1e-3}, 5.0, {1: 5.0})
    result = sweep_report.SweepResult(sweep, [row], row, {})
    monkeypatch.setattr(sweep_report, "collect_results", lambda _: result)
    trials: Any = SimpleNamespace(overrides=list)
    folder = tmp_path / "out"
    for _ in range(2):
        sweep_report.report(trials, folder, [])
    (folder / name).write_text("by the user")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    with pytest.raises(UserError, match=rf"{name} .*has changed since.*\. Move or rename it"):
        sweep_report.report(trials, folder, [])
    assert "trial" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
