"""List the experiments, and build a ``Config`` from YAML files and ``key=value`` overrides.

This module does not import torch, so that a misspelled override is reported immediately. OmegaConf
is an implementation detail of ``load``: its callers only see the dataclasses of schema.py.
"""

from __future__ import annotations

import difflib
import os
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan_lab.config import groups
from gan_lab.config.extensions import explain_unknown_name, find_extension, get_native_size
from gan_lab.config.schema import Config, check_ranges, leaves, with_values
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE, find_shipped_folder

# old keys and their current names, for the error message about an old key
RENAMED_KEYS = {
    "run.accumulate": "run.micro_batches",
    "run.evaluate_every": "run.evaluate_every_images",
    "run.timeout": "run.timeout_s",
    "log.bar": "log.progress_bar",
    "log.every": "log.log_every_images",
    "log.images_every": "log.grid_every_images",
    "model.lr": "model.lr_d and model.lr_g",
}
NUMERIC_TYPES = ("a whole number", "a number")
PATH_KEYS = (
    "data.root",
    "run.root",
    "run.start_from",
    "metrics.inception_weights",
    "metrics.dinov2_weights",
    "metrics.clip_weights",
)


def config_folder() -> Path:
    """Return the folder of experiments, config groups and tables."""
    return find_shipped_folder("configs")


def experiments() -> dict[str, str]:
    """Return the experiments with their descriptions, the first comments of their files."""
    paths = groups.list_yaml_files(config_folder() / "experiment")
    return {path.stem: first_comment(path) for path in paths}


def find_experiment(name: str) -> Path:
    """Return the YAML file of an experiment, a name in ``configs/experiment`` or a path.

    Raises:
        UserError: There is no such experiment or file.
    """
    is_path = name.endswith((".yaml", ".yml"))
    if is_path:
        path = Path(os.path.expanduser(name))
    else:
        path = config_folder() / "experiment" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(explain_missing_file("experiment", name, list(experiments())))
    return path


def find_member(group: str, name: str) -> Path:
    """Return the YAML file of an option of a config group.

    Raises:
        UserError: There is no such group or option; the message suggests the closest name.
    """
    known = groups.group_members(config_folder())
    if group not in known:
        raise UserError(explain_unknown_name("config group", group, list(known)))
    if name not in known[group]:
        raise UserError(explain_unknown_name(f"{group} option", name, known[group]))
    return config_folder() / group / f"{name}.yaml"


def first_comment(path: Path) -> str:
    """Return the comment on the first line of a file, its description; empty if it has none."""
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def families() -> list[str]:
    """List the built-in families: the modules of ``gan_lab/families``, without importing them."""
    folder = PACKAGE / "families"
    return sorted(
        module.name for module in pkgutil.iter_modules([str(folder)]) if module.name != "base"
    )


def family_class(name: str) -> Any:
    """Import a family class from ``gan_lab/families/<name>.py`` or from a user module.

    Raises:
        UserError: There is no such family.
    """
    return find_extension("families", "family", name, families(), "FAMILY").FAMILY


def explain_missing_file(kind: str, name: str, known: Sequence[str]) -> str:
    """Return the error message for an unknown name, or for a missing file if a file was named."""
    if name.endswith((".yaml", ".yml")):
        return f"file not found: {name}"
    return explain_unknown_name(kind, name, known)


def expand_home(key: str, path: str) -> str:
    """Expand a leading ``~`` in the path of a config key, as a shell does.

    Raises:
        UserError: There is no such home folder.
    """
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        raise UserError(f"{key}={path}: home folder not found. Use an absolute path")
    return expanded


def expand_homes(config: Config) -> Config:
    """Expand a leading ``~`` in every path of a config."""
    values = dict(leaves(config))
    paths = {key: values[key] for key in PATH_KEYS if values[key] is not None}
    return with_values(config, {key: expand_home(key, path) for key, path in paths.items()})


@dataclass(frozen=True)
class LoadedConfig:
    """A validated config with the origin of its values.

    Attributes:
        experiment: Name of the experiment.
        config: The config.
        origin: Source of each value that is not a default: a file name or 'command line'.
        groups: Options of config groups that were selected on the command line.
    """

    experiment: str
    config: Config
    origin: dict[str, str]
    groups: dict[str, str]


def load(experiment: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Merge defaults, config groups, the experiment and overrides, and validate every value.

    Later sources win: the defaults of the dataclasses, ``defaults:`` of the experiment, the
    experiment, config groups in the overrides, other overrides.

    Args:
        experiment: A name in ``configs/experiment``, or the path of a YAML file.
        overrides: ``key=value`` overrides and config groups.

    Raises:
        UserError: An experiment or key is unknown, or a value has the wrong type or is out of
            range.
    """
    path = find_experiment(experiment)
    selected, overrides = groups.split_overrides(overrides, config_folder())
    for override in overrides:
        if "=" not in override:
            raise UserError(f"{override!r} is not key=value, such as model.z_dim=64")
        # the exceptions of the YAML parser have no common base class
        try:
            OmegaConf.from_dotlist([override])
        except Exception:
            raise UserError(f"{override}: unclosed bracket or quotation mark") from None
    from_file = read_yaml(path)
    from_command_line = OmegaConf.from_dotlist(list(overrides))
    defaults = groups.pop_defaults(from_file, path)
    text_keys = {
        key
        for key, default in leaves(Config())
        if isinstance(default, str | None) and describe_type(Config, key) not in NUMERIC_TYPES
    }
    for override in overrides:
        key, _, value = override.partition("=")
        # keep text as typed: YAML would read run.id=0012 as the octal number 10
        if key in text_keys and value != "null":
            OmegaConf.update(from_command_line, key, value)
    if os.environ.get("RUN_ID") and OmegaConf.select(from_command_line, "run.id") is None:
        OmegaConf.update(from_command_line, "run.id", os.environ["RUN_ID"], force_add=True)

    layers = []
    for group, name in defaults.items():
        if group not in selected:
            file = find_member(group, name)
            layers.append((_label(file), read_yaml(file)))
    layers.append((_label(path), from_file))
    for group, name in selected.items():
        file = find_member(group, name)
        layers.append((_label(file), read_yaml(file)))
    layers.append(("command line", from_command_line))
    config = expand_homes(parse([values for _, values in layers]))
    origin = {
        key: label for label, values in layers for key, _ in leaves(OmegaConf.to_container(values))
    }
    return LoadedConfig(path.stem, config, origin, selected)


def read_yaml(path: Path) -> DictConfig:
    """Read a YAML file of config keys.

    Raises:
        UserError: The file is not valid YAML, or not a mapping.
    """
    # the exceptions of the YAML parser have no common base class
    try:
        values = OmegaConf.load(path)
    except Exception as error:
        raise UserError(f"{path}: {_first_line(error)}") from None
    if not isinstance(values, DictConfig):
        raise UserError(f"{path}: not a mapping such as 'family: gan': {values!r}")
    return values


def _label(path: Path) -> str:
    """Return the path of a file for display, relative to ``configs/`` if it is there."""
    folder = config_folder()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def parse(layers: Sequence[Any]) -> Config:
    """Merge mappings into the defaults: first the shared keys, then ``model`` of the family."""
    parts = [_nest(layer) for layer in layers]
    model = [part.pop("model") for part in parts if part.get("model") is not None]
    config: Config = _merge(Config, parts, "")
    check_ranges(config)
    if not any(OmegaConf.select(part, "data.size") is not None for part in parts):
        config = with_values(config, {"data.size": get_native_size(config.data.name)})
    config = replace(config, model=_merge(family_class(config.family).Config, model, "model."))
    check_ranges(config)
    return config


def model_config(family: Any, values: Mapping[str, Any]) -> Any:
    """Build the ``Config`` of a family class from keyword arguments.

    Raises:
        UserError: A key is unknown or a value is invalid.
    """
    config = _merge(family.Config, [OmegaConf.create(dict(values))], "")
    check_ranges(config)
    return config


def _nest(layer: Any) -> DictConfig:
    """Return a copy in which dotted keys, such as 'data.size', are nested."""
    nested = OmegaConf.create({})
    for key, value in leaves(OmegaConf.to_container(OmegaConf.create(layer))):
        if key == "model" and not isinstance(value, dict | None):
            raise UserError(
                f"model is a group: set one of its keys, such as model.z_dim=64, not model={value}"
            )
        OmegaConf.update(nested, str(key), value)
    size = OmegaConf.select(nested, "data.size")
    # data.size=64x96 sets height and width; data.size=64 resets the width, so the image is square
    if size is not None:
        both = re.fullmatch(r"(\d+)x(\d+)", str(size))
        height, width = both.groups() if both else (size, OmegaConf.select(nested, "data.width"))
        OmegaConf.update(nested, "data", {"size": height, "width": width}, merge=True)
    return nested


def _merge(schema: type, layers: Sequence[Any], prefix: str) -> Any:
    structured = OmegaConf.structured(schema)
    # OmegaConf makes nodes of frozen dataclasses read-only
    for node in (structured, *(structured[key] for key in structured)):
        if isinstance(node, DictConfig):
            OmegaConf.set_readonly(node, False)
    for layer in layers:
        for key, _ in leaves(OmegaConf.to_container(layer)):
            value = OmegaConf.select(layer, key)
            try:
                _update(structured, key, value)
            except OmegaConfBaseException as error:
                raise UserError(_explain(error, key, value, schema, prefix)) from None
    return OmegaConf.to_object(structured)


def _update(structured: Any, key: str, value: Any) -> None:
    current = OmegaConf.select(structured, key)
    # YAML reads off as false
    if isinstance(value, bool) and not isinstance(current, bool):
        value = "on" if value else "off"
    # integers may be written as 1e5
    if isinstance(value, float) and value.is_integer() and isinstance(current, int | None):
        value = int(value)
    OmegaConf.update(structured, key, value, merge=True)


def _explain(error: OmegaConfBaseException, key: str, value: Any, schema: type, prefix: str) -> str:
    known = [name for name, _ in leaves(schema())]
    if key not in known and not any(key.startswith(f"{name}.") for name in known):
        parts = {name.partition(".")[0] for name in known if "." in name}
        if key in parts:
            inside = ", ".join(name for name in known if name.startswith(f"{key}."))
            return f"{prefix}{key} is a group: set one of its keys: {inside}"
        if f"{prefix}{key}" in RENAMED_KEYS:
            return f"{prefix}{key} was renamed to {RENAMED_KEYS[prefix + key]}"
        candidates = known if prefix else [*known, *groups.group_members(config_folder())]
        matches = difflib.get_close_matches(key, candidates, n=1)
        if matches:
            hint = f"Did you mean '{prefix}{matches[0]}'?"
        else:
            hint = f"Available: {', '.join(prefix + name for name in known)}"
        return f"Key '{prefix}{key}' not in '{schema.__name__}'. {hint}"
    expected = describe_type(schema, key)
    problem = f"it must be {expected}" if expected else _first_line(error)
    return f"{prefix}{key}={'' if value is None else value}: {problem}"


def describe_type(schema: Any, key: str) -> str:
    """Describe the type of a key for error messages; empty if any text is valid."""
    kind = schema
    for name in key.split("."):
        if not is_dataclass(kind):
            return ""
        kind = get_type_hints(kind).get(name)
    # an optional type is described without its null
    if NoneType in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if origin is tuple:
        return f"a list of {len(choices)}, such as [{','.join('0.5' for _ in choices)}]"
    if origin is list:
        return "a list, such as [one,two]"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).partition("full_key")[0].splitlines()]
    return " ".join(line for line in lines[:3] if line)
