"""Config groups: presets such as ``data=faces64`` or ``budget=smoke`` for any experiment.

Groups follow Hydra's conventions. A group is a folder of ``configs/``; its options are YAML files
with the keys of an experiment. The ``defaults:`` list of an experiment selects options, as in
``- data: faces64``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.utils.errors import UserError

# folders of configs/ that are not config groups
NON_GROUP_FOLDERS = ("experiment", "tables")


def list_yaml_files(folder: Path) -> list[Path]:
    """List the YAML files of a folder, sorted, without hidden files (macOS adds ``._*`` files)."""
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def group_members(folder: Path) -> dict[str, list[str]]:
    """Return the options of each config group in a folder."""
    members = {}
    for group in sorted(path for path in folder.iterdir() if path.is_dir()):
        names = [path.stem for path in list_yaml_files(group)]
        if names and group.name not in NON_GROUP_FOLDERS:
            members[group.name] = names
    return members


def split_overrides(overrides: Sequence[str], folder: Path) -> tuple[dict[str, str], list[str]]:
    """Split overrides into the selected option of each config group and single keys."""
    known = group_members(folder)
    selected = {}
    key_overrides = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and key in known:
            selected[key] = value
        else:
            key_overrides.append(override)
    return selected, key_overrides


def pop_defaults(tree: dict[str, Any], path: Path) -> dict[str, str]:
    """Remove ``defaults:`` from an experiment and return the selected option of each group.

    Raises:
        UserError: ``defaults`` is not a list of groups.
    """
    defaults = tree.pop("defaults", [])
    if not isinstance(defaults, list) or not all(
        isinstance(entry, dict) and len(entry) == 1 for entry in defaults
    ):
        raise UserError(f"{path}: defaults must be a list of groups, such as '- data: faces64'")
    return {group: str(member) for entry in defaults for group, member in entry.items()}
