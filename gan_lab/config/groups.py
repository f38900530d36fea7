"""Config groups: values that any experiment can take by one word, such as ``data=faces64`` or ``budget=smoke``.

A group is a folder of ``configs/``, its members are YAML files with the keys of an experiment. The convention is
Hydra's, and so is ``defaults:`` at the head of an experiment, a list of such words: ``- data: faces64``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan_lab.utils.errors import UserError

APART = ("experiment", "tables")  # folders of configs/ that are no groups


def files_in(folder: Path) -> list[Path]:
    """The YAML files of a folder, sorted; hidden ones, which a Mac puts beside files, are none."""
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def group_members(folder: Path) -> dict[str, list[str]]:
    """Every group with the names of its members."""
    groups = sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in APART)
    return {
        group.name: [path.stem for path in files_in(group)] for group in groups if files_in(group)
    }


def split_overrides(overrides: Sequence[str], folder: Path) -> tuple[dict[str, str], list[str]]:
    """The chosen member of each group, and the words that are about single keys."""
    known, chosen, rest = group_members(folder), {}, []
    for word in overrides:
        key, equals, value = word.partition("=")
        if equals and key in known:
            chosen[key] = value
        else:
            rest.append(word)
    return chosen, rest


def pop_defaults(values: DictConfig, where: Path) -> dict[str, str]:
    """Take ``defaults:`` out of an experiment: the member of each group. Raises UserError if it is no list of those."""
    plain: Any = OmegaConf.to_container(values)
    values.pop("defaults", None)
    defaults = plain.get("defaults", [])
    if not isinstance(defaults, list) or not all(
        isinstance(entry, dict) and len(entry) == 1 for entry in defaults
    ):
        raise UserError(f"{where}: defaults is a list of groups, such as '- data: faces64'")
    return {str(group): str(member) for entry in defaults for group, member in entry.items()}
