"""Systems that lack what Linux has: every module is imported there, and a training goes through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.helpers.families import small

LACKING = """
import builtins, importlib, os, pkgutil, signal, socket, sys

real = builtins.__import__

def lacking(name, globals=None, *rest, **named):
    importer = (globals or {}).get("__name__", "")
    unix = name in ("resource", "fcntl", "pwd", "grp", "termios")
    if unix and importer.startswith("gan_lab"):
        raise ImportError(f"no module named {name}")
    return real(name, globals, *rest, **named)

builtins.__import__ = lacking
import torch, lightning  # which know what their system has
for module, names in (
    (signal, ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGALRM")),
    (os, ("link", "killpg", "sched_getaffinity", "getloadavg")),
):
    for name in names:
        delattr(module, name)
import gan_lab
for module in pkgutil.walk_packages(gan_lab.__path__, "gan_lab."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from gan_lab.cli import main
sys.argv = ["gan-lab", "train", *sys.argv[1:]]
main()
"""


def test_lab_without_posix_modules_imports_and_trains(tmp_path: Path, data_root: Path) -> None:
    words = small(
        "gan", tmp_path, data_root, "run.images=32", "run.id=there", "metrics.inception_weights=off"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LACKING, "gan", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "gan" / "there"
    best, last = (
        (folder / "checkpoints" / f"{name}.ckpt").read_bytes() for name in ("best", "last")
    )
    assert best == last
    assert (folder / "report.html").is_file()
