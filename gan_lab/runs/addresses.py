"""Models that are named by an address instead of a path: ``zoo:name`` and ``hf:owner/name``."""

from __future__ import annotations

import os
from pathlib import Path

ZOO_PREFIX = "zoo:"
HUB_PREFIX = "hf:"


def is_address(run: str | Path) -> bool:
    """Return True if an argument names a model of the zoo or of the Hugging Face Hub."""
    return str(run).startswith((ZOO_PREFIX, HUB_PREFIX))


def find_run(run: str | Path) -> Path:
    """Return the path of a run, where ``~`` is expanded, or the folder of a model with an address.

    Args:
        run: A path, ``zoo:name``, or ``hf:owner/name`` or ``hf:owner/name@revision``, which is
            downloaded.

    Raises:
        UserError: There is no model with this address, or it cannot be downloaded.
    """
    # imported here, because the command line uses is_address alone
    from gan_lab.runs import hub, zoo

    text = str(run)
    if text.startswith(ZOO_PREFIX):
        return zoo.find_model(text)
    if text.startswith(HUB_PREFIX):
        return hub.download_export(text)
    return Path(os.path.expanduser(run))
