"""List the experiments, and fill the dataclasses of schema.py from YAML files and ``key=value`` overrides.

No torch is imported here, so that a misspelt word is answered at once. After ``load`` nobody sees OmegaConf.
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
from gan_lab.config.extensions import explain_unknown_name, find_extension, usual_size
from gan_lab.config.schema import Config, check_ranges, leaves, with_values
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE, shipped

# ---------------------------------------------------------------------------------------------------------------------
# what there is


def config_folder() -> Path:
    """The folder of experiments, config groups and tables."""
    return shipped("configs")


def experiments() -> dict[str, str]:
    """Every experiment with the first comment of its file."""
    return {
        path.stem: first_comment(path) for path in groups.files_in(config_folder() / "experiment")
    }


def find_experiment(name: str) -> Path:
    """The YAML file of an experiment: a name in ``configs/experiment``, or a path. Raises UserError if there is none."""
    is_path = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else config_folder() / "experiment" / f"{name}.yaml"
    if not path.is_file():
        raise UserError(explain_missing_file("experiment", name, list(experiments())))
    return path


def find_member(group: str, name: str) -> Path:
    """The YAML file of a member of a config group. Raises UserError, with the nearest name, if there is none."""
    known = groups.group_members(config_folder())
    if group not in known:
        raise UserError(explain_unknown_name("config group", group, list(known)))
    if name not in known[group]:
        raise UserError(explain_unknown_name(f"{group}=", name, known[group]))
    return config_folder() / group / f"{name}.yaml"


def first_comment(path: Path) -> str:
    """The first comment of a file, its line in a list; empty if it has none."""
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.lstrip("# ").rstrip() if first.startswith("#") else ""


def families() -> list[str]:
    """Every family: the files of ``gan_lab/families`` but the base, found without importing them."""
    folder = PACKAGE / "families"
    return sorted(
        module.name for module in pkgutil.iter_modules([str(folder)]) if module.name != "base"
    )


def family_class(name: str) -> Any:
    """The family class in ``gan_lab/families/<name>.py``, or in anyone's module. Raises UserError for an unknown name."""
    return find_extension("families", "family", name, families(), "FAMILY").FAMILY


def explain_missing_file(kind: str, name: str, known: Sequence[str]) -> str:
    """One line: there is no such file, if a file was named, or else no such name."""
    return (
        f"there is no file {name}"
        if name.endswith((".yaml", ".yml"))
        else explain_unknown_name(kind, name, known)
    )


# Keys of earlier commits and their names today: the error for an old key names the new one.
RENAMED_KEYS = {
    "run.accumulate": "run.micro_batches",
    "run.evaluate_every": "run.evaluate_every_images",
    "run.timeout": "run.timeout_s",
    "log.bar": "log.progress_bar",
    "log.every": "log.log_every_images",
    "log.images_every": "log.grid_every_images",
    "model.lr": "model.lr_d and model.lr_g",
}

# ---------------------------------------------------------------------------------------------------------------------
# load

NUMBERS = ("a whole number", "a number")
PATHS = (
    "data.root",
    "run.root",
    "metrics.inception_weights",
    "metrics.dinov2_weights",
    "metrics.clip_weights",
)


def expand_home(key: str, path: str) -> str:
    """A path in which a leading ``~`` is the home folder, as the shell would have it. Raises UserError if there is none."""
    whole = os.path.expanduser(path)
    if path.startswith("~") and whole == path:
        raise UserError(f"{key}={path}: there is no such home folder, write the path out")
    return whole


def expand_homes(config: Config) -> Config:
    """The config with ``expand_home`` for every path in it."""
    values = dict(leaves(config))
    return with_values(config, {key: expand_home(key, values[key]) for key in PATHS})


@dataclass(frozen=True)
class LoadedConfig:
    """A checked config, and where each value that is not a default came from: the name of a file, or 'command line'."""

    experiment: str
    config: Config
    origin: dict[str, str]
    groups: dict[str, str]  # config groups that the command line chose


def load(experiment: str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Merge the defaults, the experiment's YAML file, config groups and ``key=value`` words, and check every value.

    Later ones win: the groups of the experiment's ``defaults:``, the experiment, groups among the words, other words.
    ``experiment`` is a name in ``configs/experiment`` or the path of a YAML file. Raises UserError, in one line that
    names the value and the remedy, for an unknown experiment or key, a wrong type and a value out of range.
    """
    path = find_experiment(experiment)
    chosen, overrides = groups.split_overrides(overrides, config_folder())
    for word in overrides:
        if "=" not in word:
            raise UserError(f"{word!r} is not key=value, such as model.z_dim=64")
        try:
            OmegaConf.from_dotlist([word])
        except Exception:  # as below
            raise UserError(
                f"{word}: a bracket or a quotation mark is opened and not closed"
            ) from None
    from_file, from_words = read_yaml(path), OmegaConf.from_dotlist(list(overrides))
    defaults = groups.pop_defaults(from_file, path)
    text = {
        key
        for key, default in leaves(Config())
        if isinstance(default, str | None) and describe_type(Config, key) not in NUMBERS
    }
    for key, _, value in (word.partition("=") for word in overrides):
        if key in text and value != "null":
            OmegaConf.update(
                from_words, key, value
            )  # as it was typed: YAML would read run.id=0012 as 10
    if os.environ.get("RUN_ID") and OmegaConf.select(from_words, "run.id") is None:
        OmegaConf.update(from_words, "run.id", os.environ["RUN_ID"], force_add=True)

    usual = [find_member(*item) for item in defaults.items() if item[0] not in chosen]
    from_groups = [find_member(*item) for item in chosen.items()]
    layers = [(_label(file), read_yaml(file)) for file in usual] + [(_label(path), from_file)]
    layers += [(_label(file), read_yaml(file)) for file in from_groups] + [
        ("command line", from_words)
    ]
    config = expand_homes(parse([values for _, values in layers]))
    origin = {
        key: label for label, values in layers for key, _ in leaves(OmegaConf.to_container(values))
    }
    return LoadedConfig(path.stem, config, origin, chosen)


def read_yaml(path: Path) -> DictConfig:
    """Read a YAML file of keys. Raises UserError, in one line, for one that is none."""
    try:
        values = OmegaConf.load(path)
    except Exception as error:  # the YAML reader has many
        raise UserError(f"{path}: {_first_line(error)}") from None
    if not isinstance(values, DictConfig):
        raise UserError(
            f"{path}: an experiment is a mapping such as 'family: gan', this is {values!r}"
        )
    return values


def _label(path: Path) -> str:
    """A file's name for the user: below ``configs/`` without what is above it."""
    return (
        str(path.relative_to(config_folder()))
        if path.is_relative_to(config_folder())
        else str(path)
    )


def parse(layers: Sequence[Any]) -> Config:
    """Merge mappings over the defaults, first the keys that all experiments have, then those of the family."""
    parts = [_nest(layer) for layer in layers]
    model = [part.pop("model") for part in parts if part.get("model") is not None]
    config: Config = _merge(Config, parts, "")
    check_ranges(config)
    if not any(OmegaConf.select(part, "data.size") is not None for part in parts):
        config = with_values(config, {"data.size": usual_size(config.data.name)})
    config = replace(config, model=_merge(family_class(config.family).Config, model, "model."))
    check_ranges(config)
    return config


def model_config(family: Any, values: Mapping[str, Any]) -> Any:
    """The ``Config`` of a family class from keyword arguments. Raises UserError for an unknown key or a bad value."""
    config = _merge(family.Config, [OmegaConf.create(dict(values))], "")
    check_ranges(config)
    return config


def _nest(layer: Any) -> DictConfig:
    """A copy in which a key with dots, such as 'data.size', is a key of its group."""
    nested = OmegaConf.create({})
    for key, value in leaves(OmegaConf.to_container(OmegaConf.create(layer))):
        if key == "model" and not isinstance(value, dict | None):
            raise UserError(
                f"model is a group: set one of its keys, such as model.z_dim=64, not model={value}"
            )
        OmegaConf.update(nested, str(key), value)
    size = OmegaConf.select(nested, "data.size")
    if size is not None:  # 64x96 is two keys, and 64 alone is square
        both = re.fullmatch(r"(\d+)x(\d+)", str(size))
        height, width = both.groups() if both else (size, OmegaConf.select(nested, "data.width"))
        OmegaConf.update(nested, "data", {"size": height, "width": width}, merge=True)
    return nested


def _merge(schema: type, layers: Sequence[Any], prefix: str) -> Any:
    structured = OmegaConf.structured(schema)
    for node in (structured, *(structured[key] for key in structured)):
        if isinstance(node, DictConfig):
            OmegaConf.set_readonly(node, False)  # as it is made of a frozen dataclass
    for layer in layers:
        for key, _ in leaves(OmegaConf.to_container(layer)):
            value = OmegaConf.select(layer, key)
            try:
                _update(structured, key, value)
            except OmegaConfBaseException as error:
                raise UserError(_explain(error, key, value, schema, prefix)) from None
    return OmegaConf.to_object(structured)


def _update(structured: Any, key: str, value: Any) -> None:
    if isinstance(value, bool) and not isinstance(OmegaConf.select(structured, key), bool):
        value = "on" if value else "off"  # YAML reads off as false
    if (
        isinstance(value, float)
        and value.is_integer()
        and isinstance(OmegaConf.select(structured, key), int | None)
    ):
        value = int(value)  # 1e5
    OmegaConf.update(structured, key, value, merge=True)


def _explain(error: OmegaConfBaseException, key: str, value: Any, schema: type, prefix: str) -> str:
    known = [name for name, _ in leaves(schema())]
    if key not in known and not any(key.startswith(f"{name}.") for name in known):
        parts = {name.partition(".")[0] for name in known if "." in name}
        if key in parts:
            inside = ", ".join(name for name in known if name.startswith(f"{key}."))
            return f"{prefix}{key} is a group: set one of its keys: {inside}"
        if f"{prefix}{key}" in RENAMED_KEYS:
            return f"{prefix}{key} is now called {RENAMED_KEYS[prefix + key]}: use that key"
        near = difflib.get_close_matches(
            key, [*known, *([] if prefix else groups.group_members(config_folder()))], n=1
        )
        hint = (
            f"Did you mean '{prefix}{near[0]}'?"
            if near
            else f"There are: {', '.join(prefix + k for k in known)}"
        )
        return f"Key '{prefix}{key}' not in '{schema.__name__}'. {hint}"
    takes = describe_type(schema, key)
    return f"{prefix}{key}={'' if value is None else value}: " + (
        f"it must be {takes}" if takes else _first_line(error)
    )


def describe_type(schema: Any, key: str) -> str:
    """Describe the type of a key in words; empty if there are none for it."""
    kind = schema
    for name in key.split("."):
        if not is_dataclass(kind):
            return ""
        kind = get_type_hints(kind).get(name)
    if NoneType in get_args(kind):  # or null
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
