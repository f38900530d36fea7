"""YAML as text: the YAML 1.2 grammar, in which only the type of a key decides how a value is read.

YAML 1.1 readers turn ``no`` into false, ``0012`` into 10 and ``12:30`` into 750. Here every scalar
is read as the text that was written; ``gan_lab/config/values.py`` converts it to the type of its
key, and ``resolve`` converts it by its form where there is no key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from gan_lab.utils.errors import UserError

NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {
    text: value
    for value, name in ((True, "true"), (False, "false"))
    for text in (name, name.title(), name.upper())
}
# 20_000 is not YAML 1.2, but Python, and common in configs
INTEGER_PATTERN = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
FLOAT_PATTERN = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.?(inf|Inf|INF)|\.?nan"
    r"|\.NaN|\.NAN"
)
# None if libyaml is not installed
FAST_LOADER = getattr(yaml, "CBaseLoader", None)
# of unquoted scalars, in Python and in libyaml
PLAIN_STYLES = (None, "")
# of a file after its aliases are expanded
MAX_NODES = 100_000
# by their text, so that a changed file is read again
MAX_CACHED_TEXTS = 256
# what to do about messages of the parser that do not say it
PARSER_REMEDIES = {
    "but found another document": "several documents in one file. Remove the line ---",
    "found character '\\t' that cannot start any token": "a tab. Indent with spaces",
}
STANDARD_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class Scalar(str):
    """A scalar of a YAML file, as it was written.

    Attributes:
        plain: Whether it has no quotation marks, so that ``null`` means null.
    """

    plain: bool

    def __new__(cls, text: str, plain: bool) -> Scalar:
        """Create a scalar."""
        scalar = super().__new__(cls, text)
        scalar.plain = plain
        return scalar

    def __getnewargs__(self) -> tuple[str, bool]:  # type: ignore[override]
        """Return the arguments of ``__new__``, for copies and pickles."""
        return str(self), self.plain


def read_file(path: Path, is_own: bool = False) -> Any:
    """Read a YAML file as nested dicts and lists of ``Scalar``; an empty file is an empty dict.

    Args:
        path: The file.
        is_own: Whether ``write`` wrote the file, or the lab ships it: the parser of libyaml, which
            is faster, reads these files as the parser for files of users does.

    Raises:
        UserError: The file is not valid YAML in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text. Save it as UTF-8") from None
    try:
        return _copy(_read(text, is_own))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read(text: str) -> Any:
    """Read a YAML text as nested dicts and lists of ``Scalar``; an empty text is an empty dict.

    Raises:
        ValueError: The text is not valid YAML, or has duplicate keys, tags or unused anchors.
    """
    return _copy(_read(text))


# a command reads a study or an experiment for its list, again for its content, and for others
@lru_cache(MAX_CACHED_TEXTS)
def _read(text: str, is_own: bool = False) -> Any:
    if is_own and FAST_LOADER and "&" not in text:
        # after an error, the other parser explains it
        with suppress(yaml.YAMLError, ValueError, RecursionError):
            return _convert_root(yaml.compose(text, Loader=FAST_LOADER))
    with _explain_yaml_errors():
        _check_anchors(text)
        return _convert_root(yaml.compose(text, Loader=yaml.BaseLoader))


def _copy(tree: Any) -> Any:
    """Copy the containers of a tree, which callers may change."""
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(item) for item in tree] if isinstance(tree, list) else tree


def _convert_root(root: yaml.Node | None) -> Any:
    if root is None:
        return {}
    if _count_nodes(root, {}) > MAX_NODES:
        raise ValueError(f"the aliases expand to more than {MAX_NODES:,} values. Write fewer")
    return _convert_node(root, ())


def _count_nodes(node: yaml.Node, counted: dict[int, int]) -> int:
    """Count the nodes of a tree with those that aliases repeat, each of which is visited once."""
    if id(node) not in counted:
        # a node that contains itself is explained later
        counted[id(node)] = 1
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        counted[id(node)] += sum(_count_nodes(child, counted) for child in children)
    return counted[id(node)]


@contextmanager
def _explain_yaml_errors() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise ValueError("too many nested brackets") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(
            f"{line}{PARSER_REMEDIES.get(str(error.problem), error.problem)}"
        ) from None
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f"character {error.position}: U+{error.character:04X} is not allowed in YAML"
        ) from None


def _check_anchors(text: str) -> None:
    """Raise ValueError for an anchor that nothing refers to: ``[&a b]`` would lose its ``&a``."""
    # most files have none, and parsing takes as long as reading the file
    if "&" not in text:
        return
    anchors: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.AliasEvent):
            anchors.pop(event.anchor, None)
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            anchors[event.anchor] = event.start_mark.line + 1
    for anchor, line in anchors.items():
        raise ValueError(f"line {line}: unused anchor &{anchor}. Quote text that begins with &")


def _convert_node(node: yaml.Node, parents: tuple[int, ...]) -> Any:
    line = node.start_mark.line + 1
    if node.tag not in STANDARD_TAGS and node.tag != "!":
        raise ValueError(f"line {line}: tag {node.tag}. Quote text that begins with !")
    if id(node) in parents:
        raise ValueError(f"line {line}: a value that contains itself")
    parents = (*parents, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_convert_node(item, parents) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return Scalar(node.value, plain=node.style in PLAIN_STYLES)
    mapping: dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"line {line}: a key is a mapping or a list. Use text")
        if key.value in mapping:
            raise ValueError(f"line {line}: duplicate key: {key.value}. Remove one of the two")
        mapping[key.value] = _convert_node(value, parents)
    return mapping


def resolve(tree: Any) -> Any:
    """Convert every unquoted scalar of a tree that looks like null, a boolean or a decimal number.

    This is the core schema of YAML 1.2, except that 0x10 and 0o17 stay text, and that 20_000, inf
    and nan are numbers, as in Python.
    """
    if isinstance(tree, dict):
        return {key: resolve(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [resolve(item) for item in tree]
    if not isinstance(tree, Scalar):
        return tree
    text = str(tree)
    if not tree.plain:
        return text
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    # thousands of digits are refused by int()
    if INTEGER_PATTERN.fullmatch(text) and len(text) < 1000:
        return int(text)
    return parse_float(text) if FLOAT_PATTERN.fullmatch(text) else text


def parse_float(text: str) -> float:
    """Convert a text that matches ``FLOAT_PATTERN``, such as 1e-3, 20_000 or .inf."""
    return float(re.sub(r"\.(?=[iInN])", "", text))


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a YAML 1.1 or 1.2 reader would not read as text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    is_text = resolve(Scalar(text, plain=True)) == text
    return dumper.represent_scalar(STANDARD_TAGS[0], text, style=None if is_text else "'")


_Dumper.add_representer(str, _represent_text)


def write(tree: Any) -> str:
    """Format nested dicts, lists and plain values as YAML; ``resolve(read(text))`` inverts it."""
    return str(
        yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
    )
