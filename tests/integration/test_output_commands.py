"""Commands that take an output path: no file of the user changes, and output is recognized."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from gan_lab import cli
from gan_lab.cli.paths import parse_png
from gan_lab.config import loading
from gan_lab.config.schema import list_leaves
from gan_lab.data import image_files
from gan_lab.inference import projection
from gan_lab.inference.export import export
from gan_lab.metrics.image_sets import ImageSet
from gan_lab.report import live
from gan_lab.report.live import describe_run
from gan_lab.runs.results import read_summary
from gan_lab.sensitivity import detection
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import MANIFEST_NAME, find_outputs, list_visible
from tests.helpers.folders import run_folder
from tests.helpers.pictures import noise
from tests.unit.test_output import snapshot

# arguments of each command with an output path in the folder {out}, which is given by the user
COMMANDS: dict[str, str] = {
    "sample --out": "sample {gan} -n 2 --out {out}/a.png",
    "sample --folder": "sample {gan} -n 2 --folder {out}",
    "sample --video": "sample {gan} -n 1 --video {out}/a.gif",
    "reconstruct": "reconstruct {vaegan} -n 2 --out {out}/a.png",
    "interpolate": "interpolate {vaegan} -n 2 --steps 2 --out {out}/a.png",
    "translate": "translate {pix2pix} {photos} {out}",
    "project": "project {vaegan} -n 1 --out {out}/a.png",
    "directions": "directions {gan} -n 100 --count 2 --labels none --folder {out}",
    "export": "export {gan} --out {out}",
    "publish": "publish {gan} --to {out}",
    "report": "report {gan} --out {out}/a.html",
    "report of two": "report {vaegan} {pix2pix} --out {out}/a.html",
    "score": "score {photos} {photos} --metrics kid --extractor random --out {out}/a.json",
}
# commands that choose the names below run.root themselves, and replace their own files
UNDER_ROOT: dict[str, str] = {
    "slurm": "slurm gan run.root={out}",
    "inspect-data": "inspect-data gan run.root={out} data.source=sample data.root={data}",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    """Return run folders by family, photos, and the data."""
    root = tmp_path_factory.mktemp("runs")
    families = ("gan", "vaegan", "pix2pix")
    folders = {name: run_folder(name, root / name, data_root) for name in families}
    # the last grid, which a published folder shows
    (folders["gan"] / "samples").mkdir()
    noise().save(folders["gan"] / "samples" / "000000032.png")
    (root / "photos").mkdir()
    for i in range(8):
        noise(28, 28, seed=i).save(root / "photos" / f"{i}.png")
    return {**folders, "photos": root / "photos", "data": data_root}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Project with two steps, write pages without a generator and videos of two frames."""
    project = projection.project

    def project_briefly(generator: Any, image: Any, label: Any, encoded: Any, **_: Any) -> Any:
        return project(generator, image, label, encoded, starts=1, steps=2)

    monkeypatch.setattr(projection, "project", project_briefly)
    monkeypatch.setattr(live, "describe_run", lambda *_, **__: (None, ""))
    film = "gan_lab.inference.sampling.TrainedGenerator.film"
    monkeypatch.setattr(film, lambda self, n, *_, **__: iter([self(n), self(n, seed=1)]))


def call(
    command: str, out: Path, runs: dict[str, Path], capsys: Any, monkeypatch: Any
) -> SimpleNamespace:
    """Run a command in this process; return its exit code and its lines on stderr."""
    words = [word.format(out=out, **runs) for word in command.split()]
    monkeypatch.setattr(sys, "argv", ["gan-lab", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as exited:
        cli.main()
    return SimpleNamespace(code=exited.value.code or 0, errors=capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_command_never_replaces_foreign_files(
    name: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Foreign and edited files stay with and without --overwrite; own output goes with it."""

    def run(folder: Path, *options: str) -> SimpleNamespace:
        command = " ".join([COMMANDS[name], *options])
        return call(command, folder, runs, capsys, monkeypatch)

    own, foreign = tmp_path / "own", tmp_path / "my {photos} $HOME"
    assert run(own).code == 0
    written = sorted(list_visible(own))
    assert written
    assert set(written) == find_outputs(own)

    # the user's files have the names of the output
    foreign.mkdir()
    for each in written:
        (foreign / each).write_text(f"by the user: {each}")
    before = snapshot(foreign)
    for options in ([], ["--overwrite"]):
        refused = run(foreign, *options)
        assert refused.code == 2
        assert len(refused.errors) == 1
        assert any(each in refused.errors[0] for each in written)
        assert snapshot(foreign) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([foreign.name, "own"])

    # earlier output
    before = snapshot(own)
    refused = run(own)
    assert refused.code == 2
    assert "--overwrite" in refused.errors[0]
    assert snapshot(own) == before
    assert run(own, "--overwrite").code == 0
    assert sorted(list_visible(own)) == written

    # output that the user has edited
    with (own / written[-1]).open("ab") as file:
        file.write(b"a line of the user")
    before = snapshot(own)
    refused = run(own, "--overwrite")
    assert refused.code == 2
    assert written[-1] in refused.errors[0]
    assert snapshot(own) == before


@pytest.mark.parametrize("name", UNDER_ROOT)
def test_command_below_root_keeps_edited_files(
    name: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command replaces what it wrote below run.root, until the user has edited it."""
    out = tmp_path / "my_runs"
    for _ in range(2):
        assert call(UNDER_ROOT[name], out, runs, capsys, monkeypatch).code == 0
    (path,) = [path for path in out.rglob("[!.]*") if path.is_file()]
    with path.open("ab") as file:
        file.write(b"a line of the user")
    before = snapshot(out)
    refused = call(UNDER_ROOT[name], out, runs, capsys, monkeypatch)
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert path.name in refused.errors[0]
    assert snapshot(out) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_command_expands_home(
    name: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tilde that the shell has left is the home folder, in inputs and outputs."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    for family, folder in runs.items():
        (home / family).symlink_to(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    inputs = {family: Path(f"~/{family}") for family in runs}
    command = COMMANDS[name].replace("--out ", "--out=").replace("--to ", "--to=")
    assert call(command, Path("~/a/b"), inputs, capsys, monkeypatch).code == 0
    assert list_visible(home / "a" / "b")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("target", ["file", "file/deeper", "dead/deeper"])
@pytest.mark.parametrize("name", ["sample --folder", "translate", "export", "publish"])
def test_command_with_a_file_as_folder_leaves_nothing(
    name: str, target: str, runs: dict[str, Path], tmp_path: Path, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A file where the folder should be is one line, and nothing remains."""
    (tmp_path / "file").write_text("by the user")
    (tmp_path / "dead").symlink_to("nowhere")
    before = snapshot(tmp_path)
    refused = call(COMMANDS[name], tmp_path / target, runs, capsys, monkeypatch)
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert target.partition("/")[0] in refused.errors[0]
    assert snapshot(tmp_path) == before


def test_export_into_linked_or_empty_folder_replaces_its_own(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """A link to a folder stays a link; files of another format of the earlier export go."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / ".DS_Store").touch()
    export(runs["gan"], tmp_path / "link", "torch")
    assert "generator.pt2" in list_visible(tmp_path / "real")
    export(runs["gan"], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in (tmp_path / "real").iterdir()} == {
        ".DS_Store", "README.md", "config.json", "generator.safetensors"
    }  # fmt: skip


def test_export_keeps_hidden_folder_of_similar_name(runs: dict[str, Path], tmp_path: Path) -> None:
    """An export to 'config' leaves '.config' alone: no temporary name is one of the user's."""
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config" / "settings").write_text("by the user")
    export(runs["gan"], tmp_path / "config")
    assert (tmp_path / ".config" / "settings").read_text() == "by the user"


@pytest.mark.parametrize(
    "name", ["sample --out", "sample --folder", "translate", "publish", "project"]
)
def test_output_among_photos_is_no_training_data(
    name: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of the lab among photos are skipped and counted; alone they are the data."""
    photos = tmp_path / "photos"
    assert call(COMMANDS[name], photos / "made", runs, capsys, monkeypatch).code == 0
    made = [path for path in (photos / "made").iterdir() if path.suffix == ".png"]
    assert image_files.find_images(photos) == sorted(made)
    noise(seed=1).save(photos / "mine.png")
    noise(seed=2).save(photos / "made" / "mine too.png")
    with pytest.warns(UserWarning, match=rf": {len(made)} written by gan-lab \(.*made\)$"):
        found = image_files.find_images(photos)
    assert {path.name for path in found} == {"mine.png", "mine too.png"}
    assert len(image_files.find_images(photos, with_outputs=True)) == len(made) + 2
    # the user's picture of an output's name is a photo
    with Image.open(made[0]) as picture:
        picture.rotate(90, expand=True).save(made[0])
    if len(made) > 1:
        with pytest.warns(UserWarning, match=rf": {len(made) - 1} written by gan-lab \(.*made\)$"):
            found = image_files.find_images(photos)
    else:
        found = image_files.find_images(photos)
    assert made[0] in found


def test_sample_folder_overwritten_by_fewer_has_no_old_images(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that reads the folder finds the new images alone."""
    for n in (3, 2):
        command = f"sample {{gan}} -n {n} --folder {{out}} --overwrite"
        assert call(command, tmp_path, runs, capsys, monkeypatch).code == 0
        assert len(list_visible(tmp_path)) == n
    assert (tmp_path / MANIFEST_NAME).is_file()


@pytest.mark.parametrize("keys", ["data.root=~/d", "run.root=~/r", "run.start_from=~/s"])
def test_load_expands_home_in_path_keys(
    keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tilde in a key is the home folder, on the command line and in a file of the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    key, _, path = keys.partition("=")
    expected = str(tmp_path / path.removeprefix("~/"))
    (tmp_path / "mine.yaml").write_text(f"family: gan\n{key}: {path}\n")
    for loaded in (loading.load("gan", [keys]), loading.load("~/mine.yaml")):
        assert dict(list_leaves(loaded.config))[key] == expected


@pytest.mark.parametrize(
    "command",
    ["inspect-data gan data.name=folder", "judge folder --n 6 metrics.extractors=[random]"],
)
def test_command_names_tell_data_sets_apart(
    command: str,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each root and size has its own file, also roots of the same name; a repetition has not."""
    monkeypatch.setattr(detection, "NULL_REPEATS", 2)
    monkeypatch.setattr(detection, "DISTORTED_REPEATS", 2)
    for folder in ("a", "b"):
        (tmp_path / folder / "photos").mkdir(parents=True)
        for i in range(30):
            noise(16, 16, seed=i).save(tmp_path / folder / "photos" / f"{i}.png")
    counts = []
    for overrides in ("a/photos", "b/photos", "a/photos/", "a/photos data.size=16"):
        words = f"{command} run.root={{out}} data.root={tmp_path}/{overrides}"
        assert call(words, tmp_path / "runs", runs, capsys, monkeypatch).code == 0
        files = [path for path in (tmp_path / "runs").rglob("[!.]*.*") if path.is_file()]
        assert all("photos" in path.name for path in files)
        counts.append(len(files))
    assert counts == [1, 2, 2, 3]


@pytest.mark.filterwarnings("default:.*has no best.ckpt")
@pytest.mark.parametrize(
    "name", ["sample --out", "reconstruct", "translate", "project", "export", "report"]
)
def test_command_without_best_checkpoint_uses_the_last(
    name: str, runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that was killed before its first evaluation is usable, with a message."""
    copies = dict(runs)
    for family in ("gan", "vaegan", "pix2pix"):
        copies[family] = tmp_path / family
        shutil.copytree(runs[family], copies[family])
        (copies[family] / "checkpoints" / "best.ckpt").unlink()
    monkeypatch.setattr(live, "describe_run", describe_run)
    used = call(COMMANDS[name], tmp_path / "out", copies, capsys, monkeypatch)
    assert used.code == 0
    said = [line for line in used.errors if "no best.ckpt" in line]
    assert len(said) == 1
    assert said[0].endswith(
        "because it has not been evaluated yet. Using the newest checkpoint, last.ckpt"
    )


@pytest.mark.filterwarnings("default:.*has no best.ckpt")
def test_evaluate_without_best_checkpoint_scores_the_last(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scores are those of the last checkpoint, not of the best one."""
    folder = shutil.copytree(runs["gan"], tmp_path / "gan")
    (folder / "checkpoints" / "best.ckpt").unlink()
    command = f"evaluate {folder} metrics.extractors=[random]"
    used = call(command, tmp_path, runs, capsys, monkeypatch)
    assert used.code == 0, used.errors
    assert any("Using the newest checkpoint, last.ckpt" in line for line in used.errors)
    assert read_summary(folder)["scores"].keys() == {"last"}
    (folder / "checkpoints" / "last.ckpt").rename(
        folder / "checkpoints" / "iteration-00000002.ckpt"
    )
    assert call(command, tmp_path, runs, capsys, monkeypatch).code == 0


def test_train_overwrite_deletes_no_folder_but_a_run(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of another program that has a config.yaml is not a run."""
    project = tmp_path / "gan" / "thesis"
    project.mkdir(parents=True)
    (project / "config.yaml").write_text("family: gan\n")
    before = snapshot(project)
    words = "run.id=thesis run.overwrite=true data.source=sample data.root={data} log.wandb=off"
    refused = call(f"train gan run.root={{out}} {words}", tmp_path, runs, capsys, monkeypatch)
    assert refused.code == 2
    assert "is not a run folder" in refused.errors[-1]
    assert snapshot(project) == before


def test_samples_among_the_reals_are_not_scored_as_reals(
    runs: dict[str, Path], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples next to photos would improve the score of the generator that drew them."""
    photos = tmp_path / "photos"
    made = photos / "made"
    assert call(COMMANDS["sample --folder"], made, runs, capsys, monkeypatch).code == 0
    with Image.open(next(made.glob("*.png"))) as sample:
        size, mode = sample.size, sample.mode
    for i in range(12):
        noise(seed=i).convert(mode).resize(size).save(photos / f"{i}.png")
    with pytest.warns(UserWarning, match="written by gan-lab"):
        reals = list(ImageSet(photos, "reals", 4, False))
    assert sum(map(len, reals)) == 12
    fakes = list(ImageSet(made, "fakes", 4, False))
    assert sum(map(len, fakes)) == len(list(made.glob("*.png")))


@pytest.mark.parametrize(
    "command",
    ["export {gan} --out=", "publish {gan} --to=", "sample {gan} --folder=", "sample {gan} --out=",
     "import x.pkl --out=", "score a b --weights="],
)  # fmt: skip
def test_command_with_an_empty_path_writes_nothing(
    command: str,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As of an unset variable of the shell: it is not the working folder."""
    monkeypatch.chdir(tmp_path)
    refused = call(command, tmp_path, runs, capsys, monkeypatch)
    assert refused.code == 2
    assert "the path is empty" in " ".join(" ".join(refused.errors).split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", loading.NEVER_EMPTY_KEYS)
@pytest.mark.parametrize("text", [""])
def test_load_refuses_empty_paths(key: str, text: str, tmp_path: Path) -> None:
    """On the command line and in a file."""
    (tmp_path / "mine.yaml").write_text(f"family: gan\n{key}: '{text}'\n")
    for name, overrides in (("gan", [f"{key}={text}"]), (str(tmp_path / "mine.yaml"), [])):
        with pytest.raises(UserError, match=f"^{key}= is empty. Name a folder"):
            loading.load(name, overrides)


@pytest.mark.parametrize(
    ("command", "path"),
    [("sample {gan} -n 2 --out", "a.jpg"), ("sample {gan} -n 2 --out", "a.PDF"),
     ("project {gan} --out", "a.webp"), ("report {gan} --out", "a.pdf"),
     ("score x y --out", "a.csv")],
)  # fmt: skip
def test_command_refuses_the_extension_of_another_format(
    command: str, path: str, runs: dict[str, Path], tmp_path: Path, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A PNG named .jpg is read by its name; a version such as v1.2 is no extension."""
    refused = call(f"{command} {{out}}", tmp_path / path, runs, capsys, monkeypatch)
    assert refused.code == 2
    assert " files are written. Name it a." in " ".join(" ".join(refused.errors).split())
    assert not list(tmp_path.iterdir())
    assert parse_png(str(tmp_path / "v1.2")).name == "v1.2"
