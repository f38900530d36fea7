"""The environment of a run, for ``environment.txt``."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata

from gan_lab import __version__

# set by the Makefile
MAKE_VARIABLE = "GAN_LAB_STARTED_BY"
# where the Makefile installs the program, in the folder in which make runs
MAKE_PROGRAM = ".venv/bin/gan-lab"
RECORDED_PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "wandb")


def is_started_by_make() -> bool:
    """Return whether the Makefile of the repository started this process."""
    return os.environ.get(MAKE_VARIABLE) == "make"


def name_program(started_by_make: bool) -> str:
    """Return the name of the program in commands for copying.

    Make creates the environment without activating it, so that ``gan-lab`` is not on the path.
    """
    return MAKE_PROGRAM if started_by_make else "gan-lab"


def describe_environment() -> str:
    """List the versions of libraries and the hardware, one per line."""
    # imported here, because lists of runs and studies do without it
    import torch

    lines = [
        f"gan-lab {__version__}",
        f"python {platform.python_version()}",
        f"platform {platform.platform()}",
    ]
    lines += [f"{name} {metadata.version(name)}" for name in RECORDED_PACKAGES]
    lines += [
        f"cores {os.cpu_count()}",
        f"threads {torch.get_num_threads()}",
        f"executable {sys.executable}",
    ]
    lines += [f"gpu {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return "\n".join(lines) + "\n"
