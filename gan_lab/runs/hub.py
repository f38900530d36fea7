"""Download exports from the Hugging Face Hub, named ``hf:owner/name`` or with ``@revision``."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

from gan_lab.runs.addresses import HUB_PREFIX
from gan_lab.utils.errors import UserError, first_line, import_extra

# Other files of a repository are not downloaded.
EXPORT_FILES = ["config.json", "*.safetensors", "directions.json"]


def parse_name(address: str) -> str:
    """Return ``owner/name`` of ``hf:owner/name``, the address of an upload.

    Raises:
        UserError: The address has another form.
    """
    name = address.removeprefix(HUB_PREFIX)
    if not address.startswith(HUB_PREFIX) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"Invalid address of a model: {address}. Write hf:owner/name.")
    return name


def parse_address(address: str) -> tuple[str, str | None]:
    """Split ``hf:owner/name@revision``.

    Returns:
        ``owner/name`` and the revision: a branch, tag or commit; None if the address has none.

    Raises:
        UserError: The address has another form.
    """
    prefix, separator, revision = address.partition("@")
    name = parse_name(prefix)
    # Characters of branches and tags that no command line and no URL reads differently.
    if separator and not re.fullmatch(r"[\w][\w./-]*", revision):
        raise UserError(
            f"Invalid revision of a model: {address}. Write hf:owner/name@revision, where revision "
            "is a branch, tag or commit."
        )
    return name, revision or None


def download_export(address: str) -> Path:
    """Download an export to the Hub's cache, unless it is there, and return its folder.

    Each revision has a folder of its own.

    Raises:
        UserError: The package huggingface-hub is missing, the Hub does not respond, or there is no
            such export.
    """
    name, revision = parse_address(address)
    hub = import_extra("huggingface_hub", "hub", address)
    # Copy the files instead of linking to the Hub's cache, because runs/exports.py rejects links.
    # The package imports its parts lazily, and has no attribute for this one.
    constants = import_module("huggingface_hub.constants")
    folder = Path(constants.HF_HUB_CACHE) / "gan-lab" / name.replace("/", "--")
    if revision:
        # Names of branches may contain slashes; no name of a model contains an @.
        folder = folder.with_name(f"{folder.name}@{quote(revision, safe='')}")
    try:
        hub.snapshot_download(
            name, revision=revision, allow_patterns=EXPORT_FILES, local_dir=folder
        )
    except Exception as error:
        # The network, the Hub and the token have no common error type.
        raise UserError(
            f"{address} cannot be downloaded from the Hub: {first_line(error)}"
        ) from None
    if not (folder / "config.json").is_file():
        raise UserError(f"{address} is not an export of this lab: it has no config.json")
    return folder
