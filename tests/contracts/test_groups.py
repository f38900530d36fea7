"""Config groups: later ones win, and every family trains on every data set that suits it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lab.cli import console
from gan_lab.config import groups, loading, plain_yaml
from gan_lab.runs.run_folder import RunFolder, run_id
from gan_lab.training.builder import build, load_data
from tests.helpers.families import every_family, experiment_of, keys_of, model_words

MEMBERS = groups.group_members(loading.config_folder())


def test_defaults_then_experiment_then_groups_then_words(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "defaults:\n  - data: faces64\n  - budget: smoke\nfamily: gan\nrun:\n  images: 7\n"
    )
    loaded = loading.load(str(own))
    assert (loaded.config.data.name, loaded.config.data.flip, loaded.config.run.images) == (
        "celeba",
        True,
        7,
    )
    assert loaded.config.run.evaluate_every_images == 320
    assert loaded.origin["data.name"] == "data/faces64.yaml"
    assert loaded.origin["run.evaluate_every_images"] == "budget/smoke.yaml"
    assert loaded.origin["run.images"] == str(own)
    chosen = loading.load(str(own), ["run.images=9", "data=mnist", "budget=minutes"])
    assert (chosen.config.data.name, chosen.config.data.flip) == (
        "mnist",
        False,
    )  # in place of the experiment's default
    assert (chosen.config.run.images, chosen.config.run.evaluate_every_images) == (9, 20_000)
    assert chosen.origin["run.images"] == "command line"
    assert (
        loading.load("gan", ["budget=smoke"]).config.run.images == 640
    )  # a group on the command line beats the experiment


def test_grid_interval_is_a_number_or_that_of_evaluations() -> None:
    assert loading.load("gan").config.log.grid_every_images is None
    assert loading.load("gan", ["log.grid_every_images=1e3"]).config.log.grid_every_images == 1000
    assert loading.load("gan", ["log.grid_every_images=null"]).config.log.grid_every_images is None
    with pytest.raises(ValueError, match=r"log.grid_every_images=often: it must be a whole number"):
        loading.load("gan", ["log.grid_every_images=often"])
    with pytest.raises(ValueError, match=r"log.grid_every_images=0 is out of range"):
        loading.load("gan", ["log.grid_every_images=0"])


@pytest.mark.parametrize("experiment", loading.experiments())
def test_no_shipped_experiment_fixes_the_grid_interval(experiment: str) -> None:
    """A fixed interval turns off the early grids, and with them the early page."""
    assert loading.load(experiment).config.log.grid_every_images is None


def test_a_group_word_stays_in_the_name_of_the_run() -> None:
    assert run_id(loading.load("sngan", ["model.width=8", "data=faces64", "budget=smoke"])) == (
        "budget=smoke-data=faces64-width=8-seed0"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=face64"], "unknown data option 'face64'. Did you mean 'faces64'?"),
        (["dat=faces64"], "Did you mean 'data"),
        (["budget="], "unknown budget option ''"),
    ],
)
def test_unknown_group_or_option_is_one_line_with_nearest_name(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        loading.load("gan", words)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "defaults", ["faces64", "[faces64]", "[{data: faces64, budget: smoke}]", "[{dta: faces64}]"]
)
def test_defaults_that_are_no_list_of_groups_are_refused(defaults: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"defaults: {defaults}\nfamily: gan\n")
    with pytest.raises(ValueError, match="group"):
        loading.load(str(own))


@pytest.mark.parametrize(
    ("group", "member"), [(group, name) for group, names in MEMBERS.items() for name in names]
)
def test_group_option_has_description_and_known_keys(group: str, member: str) -> None:
    path = loading.find_member(group, member)
    assert loading.first_comment(path)
    values = plain_yaml.resolve(plain_yaml.read_file(path))
    assert isinstance(values, dict)
    assert values.keys() <= {"data", "run", "metrics", "log", "augment"}
    loading.load("gan", [f"{group}={member}"])


def test_the_dry_run_names_the_file_of_each_value(
    tmp_path: Path,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = ["data=mnist", "budget=smoke", "data.batch_size=16", f"data.root={data_root}",
             f"run.root={tmp_path}", "data.source=sample"]  # fmt: skip
    console.print_dry_run(loading.load("gan", words))
    rows = {cells[1].strip(): cells[3].strip() for line in capsys.readouterr().out.splitlines()
            if len(cells := line.split("│")) > 4}  # fmt: skip
    assert rows["data.name"] == "data/mnist.yaml"
    assert rows["run.images"] == "budget/smoke.yaml"
    assert rows["data.batch_size"] == "command line"
    assert rows["family"] == "experiment/gan.yaml"


@every_family
@pytest.mark.parametrize("data", ["mnist", "faces32", "ring"])
def test_every_family_trains_on_every_set_that_suits_it(
    family: str, data: str, tmp_path: Path, data_root: Path
) -> None:
    """Latent-to-image families on data without inputs; unsuitable data are refused in one line."""
    made, keys = loading.family_class(family), keys_of(family)
    if made.image_to_image:
        pytest.skip("translates images")
    words = [f"data={data}", "budget=smoke", "data.batch_size=8", "run.images=16",
             "data.source=sample", "data.size=16", f"data.root={data_root}", f"run.root={tmp_path}",
             "log.progress_bar=false", "log.wandb=off"]  # fmt: skip
    words += model_words(family, width=4, blocks=1, n_critic=1)
    words += ["model.network=mlp"] if data == "ring" and "network" in keys else []
    loaded = loading.load(experiment_of(family), words)
    suits = (data != "ring" or "network" in keys) and (
        data != "faces32" or family not in ("cgan", "acgan", "sgan")
    )
    if not suits:
        with pytest.raises(ValueError, match=r"label|1 x 1|classes"):
            build(*load_data(loaded.config), RunFolder(tmp_path))
        return
    built = build(*load_data(loaded.config), RunFolder(tmp_path))
    built.evaluation.evaluator.metrics = []
    before = [weight.clone() for weight in built.family.generator.parameters()]
    built.trainer.fit(built.family, datamodule=built.data)
    assert built.family.iteration == 2
    after = list(built.family.generator.parameters())
    assert any(not one.equal(other) for one, other in zip(before, after, strict=True))
    assert all(weight.isfinite().all() for weight in after)
