"""Postponed packages: executed once, at their first use, and complete from then on."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_lab.utils.postponed_imports import POSTPONED, PostponedFinder

ROOT = Path(__file__).parents[2]
PACKAGE = {
    "__init__.py": (
        "import builtins\nbuiltins.executed.append('package')\n"
        "from {name}.used import VALUE\nANSWER = 'package'\n"
    ),
    "used.py": "import builtins\nbuiltins.executed.append('used')\nVALUE = 7\n",
    "other.py": (
        "import builtins\nbuiltins.executed.append('other')\nfrom {name}.used import VALUE\n"
    ),
}


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules of the package, in the order in which they were executed."""
    found: list[str] = []
    monkeypatch.setattr("builtins.executed", found, raising=False)
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A postponed package on disk, with one answer; returns its name."""
    name = f"late_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    for file, code in PACKAGE.items():
        (tmp_path / name / file).write_text(code.replace("{name}", name), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    finder = PostponedFinder({name: {"ANSWER": lambda module: "answer"}})
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    yield name
    for loaded in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[loaded]


def test_postponed_package_answers_without_execution(package: str, executed: list[str]) -> None:
    module = importlib.import_module(package)
    namespace: dict[str, object] = {}
    exec(f"from {package} import ANSWER", namespace)
    assert namespace["ANSWER"] == "answer"
    assert not hasattr(module, "__wrapped__")
    assert executed == []


def test_postponed_package_is_executed_by_another_name(package: str, executed: list[str]) -> None:
    module = importlib.import_module(package)
    assert module.ANSWER == "answer"
    assert (module.VALUE, module.ANSWER) == (7, "package")
    assert executed == ["package", "used"]
    with pytest.raises(AttributeError, match="has no attribute 'missing'"):
        _ = module.missing
    assert executed == ["package", "used"]


@pytest.mark.parametrize("submodule", ["used", "other"])
def test_submodule_executes_its_package_first(
    submodule: str, package: str, executed: list[str]
) -> None:
    """Also a submodule that the package imports itself is executed once."""
    module = importlib.import_module(package)
    imported = importlib.import_module(f"{package}.{submodule}")
    assert imported is getattr(module, submodule)
    assert imported.VALUE == 7
    assert imported.__spec__.loader.path.endswith(f"{submodule}.py")  # type: ignore[union-attr]
    assert executed == ["package", "used", *(["other"] if submodule == "other" else [])]


def test_postponed_package_that_fails_fails_each_time(
    package: str, tmp_path: Path, executed: list[str]
) -> None:
    (tmp_path / package / "__init__.py").write_text("1 / 0", encoding="utf-8")
    module = importlib.import_module(package)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = module.VALUE


def test_finder_leaves_other_and_missing_modules_alone() -> None:
    finder = PostponedFinder({"not_installed": {}})
    assert finder.find_spec("json", None) is None
    assert finder.find_spec("not_installed", None) is None


# What torch and Lightning do with the postponed packages, in an interpreter of its own.
PROGRAM = """
import pickle
import sys
from gan_lab.utils.postponed_imports import POSTPONED, postpone_imports
postpone_imports()
postpone_imports()  # changes nothing

def names():
    # numpy.f2py is imported by SciPy only, see below
    loaded = [sys.modules[name] for name in POSTPONED if name in sys.modules]
    return [module.__name__ for module in loaded if module.__spec__.loader.is_executed]

import lightning.pytorch as lightning, torch
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultMetric
from lightning.pytorch.utilities.compile import OptimizedModule

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def forward(self, x):
        return self.layer(x)
    def training_step(self, batch, _):
        loss = self.layer(batch).square().mean()
        self.log("loss", loss, on_epoch=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

def fit(model):
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = dict.fromkeys(off, False)
    trainer = lightning.Trainer(max_steps=2, accelerator="cpu", **options)
    trainer.fit(model, torch.utils.data.DataLoader(torch.ones(8, 2), 4))
    return float(trainer.callback_metrics["loss"])

model = Model()
first = fit(model)
mode = torch._dynamo.utils.get_optimize_ddp_mode()
assert names() == [], names()
assert not isinstance(model, OptimizedModule)

# torchmetrics, complete
import torchmetrics
assert issubclass(_ResultMetric, torchmetrics.Metric)
assert isinstance(torchmetrics.MeanMetric(), torchmetrics.Metric)
assert torchmetrics.__version__ == torchmetrics.__about__.__version__
assert torchmetrics.MetricCollection is sys.modules["torchmetrics.collections"].MetricCollection
figure, _ = torchmetrics.MeanMetric().plot(torch.tensor(0.5))
assert type(figure).__module__.startswith("matplotlib")

# Lightning's table of layers, complete
from lightning.pytorch.utilities.model_summary import ModelSummary
assert "torch.utils.flop_counter" not in names()
model.example_input_array = torch.ones(1, 2)
assert ModelSummary(model).total_flops == 4  # two products and two sums

# a function that is disabled before the compiler is executed keeps its name
@torch.compiler.disable
def half(x):
    return x / 2


assert half.__name__ == "half" and pickle.loads(pickle.dumps(half)) is half

# the compiler of Fortran programs, complete
import numpy, scipy.special
assert "numpy.f2py" not in names() and "numpy.f2py" in sys.modules
assert numpy.f2py.get_include().endswith("src")

# the compiler, complete
assert torch._dynamo.utils.counters is not None
assert names() == list(POSTPONED)
assert torch._dynamo.utils is sys.modules["torch._dynamo.utils"]
assert torch._dynamo.utils.get_optimize_ddp_mode() == mode
compiled = torch.compile(torch.nn.Linear(2, 1), backend="eager")
assert compiled(torch.ones(1, 2)).shape == (1, 1)
assert isinstance(compiled, OptimizedModule) and isinstance(compiled, torch._dynamo.OptimizedModule)
assert not isinstance(model, OptimizedModule)
assert fit(model) < first

# decorators of users, with and without arguments
@torch.compiler.disable(recursive=False)
def twice(x):
    return 2 * x


@torch.compiler.disable
def thrice(x):
    return 3 * x


assert twice(2) == 4 and thrice(2) == 6
layer = torch.nn.Linear(2, 1)
assert [*torch.compiler.disable(layer).parameters()] == [*layer.parameters()]

# an optimizer that was used before the compiler was loaded stays out of compiled functions
optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)])
torch._dynamo.config.suppress_errors = False
torch.compile(optimizer.zero_grad, backend="eager")()
"""


def test_torch_and_lightning_do_without_their_packages(tmp_path: Path) -> None:
    """A training executes none of them; torchmetrics and the compiler work afterwards."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert list(POSTPONED) == [
        *("torchmetrics", "torchmetrics.utilities.plot", "torch.utils.flop_counter"),
        *("numpy.f2py", "torch._dynamo"),
    ]
