"""Which libraries a command imports: seconds differ between machines, imports do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.families import small
from tests.helpers.folders import run_folder
from tests.helpers.reports import written_run

ROOT = Path(__file__).parents[2]
# Libraries that take from a tenth of a second to two seconds of CPU time. For a postponed package
# (utils/postponed_imports.py) it is a module that only its execution imports.
SLOW = (
    "torch",
    "lightning",
    "torchmetrics.functional",
    "torch._dynamo.utils",
    "triton",
    "numpy.f2py.f2py2e",
    "torchvision",
    "torch_fidelity",
    "scipy.signal",
    "scipy.stats",
    "skimage.metrics",
    "matplotlib",
    "wandb",
    "optuna",
    "sklearn",
)
# Modules that take some milliseconds, which count for a help text.
SMALL = ("gan_lab.config.schema", "gan_lab.utils.output", "importlib.metadata", "hashlib")
CALLBACK = """
import json, os, sys
from pathlib import Path
from lightning.pytorch import Callback

class Stop(Callback):
    def on_train_batch_end(self, *_):
        slow = os.environ["SLOW"].split()
        Path("first.json").write_text(json.dumps([each for each in slow if each in sys.modules]))
        os._exit(0)
"""
# in one interpreter, each command after those that import less
CODE = """
import json, os, sys
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from gan_lab import cli

imported = {}
for name, words in json.loads(sys.argv[1]).items():
    sys.argv = ["gan-lab", *words]
    # the callback ends the process in the first iteration of a training
    if name == "first iteration" and os.fork():
        assert os.wait()[1] == 0
        imported[name] = json.loads(Path("first.json").read_text())
        continue
    with redirect_stdout(StringIO()), suppress(SystemExit):
        cli.main()
    imported[name] = [module for module in os.environ["SLOW"].split() if module in sys.modules]
print(json.dumps(imported))
"""


def test_commands_import_only_what_they_need(
    tmp_path: Path, data_root: Path, sample: object
) -> None:
    """Help and lists start without torch, sampling without Lightning, a training without scores."""
    run = str(run_folder("cgan", tmp_path, data_root))
    scored = str(written_run(tmp_path / "scored"))
    (tmp_path / "stop.py").write_text(CALLBACK, encoding="utf-8")
    words = small("cgan", tmp_path, data_root, "run.callbacks=[stop.Stop]")
    commands = {
        "--help": ["--help"],
        "train": ["train"],
        "runs": ["runs", str(tmp_path)],
        "explain": ["explain"],
        "study": ["study"],
        "compare": ["compare", scored],
        "sample": ["sample", run, "--out", str(tmp_path / "samples.png")],
        "first iteration": ["train", "cgan", *words],
        "report": ["report", run, "--out", str(tmp_path / "report.html")],
    }
    command = [sys.executable, "-c", CODE, json.dumps(commands)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "SLOW": " ".join(SLOW + SMALL)}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found = {name: set(modules) for name, modules in json.loads(finished.stdout).items()}
    assert found["--help"] == set()
    imported = {name: modules.difference(SMALL) for name, modules in found.items()}
    # the compiler imports it, where it is installed
    imported["report"].discard("triton")
    assert imported == {
        "--help": set(),
        "train": set(),
        "runs": set(),
        "explain": set(),
        "study": set(),
        "compare": set(),
        "sample": {"torch"},
        "first iteration": {"torch", "lightning"},
        # torch.export traces the generator for the page
        "report": {"torch", "lightning", "torch._dynamo.utils"},
    }
    assert (tmp_path / "report.html").is_file()
