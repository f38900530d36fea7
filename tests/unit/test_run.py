"""``Run`` reads its folder, restores and samples the generator, and names damaged files."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import gan_lab
from gan_lab.config.loading import load
from gan_lab.report import pictures
from gan_lab.runs.alert import Alert
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.runs.results import Score
from gan_lab.runs.run import Run, open_run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.studies.measures import Arm
from gan_lab.utils.errors import UserError
from tests.helpers.folders import run_folder
from tests.helpers.reports import HOSTILE, PROTOCOL, written_run
from tests.integration.test_cli import answer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The folder of a class-conditional run with checkpoints whose EMA and raw weights differ."""
    return run_folder("cgan", tmp_path_factory.mktemp("trained"), data_root)


def edit_summary(folder: Path, **changes: object) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -------------------------------------------------------------------------------------------------
# what the files hold


def test_scores_equal_the_summary(tmp_path: Path) -> None:
    run = Run(written_run(tmp_path / "run"))
    assert run.scores == {
        "fd_digits": Score(2.0, None, False, PROTOCOL),
        "kd_digits": Score(0.25, 0.125, None, PROTOCOL),
    }
    assert run.scores["kd_digits"].spread == 0.125
    assert str(run.scores["kd_digits"]) == "0.25 ± 0.12"
    assert run.scores_of("last") == {"fd_digits": Score(3.0, None, False, PROTOCOL)}
    assert run.scores_of("raw")["fd_digits"].value == 2.5


def test_score_direction_prefers_summary(tmp_path: Path) -> None:
    """The direction comes from summary.json, and from scores.json if it is missing there."""
    folder = written_run(tmp_path / "run")
    entry = {"value": 1.0, "higher_is_better": True, "note": "few images"}
    edit_summary(folder, scores={"best": {"fd_digits": entry}})
    run = Run(folder)
    assert run.scores["fd_digits"] == Score(1.0, None, True, {}, "few images")
    assert run.higher_is_better == {"fd_digits": True}
    assert run.describe_direction("fd_digits") == "higher is better"


def test_history_equals_metrics_csv(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    history = Run(folder).history
    assert history["loss_d"] == [(int(row["images"]), float(row["loss_d"])) for row in rows]
    assert history["fd_digits"] == [(128, 2.0), (256, 3.0)]
    assert history.keys() == rows[0].keys() - {"iteration", "images"}


def test_alerts_equal_health_csv_and_without_it_the_summary(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    row = {"kind": "collapse", "iteration": 2, "images": 32, "sentence": "From the summary."}
    edit_summary(folder, health=[row])
    assert Run(folder).alerts == [Alert("collapse", 2, 32, "From the summary.")]
    (folder / "health.csv").write_text(
        'kind,iteration,images,sentence\ncollapse,5,80,"Alike, all."\ndiverged,x,nan,'
    )
    assert Run(folder).alerts == [
        Alert("collapse", 5, 80, "Alike, all.")
    ]  # the last line was cut off
    with (folder / "health.csv").open("a") as file:
        file.write("Inf.\n")
    assert Run(folder).alerts[1] == Alert("diverged", 0, 0, "Inf.")  # damaged numbers hide no alert


def test_watched_is_false_without_health_checks(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run", ended=False)
    assert (Run(folder).watched, Run(folder).alerts) == (False, [])
    (folder / "health.csv").write_text("kind,iteration,images,sentence\n")
    assert (Run(folder).watched, Run(folder).alerts) == (True, [])


def test_config_and_names_are_the_recorded_ones(tmp_path: Path) -> None:
    run = open_run(str(written_run(tmp_path / "mine", "model.betas=[0.1,0.2]")))
    assert (run.id, run.experiment, run.name) == ("mine", "cgan", "cgan / mine")
    assert run.values["model.betas"] == [0.1, 0.2]
    assert (
        run.config
        == load("cgan", ["data.batch_size=16", "run.images=256", "model.betas=[0.1,0.2]"]).config
    )
    assert (run.images, run.budget_images, run.best_images) == (256, 256, 128)


def test_status_follows_the_budget_and_the_scores(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    assert Run(folder).status == "finished"
    edit_summary(folder, scores={"best": {}})
    assert Run(folder).status == "unscored"
    edit_summary(folder, images=255)
    assert Run(folder).status == "unfinished"
    (folder / "summary.json").unlink()
    assert Run(folder).status == "unfinished"
    assert Run(folder).scores == {}


def test_checkpoints_leave_unfinished_files_out(trained: Path) -> None:
    (trained / "checkpoints" / ".best.ckpt").touch()
    assert Run(trained).checkpoints == {
        name: trained / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")
    }
    (trained / "checkpoints" / ".best.ckpt").unlink()


# -------------------------------------------------------------------------------------------------
# verbs


def test_restore_loads_the_ema_weights_and_live_the_raw_ones(trained: Path) -> None:
    restored = Run(trained).restore()
    best = read_checkpoint(trained / "checkpoints" / "best.ckpt")
    last = read_checkpoint(trained / "checkpoints" / "last.ckpt")
    name = next(key for key, value in best["ema"]["generator"].items() if value.is_floating_point())

    def weights() -> torch.Tensor:
        return restored.family.generator.state_dict()[name].cpu()  # type: ignore[operator, union-attr]

    assert torch.equal(weights(), best["ema"]["generator"][name])
    assert not restored.family.training
    assert not any(parameter.requires_grad for parameter in restored.family.parameters())
    assert restored.load("last") == 2
    assert torch.equal(weights(), last["ema"]["generator"][name])
    assert restored.load("raw") == 2
    assert torch.equal(weights(), last["state_dict"][f"generator.{name}"])
    assert not torch.equal(last["state_dict"][f"generator.{name}"], last["ema"]["generator"][name])


def test_restore_takes_loaded_data_and_refuses_other_data(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(trained)
    data = run.restore(weights=None).data
    monkeypatch.setattr(
        "gan_lab.data.load", lambda *_, **__: pytest.fail("the data were read again")
    )
    assert run.restore(data=data).data is data
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    (other / "data.txt").write_text("others\n")
    with pytest.raises(UserError, match=r"have changed since it began: fingerprint others, now "):
        Run(other).restore(data=data)


def test_restore_with_images_in_an_unused_root_warns(trained: Path, tmp_path: Path) -> None:
    """A run of a generated set stays usable next to images."""
    run = Run(shutil.copytree(trained, tmp_path / "run"))
    run.values |= {"data.name": "toy", "data.root": str(tmp_path), "data.size": 1}
    (tmp_path / "1.png").touch()
    with (
        pytest.warns(UserWarning, match="data.name=toy is not read from data.root"),
        pytest.raises(UserError, match="have changed since it began"),
    ):
        run.restore(weights=None)


def test_restore_refuses_overrides_that_make_another_run(trained: Path) -> None:
    with pytest.raises(UserError, match=r"run: model.z_dim=3. Override only data.root"):
        Run(trained).restore(["model.z_dim=3"])
    restored = Run(trained).restore(["metrics.max_features_kept=50"], weights=None)
    assert restored.config.metrics.max_features_kept == 50
    assert restored.run.config.metrics.max_features_kept != 50


def test_sample_depends_on_label_and_seed(trained: Path) -> None:
    """Samples equal those of the generator and depend on label and seed."""
    run = Run(trained)
    images = run.sample(4, label=3, seed=5)
    assert torch.equal(images, gan_lab.load_generator(trained, exact=True)(4, 3, 5))
    assert float(images.abs().max()) <= 1
    assert not torch.equal(images, run.sample(4, label=4, seed=5))
    assert not torch.equal(images, run.sample(4, label=3, seed=6))
    network = load_ema_networks(trained).networks["generator"].state_dict()
    for name, value in run.generator("cpu").network.state_dict().items():
        assert torch.equal(value, network[name])


def test_sample_grid_shows_the_samples_ten_in_a_row(trained: Path) -> None:
    run = Run(trained)
    picture = np.asarray(run.sample_grid(20, seed=1))
    height, width = run.sample(1).shape[-2:]
    assert picture.shape[:2] == (2 * (height + 2) + 2, 10 * (width + 2) + 2)
    second = (run.sample(2, seed=1)[1, 0] + 1) * 127.5
    shown = picture[2 : 2 + height, width + 4 : 2 * width + 4].reshape(height, width, -1)[..., 0]
    assert np.abs(shown - second.numpy()).max() <= 1


def test_report_writes_the_page_of_this_run(tmp_path: Path) -> None:
    run = Run(written_run(tmp_path / "run"))
    assert run.report() == run.path / "report.html"
    assert run.name in run.report(str(tmp_path / "out" / "page.html")).read_text()
    assert (tmp_path / "out" / "page.html").is_file()


def test_repr_html_shows_headline_scores_grid_alerts_and_path(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run", distance=2.375)
    (folder / "health.csv").write_text(
        "kind,iteration,images,sentence\ncollapse,5,80,All images are alike.\n"
    )
    page = Run(folder)._repr_html_()
    assert ">2.375</strong> fd_digits, lower is better" in page
    assert "<td>0.25 ± 0.12</td>" in page
    assert pictures.encode_data_uri(Run(folder).grids[-1][1].read_bytes()) in page
    assert "<strong>collapse</strong> after 80 images: All images are alike." in page
    assert str(folder) in page
    (folder / "health.csv").write_text("kind,iteration,images,sentence\n")
    assert "No alert." in Run(folder)._repr_html_()


def test_repr_html_escapes_the_run_and_skips_a_torn_grid(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    edit_summary(
        folder, headline=HOSTILE, scores={"best": {HOSTILE: {"value": 1.0, "note": HOSTILE}}}
    )
    newest, older = Run(folder).grids[-1][1], Run(folder).grids[-2][1]
    newest.write_bytes(b"torn")
    page = Run(folder)._repr_html_()
    assert "<script" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert pictures.encode_data_uri(older.read_bytes()) in page


def test_published_has_no_absolute_path(tmp_path: Path) -> None:
    photos = tmp_path / "my photos"
    folder = written_run(
        tmp_path / "runs" / "mine" / "r", f"data.root={photos}", f"run.root={tmp_path / 'runs'}"
    )
    (folder / "command.txt").write_text(
        f"gan-lab train {tmp_path}/mine.yaml 'data.root={photos}'\n"
    )
    (folder / "environment.txt").write_text(f"executable {tmp_path}/bin/python\n")
    edit_summary(folder, data=f"images of {photos}", experiment=f"{tmp_path}/mine.yaml")
    run = Run(folder)
    view = run.published()
    everything = [view.shown_path, view.name, view.data_description, view.values, view.command,
                  view.environment, view.summary, view.settings, view._repr_html_()]  # fmt: skip
    assert str(tmp_path) not in repr(everything)
    assert view.command == ["train", "mine.yaml", "data.root=my photos"]
    assert view.data_description == "images of my photos"
    assert (view.scores, view.history, view.path) == (run.scores, run.history, folder)
    assert run.values["data.root"] == str(photos)  # the run itself keeps its paths


def test_published_has_no_folder_of_a_relative_path(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "r", "data.root=../clients/alice/", "run.root=shared/bob/runs")
    (folder / "command.txt").write_text("gan-lab train cgan data.root=../clients/old/alice\n")
    edit_summary(folder, data="images of ../clients/alice")
    view = Run(folder).published()
    everything = [view.values, view.command, view.summary, view.settings, view._repr_html_()]
    assert not re.search("clients|shared", repr(everything))
    assert view.command == ["train", "cgan", "data.root=alice"]
    assert view.data_description == "images of alice"


# -------------------------------------------------------------------------------------------------
# damage


@pytest.mark.parametrize(
    "text",
    [
        '{"images": 2',
        "",
        "[]",
        '{"scores": 3}',
        '{"scores": {"best": {"fd": {}}}}',
        '{"images": "many"}',
        b"\xff\xfe",
    ],
)
def test_damaged_summary_is_named_in_one_sentence(tmp_path: Path, text: str | bytes) -> None:
    folder = written_run(tmp_path / "run")
    path = folder / "summary.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    run = Run(folder)
    with pytest.raises(UserError, match=r"summary\.json is damaged: .*Delete it") as raised:
        run.scores  # noqa: B018
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(run.history["loss_d"]) == 16  # the other files are still read
    assert "summary.json is damaged" in run._repr_html_()
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        RunFolder(folder).finished(run.config)


def test_damaged_summary_ends_a_command_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written_run(tmp_path / "run")
    (folder / "summary.json").write_text("{")
    code, error = answer(capsys, monkeypatch, "compare", str(folder))
    assert (code, len(error.splitlines())) == (2, 1)
    assert f"error: {folder / 'summary.json'} is damaged" in error


def test_torn_metrics_csv_keeps_its_complete_rows(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    with (folder / "metrics.csv").open("a") as file:
        file.write("17,nan,1.0\n18,288,nan,inf,7,extra,8,9,10,11,12\n19,304,0.5")
    history = Run(folder).history
    assert [images for images, _ in history["loss_d"]] == [16 * i for i in range(1, 17)] + [288]
    assert history["loss_d"][-1][1] != history["loss_d"][-1][1]  # NaN
    assert Run(folder).images == 288


def test_damaged_scores_json_is_named(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    (folder / "scores.json").write_text("{")
    with pytest.raises(UserError, match=r"scores\.json is damaged: .*Delete it"):
        Run(folder).higher_is_better  # noqa: B018
    with pytest.warns(
        UserWarning, match=r"Writing the page without a damaged file: .*scores\.json is damaged"
    ):
        assert "fd_digits" in Run(folder).report().read_text()


def test_folder_that_is_no_run_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"nothing is not a run folder: there is no such folder. Name a folder such as",
    ):
        open_run(tmp_path / "nothing")
    with pytest.raises(
        UserError, match=r"is not a run folder: it has no config.yaml. Name a folder such as"
    ):
        open_run(tmp_path)
    for text in ("model: {", "[1, 2]", "- x", "a: {b"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(UserError, match=r"config\.yaml is damaged: .") as raised:
            open_run(tmp_path)
        assert "\n" not in str(raised.value)


def test_config_that_does_not_parse_is_still_recorded(tmp_path: Path) -> None:
    folder = written_run(tmp_path / "run")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("batch_size: 16", "batch_size: many"))
    run = Run(folder)
    assert run.values["data.batch_size"] == "many"
    assert run.scores["fd_digits"].value == 2.0
    with pytest.raises(
        UserError, match=r"config\.yaml: data\.batch_size=many: it must be a whole number"
    ):
        run.config  # noqa: B018
    assert ">2</strong>" in run._repr_html_()


def test_arm_argument_that_is_no_number_is_named() -> None:
    arm = Arm("far", ["spread=wide", "most=3"], 0, lambda words: Path())
    assert arm.number("most") == 3
    assert arm.number("gp", default=0.5) == 0.5
    with pytest.raises(UserError, match=r"arm far: spread=wide. Set a number"):
        arm.number("spread")
    with pytest.raises(UserError, match=r"arm far: loss= is missing"):
        arm.text("loss")


def test_unknown_weights_name_valid_choices(trained: Path, tmp_path: Path) -> None:
    """A typing error is not a run without training."""
    with pytest.raises(UserError, match=r"lsat\.ckpt\. Weights are best, last, raw, or a number"):
        load_ema_networks(trained, "lsat")
    with pytest.raises(UserError, match="Train the run first"):
        load_ema_networks(written_run(tmp_path / "run"), "lsat")
