"""Text that people choose survives command line, YAML, sweep file, run folder and file names."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import markupsafe
import pytest
import yaml

from gan_lab import report
from gan_lab.config import loading, plain_yaml
from gan_lab.config.schema import list_leaves, with_values
from gan_lab.config.values import convert, format_overrides
from gan_lab.inference import model_card
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder, to_dict
from gan_lab.sweeps import sweep_file
from gan_lab.training import loop
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import make_file_name
from tests.helpers.nasty import LINE_BREAKS, NASTY, PADDED
from tests.helpers.reports import written_run

# paths expand ~ and a run id is the name of a folder
PATHS = [text for text in NASTY if not text.startswith("~")]


def quote(text: str) -> str:
    """Quote a text as an item of a list."""
    return "'" + text.replace("'", "''") + "'"


def test_there_are_enough_texts() -> None:
    assert len(set(NASTY)) == len(NASTY) >= 100


@pytest.mark.parametrize("text", NASTY)
def test_list_item_on_command_line_stays_text(text: str) -> None:
    """Unquoted, unless it has a comma or begins with a quotation mark."""
    values = [text if not ("," in text or text[0] in "'\"") else quote(text), quote(f"{text}, 2")]
    overrides = [f"data.class_names=[{','.join(values)}]"]
    expected = [text.strip() if text == "\N{NO-BREAK SPACE}" else text, f"{text}, 2"]
    if text.strip() == text:
        assert loading.load("cgan", overrides).config.data.class_names == expected


@pytest.mark.parametrize("text", [*NASTY, *PADDED])
def test_text_key_on_command_line_is_as_typed(text: str) -> None:
    config = loading.load("cgan", [f"metrics.headline={text}"]).config
    assert config.metrics.headline == (None if text == "null" else text)
    if not text.startswith("~"):
        assert loading.load("cgan", [f"data.root={text}"]).config.data.root == text


@pytest.mark.parametrize("text", [*NASTY, *PADDED])
def test_quoted_text_in_yaml_is_as_written(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    root = "" if text.startswith("~") else f"  root: {quote(text)}\n"
    path.write_text(
        f"family: cgan\ndata:\n{root}  class_names: [{quote(text)}, other]\n"
        f"metrics.headline: {quote(text)}\n",
        encoding="utf-8",
    )
    config = loading.load(str(path)).config
    assert config.data.class_names == [text, "other"]
    assert config.metrics.headline == text
    assert config.data.root == (text if root else "data")


@pytest.mark.parametrize("text", ["no", "on", "0012", "01", "1e3", "12:30", "true", "2026-12-01"])
def test_unquoted_text_in_yaml_stays_text(text: str, tmp_path: Path) -> None:
    """YAML 1.1 would read a boolean, an octal or sexagesimal number, or a date."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"family: cgan\nrun: {{id: {text}}}\ndata: {{class_names: [{text}, null, ~]}}\n"
    )
    config = loading.load(str(path)).config
    assert config.run.id == text
    assert config.data.class_names == [text, "null", "~"]


@pytest.mark.parametrize("text", [*NASTY, *PADDED])
def test_run_config_restores_text(text: str, tmp_path: Path) -> None:
    config = loading.load("cgan").config
    values = {"data.class_names": [text, "other"], "data.root": text, "run.start_from": text}
    config = with_values(config, values)
    RunFolder(tmp_path / "seed0").prepare(with_values(config, {"run.root": str(tmp_path)}), ["x"])
    run = Run(tmp_path / "seed0")
    assert run.config.data.class_names == [text, "other"]
    assert run.values["data.root"] == run.config.run.start_from == text
    # and a reader of YAML 1.1 reads the same
    tree = yaml.safe_load((tmp_path / "seed0" / "config.yaml").read_text(encoding="utf-8"))
    assert tree["data"]["class_names"] == [text, "other"]
    assert tree.keys() - {"format"} == to_dict(config).keys()


@pytest.mark.parametrize("text", [*NASTY, *PADDED])
def test_sweep_value_restores_text(text: str, tmp_path: Path) -> None:
    """In the trials of both backends, W&B's agent formats as ``f"{key}={value}"``."""
    spec = {
        "method": "grid",
        "metric": {"name": "fd_digits"},
        "parameters": {
            "metrics.headline": {"values": [text, "other"]},
            "data.class_names": {"values": [[text, "b"], ["c", "d"]]},
        },
        "command": ["gan_lab", "train", "cgan", "${args_no_hyphens}"],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(plain_yaml.write(spec), encoding="utf-8")
    sweep = sweep_file.load(str(path))
    overrides = format_overrides(sweep.grid_points()[0])
    config = loading.load("cgan", overrides).config
    assert config.data.class_names == [text, "b"]
    assert config.metrics.headline == (None if text == "null" else text)


@pytest.mark.parametrize("text", ["0012", "on", "1e3", "12:30"])
def test_unquoted_sweep_value_of_text_key_stays_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: grid\nmetric: {name: fd_digits}\n"
        f"parameters: {{run.id: {{values: [{text}, b]}}, model.lr_d: {{values: [1e-3, 0.1]}}}}\n"
        "command: [gan_lab, train, cgan, '${args_no_hyphens}']\n"
    )
    sweep = sweep_file.load(str(path))
    assert sweep.grid_points()[0] == {"run.id": text, "model.lr_d": 0.001}
    assert sweep.content["parameters"]["run.id"]["values"] == [text, "b"]


@pytest.mark.parametrize("text", LINE_BREAKS)
def test_line_breaks_are_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"family: cgan\ndata: {{class_names: [{json.dumps(text)}]}}\n")
    with pytest.raises(UserError, match="it must be one line") as raised:
        loading.load(str(path))
    assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(UserError, match=r"run\.id=.* it must be one line"):
        loading.load("cgan", [f"run.id={text}"])


def test_file_names_are_safe_and_distinct() -> None:
    texts = [*NASTY, *PADDED, *(f"{text}/" for text in NASTY), "a_b", "a/b", "", "x" * 201]
    names = [make_file_name(text) for text in texts]
    assert len({unicodedata.normalize("NFC", name) for name in names}) == len(names)
    for name in names:
        assert len(name.encode()) <= 200
        assert name == Path(name).name
        assert name[0] not in ".-"
        assert not set(name) & set("<>:\"/\\|?*$&;()[]{}'` \t#!~")


def test_make_file_name_with_safe_characters_stays_distinct() -> None:
    """Artifacts of W&B have fewer characters than file names, and runs share none."""
    texts = ["a=b", "a-b", "a_b", "ä", "a,b", "x" * 201]
    names = [make_file_name(text, safe="A-Za-z0-9_.-") for text in texts]
    assert len(set(names)) == len(texts)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name) for name in names)


def test_run_ids_of_different_text_differ() -> None:
    """Which characters are replaced must not decide whether two runs share a folder."""
    ids = {
        RunFolder.of(loading.load("cgan", [f"run.start_from={text}"])).id
        for text in ("a/b", "a_b", "a b", "a:b")
    }
    assert len(ids) == 4
    plain = RunFolder.of(loading.load("cgan", ["model.lr_d=0.1"])).id
    assert plain == "lr_d=0.1-seed0"


def test_report_page_shows_text_as_it_is(tmp_path: Path) -> None:
    names = ",".join(quote(text) for text in NASTY)
    folder = written_run(tmp_path / "run", f"data.class_names=[{names}]")
    page = report.write([folder]).read_text(encoding="utf-8")
    for text in NASTY:
        assert str(markupsafe.escape(text)) in page, text
    assert "<b>&amp;" not in page


def test_model_card_quotes_text() -> None:
    """A backtick, a pipe or HTML in a name must not change the structure of the card."""
    for text in NASTY:
        config = {
            "networks": {
                "generator": {
                    "recipe": {"arguments": {"shape": [1, 8, 8], "z_dim": 4}},
                    "inputs": {"z": [4]},
                }
            },
            "scores": {},
            "lab": "1",
            "iteration": 1,
            "experiment": text,
            "command": f"gan-lab train cgan data.root={text}",
            "data": f"9 images of {text}",
        }
        card = model_card.format_card(config, "safetensors")
        # a backslash before punctuation is an escape
        prose = re.sub(r"\\([^\w\s])", r"\1", card)
        assert prose.count(f"\n# {text}\n") == prose.count(f"9 images of {text}.") == 1
        assert not re.search(r"(?<!\\)<b>", card.replace("=<b>", ""))
        fence = "`" * (text.count("`") // 2 + 1)
        assert f"data.root={text}" in card.partition(f" of {fence}")[2].partition(f"{fence}. ")[0]


def test_values_of_every_type_round_trip_through_yaml() -> None:
    tree = {
        "a": [1, -2.5, 1e-7, 1e300, True, False, None, [], {}],
        "b": {"c": list(NASTY), "d": float("inf")},
    }
    assert plain_yaml.resolve(plain_yaml.read(plain_yaml.write(tree))) == tree


def test_every_config_round_trips_through_its_run_folder() -> None:
    for name in loading.experiments():
        config = loading.load(name).config
        text = plain_yaml.write(to_dict(config))
        restored = loading.parse([plain_yaml.resolve(plain_yaml.read(text))])
        assert restored == config, name
        assert dict(list_leaves(restored)) == dict(list_leaves(replace(config)))


def test_optional_type_accepts_null_only_if_unquoted() -> None:
    values = plain_yaml.read("[null, ~, 'null', \"~\", Null]")
    assert [convert(str | None, value) for value in values] == [None, None, "null", "~", None]


@pytest.mark.parametrize("run_id", ["left over", "0012"])
def test_training_reports_a_run_id_of_the_environment(
    run_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUN_ID", run_id)
    monkeypatch.setattr(loop, "load_data", lambda *_: (_ for _ in ()).throw(SystemExit))
    lines: list[str] = []
    monkeypatch.setattr(loop, "announce", lines.append)
    for overrides, expected in (
        ([], [f"run.id={run_id}, from the environment variable RUN_ID"]),
        (["run.id=mine"], []),
    ):
        lines.clear()
        with pytest.raises(SystemExit):
            loop.train(loading.load("gan", [f"run.root={tmp_path}", *overrides]), overrides)
        assert lines == expected
