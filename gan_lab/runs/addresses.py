"""Models that are named by an address instead of a path: ``zoo:name`` and ``hf:owner/name``."""

from __future__ import annotations

import os
from pathlib import Path

from gan_lab.runs import hub, zoo


def is_address(run: str | Path) -> bool:
    """Return True if an argument names a model of the zoo or of the Hugging Face Hub."""
    return str(run).startswith((zoo.PREFIX, hub.PREFIX))


def find_run(run: str | Path) -> Path:
    """Return the path of a run, where ``~`` is expanded, or the folder of a model with an address.

    Args:
        run: A path, ``zoo:name``, or ``hf:owner/name``, which is downloaded.

    Raises:
        UserError: There is no model with this address, or it cannot be downloaded.
    """
    text = str(run)
    if text.startswith(zoo.PREFIX):
        return zoo.find_model(text)
    if text.startswith(hub.PREFIX):
        return hub.download_export(text)
    return Path(os.path.expanduser(run))
