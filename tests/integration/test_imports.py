"""Which libraries a command imports: seconds differ between machines, imports do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Libraries that take from a tenth of a second to two seconds of CPU time.
SLOW = ("torch", "lightning", "torchmetrics", "torchvision", "scipy.stats", "matplotlib", "wandb", "optuna", "sklearn", "pandas")  # fmt: skip
# in one interpreter, each command after those that import less
COMMANDS = ("--help", "train", "study")
CODE = """
import json, sys
commands, slow = map(json.loads, sys.argv[1:])
from contextlib import redirect_stdout, suppress
from io import StringIO
from gan_lab import cli
imported = {}
for name in commands:
    sys.argv = ["gan-lab", name]
    with redirect_stdout(StringIO()), suppress(SystemExit):
        cli.main()
    imported[name] = [module for module in slow if module in sys.modules]
from gan_lab.inference import sampling
imported["load_generator"] = [module for module in slow if module in sys.modules]
print(json.dumps(imported))
"""


def test_commands_import_only_what_they_need(tmp_path: Path) -> None:
    """Help and lists start without torch, and a generator is loaded without Lightning."""
    command = [sys.executable, "-c", CODE, json.dumps(COMMANDS), json.dumps(SLOW)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout) == {
        "--help": [],
        "train": [],
        # verdicts are computed from the results
        "study": ["scipy.stats"],
        "load_generator": ["torch", "scipy.stats"],
    }
