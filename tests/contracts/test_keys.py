"""Every key of the schema is set on the command line, in YAML and in a sweep, at both ends."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from typer.main import get_command

from gan_lab import cli
from gan_lab.config import loading, plain_yaml
from gan_lab.config.schema import Config, list_leaves
from gan_lab.config.values import format_overrides, is_null, list_kinds, split_optional
from gan_lab.sweeps import check, sweep_file
from gan_lab.utils.errors import UserError

STEP = 1e-6
LARGE_INTEGER, LARGE_FLOAT = 10**12, 1e12
# texts whose values are looked up when the config is loaded
NAMED = {"family": ["cgan", "gan"]}


def list_fields(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, float]]]:
    """List key, type and bounds of each leaf."""
    kinds = list_kinds(schema)
    for item in fields(schema):
        value = getattr(schema(), item.name)
        if is_dataclass(value):
            yield from list_fields(type(value), f"{prefix}{item.name}.")
        elif f"{prefix}{item.name}" != "model":
            yield f"{prefix}{item.name}", kinds[item.name], dict(item.metadata)


def choose_values(key: str, kind: Any, bounds: dict[str, float]) -> tuple[list[Any], list[Any]]:
    """Return values at the ends of the range of a key, and values just outside."""
    kind, optional = split_optional(kind)
    good: list[Any] = [None] if optional else []
    if key in NAMED:
        return [*good, *NAMED[key]], ["nothing"]
    if get_origin(kind) is Literal:
        return [*good, *get_args(kind)], ["nothing", 7]
    if kind is bool:
        return [True, False], ["maybe", 2]
    if kind is str:
        return [*good, "a b", "0012", "on"], []
    if get_origin(kind) is list and get_args(kind) == (float,):
        return [[], [-1.0, 1.0]], ["word", ["no", "0012"]]
    if get_origin(kind) is list:
        return [[], ["no", "0012"], ["a, b"]], ["word", 3]
    if get_origin(kind) is tuple:
        ends, outside = choose_numbers(float, bounds)
        n = len(get_args(kind))
        return [[end] * n for end in ends], [[0.5] * (n + 1), "word", *([x] * n for x in outside)]
    ends, outside = choose_numbers(kind, bounds)
    return [*good, *ends], [*outside, "word", [1]]


def choose_numbers(kind: type, bounds: dict[str, float]) -> tuple[list[Any], list[Any]]:
    """Return numbers at the ends of a range, and just outside."""
    is_integer = kind is int
    low, high = bounds.get("minimum"), bounds.get("maximum")
    above, below = bounds.get("above"), bounds.get("below")
    ends: list[Any] = []
    outside: list[Any] = [0.5] if is_integer else [math.nan, math.inf]
    step = 1 if is_integer else STEP
    if low is not None:
        ends.append(kind(low))
        outside.append(kind(low) - step)
    if above is not None:
        ends.append(kind(above) + step)
        outside.append(kind(above))
    if high is not None:
        ends.append(kind(high))
        outside.append(kind(high) + step)
    elif below is not None:
        ends.append(kind(below) - step)
        outside.append(kind(below))
    else:
        ends.append(LARGE_INTEGER if is_integer else LARGE_FLOAT)
    return ends, outside


KEYS = [(None, *entry) for entry in list_fields(Config)]
for name in loading.families():
    for key, kind, bounds in list_fields(loading.family_class(name).Config):
        KEYS.append((name, f"model.{key}", kind, bounds))
IDS = [f"{family or 'shared'}-{key}" for family, key, *_ in KEYS]


def to_argument(value: Any) -> str:
    """Format a value as a person would type it."""
    if isinstance(value, list):
        return "[" + ",".join(f"'{x}'" if "," in str(x) else str(x) for x in value) + "]"
    return "null" if value is None else str(value)


def write_experiment(folder: Path, key: str, value: Any, family: str | None) -> str:
    tree: dict[str, Any] = {} if key == "family" else {"family": family or "gan"}
    path = folder / "mine.yaml"
    path.write_text(plain_yaml.write(tree | {key: value}), encoding="utf-8")
    return str(path)


def write_sweep(folder: Path, key: str, values: list[Any], experiment: str) -> str:
    path = folder / "sweep.yaml"
    spec = {
        "method": "grid",
        "metric": {"name": "fd_digits"},
        "parameters": {key: {"values": values}},
        "command": ["gan_lab", "train", experiment, "${args_no_hyphens}"],
    }
    path.write_text(plain_yaml.write(spec), encoding="utf-8")
    return str(path)


def get(config: Config, key: str) -> Any:
    value = dict(list_leaves(config))[key]
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("family", "key", "kind", "bounds"), KEYS, ids=IDS)
def test_key_is_set_in_three_ways(
    family: str | None, key: str, kind: Any, bounds: dict[str, float], tmp_path: Path
) -> None:
    """At both ends of its range; the origin is reported, too."""
    good, _ = choose_values(key, kind, bounds)
    base = write_experiment(tmp_path, "family", family or "gan", family)
    for value in good:
        loaded = loading.load(base, [f"{key}={to_argument(value)}"])
        assert get(loaded.config, key) == value
        assert type(get(loaded.config, key)) is type(value)
        assert loaded.origin[key] == "command line"
    sweepable = [value for value in good if value is not None]
    sweep = sweep_file.load(write_sweep(tmp_path, key, sweepable, base))
    for value, point in zip(sweepable, sweep.grid_points(), strict=True):
        config = loading.load(base, format_overrides(point)).config
        assert get(config, key) == value
    check.check_values(sweep)
    for value in good:
        path = write_experiment(tmp_path, key, value, family)
        loaded = loading.load(path)
        assert get(loaded.config, key) == value
        assert loaded.origin[key] == path


@pytest.mark.parametrize(("family", "key", "kind", "bounds"), KEYS, ids=IDS)
def test_value_outside_the_range_is_one_line(
    family: str | None, key: str, kind: Any, bounds: dict[str, float], tmp_path: Path
) -> None:
    _, bad = choose_values(key, kind, bounds)
    base = write_experiment(tmp_path, "family", family or "gan", family)
    named = "nothing" if key == "family" else f"{key}="
    for value in bad:
        with pytest.raises(UserError) as typed:
            loading.load(base, [f"{key}={to_argument(value)}"])
        sweep = sweep_file.load(write_sweep(tmp_path, key, [value], base))
        with pytest.raises(UserError) as swept:
            check.check_values(sweep)
        with pytest.raises(UserError) as written:
            loading.load(write_experiment(tmp_path, key, value, family))
        base = write_experiment(tmp_path, "family", family or "gan", family)
        for raised in (typed, swept, written):
            message = str(raised.value)
            assert named in message
            assert len(message.splitlines()) == 1


def test_null_is_refused_where_a_key_needs_a_value(tmp_path: Path) -> None:
    """On the command line, null is text for a text key."""
    for key, kind, _ in list_fields(Config):
        kind, optional = split_optional(kind)
        if optional:
            continue
        with pytest.raises(UserError, match=f"{key}=null: it must be"):
            loading.load(write_experiment(tmp_path, key, None, None))
        if kind is not str:
            with pytest.raises(UserError, match=f"{key}=null: it must be"):
                loading.load("gan", [f"{key}=null"])
    assert is_null(None)


def test_every_key_through_the_command_line_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad value ends the program with code 2 and one line that names the key; nothing is made."""
    monkeypatch.chdir(tmp_path)
    for family in loading.families():
        (tmp_path / f"{family}.yaml").write_text(f"family: {family}\n")
    before = sorted(tmp_path.iterdir())
    # built once instead of at every call
    monkeypatch.setattr(cli, "app", get_command(cli.app))
    for family, key, kind, bounds in {entry[1]: entry for entry in KEYS}.values():
        _, bad = choose_values(key, kind, bounds)
        # text has no bad value but a line break
        override = f"{key}={to_argument(bad[-1]) if bad else 'a' + chr(10) + 'b'}"
        words = ["gan-lab", "train", f"{family or 'gan'}.yaml", override]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as exited:
            cli.main()
        lines = capsys.readouterr().err.splitlines()
        assert (exited.value.code, len(lines)) == (2, 1), (key, lines)
        assert ("nothing" if key == "family" else f"{key}=") in lines[0]
        assert lines[0].startswith("error: ")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("mark", ["'", '"'])
def test_quotation_marks_of_numbers_are_dropped(mark: str) -> None:
    """make and shells may keep them; a text key keeps them, too."""
    loaded = loading.load("gan", [f"{key}={mark}{value}{mark}" for key, value in (
        ("data.channels", 3), ("run.images", "20_000"), ("model.lr_d", "1e-3"), ("data.fit", "pad"),
        ("data.flip", "yes"), ("run.id", "3"))])  # fmt: skip
    config = loaded.config
    assert (config.data.channels, config.run.images, config.model.lr_d) == (3, 20_000, 1e-3)
    assert (config.data.fit, config.data.flip, config.run.id) == ("pad", True, f"{mark}3{mark}")
    for value in (f"{mark}3", f"3{mark}", mark, mark + mark, f"{mark}{mark}3{mark}{mark}"):
        with pytest.raises(UserError, match=r"data\.channels=.*: it must be one of"):
            loading.load("gan", [f"data.channels={value}"])
