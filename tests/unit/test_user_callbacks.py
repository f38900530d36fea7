"""Callbacks of the user, by the config."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_lab.config import loading
from gan_lab.runs.run_folder import RunFolder, is_resumable
from gan_lab.training import builder
from gan_lab.utils.errors import UserError
from tests.helpers.families import small

MODULE = """
from lightning.pytorch import Callback

class Count(Callback):
    seen = []
    def on_train_batch_end(self, trainer, family, *_):
        self.seen.append(family.iteration)

class NeedsArguments(Callback):
    def __init__(self, path, n=1):
        pass

def function():
    pass
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, with a name of its own for each test."""
    name = f"callbacks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_callback_of_config_is_called_after_each_iteration(
    module: str, tmp_path: Path, data_root: Path
) -> None:
    """It sees the iteration that has ended, and a run cannot resume with another one."""
    words = small("gan", tmp_path, data_root, "run.images=48", f"run.callbacks=[{module}.Count]")
    loaded = loading.load("gan", words)
    assert not is_resumable("run.callbacks")
    built = builder.build(*builder.load_data(loaded.config), RunFolder(tmp_path / "run"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(built.family, datamodule=built.data)
    (mine,) = (each for each in built.trainer.callbacks if type(each).__name__ == "Count")
    assert mine.seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{}.function", "is not a lightning.pytorch.Callback"),
        ("{}.Missing", "does not define Missing"),
        ("{}.NeedsArguments", "needs arguments: path"),
        ("no_such_module.Count", "No module named 'no_such_module'"),
        ("Count", "is not a dotted path"),
        ("../x.Count", "is not a dotted path"),
    ],
)
def test_callback_that_cannot_be_created_is_one_line(module: str, name: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^run\.callbacks.*{reason}"):
        builder.load_callbacks([name.format(module)])
