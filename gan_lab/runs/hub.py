"""Exports on the Hugging Face hub: ``hf:owner/name``, as ``gan-lab publish`` uploads them."""

from __future__ import annotations

import re
from pathlib import Path

from gan_lab.utils.errors import UserError, first_line, import_extra

PREFIX = "hf:"
FILES = ["config.json", "*.safetensors"]  # nothing else of a repository is downloaded


def parse_name(address: str) -> str:
    """Return ``owner/name`` of ``hf:owner/name``. Raises UserError for anything else."""
    name = address.removeprefix(PREFIX)
    if not address.startswith(PREFIX) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{address}: a model of the hub is hf:owner/name")
    return name


def download_export(address: str) -> Path:
    """Download an export to the hub's cache, or find it there, and return its folder.

    Raises:
        UserError: The package huggingface-hub is missing, the hub does not answer, or there is no
            such export.
    """
    name = parse_name(address)
    hub = import_extra("huggingface_hub", "hub", address)
    # real files and no links into the hub's cache: an export is read with suspicion
    # (runs/exports.py)
    folder = Path(hub.constants.HF_HUB_CACHE) / "gan-lab" / name.replace("/", "--")
    try:
        hub.snapshot_download(name, allow_patterns=FILES, local_dir=folder)
    except Exception as error:  # of the network, of the hub, of the token
        raise UserError(
            f"{address} cannot be downloaded from the hub: {first_line(error)}"
        ) from None
    if not (folder / "config.json").is_file():
        raise UserError(f"{address} is not an export of this lab: it has no config.json")
    return folder
