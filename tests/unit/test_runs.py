from __future__ import annotations

import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from gan_lab.config.loading import load
from gan_lab.distributed import detect
from gan_lab.report.run_page import name_comparison
from gan_lab.runs import run_lock
from gan_lab.runs.checkpoints import latest_checkpoint, read_checkpoint
from gan_lab.runs.results import read_summary
from gan_lab.runs.run import Run
from gan_lab.runs.run_folder import (
    RunFolder,
    defines_results,
    find_differences,
    name_output,
    run_id,
)
from gan_lab.training import loop
from gan_lab.utils import files
from gan_lab.utils.files import MARKER_NAME, write_text
from tests.helpers.reports import written_run


def slug(*words: str, experiment: str = "gan") -> str:
    return run_id(load(experiment, words))


def save(path: Path, iteration: int = 1, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {
            "iteration": iteration,
            "ema": {"generator": {"w": torch.rand(500)}},
            "recipes": {},
            **more,
        },
        path,
    )
    return path


def test_run_id_contains_overrides_and_seed() -> None:
    """The id contains the overrides and the seed."""
    assert slug() == "seed0"
    assert slug("run.seed=3") == "seed3"
    assert (
        slug("model.loss=hinge", "data.batch_size=32", "run.seed=1")
        == "data.batch_size=32-loss=hinge-seed1"
    )
    assert slug("model.betas=[0.0,0.9]") == "betas=0.0,0.9-seed0"
    assert slug("run.id=mine", "model.z_dim=3") == "mine"


def test_run_id_is_independent_of_order_and_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The id does not depend on the order of overrides or on the time."""
    first = slug("model.z_dim=3", "data.size=32")
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert slug("data.size=32", "model.z_dim=3") == first
    assert slug("model.z_dim=4", "data.size=32") != first
    assert slug("model.lr_g=1e-3") == slug("model.lr_g=0.001")


def test_run_id_excludes_resumable_keys() -> None:
    """The id does not contain keys that may change when a run resumes."""
    free = ["run.images=5", "run.root=/x", "run.overwrite=true", "run.devices=2", "run.num_nodes=2",
            "data.root=/y", "data.workers=2", "log.wandb=off", "log.progress_bar=false",
            "log.log_every_images=7"]  # fmt: skip
    assert slug(*free) == "seed0"
    assert slug("run.precision=64-true") == "run.precision=64-true-seed0"


def test_run_id_without_redundant_nulls(tmp_path: Path) -> None:
    """A null that changes nothing names the same run; one that unsets a value names another."""
    keys = ("data.channels", "data.images", "metrics.headline", "metrics.num_fakes", "data.width")
    for key in keys:
        assert slug(f"{key}=null") == slug() == "seed0"
    assert slug("data.channels=3") != slug()
    path = tmp_path / "mine.yaml"
    path.write_text("family: gan\ndata: {channels: 3}\n")
    assert slug("data.channels=null", experiment=str(path)) == "data.channels=None-seed0"
    assert name_output("x", load("gan", ["data.channels=null"]), ["data"]) == "x"


@pytest.mark.parametrize("override", ["data.layout=classes", "data.levels=[0,4095]"])
def test_reading_keys_define_and_name_runs_that_may_resume(override: str, tmp_path: Path) -> None:
    """Two readings of the data are two runs; the fingerprint, not the key, decides on resuming."""
    key = override.partition("=")[0]
    typed, plain = load("gan", [override]), load("gan")
    assert key in run_id(typed)
    assert name_output("sheet", typed, ["data"]) != name_output("sheet", plain, ["data"])
    assert defines_results(key)
    RunFolder(tmp_path / "run").prepare(plain.config, [], "abc")
    RunFolder(tmp_path / "run").prepare(typed.config, [], "abc")
    with pytest.raises(ValueError, match="have changed"):
        RunFolder(tmp_path / "run").prepare(typed.config, [], "xyz")
    assert Run(tmp_path / "run")._override([override]) == typed.config


def test_run_id_is_safe_folder_name() -> None:
    """An id is the name of a folder without special characters."""
    made = slug("metrics.headline=../../weights (1).pth")
    assert re.fullmatch(r"[\w.=,-]+", made)
    assert "/" not in made
    assert RunFolder.of(load("cgan", ["run.root=here", "model.z_dim=3"])).path == Path(
        "here/cgan/z_dim=3-seed0"
    )


def test_long_run_id_is_hashed() -> None:
    """A long id is truncated and stays unique."""
    long = "metrics.headline=" + "x" * 200
    first, second = slug(long + "1"), slug(long + "2")
    assert first != second
    assert slug(long + "1") == first
    assert len(first) < 100
    assert first.startswith("metrics.headline=xxx")


def test_differences_name_each_key_and_both_values() -> None:
    before = load("gan", ["model.z_dim=3"]).config
    now = load(
        "gan", ["model.z_dim=4", "data.size=32", "run.images=5", "log.progress_bar=false"]
    ).config
    assert find_differences(before, now) == ["data.size: 28 -> 32", "model.z_dim: 3 -> 4"]
    assert find_differences(before, before) == []
    assert "family: gan -> cgan" in find_differences(before, load("cgan").config)


@pytest.mark.parametrize("source", ["full", "sample"])
def test_run_resumes_with_data_it_began_with(source: str) -> None:
    """A run resumes with the data source that it began with."""
    began = load("gan", [f"data.source={source}"]).config
    assert find_differences(began, load("gan").config) == []
    other = "sample" if source == "full" else "full"
    assert find_differences(began, load("gan", [f"data.source={other}"]).config) == [
        f"data.source: {source} -> {other}"
    ]


def test_a_config_is_read_back_as_it_was_with_its_tuples(tmp_path: Path) -> None:
    config = load(
        "gan",
        ["model.betas=[0.1,0.2]", "run.id=0012", "log.wandb=off", "metrics.inception_weights=off"],
    ).config
    RunFolder(tmp_path / "run").prepare(config, ["train", "gan"])
    again = Run(tmp_path / "run").config
    assert again == config
    assert again.model.betas == (0.1, 0.2)


def test_prepare_accepts_only_same_config(tmp_path: Path) -> None:
    """A folder is prepared again only for the same config."""
    folder = tmp_path / "run"
    for words in ((), ("run.images=7",)):
        RunFolder(folder).prepare(load("gan", words).config, ["train", "gan", *words])
    commands = (folder / "command.txt").read_text().splitlines()
    assert [line.partition("UTC  ")[2] for line in commands] == [
        "gan-lab train gan",
        "gan-lab train gan run.images=7",
    ]
    assert (
        f"torch {torch.__version__}".partition("+")[0] in (folder / "environment.txt").read_text()
    )
    with pytest.raises(
        ValueError, match=r"is a run with another config: model.z_dim: 100 -> 3. Set run.id=..."
    ):
        RunFolder(folder).prepare(load("gan", ["model.z_dim=3"]).config, [])
    (folder / "checkpoints" / "last.ckpt").touch()
    RunFolder(folder).prepare(load("gan", ["model.z_dim=3", "run.overwrite=true"]).config, [])
    assert list((folder / "checkpoints").iterdir()) == []
    assert Run(folder).config.model.z_dim == 3


def test_prepare_leaves_other_folder_unchanged(tmp_path: Path) -> None:
    """A folder that is not a run is neither used nor deleted."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=r"exists and is not a run folder. Choose another run.id or run.root"
    ):
        RunFolder(tmp_path).prepare(load("gan", ["run.overwrite=true"]).config, [])
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"is not a run folder: it has no config.yaml"):
        Run(tmp_path)
    assert read_summary(tmp_path) == {}


def test_write_text_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text file is written completely or not at all."""
    write_text(tmp_path / "summary.json", '{"images": 7}')
    assert read_summary(tmp_path) == {"images": 7}
    monkeypatch.setattr(files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_text(tmp_path / "summary.json", "{}")
    assert read_summary(tmp_path) == {"images": 7}


# checkpoints


class Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return self.victim.touch, ()


def one_line_of_refusal(path: Path) -> str:
    with pytest.raises(
        ValueError,
        match=r"^The checkpoint .* is corrupt or not of this lab, nothing was loaded: \S",
    ) as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", 5, extra=(1, 2.5, "three"))
    content = read_checkpoint(path)
    assert (content["iteration"], content["extra"]) == (5, (1, 2.5, "three"))
    with pytest.raises(ValueError, match=r"There is no checkpoint .*/b.ckpt"):
        read_checkpoint(tmp_path / "b.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    """A truncated checkpoint is an error."""
    path = save(tmp_path / "a.ckpt")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    one_line_of_refusal(path)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("container", ["zip", "pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, container: str, protocol: int) -> None:
    path, victim = tmp_path / "a.ckpt", tmp_path / "victim"
    content = {"iteration": 1, "ema": {}, "recipes": {}, "x": Hostile(victim)}
    if container == "zip":
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    one_line_of_refusal(path)
    assert not victim.exists()
    torch.load(path, weights_only=False) if container == "zip" else pickle.loads(path.read_bytes())
    assert victim.exists()  # the trap is one


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"iteration": 1, "ema": {}}]
)
def test_a_file_of_another_program_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    assert one_line_of_refusal(tmp_path / "a.ckpt").endswith("it was not written by this lab")


def test_latest_checkpoint_skips_unreadable_ones(
    tmp_path: Path,
) -> None:
    """The latest readable checkpoint is used, with a warning for newer ones."""
    assert latest_checkpoint(tmp_path) is None
    older, newer = (
        save(tmp_path / "checkpoints" / f"iteration-{i:08d}.ckpt", i) for i in (90, 100)
    )
    assert latest_checkpoint(tmp_path) == newer
    newer.write_bytes(newer.read_bytes()[:700])
    with pytest.warns(
        UserWarning, match="Skipping a checkpoint: The checkpoint .*00000100.ckpt is corrupt"
    ):
        assert latest_checkpoint(tmp_path) == older
    older.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="Skipping a checkpoint"),
        pytest.raises(
            ValueError,
            match=r"No checkpoint in .*checkpoints can be read. Set run.overwrite=true",
        ),
    ):
        latest_checkpoint(tmp_path)
    last = save(tmp_path / "checkpoints" / "last.ckpt", 80)
    with pytest.warns(UserWarning, match="Skipping a checkpoint"):
        assert latest_checkpoint(tmp_path) == last


def test_run_with_changed_data_does_not_resume(tmp_path: Path) -> None:
    """A run whose data have changed does not resume."""
    config = load("gan").config
    RunFolder(tmp_path / "run").prepare(config, [], "abc")
    RunFolder(tmp_path / "run").prepare(config, [], "abc")
    with pytest.raises(
        ValueError, match=r"The data of .*run have changed .*fingerprint abc, now xyz"
    ):
        RunFolder(tmp_path / "run").prepare(config, [], "xyz")
    with pytest.raises(ValueError, match="have changed"):
        Run(tmp_path / "run").check_data("xyz")
    RunFolder(tmp_path / "run").prepare(load("gan", ["run.overwrite=true"]).config, [], "xyz")
    Run(tmp_path / "run").check_data("xyz")


def test_outputs_of_different_data_have_different_names(tmp_path: Path) -> None:
    """Of two roots with the same last part, of two sizes, of two metrics."""
    roots = [tmp_path / "a" / "photos", tmp_path / "b" / "photos"]
    folder = [["data=folder", f"data.root={root}"] for root in roots]
    variants = [*folder, [*folder[0], "data.size=16"], ["data=emoji"], ["data=emoji64"],
                ["data=emoji", "metrics.extractors=[random]"]]  # fmt: skip
    loaded = [load("gan", each) for each in variants]
    names = [
        name_output(f"{each.config.data.name}-n50", each, ["data", "metrics"]) for each in loaded
    ]
    assert len(set(names)) == len(names)
    assert names[3] == "emoji-n50"
    assert all(name == Path(name).name for name in names)
    sheets = [name_output("data-folder", each, ["data"]) for each in loaded[:3]]
    assert len(set(sheets)) == 3


def test_comparisons_of_different_runs_have_different_names(tmp_path: Path) -> None:
    runs = [Run(written_run(tmp_path / name)) for name in ("one", "two", "three")]
    names = [name_comparison(each) for each in (runs[:2], runs[1:], runs)]
    assert len(set(names)) == 3
    assert name_comparison(runs[::-1]) == names[2]


def test_train_run_locks_before_it_finds_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requeued job does not choose a checkpoint that the ending job still replaces."""
    run = RunFolder(tmp_path / "gan" / "seed0")

    def find(folder: Path) -> None:
        with pytest.raises(ValueError, match="Another process is training"), run.locked():
            pass
        raise InterruptedError(folder)

    config = load("gan").config
    built = SimpleNamespace(notes=[], family=None, ema=None, run=run, config=config)
    monkeypatch.setattr(loop, "build", lambda *_, **__: built)
    monkeypatch.setattr(loop, "latest_checkpoint", find)
    monkeypatch.setattr(loop.warm_start, "load_initial_weights", lambda *_: None)
    data: Any = SimpleNamespace(facts=SimpleNamespace(about=""))
    launched = detect.detect_launcher(config.run)
    with pytest.raises(InterruptedError):
        loop.train_run(config, data, run, launched, [])


def test_train_run_with_unusable_start_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm start that fails leaves no folder and no lock file."""
    built = SimpleNamespace(notes=[], family=None, ema=None)
    monkeypatch.setattr(loop, "build", lambda *_, **__: built)
    data: Any = SimpleNamespace(facts=SimpleNamespace(about=""))
    config = load("gan", [f"run.start_from={tmp_path / 'nowhere'}"]).config
    run = RunFolder(tmp_path / "gan" / "seed0")
    with pytest.raises(ValueError, match="There is no checkpoint"):
        loop.train_run(config, data, run, detect.detect_launcher(config.run), [])
    assert not list(tmp_path.iterdir())


def test_locked_marks_a_new_root_of_runs(tmp_path: Path) -> None:
    """The lock is the first file below the root, whose images are no training data."""
    with RunFolder(tmp_path / "runs" / "gan" / "seed0").locked():
        assert (tmp_path / "runs" / MARKER_NAME).is_file()
    with RunFolder(tmp_path / "gan" / "seed0").locked():
        assert not (tmp_path / MARKER_NAME).exists()


def test_is_locked_elsewhere_sees_only_other_processes(tmp_path: Path) -> None:
    """A run is locked while another process trains it; its own lock does not count."""
    run = RunFolder(tmp_path / "gan" / "seed0")
    assert not run.is_locked_elsewhere
    with run.locked():
        assert not run.is_locked_elsewhere
    assert not run.is_locked_elsewhere
    with FileLock(tmp_path / "gan" / ".seed0.lock"):
        assert run.is_locked_elsewhere
    assert not run.is_locked_elsewhere


def test_lock_is_tried_where_the_system_does_not_list_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "LOCKS_FILE", tmp_path / "none")
    folder = tmp_path / "gan" / "seed0"
    folder.mkdir(parents=True)
    assert not run_lock.is_locked(folder)
    with FileLock(tmp_path / "gan" / ".seed0.lock"):
        assert run_lock.is_locked(folder)
    assert not run_lock.is_locked(folder)


def test_is_locked_never_takes_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that starts while a page is written gets its lock; every path finds it."""
    folder = tmp_path / "gan" / "seed0"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    with FileLock(tmp_path / "gan" / ".seed0.lock"):
        monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: pytest.fail("locked"))
        for path in (folder, Path(), tmp_path / "link", Path("../seed0")):
            assert RunFolder(path).is_locked_elsewhere
            assert run_lock.is_locked(path)
