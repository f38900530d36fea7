"""Write docs/configuration.md and the table of scores (``make configuration``)."""

from __future__ import annotations

import inspect
import io
import json
import tokenize
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gan_lab.config import groups, loading
from gan_lab.config.schema import BOUND_CHECKS, Config
from gan_lab.config.values import describe, list_kinds
from gan_lab.metrics.explanations import Explanation, list_explanations

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
METRICS_PAGE = PAGE.with_name("metrics.md")
SCORES_BEGIN = "<!-- scores: written by `make configuration` -->"
SCORES_END = "<!-- end of scores -->"
HEAD = """\
# Configuration

Set a value with `key=value` on the command line, in a file of `configs/experiment/`, or with a
config group. `make dry-run EXP=...` shows all values of an experiment and where each comes from.

Precedence, from lowest to highest: defaults of the dataclasses, `defaults:` of the experiment, the
experiment, groups on the command line, other overrides.

Values are read by the type of their key. Text is exactly what you type: `run.id=0012`,
`data.root=no`. A list is `[one,two]`, and an item with a comma needs quotation marks:
`"data.class_names=['a, b',no]"`. `null` unsets a key that may be empty. YAML files follow YAML 1.2,
so `no`, `on` and `12:30` are text, a key may be given once, and `${x}` has no meaning. Text is one
line.

This page is written by `make configuration` from the config dataclasses.
"""


def read_comments(schema: type) -> dict[str, str]:
    """Return the comment of each field of a dataclass, from the class that declares it."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if is_dataclass(base):
            found |= read_own_comments(base)
    return {item.name: found[item.name] for item in fields(schema)}


def read_own_comments(schema: type) -> dict[str, str]:
    """Return the comment above or after each field that a class itself declares."""
    comments: dict[int, str] = {}
    comment_lines: set[int] = set()
    first_lines: dict[str, int] = {}
    source = inspect.getsource(schema)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
            if not token.line[: token.start[1]].strip():
                comment_lines.add(token.start[0])
        elif token.type == tokenize.NAME and token.start[1] == 4:
            first_lines.setdefault(token.string, token.start[0])
    found = {}
    for name in schema.__annotations__:
        first = first_lines[name]
        after = min((line for line in first_lines.values() if line > first), default=first + 3)
        parts = []
        above = first - 1
        while above in comment_lines:
            parts.insert(0, comments[above])
            above -= 1
        parts += [
            comments[line]
            for line in range(first, after)
            if line in comments and line not in comment_lines
        ]
        found[name] = " ".join(parts)
    return found


def describe_values(schema: type, item: Field[Any]) -> str:
    """Return type and range of a key, as the error about an invalid value describes them."""
    bounds = [f"{BOUND_CHECKS[name][0]} {bound:g}" for name, bound in item.metadata.items()]
    kind = describe(list_kinds(schema)[item.name])
    return ", ".join([kind or "text", *bounds])


def write_table(schema: type, prefix: str) -> list[str]:
    """Return the lines of the table of one dataclass."""
    comments = read_comments(schema)
    rows = ["| key | default | values | meaning |", "|---|---|---|---|"]
    for item in fields(schema):
        default = item.default if item.default is not MISSING else []
        shown = json.dumps(default) if not isinstance(default, str) else default
        meaning = comments[item.name].replace("|", "\\|")
        rows.append(
            f"| `{prefix}{item.name}` | {shown} | {describe_values(schema, item)} | {meaning} |"
        )
    return rows


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD, "## Config groups\n"]
    for group, names in groups.group_members(loading.config_folder()).items():
        parts += [
            f"- `{group}={name}`: {loading.first_comment(loading.find_member(group, name))}"
            for name in names
        ]
    parts.append("\n## All experiments\n")
    parts.append(
        "`family`: a file of `gan_lab/families/`, or your own module: [Extending](extending.md).\n"
    )
    for item in fields(Config):
        part = getattr(Config(), item.name)
        if item.name not in ("family", "model"):
            parts += [f"### {item.name}\n", *write_table(type(part), f"{item.name}."), ""]
    parts.append("## Families\n")
    for family in loading.families():
        parts += [
            f"### {family}\n",
            *write_table(loading.family_class(family).Config, "model."),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def format_meaning(explanation: Explanation) -> str:
    """Join title and meaning, as in "PSNR of the input (baseline): PSNR of the unchanged input"."""
    meaning = explanation.meaning.removeprefix("Baseline: ")
    kind = "" if meaning == explanation.meaning else " (baseline)"
    # an abbreviation such as PSNR keeps its case
    if not meaning[1].isupper():
        meaning = meaning[0].lower() + meaning[1:]
    return f"{explanation.title}{kind}: {meaning}"


def explain_scores() -> str:
    """Return the table of all scores for docs/metrics.md."""
    rows = ["| score | meaning | better | range |", "|---|---|---|---|"]
    for pattern, each in list_explanations().items():
        name = pattern.replace("*", "…")
        direction = each.direction.removesuffix(" is better")
        meaning = format_meaning(each)
        rows.append(f"| `{name}` | {meaning} | {direction} | {each.typical_range} |")
    return "\n".join(rows)


def insert_scores(text: str) -> str:
    """Replace the table of scores in the text of docs/metrics.md."""
    start, _, rest = text.partition(SCORES_BEGIN)
    _, _, end = rest.partition(SCORES_END)
    return f"{start}{SCORES_BEGIN}\n\n{explain_scores()}\n\n{SCORES_END}{end}"


def main() -> None:
    """Write the page of all keys, and the table of scores."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    METRICS_PAGE.write_text(
        insert_scores(METRICS_PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )
    print(METRICS_PAGE)


if __name__ == "__main__":
    main()
