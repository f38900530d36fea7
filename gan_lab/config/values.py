"""Convert the values of config keys, from text or from Python, to the types of the dataclasses."""

from __future__ import annotations

import json
import math
import operator
import re
import shlex
import types
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, reduce
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gan_lab.config.plain_yaml import FLOAT_PATTERN, NULLS, Scalar, parse_float, read, resolve
from gan_lab.config.schema import list_leaves
from gan_lab.utils.errors import UserError, escape_line_breaks

# of a value in an error message
MAX_SHOWN_CHARACTERS = 200
# of a key that is true or false, in any case
TRUE_TEXTS = ("true", "yes", "on", "y", "1")
FALSE_TEXTS = ("false", "no", "off", "n", "0")
# an item of a list on the command line, up to the next comma
LIST_ITEM = re.compile(r"""\s*('(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|(?!['"])[^,]*)\s*(?=,|$)""")
QUOTED_PATTERN = re.compile(r"(['\"])(.*)\1")
QUOTE_ITEMS = "Quote an item that has a comma, such as ['a, b',c]"


class Argument(str):
    """A value from the command line: for a text key exactly the text that was typed."""


@cache
def list_kinds(schema: Any) -> dict[str, Any]:
    """Return the type of each leaf of a dataclass, as in ``{"data.batch_size": int}``."""
    kinds: dict[str, Any] = {}
    hints = get_type_hints(schema)
    for item in fields(schema):
        kind: Any = hints[item.name]
        if isinstance(kind, type) and is_dataclass(kind):
            kinds |= {f"{item.name}.{key}": each for key, each in list_kinds(kind).items()}
        else:
            kinds[item.name] = kind
    return kinds


def is_text(kind: Any) -> bool:
    """Return whether a type is text, optional text, or a list of text."""
    kind, _ = split_optional(kind)
    return kind is str or (get_origin(kind) is list and get_args(kind) == (str,))


def split_optional(kind: Any) -> tuple[Any, bool]:
    """Return a type without None, and whether it had None."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    members = [member for member in get_args(kind) if member is not NoneType]
    return reduce(operator.or_, members), len(members) < len(get_args(kind))


def is_null(value: Any) -> bool:
    """Return whether a value is None, or the unquoted text for it."""
    return value is None or (isinstance(value, Scalar) and value.plain and value in NULLS)


def convert(kind: Any, value: Any) -> Any:
    """Convert a value to a type.

    Args:
        kind: A type of a dataclass field: str, int, float, bool, Literal, tuple, list, dict,
            dataclass, or one of these or None.
        value: ``Argument``, tree of ``Scalar``, or Python value.

    Raises:
        ValueError: The value does not have this type. The message says what it must be.
    """
    kind, optional = split_optional(kind)
    if optional and (is_null(value) or (isinstance(value, Argument) and value == "null")):
        return None
    if get_origin(kind) in (Union, types.UnionType):
        return _convert_union(kind, value)
    if is_null(value):
        raise ValueError(f"it must be {describe(kind) or 'text, not null'}")
    if is_dataclass(kind):
        return _convert_dataclass(kind, value)
    origin = get_origin(kind) or kind
    if origin in (list, tuple):
        return _convert_list(kind, value)
    if origin is dict:
        return _convert_dict(kind, value)
    if kind in (str, Path):
        return kind(_convert_text(value))
    if isinstance(value, Argument) and (quoted := QUOTED_PATTERN.fullmatch(value)):
        # a shell or make may keep the quotation marks, and in YAML they are not part of the value
        value = quoted[2]
    if origin is Literal:
        return _convert_literal(kind, value)
    if kind in (bool, int, float):
        converted = {bool: _convert_bool, int: _convert_integer, float: _convert_float}[kind](value)
        if converted is None:
            raise ValueError(f"it must be {describe(kind)}")
        return converted
    # a type that the lab does not know, in the Config of a user's family
    return resolve(Scalar(value, plain=True)) if isinstance(value, Argument) else resolve(value)


def _convert_union(kind: Any, value: Any) -> Any:
    # any value is text, so text is tried last
    members = sorted(get_args(kind), key=lambda member: member is str)
    for member in members[:-1]:
        try:
            return convert(member, value)
        except ValueError:
            continue
    return convert(members[-1], value)


def _convert_text(value: Any) -> str:
    if isinstance(value, list | dict | tuple | bool):
        raise ValueError("it must be text")
    return str(value)


def check_texts(config: Any) -> None:
    """Check every text of a config, so that it can be written to one line and names are distinct.

    Raises:
        UserError: A text has line breaks or control characters, or a list has duplicates.
    """
    for key, value in list_leaves(config):
        if isinstance(value, list):
            check_names(key, [item for item in value if isinstance(item, str)])
        elif isinstance(value, str):
            check_names(key, [value])


def check_one_line(text: str) -> None:
    """Raise ValueError for a text with line breaks or control characters.

    They would break the lines of command.txt and of logs, and file names.
    """
    for character in text:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") and character != "\t":
            raise ValueError("it must be one line, without control characters")


def check_names(key: str, names: Sequence[str]) -> None:
    """Check the names of a list.

    Raises:
        UserError: Two names are equal, or a name has line breaks or control characters.
    """
    for name in names:
        try:
            check_one_line(name)
        except ValueError as error:
            raise UserError(f"{key}={name!r}: {error}. Choose another text") from None
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{key}: duplicate name: {name}. Use each name once")


def _convert_bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in TRUE_TEXTS:
        return True
    return False if text in FALSE_TEXTS else None


def _convert_integer(value: Any) -> int | None:
    number = _convert_number(value)
    if number is None or not math.isfinite(number) or number != int(number):
        return None
    return int(number)


def _convert_float(value: Any) -> float | None:
    number = _convert_number(value)
    return None if number is None else float(number)


def _convert_number(value: Any) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if not isinstance(value, str):
        return value
    number = resolve(Scalar(value, plain=True))
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    # float() of a larger integer fails
    return None if isinstance(number, int) and number.bit_length() > 1000 else number


def _convert_literal(kind: Any, value: Any) -> Any:
    for choice in get_args(kind):
        # 1 and True are equal
        if value == choice and type(value) is type(choice):
            return choice
        if isinstance(value, str) and (value == str(choice) or _means(choice, value)):
            return choice
    raise ValueError(f"it must be {describe(kind)}")


def _means(choice: Any, text: str) -> bool:
    """Return whether a text is a number that is equal to an integer choice, such as 3.0."""
    is_number = isinstance(choice, int) and not isinstance(choice, bool)
    return is_number and bool(FLOAT_PATTERN.fullmatch(text)) and parse_float(text) == choice


def _convert_list(kind: Any, value: Any) -> Any:
    members = get_args(kind)
    is_tuple = get_origin(kind) is tuple and members[-1] is not Ellipsis
    items = parse_list(value) if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or (is_tuple and len(items) != len(members)):
        raise ValueError(f"it must be {describe(kind)}")
    item_kinds = members if is_tuple else [(members or (Any,))[0]] * len(items)
    if item_kinds and item_kinds[0] is str:
        # text as it is written, so null is a name here
        items = [_convert_item(item) for item in items]
    try:
        converted = [convert(each, item) for each, item in zip(item_kinds, items, strict=True)]
    except ValueError as error:
        if is_tuple:
            raise ValueError(f"it must be {describe(kind)}") from None
        raise error
    return tuple(converted) if get_origin(kind) is tuple else converted


def _convert_item(item: Any) -> str:
    if isinstance(item, dict | list | tuple):
        raise ValueError(f"an item must be text: {format_value(item)}. Quote it")
    if item == "" and isinstance(item, Scalar) and item.plain:
        raise ValueError("an item is empty")
    return str(item)


def parse_list(text: str) -> list[Scalar] | None:
    """Parse a list such as [0.5,0.9] or ['a, b',c]; None if the text has no brackets.

    Items are separated by commas and kept as they are typed, so ``[???,{a},a: b]`` has three items,
    unlike in YAML. Quotation marks around an item are those of YAML.

    Raises:
        ValueError: A quotation mark is missing, or an item is empty.
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        if text.startswith("["):
            raise ValueError(f"unclosed bracket or quotation mark. {QUOTE_ITEMS}")
        return None
    inside = text[1:-1].strip()
    items: list[Scalar] = []
    end = -1
    while inside and end < len(inside):
        match = LIST_ITEM.match(inside, end + 1)
        if match is None:
            raise ValueError(f"unclosed bracket or quotation mark. {QUOTE_ITEMS}")
        item = match[1].strip()
        items.append(read(item) if item.startswith(("'", '"')) else Scalar(item, plain=True))
        end = match.end()
    return items


def split_arguments(text: str) -> list[str]:
    """Split the arguments of an experiment in a table or a study, as a shell does.

    Raises:
        UserError: A quotation mark is missing.
    """
    try:
        return shlex.split(text)
    except ValueError:
        raise UserError(f"unclosed quotation mark: {text}. Close it") from None


def _convert_dict(kind: Any, value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError("it must be a mapping")
    member = (get_args(kind) or (str, Any))[1]
    converted = {}
    for key, item in value.items():
        try:
            converted[key] = convert(member, item)
        except ValueError as error:
            raise ValueError(explain_invalid(key, item, error)) from None
    return converted


def _convert_dataclass(schema: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("it must be a mapping")
    hints = get_type_hints(schema)
    known = [item.name for item in fields(schema)]
    converted = {}
    for key, item in value.items():
        if key not in known:
            raise ValueError(f"unknown key: {key}. Available: {', '.join(known)}")
        try:
            converted[key] = convert(hints[key], item)
        except ValueError as error:
            raise ValueError(explain_invalid(key, item, error)) from None
    try:
        return schema(**converted)
    except TypeError as error:
        raise ValueError(re.sub(r"^.*__init__\(\) ", "", str(error))) from None


def describe(kind: Any) -> str:
    """Describe a type for error messages; empty if any text is valid."""
    kind, _ = split_optional(kind)
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if origin is tuple:
        return f"a list of {len(choices)}, such as [{','.join('0.5' for _ in choices)}]"
    if origin is list:
        return "a list, such as [one,two]"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "")


def format_value(value: Any) -> str:
    """Format a value of a config as in YAML, on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{key}: {format_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    return escape_line_breaks(value)


def format_overrides(values: Mapping[str, Any]) -> list[str]:
    """Format values as ``key=value`` overrides, as W&B's agent does."""
    return [f"{key}={format_text_list(value)}" for key, value in values.items()]


def format_text_list(value: Any) -> Any:
    """Format a list of text as an override that is read as the same list; return other values.

    W&B's agent formats a list as Python does, whose quotation marks and backslashes differ.
    """
    if isinstance(value, tuple):
        value = list(value)
    is_text_list = isinstance(value, list) and any(isinstance(item, str) for item in value)
    return json.dumps(value, ensure_ascii=False) if is_text_list else value


def explain_invalid(key: str, value: Any, error: ValueError) -> str:
    """Return the message of an error about the value of a key, on one line."""
    shown = format_value(value)
    if len(shown) > MAX_SHOWN_CHARACTERS:
        shown = f"{shown[:MAX_SHOWN_CHARACTERS]}…"
    return f"{key}={shown}: {error}"
