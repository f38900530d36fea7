"""Writes docs/configuration.md from the dataclasses: python scripts/configuration.py (make configuration)."""

from __future__ import annotations

import inspect
import io
import json
import tokenize
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gan_lab.config import groups, loading
from gan_lab.config.schema import BOUNDS, Config

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
HEAD = """\
# Configuration

Written by `make configuration` from the dataclasses; `make dry-run EXP=...` shows the values of an experiment and where each comes from.

A value is set by `key=value` on the command line, in a file of `configs/experiment/`, or in a member of a config group. Later ones win:
`defaults:` of the experiment, the experiment, groups on the command line, other words.
"""


def comments_of(schema: type) -> dict[str, str]:
    """What stands beside each field of a dataclass in the file of the class that has it, or in the lines above it."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            found |= own_comments(base)
    return {item.name: found[item.name] for item in fields(schema)}


def own_comments(schema: type) -> dict[str, str]:
    """The comments of the fields that a class itself declares."""
    lines: dict[int, str] = {}
    own: set[int] = set()  # lines that are comments and nothing else
    source = inspect.getsource(schema)
    starts: dict[str, int] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0]] = token.string.lstrip("# ")
            if not token.line[: token.start[1]].strip():
                own.add(token.start[0])
        elif token.type == tokenize.NAME and token.start[1] == 4:
            starts.setdefault(token.string, token.start[0])
    found = {}
    for name in schema.__annotations__:
        first = starts[name]
        last = min((line for line in starts.values() if line > first), default=first + 3)
        parts = []
        above = first - 1
        while above in own:
            parts.insert(0, lines[above])
            above -= 1
        parts += [lines[line] for line in range(first, last) if line in lines and line not in own]
        found[name] = " ".join(parts)
    return found


def values_of(schema: type, item: Field[Any]) -> str:
    """Which values a key takes, in the words of the error about a wrong one, and its range."""
    bounds = [f"{BOUNDS[name][0]} {bound:g}" for name, bound in item.metadata.items()]
    return ", ".join([loading.describe_type(schema, item.name) or "text", *bounds])


def table_of(schema: type, prefix: str) -> list[str]:
    """The rows of one dataclass."""
    comments = comments_of(schema)
    rows = ["| key | default | values | |", "|---|---|---|---|"]
    for item in fields(schema):
        default = item.default if item.default is not MISSING else []
        shown = json.dumps(default) if not isinstance(default, str) else default
        meaning = comments[item.name].replace("|", "\\|")
        rows.append(f"| `{prefix}{item.name}` | {shown} | {values_of(schema, item)} | {meaning} |")
    return rows


def page() -> str:
    """The text of the page."""
    parts = [HEAD, "## Groups\n"]
    for group, names in groups.group_members(loading.config_folder()).items():
        parts += [f"- `{group}={name}`: {loading.first_comment(loading.find_member(group, name))}" for name in names]
    parts.append("\n## Every experiment\n")
    parts.append("`family`: the file of `gan_lab/families/`, or a module of your own: [extending.md](extending.md).\n")
    for item in fields(Config):
        part = getattr(Config(), item.name)
        if item.name not in ("family", "model"):
            parts += [f"### {item.name}\n", *table_of(type(part), f"{item.name}."), ""]
    parts.append("## The families\n")
    for family in loading.families():
        parts += [f"### {family}\n", *table_of(loading.family_class(family).Config, "model."), ""]
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
