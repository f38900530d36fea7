from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import pytest

from gan_lab.config.loading import config_folder, experiments, families, load, parse
from gan_lab.config.schema import Config, DataConfig, check_ranges, list_leaves, with_values
from gan_lab.training.callbacks.progress import Progress


@pytest.fixture
def written(tmp_path: Path) -> object:
    """An experiment file with the text that is given."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "data.batchsize=3",
            "Key 'data.batchsize' not in 'Config'. Did you mean 'data.batch_size'?",
        ),
        ("run.imges=3", "Key 'run.imges' not in 'Config'. Did you mean 'run.images'?"),
        (
            "metrics.headlin=fid",
            "Key 'metrics.headlin' not in 'Config'. Did you mean 'metrics.headline'?",
        ),
        ("log.wandbb=off", "Key 'log.wandbb' not in 'Config'. Did you mean 'log.wandb'?"),
        ("ema.rmp=1", "Key 'ema.rmp' not in 'Config'. Did you mean 'ema.ramp'?"),
        ("famly=gan", "Key 'famly' not in 'Config'. Did you mean 'family'?"),
        ("model.zdim=3", "Key 'model.zdim' not in 'GANConfig'. Did you mean 'model.z_dim'?"),
        (
            "model.qqqqqq=3",
            "Key 'model.qqqqqq' not in 'GANConfig'. Available: model.decay, model.decay_from",
        ),
        ("run=mnist", "run is a group: set one of its keys: run.images, run.seed"),
        (
            "model=dcgan",
            "model is a group: set one of its keys, such as model.z_dim=64, not model=dcgan",
        ),
        ("run.images", "'run.images' is not key=value, such as model.z_dim=64"),
        ("data.size=big", "data.size=big: it must be a whole number"),
        ("data.size=28.5", "data.size=28.5: it must be a whole number"),
        ("data.size=on", "data.size=on: it must be a whole number"),
        ("run.seed=null", "run.seed=null: it must be a whole number"),
        ("data.size=", "data.size=: it must be a whole number"),
        ("model.betas=[0.5]", "model.betas=[0.5]: it must be a list of 2, such as [0.5,0.5]"),
        (
            "data.attributes=Smiling",
            "data.attributes=Smiling: it must be a list, such as [one,two]",
        ),
        ("model.lr_d=fast", "model.lr_d=fast: it must be a number"),
        ("data.attributes=[1", "data.attributes=[1: unclosed bracket or quotation mark"),
        ("run=[1", "run is a group: set one of its keys"),
        ("run.compile=maybe", "run.compile=maybe: it must be true or false"),
        (
            "log.wandb=maybe",
            "log.wandb=maybe: it must be one of auto, online, offline, off",
        ),
        ("model.loss=wasserstein", "model.loss=wasserstein: it must be one of nonsat"),
        (
            "model.betas=[0.5,0.9,0.9]",
            "model.betas=[0.5,0.9,0.9]: it must be a list of 2, such as",
        ),
        ("data.size=0", "data.size=0 is out of range: it must be at least 1"),
        ("run.seed=-1", "run.seed=-1 is out of range: it must be at least 0"),
        ("ema.ramp=0", "ema.ramp=0.0 is out of range: it must be greater than 0"),
        ("model.lr_d=-1e-3", "model.lr_d=-0.001 is out of range: it must be greater than 0"),
        ("model.lr_d=nan", "model.lr_d=nan is out of range: it must be greater than 0"),
        ("model.betas=[0.5,1.0]", "model.betas=(0.5, 1.0) is out of range: it must be less than 1"),
        (
            "model.betas=[-0.1,0.9]",
            "model.betas=(-0.1, 0.9) is out of range: it must be at least 0",
        ),
        ("family=gna", "unknown family 'gna'. Did you mean 'gan'? Available: "),
        ("run={seed: [", "run is a group: set one of its keys"),
        ("data.class_names=[a,,b]", "data.class_names=[a,,b]: an item is empty"),
        ("data.class_names=['a]", "unclosed bracket or quotation mark"),
        ("data.class_names=[a,b,a]", "data.class_names: duplicate name: a"),
        ("data.attributes=[Male,Male]", "data.attributes: duplicate name: Male"),
        ("run.images=12:30", "run.images=12:30: it must be a whole number"),
        ("run.images=1e400", "run.images=1e400: it must be a whole number"),
        ("model.lr_d=inf", "model.lr_d=inf is out of range"),
        ("data.root=a\nb", "data.root='a\\nb': it must be one line"),
        ('data.class_names=[a,"b\\nc"]', "data.class_names='b\\nc': it must be one line"),
        ("data.channels=2", "data.channels=2: it must be one of 1, 3"),
    ],
)
def test_a_word_that_cannot_be_meant_is_answered_by_name_and_remedy(
    word: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load("gan", [word])


def test_an_unknown_experiment_is_answered_with_the_nearest_and_all_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"unknown experiment 'cgn'\. Did you mean 'cgan'\? Available: .*gan"
    ):
        load("cgn")
    with pytest.raises(ValueError, match=r"file not found: /nowhere/mine.yaml"):
        load("/nowhere/mine.yaml")
    with pytest.raises(ValueError, match=r"experiment='a.nb': it must be one line"):
        load("a\nb")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "- family\n- gan\n",
            "mine.yaml: not a mapping such as 'family: gan': [family, gan]",
        ),
        ("", "mine.yaml is empty. Write at least the family"),
        ("# only a comment\n", "mine.yaml is empty. Write at least the family"),
        ("family: [gan\n", "mine.yaml: line 2: expected ',' or ']', but got"),
        ("family: gan\nfamily: cgan\n", "line 2: duplicate key: family"),
        ("data: {size: 8}\ndata.size: 9\n", "mine.yaml: duplicate key: data.size"),
        ("data: {root: !x a}\n", "line 1: tag !x. Quote text that begins with !"),
        ("data: {root: &x y}\n", "line 1: unused anchor &x"),
        ("data: {root: null}\n", "data.root=null: it must be text, not null"),
        ("data: {class_names: [{a: b}]}\n", "an item must be text: {a: b}. Quote it"),
        ("data: " + "[" * 2000 + "]" * 2000, "mine.yaml: too many nested brackets"),
        ("? [a]\n: b\n", "line 1: a key is a mapping or a list"),
        ("data: &x {a: *x}\n", "a value that contains itself"),
        (
            "family: gan\ndata: {sise: 3}\n",
            "Key 'data.sise' not in 'Config'. Did you mean 'data.size'?",
        ),
        ("family: gan\ndata:\n", "data is a group: set one of its keys"),
        ("family: gan\nmodel: 3\n", "model is a group"),
    ],
)
def test_a_file_that_cannot_be_meant_is_answered_in_one_line(
    written: object, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        load(written(text))  # type: ignore[operator]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder.yaml", "folder.yaml is no file. Name a .yaml file"),
        ("pipe.yaml", "pipe.yaml is no file"),
        ("a.json", "a.json is not the path of a .yaml file"),
        ("a.yaml/", "a.yaml/ is not the path"),
    ],
)
def test_path_that_is_no_experiment_file_is_named(name: str, message: str, tmp_path: Path) -> None:
    """It exists, so it is neither missing nor an unknown experiment."""
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    for each in ("a.json", "a.yaml"):
        (tmp_path / each).write_text("family: gan")
    with pytest.raises(ValueError, match=re.escape(message)):
        load(f"{tmp_path}/{name}")


def test_words_override_the_file_and_the_file_the_defaults(written: object) -> None:
    path = written("family: cgan\ndata: {size: 32, batch_size: 16}\nmodel: {z_dim: 7, width: 8}\n")  # type: ignore[operator]
    loaded = load(path, ["data.size=64", "model.width=9", "model.betas=[0.1,0.2]"])
    config = loaded.config
    assert (config.family, config.data.size, config.data.batch_size) == ("cgan", 64, 16)
    assert (config.model.z_dim, config.model.width, config.model.betas) == (7, 9, (0.1, 0.2))
    assert config.data.workers == DataConfig().workers
    assert loaded.experiment == "mine"
    assert loaded.origin == {
        "family": path, "data.batch_size": path, "model.z_dim": path, "data.size": "command line",
        "model.width": "command line", "model.betas": "command line",
    }  # fmt: skip


def test_a_key_with_dots_in_a_file_means_what_it_means_on_the_command_line(written: object) -> None:
    config = load(written("family: gan\nmodel.z_dim: 5\ndata.size: 32\n")).config  # type: ignore[operator]
    assert (config.model.z_dim, config.data.size) == (5, 32)


def test_off_stays_a_word_where_a_word_is_meant_and_is_false_where_a_switch_is() -> None:
    config = load(
        "gan", ["log.wandb=off", "metrics.inception_weights=off", "log.progress_bar=off"]
    ).config
    assert (config.log.wandb, config.metrics.inception_weights, config.log.progress_bar) == (
        "off",
        "off",
        False,
    )


def test_the_id_comes_from_run_id_unless_a_word_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("gan").config.run.id is None
    monkeypatch.setenv("RUN_ID", "0012")
    assert load("gan").config.run.id == "0012"
    assert load("gan", ["run.id=mine"]).config.run.id == "mine"


@pytest.mark.parametrize("override", [[], ["run.id=null"]])
def test_run_id_of_environment_has_its_origin(
    override: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that train reports a variable that was left over."""
    monkeypatch.setenv("RUN_ID", "left over")
    loaded = load("gan", override)
    assert loaded.config.run.id == "left over"
    assert loaded.origin["run.id"] == "environment variable RUN_ID"


@pytest.mark.parametrize(
    ("images", "batch_size", "every", "evaluations"),
    [(1600, 16, 800, 2), (1600, 16, 700, 3), (100, 64, 50, 2), (640, 64, 10, 10), (5, 64, 99, 1),
     (130, 64, 65, 2), (650, 64, 600, 2)],
)  # fmt: skip
def test_evaluations_are_those_that_the_training_makes(
    images: int, batch_size: int, every: int, evaluations: int
) -> None:
    config = load("gan", [f"run.images={images}", f"data.batch_size={batch_size}",
                          f"run.evaluate_every_images={every}"]).config  # fmt: skip
    progress = Progress(batch_size, config.iterations)
    counted = 0
    for progress.iteration in range(1, config.iterations + 1):
        counted += progress.has_crossed(every) or progress.spent
    assert config.evaluations == counted == evaluations


@pytest.mark.parametrize("name", ["emoji", "toy", "folder", "mine.photos"])
def test_data_set_is_selected_like_a_group(name: str) -> None:
    """In place of the group that the experiment selects; overrides of other keys are kept."""
    loaded = load("cyclegan", [f"data={name}", "data.size=16"])
    assert loaded.config == load("cyclegan", [f"data.name={name}", "data.size=16"]).config
    assert loaded.origin["data.name"] == "command line"
    assert loaded.groups == {}
    with pytest.raises(ValueError, match=r"unknown data option 'emojy'. Did you mean 'emoji'"):
        load("cyclegan", ["data=emojy"])


@pytest.mark.parametrize("name", sorted(experiments()))
def test_every_experiment_loads_and_says_what_it_is(name: str) -> None:
    loaded = load(name)
    assert loaded.config.family in families()
    assert loaded.experiment == name
    first = (config_folder() / "experiment" / f"{name}.yaml").read_text().splitlines()[0]
    assert first == f"# {experiments()[name]}"
    assert len(experiments()[name]) > 10


def test_the_budget_in_iterations_is_rounded_up() -> None:
    for images, batch_size, iterations in ((64, 64, 1), (65, 64, 2), (1, 64, 1), (640, 64, 10)):
        config = parse(
            [{"family": "gan", "run": {"images": images}, "data": {"batch_size": batch_size}}]
        )
        assert config.iterations == iterations


def test_leaves_walk_dataclasses_and_mappings_alike() -> None:
    config = parse([{"family": "gan", "data": {"size": 40}}])
    values = dict(list_leaves(config))
    assert (values["data.size"], values["model.z_dim"], values["family"]) == (
        40,
        config.model.z_dim,
        "gan",
    )
    assert dict(list_leaves({"a": {"b": 1, "c": {}}, "d": [2]})) == {"a.b": 1, "a.c": {}, "d": [2]}


def test_defaults_are_in_their_own_ranges_and_both_ends_of_a_range_are_held() -> None:
    check_ranges(Config())
    check_ranges(DataConfig(size=1))  # the bound itself is allowed
    with pytest.raises(
        ValueError, match=r"data\.workers=-1 is out of range: it must be at least 0"
    ):
        check_ranges(DataConfig(workers=-1), "data.")


@pytest.mark.parametrize(
    "arguments", [["-c", "import gan_lab.config.loading, sys"], ["-m", "gan_lab", "--help"]]
)
def test_neither_the_config_nor_the_help_imports_torch(arguments: list[str]) -> None:
    watch = (
        "import sys, atexit; "
        "atexit.register(lambda: print('torch' in sys.modules, 'lightning' in sys.modules))"
    )
    if arguments[0] == "-c":
        code = f"{watch}; {arguments[1]}"
    else:
        code = (
            f"{watch}; import runpy; sys.argv = {arguments[1:]!r}; "
            "runpy.run_module('gan_lab', run_name='__main__')"
        )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "False False"
    assert arguments[0] == "-c" or "train" in ran.stdout


def test_a_whole_number_may_be_written_with_an_exponent() -> None:
    assert load("gan", ["run.images=1e5", "run.seed=2.0"]).config.run.images == 100_000


def test_without_a_size_each_data_set_has_its_own_usual_one() -> None:
    sizes = {"mnist": 28, "celeba": 64, "folder": 64, "pairs": 64, "horse2zebra": 64}
    assert {name: load("dcgan", [f"data.name={name}"]).config.data.size for name in sizes} == sizes
    assert load("dcgan", ["data.name=celeba", "data.size=32"]).config.data.size == 32
    assert load("cyclegan_256").config.data.size == 256


def test_image_data_sets_define_their_native_size() -> None:
    from gan_lab import data

    for name in set(data.names()) - {"toy"}:
        size = load("gan", [f"data.name={name}"]).config.data.size
        source = (Path(data.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        assert re.search(rf"^SIZE = {size}\b", source, re.MULTILINE), name


def test_a_config_is_one_value_that_nothing_changes_afterwards() -> None:
    for name in experiments():
        config = load(name).config
        for part in (config, *(getattr(config, item.name) for item in fields(config))):
            if is_dataclass(part):
                with pytest.raises(FrozenInstanceError):
                    setattr(part, fields(part)[0].name, "another")
    loaded = load("gan")
    assert with_values(loaded.config, {"run.images": 5, "data.size": 8}).run.images == 5
    assert loaded.config == load("gan").config


def test_a_size_of_two_numbers_is_height_and_width_and_of_one_is_square() -> None:
    words = ["data.name=folder", "data.root=x", "data.size=64x96"]
    assert load("dcgan", words).config.data.shape == (64, 96)
    assert load("dcgan", [*words, "data.size=32"]).config.data.shape == (32, 32)
    assert load("dcgan", ["data.size=32", "data.width=48"]).config.data.shape == (32, 48)
    for wrong in ("64xwide", "x64", "64x"):
        with pytest.raises(ValueError, match=rf"data\.size={wrong}"):
            load("dcgan", [f"data.size={wrong}"])
    with pytest.raises(ValueError, match=r"data\.width=5000 is out of range"):
        load("dcgan", ["data.size=64x5000"])


def test_tilde_in_start_from_is_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("gan", ["run.start_from=~/x"]).config.run.start_from == f"{tmp_path}/x"
    assert load("gan").config.run.start_from is None
