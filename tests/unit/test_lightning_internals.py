"""The private names of the libraries that the lab uses exist, and are used in two files."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities import distributed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from torch.distributed import distributed_c10d

import gan_lab
from gan_lab.distributed import lightning_internals

PACKAGE = Path(gan_lab.__file__).parent
FILES = [PACKAGE / "distributed" / name for name in ("lightning_internals.py", "ddp_strategy.py")]
USED = {  # each private name, and what must have it
    "_set_num_threads_if_needed": distributed,
    "_get_default_store": distributed_c10d,
    "_foreach_sub": torch,
    "_foreach_norm": torch,
    "_broadcast_sigterm_tensor": _TrainingEpochLoop,
    "_validate_srun_variables": SLURMEnvironment,
    "_call_children_scripts": _SubprocessScriptLauncher,
    "_configure_launcher": DDPStrategy,
    "_get_process_group_backend": DDPStrategy,
    "_update": RichProgressBar,
    "_update_metrics": RichProgressBar,
}
OF_INSTANCES = {
    "_signal_connector": Trainer,
    "_param_requires_grad_state": LightningModule,
    "_timeout": DDPStrategy,
    "_launcher": DDPStrategy,
    "_data_source": _FitLoop,
}


def private_names(path: Path) -> set[str]:
    """Private names that a file imports, or reads of anything."""
    tree = ast.parse(path.read_text())
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in names if re.match(r"_[a-zA-Z]", name)}


@pytest.mark.parametrize("name", USED)
def test_a_private_name_that_is_used_is_there(name: str) -> None:
    assert hasattr(USED[name], name)


@pytest.mark.parametrize("name", OF_INSTANCES)
def test_a_private_attribute_that_is_used_is_set(name: str) -> None:
    source = "".join(inspect.getsource(base) for base in OF_INSTANCES[name].__mro__[:-1])
    assert f"self.{name}" in source


def test_lightning_registers_its_signal_handlers_by_the_name_that_is_replaced() -> None:
    assert callable(_SignalConnector.register_signal_handlers)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False)
    lightning_internals.leave_signals_alone(trainer)
    assert trainer._signal_connector.register_signal_handlers() is None


def test_the_test_knows_every_private_name_of_the_files() -> None:
    text = "".join(path.read_text() for path in FILES)
    names = {name for name in re.findall(r"\b_[a-zA-Z]\w+", text) if not name.startswith("__")}
    own = {"_describe_exit", "_join_under_new_keys", "_to_share", "_exit"}  # and os._exit
    assert names - own == set(USED) | set(OF_INSTANCES) | {"_SubprocessScriptLauncher"}


def test_no_other_file_uses_a_private_name_of_a_library() -> None:
    own = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
    # of named tuples and of os: documented; of Optuna; torchmetrics keeps a metric's states there
    allowed = {"_replace", "_exit", "_trial_id", "_defaults"}
    found = {path.name: private_names(path) - own - allowed for path in PACKAGE.rglob("*.py")}
    assert {
        name: names
        for name, names in found.items()
        if names and name not in {path.name for path in FILES}
    } == {}
