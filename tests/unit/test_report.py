"""The page of a run: content from complete, unfinished and damaged folders, and no code or link."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan_lab import report
from gan_lab.config import loading
from gan_lab.report import pictures, run_index, run_page
from gan_lab.report.command_lines import command_lines
from gan_lab.report.comparison_section import (
    collect_comparison_values,
    find_differences,
    label_runs,
)
from gan_lab.report.curves import MAX_POINTS, build_charts, build_series
from gan_lab.report.summary import summarize_run
from gan_lab.runs import run_list
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import loop
from gan_lab.utils.errors import UserError
from tests.helpers.pictures import noise
from tests.helpers.reports import HOSTILE, written_run
from tests.integration.test_cli import answer


def data_of(path: Path) -> Any:
    """What the script of a page is given."""
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL
    )
    return json.loads(found, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_verdict_compares_best_and_last_checkpoint(tmp_path: Path) -> None:
    """The verdict names the best checkpoint and how much worse the last one is."""
    made = summarize_run(Run(written_run(tmp_path / "run")))
    assert (made.figure, made.caption) == ("2", "fd_digits, lower is better")
    assert made.sentences == ["Best checkpoint: 128 of 256 images. Last checkpoint: 3, 50% worse."]
    assert [(row.name, row.best, row.last, row.raw, row.reals) for row in made.rows] == [
        ("fd_digits", "2", "3", "2.5", "0.25"),
        ("kd_digits", "0.25 ± 0.12", "", "", "0.25"),
    ]
    assert dict(made.rows[0].protocol) == {
        "extractor": "digits 90be",
        "fakes / reals": "100 / 100",
        "data": "mnist-sample test",
        "chosen on": "validation",
        "weights": "ema best, iteration 8",
    }
    assert made.watched
    assert not made.alerts


def test_verdict_last_checkpoint_can_be_best(tmp_path: Path) -> None:
    """The last checkpoint can be the best one, and a score can be better when higher."""
    folder = written_run(tmp_path / "run")
    state = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(state | {"best_iteration": 16}))
    assert summarize_run(Run(folder)).sentences == [
        "The best checkpoint is the last one, after 256 images."
    ]
    scores = {
        "best": {"label_accuracy": {"value": 0.8, "higher_is_better": True}},
        "last": {"label_accuracy": {"value": 0.6}},
    }
    state |= {"headline": "label_accuracy", "scores": scores, "last": {}}
    (folder / "summary.json").write_text(json.dumps(state))
    made = summarize_run(Run(folder))
    assert made.caption == "label_accuracy, higher is better"
    assert made.sentences[0].endswith("Last checkpoint: 0.6, 25% worse.")


def test_verdict_unfinished_run_reports_progress(
    tmp_path: Path,
) -> None:
    """The verdict on an unfinished run has its progress and the scores measured during training."""
    folder = written_run(tmp_path / "run", "run.images=512", ended=False)
    made = summarize_run(Run(folder))
    assert made.sentences[:2] == ["The run is unfinished: 256 of 512 images are recorded.",
                                  "Best so far: after 128 images. Latest: 3."]  # fmt: skip
    assert made.figure == "2"
    assert not made.watched
    assert "The run is unfinished" in report.write([folder]).read_text()


@pytest.mark.parametrize(
    "missing",
    [
        "summary.json",
        "metrics.csv",
        "timing.csv",
        "samples",
        "reals.png",
        "command.txt",
        "environment.txt",
        "all",
    ],
)
def test_page_without_files_omits_their_sections(missing: str, tmp_path: Path) -> None:
    """A page omits the sections of files that the run folder does not have."""
    folder = written_run(tmp_path / "run")
    for path in [*folder.iterdir()]:
        if path.name == missing or (missing == "all" and path.name != "config.yaml"):
            path.rename(tmp_path / path.name)
    text = report.write([folder]).read_text()
    if missing in ("samples", "all"):
        assert "There is no sample grid yet." in text
    if missing == "all":
        assert "of the training; no score yet" in text
        assert "No values are recorded yet." in text


def test_page_with_truncated_rows_and_nan_is_written(tmp_path: Path) -> None:
    """Truncated rows and NaN or Inf in metrics.csv do not prevent the page."""
    folder = written_run(tmp_path / "run")
    with (folder / "metrics.csv").open("a") as file:
        file.write("17,272,nan,inf,,,,,\n18,288,0.123")
    (folder / "summary.json").write_text('{"images": 2')
    run = Run(folder)
    with pytest.raises(UserError, match=r"summary.json is damaged: .*Delete it"):
        run.summary  # noqa: B018
    with pytest.warns(
        UserWarning, match=r"Writing the page without a damaged file: .*summary.json is damaged"
    ):
        page = report.write([folder])
    curves = {one["name"]: one for chart in data_of(page)["charts"] for one in chart["series"]}
    assert curves["loss_d"]["x"][-2:] == [256, 272]
    assert curves["loss_d"]["y"][-1] is None
    assert curves["loss_g"]["y"][-2:] == [2.0, None]
    assert curves["fd_digits"] == {"name": "fd_digits", "x": [128, 256], "y": [2.0, 3.0], "step": 1}


def test_page_of_older_config_shows_it_unchanged(tmp_path: Path) -> None:
    """The page shows a config that this version cannot parse unchanged."""
    folder = written_run(tmp_path / "run", "model.z_dim=7")
    text = (folder / "config.yaml").read_text().replace("  z_dim: 7", "  z_dim: 7\n  forgotten: 3")
    (folder / "config.yaml").write_text(text)
    found = {one.key: (one.value, one.default) for one in Run(folder).settings if one.differs}
    defaults = loading.family_class("cgan").Config()
    assert found["model.forgotten"] == ("3", None)
    assert found["model.z_dim"] == ("7", str(defaults.z_dim))
    assert found["run.images"] == ("256", "100000")
    assert "data.size" not in found
    (folder / "config.yaml").write_text(text.replace("family: cgan", "family: gone"))
    assert "<td>unknown</td>" in report.write([folder]).read_text()


def test_page_shows_alerts_in_verdict(tmp_path: Path) -> None:
    """The alerts are in the verdict section with their messages."""
    folder = written_run(tmp_path / "run")
    rows = [f'{i},{16 * i},collapse,"All images are alike, {i}."' for i in range(1, 15)]
    (folder / "health.csv").write_text("\n".join(["iteration,images,kind,sentence", *rows]) + "\n")
    made = summarize_run(Run(folder))
    assert (made.alerts[0].images, made.alerts[0].kind) == (16, "collapse")
    assert made.alerts[0].sentence == "All images are alike, 1."
    assert (len(made.alerts), made.more) == (12, 2)
    text = report.write([folder]).read_text()
    assert "14 alerts" in text
    assert "and 2 more, in health.csv" in text


def test_charts_are_grouped_by_kind(tmp_path: Path) -> None:
    """Columns are grouped into charts by their kind."""
    groups = {group: [[one["name"] for one in chart["series"]] for chart in charts]
              for group, charts in build_charts(Run(written_run(tmp_path / "run")))}  # fmt: skip
    assert groups == {
        "Scores": [["fd_digits", "real images"]],
        "Losses": [["loss_d", "loss_g"]],
        "Discriminator": [["d_real", "d_fake"]],
        "Gradients": [["gradient_generator"]],
        "Samples": [["diversity"]],
    }


def test_long_curves_keep_first_and_last_point() -> None:
    """Downsampled curves keep their first and last points."""
    made = build_series("loss", [(float(i), float(i)) for i in range(10 * MAX_POINTS + 7)])
    assert len(made["x"]) <= MAX_POINTS + 1
    assert (made["x"][0], made["x"][-1]) == (0, 10 * MAX_POINTS + 6)
    assert {b - a for a, b in zip(made["x"][:-2], made["x"][1:-1], strict=True)} == {made["step"]}


def test_cost_excludes_pauses(tmp_path: Path) -> None:
    """The training time does not include pauses between starts."""
    run = Run(written_run(tmp_path / "run"))
    assert run.hours * 3600 == pytest.approx(16 / 16 + 240 / 40)
    shown = dict(run_page.collect_values(run)["cost"])
    assert shown["peak memory"] == "1,234 MB"
    assert shown["training images seen"] == "256 of 256"


def mark_make(folder: Path) -> None:
    """Let a run be one that the Makefile has started."""
    path = folder / "command.txt"
    path.write_text(path.read_text().replace("gan-lab ", "make: gan-lab "))


def test_commands_name_run_and_longer_budget(tmp_path: Path) -> None:
    """The commands name the run, and the first one trains for twice as many images."""
    folder = written_run(tmp_path / "my run", "run.images=256", "model.z_dim=7")
    mark_make(folder)
    found = dict(command_lines(Run(folder)))
    assert (
        found["Train to twice as many images"]
        == "make train EXP=cgan ARGS='model.z_dim=7 run.images=512'"
    )
    assert arguments(found["Score the best checkpoint"]) == ["evaluate", str(folder)]
    (folder / "summary.json").unlink()
    found = dict(command_lines(Run(folder)))
    assert found["Resume the training with the same command"].endswith(
        "ARGS='run.images=256 model.z_dim=7'"
    )
    assert "Translate images" not in found
    assert "Translate images" in dict(
        command_lines(Run(written_run(tmp_path / "b", experiment="cyclegan")))
    )


def test_commands_have_the_form_that_started_the_run(tmp_path: Path) -> None:
    """make and gan-lab show the same commands, each in its own form; data from Python a call."""
    folder = written_run(tmp_path / "it's a run", "run.images=256", "model.z_dim=9")
    mine = dict(command_lines(Run(folder)))
    mark_make(folder)
    makes = dict(command_lines(Run(folder)))
    for purpose, line in mine.items():
        program, *words = shlex.split(line)
        assert program == "gan-lab"
        assert arguments(makes[purpose]) == words
    python = written_run(tmp_path / "python", "data.name=python", "model.z_dim=7")
    train = dict(command_lines(Run(python)))["Train to twice as many images"]
    assert train == (
        "gan_lab.train('cgan', data=..., overrides=['model.z_dim=7', 'run.images=512'])"
    )


def test_comparison_names_the_runs_that_it_does_not_play(tmp_path: Path) -> None:
    """Translators and points have a player on their own page alone."""
    folders = [written_run(tmp_path / e, experiment=e) for e in ("cgan", "cyclegan", "ring")]
    found = re.findall('id="unplayed">(.*?)</p>', report.render_runs(folders))
    assert [re.sub(":.*", "", text) for text in found] == [
        "The page of each run plays cyclegan, ring"
    ]
    others = [written_run(tmp_path / e, experiment=e) for e in ("gan", "dcgan")]
    assert "unplayed" not in report.render_runs(others)


def test_every_command_of_page_and_index_has_the_form_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After make, `gan-lab` alone is not found: the player and the index name its path too."""
    folder = written_run(tmp_path / "cgan" / "seed0", "run.images=256")
    (folder / "checkpoints").mkdir()
    listed = run_list.list_runs(tmp_path)

    def collect_programs() -> set[str]:
        values = run_page.collect_values(Run(folder))
        index = re.findall('data-command="([^"]+)"', run_index.render_index(listed, tmp_path))
        assert len(index) == 2
        return {line.split()[0] for line in (values["sample"], values["export"], *index)}

    assert collect_programs() == {"gan-lab"}
    mark_make(folder)
    monkeypatch.setenv("GAN_LAB_STARTED_BY", "make")
    (program,) = collect_programs()
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    variables = dict(re.findall(r"^(VENV|LAB) := (.*)$", makefile, re.MULTILINE))
    assert program == variables["LAB"].replace("$(VENV)", variables["VENV"])


@pytest.mark.parametrize("photos", ["my photos", "photos", "anna's", "$HOME", 'a "b" (1)', "a;b"])
def test_resume_command_keeps_overrides_through_make(
    tmp_path: Path, photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resume command passes the overrides of the training through make and the shell."""
    monkeypatch.setenv("GAN_LAB_STARTED_BY", "make")
    words = [f"data.root={tmp_path / photos}", "model.betas=[0.5, 0.9]"]
    run = RunFolder(tmp_path / photos)
    run.prepare(loading.load("cgan", words[:1]).config, ["train", "cgan", *words])
    command = dict(command_lines(Run(run.path)))["Resume the training with the same command"]
    assert arguments(command) == ["train", "cgan", *words]


def test_published_page_contains_no_absolute_path(
    tmp_path: Path,
) -> None:
    """A published page contains no absolute path, also if files of the run are missing."""
    photos = tmp_path / "my photos"
    folder = written_run(tmp_path / "runs" / "mine" / "r", f"data.root={photos}", ended=False)
    (folder / "command.txt").write_text(
        f"gan-lab train {tmp_path}/mine.yaml 'data.root={photos}'\n"
    )
    (folder / "environment.txt").write_text(f"executable {tmp_path}/bin/python\n")
    run = Run(folder).published()
    assert run.command == ["train", "mine.yaml", "data.root=my photos"]
    assert (run.shown_path, run.experiment, run.environment) == (
        "runs/mine/r",
        "mine.yaml",
        ["executable python"],
    )
    assert str(tmp_path) not in run_page.write([run], tmp_path / "page.html").read_text()


def arguments(command: str) -> list[str]:
    """The arguments that the program gets by the shell, make and the Makefile."""
    program = "READY= LAB=\"printf '%s\\n'\""
    cwd, env = Path(__file__).parents[2], {"PATH": os.environ["PATH"]}
    return subprocess.check_output(
        f"{command} {program}", shell=True, cwd=cwd, env=env, text=True
    ).splitlines()


def test_page_escapes_values_of_run(tmp_path: Path) -> None:
    """Every value of a run is escaped in the page."""
    folders = [
        written_run(tmp_path / name, f"data.root={HOSTILE}", f"run.root={name}") for name in "ab"
    ]
    for folder in folders:
        state = json.loads((folder / "summary.json").read_text())
        names = {
            "experiment": HOSTILE,
            "headline": HOSTILE,
            "data": HOSTILE,
            "scores": {"best": {HOSTILE: {"value": 1.0}}},
        }
        (folder / "summary.json").write_text(json.dumps(state | names))
        (folder / "health.csv").write_text(
            f"iteration,images,kind,sentence\n1,16,{HOSTILE},{HOSTILE}\n"
        )
        (folder / "environment.txt").write_text(f"python {HOSTILE}\n")
        (folder / "metrics.csv").write_text(f"iteration,images,{HOSTILE}\n1,16,1.0\n")
        (folder / "command.txt").write_text(f"gan-lab train cgan {HOSTILE}\n")
    for path in (report.write([folders[0]]), report.write(folders, tmp_path / "both.html")):
        text = path.read_text()
        assert len(re.findall(r"<script", text)) == 2
        assert len(re.findall(r"</script", text)) == 2
        assert "<img src=x" not in text
        assert "alert(1)" in text  # it is shown, as text
        assert HOSTILE in str(data_of(path)["charts"])


def test_page_loads_no_external_resource(tmp_path: Path) -> None:
    """A page is self-contained."""
    folders = [written_run(tmp_path / name, f"run.seed={seed}") for seed, name in enumerate("ab")]
    for path in (report.write([folders[0]]), report.write(folders, tmp_path / "both.html")):
        text = path.read_text()
        references = re.findall(r"""\b(?:src|href|action|srcset)="([^"]*)""", text) + re.findall(
            r"url\(([^)]*)", text
        )
        assert {reference.partition(",")[0][:11] for reference in references} >= {"data:image/"}
        assert [one for one in references if not one.startswith(("data:", "#"))] == []
        assert "@import" not in text
        assert set(re.findall(r"https?://[\w./]*", text)) == {
            "http://www.w3.org/2000/svg"
        }  # the name of SVG
        assert "default-src &#39;none&#39;" in text


def test_page_size_is_limited_for_large_grids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large grids are compressed, so that the size of a page is limited."""
    folder = written_run(tmp_path / "run")
    for i in range(1, 9):
        noise(120, 120, seed=i).save(folder / "samples" / f"{100 * i:09d}.png")
    (folder / "samples" / "000000400.png").write_bytes(b"torn")
    monkeypatch.setattr(pictures, "MAX_BYTES", 100_000)
    monkeypatch.setattr(pictures, "MAX_GRIDS", 9)
    made = run_page.collect_values(Run(folder))
    assert sum(len(frame) for frame in made["frames"]) < 4 / 3 * 100_000 + 1000
    assert made["seen"][0] == 0
    assert made["seen"][-1] == 800
    assert (
        made["note"]
        == "9 of 13 grids, evenly spaced; large ones compressed as WebP; 1 could not be read"
    )
    assert all(a < b for a, b in zip(made["seen"], made["seen"][1:], strict=False))
    assert made["note"] in report.write([folder]).read_text()


def test_labels_contain_differences_of_runs(tmp_path: Path) -> None:
    """Labels of compared runs contain the values in which they differ."""
    words = [
        ("run.seed=0",),
        ("run.seed=1",),
        ("run.seed=1", "model.z_dim=7", "log.log_every_images=7"),
    ]
    made = [Run(written_run(tmp_path / str(i), *each)) for i, each in enumerate(words)]
    other = Run(written_run(tmp_path / "other", experiment="gan"))
    assert label_runs([*made, other]) == [
        "cgan seed=0",
        "cgan seed=1",
        "cgan seed=1 z_dim=7",
        "gan",
    ]
    assert dict(find_differences(made)) == {
        "run.seed": ["0", "1", "1"],
        "model.z_dim": ["64", "64", "7"],
    }
    assert label_runs([made[0], made[0]]) == ["cgan (1)", "cgan (2)"]


def test_comparison_has_row_per_experiment_and_curve_per_run(
    tmp_path: Path,
) -> None:
    """A comparison has a row for each experiment and a curve for each run."""
    folders = [written_run(tmp_path / f"{e}{s}", f"run.seed={s}", experiment=e, distance=d + s / 10)
               for e, d in (("cgan", 2.0), ("gan", 5.0)) for s in (0, 1)]  # fmt: skip
    made = collect_comparison_values([Run(folder) for folder in folders])
    assert [(row.name, len(row.runs)) for row in made["table"].rows] == [("cgan", 2), ("gan", 2)]
    (chart,) = made["data"]["charts"]
    assert [one["y"] for one in chart["series"]] == [
        *([d, pytest.approx(1.5 * d)] for d in (2.0, 2.1, 5.0, 5.1)),
        [0.25, 0.25],  # the line of real images
    ]
    path = report.write(folders)
    assert path.parent == tmp_path.parent
    assert re.fullmatch(r"comparison-.*-[0-9a-f]{8}\.html", path.name)
    others = report.write(folders[1:])
    assert others != path
    others.unlink()
    assert "2.05 ± 0.071" in path.read_text()
    path.unlink()


def test_comparison_without_table_gives_reason(tmp_path: Path) -> None:
    """Runs without a common table are still compared in charts, and the page gives the reason."""
    folders = [written_run(tmp_path / name) for name in "ab"]
    text = report.write(folders, tmp_path / "both.html").read_text()
    assert "These runs cannot be compared in one table" in text
    assert "are the same experiment with the same seed" in text
    assert text.count("<figure>") == 2
    assert (
        report.write([folders[0], folders[0] / ".." / "a"]).name == "report.html"
    )  # one run, named twice


def test_report_of_other_folder_is_one_line_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not a run is a one-line error."""
    assert answer(capsys, monkeypatch, "report", str(tmp_path)) == (
        2,
        f"error: {tmp_path} is not a run folder: it has no config.yaml. "
        "Name a folder such as runs/<experiment>/<run id>.",
    )
    (tmp_path / "config.yaml").write_text("model: {")
    code, error = answer(capsys, monkeypatch, "report", str(tmp_path))
    assert (code, len(error.splitlines())) == (2, 1)
    assert f"{tmp_path / 'config.yaml'} is damaged" in error
    with pytest.raises(ValueError, match="A report needs a run"):
        report.write([])


def test_report_error_does_not_fail_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the report is a warning at the end of a training."""
    built = SimpleNamespace(
        run=RunFolder(tmp_path), name="gan", family=SimpleNamespace(iteration=3, device="cpu"),
        config=loading.load("gan").config,
        data=SimpleNamespace(facts=SimpleNamespace(about="digits")),
        evaluation=SimpleNamespace(headline=None, scores={}, best_at=3, evaluator=SimpleNamespace(
            setting=SimpleNamespace(split="validation"), compute_references=lambda device: {})),
        health=SimpleNamespace(alerts=[]), images=192, trackers=[],
    )  # fmt: skip
    monkeypatch.setattr(loop, "evaluate_all", lambda *_: None)

    def fail(folders: list[Path]) -> Path:
        raise RuntimeError("no space")

    monkeypatch.setattr(report.run_page, "write", fail)
    with pytest.warns(UserWarning, match="The report was not written: no space"):
        loop.conclude(built, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["live", "old", "missing", "recent"])
def test_finished_run_replaces_outdated_page(state: str, tmp_path: Path) -> None:
    """A training was killed between its evaluation and its report; the command is repeated."""
    words = [f"run.root={tmp_path}", "run.id=r"]
    experiment = loading.load("cgan", ["data.batch_size=16", "run.images=256", *words])
    folder = written_run(tmp_path / "cgan" / "r", *words)
    page = folder / "report.html"
    training = run_page.Training(128, 256, "Training", "", 30.0)
    report.write_live(folder, None, training)
    assert report.is_live(folder)
    if state != "live":
        report.write([folder])
    if state == "old":
        os.utime(page, (1000, 1000))
    if state == "missing":
        page.unlink()
    inode = page.stat().st_ino if page.exists() else None
    assert loop.train(experiment, words) == 0
    assert not report.is_live(folder)
    assert (page.stat().st_ino == inode) == (state == "recent")
