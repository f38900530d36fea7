"""The models that ship with the package: their files, their scores and their use."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gan_lab import cli, load_generator
from gan_lab import data as datasets
from gan_lab.config import loading
from gan_lab.metrics.digit_classifier import load_digit_classifier
from gan_lab.metrics.evaluator import Evaluator, build_setting
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs import zoo
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.training.builder import build_family
from gan_lab.training.warm_start import find_start
from gan_lab.utils import output
from gan_lab.utils.errors import UserError
from gan_lab.utils.provenance import read_record

MODELS = {model.name: model for model in zoo.list_models()}
MAX_BYTES = 4_000_000
# float32 on another processor; a score of single digits moves by at most this share
MAX_RELATIVE_DIFFERENCE = 0.02


def test_zoo_has_a_conditional_a_color_and_a_translating_model() -> None:
    channels = {model.arguments["shape"][0] for model in MODELS.values() if not model.translates}
    assert channels == {1, 3}
    assert any(model.arguments.get("classes") for model in MODELS.values())
    assert any(model.translates for model in MODELS.values())
    assert sum(path.stat().st_size for path in zoo.ZOO_FOLDER.rglob("*.*")) <= MAX_BYTES


@pytest.mark.parametrize("name", MODELS)
def test_zoo_model_is_an_unchanged_export(name: str) -> None:
    """The recorded SHA-256 are those of the files, and no path of a machine is in the config."""
    model = MODELS[name]
    recorded = model.config["files"]
    assert recorded == {
        file: digest
        for file, digest in output.hash_files(model.path).items()
        if file != output.EXPORT_CONFIG
    }
    assert not re.search(r"root=|log\.", model.config["command"])
    assert model.config["experiment"] in loading.experiments()


@pytest.mark.parametrize("name", MODELS)
def test_zoo_card_has_metadata_that_the_hub_reads(name: str) -> None:
    """The hub's own library finds the task and every score of the model, and no license."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    model = MODELS[name]
    card = huggingface_hub.ModelCard.load(model.path / "README.md")
    task = "image-to-image" if model.translates else "unconditional-image-generation"
    assert card.data.pipeline_tag == task
    assert card.data.get("license") is None
    scores = {
        score: entry
        for score, entry in model.config["scores"].items()
        if entry["higher_is_better"] is not None
    }
    found = {each.metric_type: each for each in card.data.eval_results}
    assert found.keys() == scores.keys()
    for score, result in found.items():
        assert result.metric_value == pytest.approx(scores[score]["value"], rel=1e-3)
        assert result.task_type == task
        assert result.dataset_name == scores[score]["protocol"]["data"]
        assert result.dataset_split == "test"
    # only names of repositories on the hub are links there
    assert all("/" in each for each in card.data.datasets or ())


@pytest.mark.parametrize("name", MODELS)
def test_zoo_scores_are_those_of_the_card(name: str, data_root: Path) -> None:
    """The headline score of the weights, as by ``gan-lab evaluate``, is the recorded one."""
    model = MODELS[name]
    _, _, experiment, *overrides = shlex.split(model.config["command"])
    loaded = loading.load(experiment, [*overrides, f"data.root={data_root}"])
    data = datasets.load(loaded.config.data, loaded.config.run.seed)
    family = build_family(loaded.config, data).eval().requires_grad_(False)
    family.generator.load_state_dict(
        load_ema_networks(model.address).networks["generator"].state_dict()
    )
    setting = build_setting(loaded.config, family, data, final=True)
    headline = model.config["headline"]
    metrics = [
        each
        for each in select_metrics(replace(setting, final=False))
        if headline in each.higher_is_better
    ]
    scores = Evaluator(data, metrics, setting, loaded.config.run.seed, shared=False)(family)
    recorded = model.config["scores"][headline]["value"]
    assert scores[headline] == pytest.approx(recorded, rel=MAX_RELATIVE_DIFFERENCE)
    card = (model.path / "README.md").read_text(encoding="utf-8")
    assert f"| `{headline}` | {recorded:.4g} |" in card


def test_page_of_the_zoo_has_the_table_of_the_models() -> None:
    from scripts import zoo as script

    page = Path(__file__).parents[2] / "docs" / "zoo.md"
    assert script.render_table() in page.read_text(encoding="utf-8"), "python scripts/zoo.py"
    assert script.MODELS.keys() == MODELS.keys()
    for name, (experiment, _) in script.MODELS.items():
        assert MODELS[name].config["experiment"] == experiment


def test_zoo_lists_card_data_and_license() -> None:
    """The license is that of the library, as long as its owner has not chosen one."""
    listed = CliRunner().invoke(cli.app, ["zoo"])
    assert listed.exit_code == 0, listed.output
    for model in MODELS.values():
        data = model.config["data"]
        assert f"  license: none chosen, all rights reserved; data: {data}\n" in listed.output
        assert f"  card: {model.path / 'README.md'}\n" in listed.output
    contributing = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "The owner has not chosen a license yet" in contributing


def test_warm_start_finds_zoo_model() -> None:
    config = loading.load("r3gan", ["run.start_from=zoo:digits"]).config
    assert find_start(config) == MODELS["digits"].path / output.EXPORT_CONFIG


def test_sample_of_zoo_model_writes_into_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``gan-lab sample zoo:digits --label 7`` draws the sevens of ``load_generator``."""
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(cli.app, ["sample", "zoo:digits", "--label", "7", "--n", "4"])
    assert run.exit_code == 0, run.output
    (path,) = tmp_path.glob("*.png")
    assert run.output.strip() == path.name
    record = read_record(path)
    assert record is not None
    assert record["run"] == "zoo:digits"
    identified = CliRunner().invoke(cli.app, ["identify", path.name])
    assert "gan-lab sample zoo:digits --n 4 --seed 0 --class 7" in identified.output


def test_zoo_digits_are_the_digits_that_were_asked_for() -> None:
    """The lab's digit classifier recognizes the class of nine images of ten."""
    labels = torch.arange(100) % 10
    images = load_generator("zoo:digits")(100)
    found = load_digit_classifier()(images).argmax(1)
    assert (found == labels).float().mean() > 0.9


def test_translate_with_zoo_model_makes_color_of_lines(tmp_path: Path) -> None:
    (name,) = (name for name, model in MODELS.items() if model.translates)
    lines = Image.new("L", (64, 64), 255)
    lines.paste(0, (16, 16, 48, 20))
    lines.save(tmp_path / "lines.png")
    words = ["translate", f"zoo:{name}", str(tmp_path / "lines.png"), str(tmp_path / "out")]
    run = CliRunner().invoke(cli.app, words)
    assert run.exit_code == 0, run.output
    with Image.open(tmp_path / "out" / "lines.png") as image:
        assert (image.mode, image.size) == ("RGB", (64, 64))
        assert len(image.getcolors(64 * 64) or []) > 16


def test_export_of_zoo_model_has_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(cli.app, ["export", "zoo:digits"])
    assert run.output.strip() == "digits", run.output
    copy = load_ema_networks(tmp_path / "digits")
    assert copy.compute_digest() == load_ema_networks("zoo:digits").compute_digest()


def test_unknown_zoo_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model of the zoo.*dgits.*digits"):
        load_generator("zoo:dgits")
