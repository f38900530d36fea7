"""List the experiments, and build a ``Config`` from YAML files and ``key=value`` overrides.

This module does not import torch, so that a misspelled override is reported immediately.
"""

from __future__ import annotations

import difflib
import os
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_lab.config import groups, plain_yaml
from gan_lab.config.extensions import (
    explain_unknown_name,
    find_extension,
    get_native_size,
    list_data_sets,
)
from gan_lab.config.renames import RENAMED_KEYS, RUN_FORMAT, pop_format, rename_keys
from gan_lab.config.schema import Config, check_ranges, list_leaves, with_values
from gan_lab.config.values import (
    Argument,
    check_names,
    check_texts,
    convert,
    explain_invalid,
    format_value,
    is_null,
    list_kinds,
)
from gan_lab.utils.errors import UserError, escape_line_breaks
from gan_lab.utils.files import PACKAGE, find_shipped_folder

RUN_ID_ORIGIN = "environment variable RUN_ID"
# the option of a config group whose values are chosen at the start of a training
AUTO_BUDGET_ORIGIN = "budget/auto.yaml"
AUTO_BUDGET_KEYS = ("run.images", "run.evaluate_every_images")
# data sets of the user without a sample, whose folder has no useful default
ROOTED_DATA_SETS = ("folder", "idx")
PATH_KEYS = (
    "data.root",
    "run.root",
    "run.start_from",
    "metrics.inception_weights",
    "metrics.dinov2_weights",
    "metrics.clip_weights",
)
# an empty path would mean the working folder; no file of weights has that meaning
NEVER_EMPTY_KEYS = ("data.root", "run.root", "run.start_from")


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
    check_names("experiment", [name])
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
        names = known[group]
        if group == "data":
            names = sorted({*names, *list_data_sets()})
        raise UserError(explain_unknown_name(f"{group} option", name, names))
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
    if os.path.isdir(name) or (os.path.exists(name) and not os.path.isfile(name)):
        return f"{name} is no file. Name a .yaml file"
    if name.endswith((".yaml", ".yml")):
        return f"file not found: {name}"
    if os.path.isfile(name.rstrip("/")):
        return f"{name} is not the path of a .yaml file. Rename it"
    return explain_unknown_name(kind, name, known)


def expand_home(key: str, path: str) -> str:
    """Expand a leading ``~`` in the path of a config key, as a shell does.

    Raises:
        UserError: There is no such home folder, or the path of a folder is empty.
    """
    # Path("") is the working folder
    if key in NEVER_EMPTY_KEYS and not path:
        raise UserError(f"{key}={path} is empty. Name a folder, or leave {key} out")
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        raise UserError(f"{key}={path}: home folder not found. Use an absolute path")
    return expanded


def expand_homes(config: Config) -> Config:
    """Expand a leading ``~`` in every path of a config."""
    values = dict(list_leaves(config))
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
        redundant: Keys that are null on the command line, and would be null without it.
    """

    experiment: str
    config: Config
    origin: dict[str, str]
    groups: dict[str, str]
    redundant: frozenset[str] = frozenset()

    @property
    def automatic_keys(self) -> list[str]:
        """Keys that budget=auto chooses at the start of a training."""
        return [key for key in AUTO_BUDGET_KEYS if self.origin.get(key) == AUTO_BUDGET_ORIGIN]

    def check_comparable(self) -> None:
        """Raise UserError if budget=auto would give trainings that are compared other budgets."""
        if "run.images" in self.automatic_keys:
            raise UserError(
                "budget=auto gives each training a budget of its own, so their scores could not be "
                "compared. Set run.images, such as run.images=60_000"
            )


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
    from_command_line = parse_overrides(overrides)
    tree = read_tree(path)
    defaults = groups.pop_defaults(tree, path)
    # config.yaml of a run is an experiment, too
    number = plain_yaml.resolve({"format": tree.pop("format", RUN_FORMAT)})
    written_as = pop_format(number, path, default=RUN_FORMAT)
    flat = flatten(tree, f"{path}: ")
    data_set = selected.get("data", "")
    if data_set not in groups.group_members(config_folder()).get("data", []) and (
        data_set in list_data_sets() or "." in data_set
    ):
        # data=emoji is data.name=emoji, in place of the group that the experiment selects
        del selected["data"]
        defaults.pop("data", None)
        from_command_line = {"data.name": Argument(data_set)} | from_command_line
    layers = []
    for group, name in defaults.items():
        if group not in selected:
            file = find_member(group, name)
            layers.append((label(file), read_layer(file)))
    layers.append((label(path), upgrade(flat) if written_as < RUN_FORMAT else flat))
    for group, name in selected.items():
        file = find_member(group, name)
        layers.append((label(file), read_layer(file)))
    run_id = os.environ.get("RUN_ID")
    if run_id and from_command_line.get("run.id", "null") == "null":
        layers.append((RUN_ID_ORIGIN, {"run.id": Argument(run_id)}))
        from_command_line.pop("run.id", None)
    layers.append(("command line", from_command_line))
    config = expand_homes(parse([values for _, values in layers]))
    check_texts(config)
    origin = {key: source for source, values in layers for key in values}
    return LoadedConfig(path.stem, config, origin, selected, _find_redundant(config, layers))


def _find_redundant(
    config: Config, layers: Sequence[tuple[str, Mapping[str, Any]]]
) -> frozenset[str]:
    """Return the keys that the last layer sets to null, which is the default, as the only layer."""
    values = dict(list_leaves(config))
    defaults = dict(list_leaves(replace(Config(), model=type(config.model)())))
    below = {key for _, layer in layers[:-1] for key in layer}
    return frozenset(
        key
        for key in layers[-1][1]
        if key not in below and values.get(key, "") is None and defaults[key] is None
    )


def check_root(loaded: LoadedConfig) -> None:
    """Raise UserError if the user chose a data set without naming the folder of the images."""
    name = loaded.config.data.name
    is_chosen_here = loaded.origin.get("data.name") == "command line"
    if name in ROOTED_DATA_SETS and is_chosen_here and "data.root" not in loaded.origin:
        raise UserError(
            f"data.root is missing: data.name={name} reads your images. Set data.root to their "
            "folder"
        )


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Split ``key=value`` overrides; of a key that is given twice, the last one wins.

    Raises:
        UserError: An override is not ``key=value``.
    """
    values = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UserError(f"{override!r} is not key=value, such as model.z_dim=64")
        values[key] = Argument(value)
    return values


def read_tree(path: Path) -> dict[str, Any]:
    """Read a YAML file of config keys as nested dicts.

    Raises:
        UserError: The file is not valid YAML, not a mapping, or empty.
    """
    tree = plain_yaml.read_file(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path}: not a mapping such as 'family: gan': {format_value(tree)}")
    if not tree:
        # all defaults: another training than the one that the file was for
        raise UserError(f"{path} is empty. Write at least the family, such as 'family: gan'")
    return tree


def read_layer(path: Path) -> dict[str, Any]:
    """Read a YAML file of config keys as a flat dict. Raises UserError as ``read_tree`` does."""
    return flatten(read_tree(path), f"{path}: ")


def flatten(tree: Mapping[str, Any], source: str = "") -> dict[str, Any]:
    """Return a flat dict, as in ``{"data.size": 64}``, of nested and dotted keys.

    Args:
        tree: Nested mappings.
        source: Prefix of the error message.

    Raises:
        UserError: A key is given in two spellings.
    """
    flat: dict[str, Any] = {}
    for key, value in list_leaves(tree):
        if key in flat:
            raise UserError(f"{source}duplicate key: {key}. Remove one of the two")
        flat[key] = value
    return flat


def label(path: Path) -> str:
    """Return the path of a file for display, relative to ``configs/`` if it is there."""
    folder = config_folder()
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def parse(layers: Sequence[Mapping[str, Any]]) -> Config:
    """Merge mappings into the defaults: first the shared keys, then ``model`` of the family.

    Args:
        layers: Nested or flat mappings, whose values are from YAML, the command line or Python.

    Raises:
        UserError: A key is unknown, or a value has the wrong type or is out of range.
    """
    config, model = parse_shared(layers)
    config = replace(config, model=build(family_class(config.family).Config, model, "model."))
    check_ranges(config)
    return config


def parse_shared(layers: Sequence[Mapping[str, Any]]) -> tuple[Config, dict[str, Any]]:
    """Merge mappings into the defaults like ``parse``, without ``model``, whose family needs torch.

    Returns:
        The config, whose ``model`` is None, and the values of the keys under ``model``.

    Raises:
        UserError: A shared key is unknown, or its value has the wrong type or is out of range.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        values |= _split_size(flatten(layer))
    model = {}
    for key in [key for key in values if key == "model" or key.startswith("model.")]:
        value = values.pop(key)
        if key != "model":
            model[key.removeprefix("model.")] = value
        elif not is_null(value) and value != {}:
            raise UserError(
                "model is a group: set one of its keys, such as model.z_dim=64, not "
                f"model={format_value(value)}"
            )
    config: Config = build(Config, values, "")
    check_ranges(config)
    if "data.size" not in values:
        config = with_values(config, {"data.size": get_native_size(config.data.name)})
        check_ranges(config)
    return config, model


def model_config(family: Any, values: Mapping[str, Any]) -> Any:
    """Build the ``Config`` of a family class from keyword arguments.

    Raises:
        UserError: A key is unknown or a value is invalid.
    """
    config = build(family.Config, values, "")
    check_ranges(config)
    return config


def _split_size(layer: dict[str, Any]) -> dict[str, Any]:
    """Split data.size=64x96 into height and width; data.size=64 resets the width to a square."""
    if "data.size" not in layer:
        return layer
    size = layer["data.size"]
    both = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", str(size))
    height, width = both.groups() if both else (size, layer.get("data.width"))
    return layer | {"data.size": height, "data.width": width}


def build(schema: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Build a dataclass from its defaults and a flat dict of values.

    Args:
        schema: The dataclass.
        values: Values of its leaves, as in ``{"data.batch_size": 64}``.
        prefix: Prefix of the keys in error messages.

    Raises:
        UserError: A key is unknown, or a value has the wrong type.
    """
    kinds = list_kinds(schema)
    built = schema()
    for key, value in values.items():
        if key not in kinds:
            raise UserError(_explain_unknown_key(schema, key, prefix))
        try:
            converted = convert(kinds[key], value)
        except ValueError as error:
            raise UserError(explain_invalid(f"{prefix}{key}", value, error)) from None
        built = _replace_leaf(built, key.split("."), converted)
    return built


def _replace_leaf(tree: Any, names: Sequence[str], value: Any) -> Any:
    if len(names) > 1:
        value = _replace_leaf(getattr(tree, names[0]), names[1:], value)
    return replace(tree, **{names[0]: value})


def _explain_unknown_key(schema: type, key: str, prefix: str) -> str:
    known = list(list_kinds(schema))
    inside = [name for name in known if name.startswith(f"{key}.")]
    if inside:
        names = ", ".join(prefix + name for name in inside)
        return f"{prefix}{key} is a group: set one of its keys: {names}"
    if f"{prefix}{key}" in RENAMED_KEYS:
        return f"{prefix}{key} was renamed to {' and '.join(RENAMED_KEYS[prefix + key])}"
    candidates = known if prefix else [*known, *groups.group_members(config_folder())]
    matches = difflib.get_close_matches(key, candidates, n=1)
    if matches:
        hint = f"Did you mean '{prefix}{matches[0]}'?"
    else:
        hint = f"Available: {', '.join(prefix + name for name in known)}"
    return f"Key '{prefix}{escape_line_breaks(key)}' not in '{schema.__name__}'. {hint}"


def upgrade(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat config of an older run with the current names of its keys."""
    # without an old name, the family need not be imported
    if values.keys().isdisjoint(RENAMED_KEYS):
        return rename_keys(values, values)
    family = str(values.get("family"))
    # no code of users is imported just to read a run
    if family in families():
        known = set(list_keys(family))
    else:
        own = {key for key in values if key.startswith("model.")}
        known = set(list_keys(Config.family)) | own
    return rename_keys(values, known)


def list_keys(family: str) -> dict[str, Any]:
    """Return the type of each key of a family's config, as in ``{"data.batch_size": int}``.

    Raises:
        UserError: There is no such family.
    """
    model = list_kinds(family_class(family).Config)
    shared = {key: kind for key, kind in list_kinds(Config).items() if key != "model"}
    return shared | {f"model.{key}": kind for key, kind in model.items()}
