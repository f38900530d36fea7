"""Check the prose of the documentation for words that this project does not use (``make check``).

Each pattern below is an expression that readers of the field would have to translate, with its
replacement. Inline code, link targets and commands are not prose and are skipped; comments next to
commands are prose. In Python files comments and strings are checked, in YAML and JavaScript files
comments, in HTML templates the text between tags. Pages of studies are generated, so their sources
are checked, except for claims and predictions, which are frozen.

    python scripts/check_prose.py            # the paths in CHECKED
    python scripts/check_prose.py FILE...    # other files
    python scripts/check_prose.py --count FILE...
"""

from __future__ import annotations

import io
import json
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Add a glob to check more files.
CHECKED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    ".github/**/*.md",
    "docs/*.md",
    "docs/methods/*.md",
    "tests/README.md",
    "configs/**/*.yaml",
    "sweeps/*.yaml",
    "studies/*.yaml",
    "docs/studies/results/*/full.conclusion.json",
    "examples/*.ipynb",
    "Makefile",
    "pyproject.toml",
    ".ci/run",
    "gan_lab/*.py",
    "gan_lab/cli/**/*.py",
    "gan_lab/config/**/*.py",
    "gan_lab/data/**/*.py",
    "gan_lab/distributed/**/*.py",
    "gan_lab/doctor/**/*.py",
    "gan_lab/families/**/*.py",
    "gan_lab/inference/**/*.py",
    "gan_lab/metrics/**/*.py",
    "gan_lab/networks/**/*.py",
    "gan_lab/report/**/*.py",
    "gan_lab/report/assets/*.html",
    "gan_lab/report/assets/*.js",
    "gan_lab/runs/**/*.py",
    "gan_lab/sensitivity/**/*.py",
    "gan_lab/studies/**/*.py",
    "gan_lab/sweeps/**/*.py",
    "gan_lab/training/**/*.py",
    "gan_lab/utils/**/*.py",
    "benchmarks/**/*.py",
    "scripts/*.py",
    "tests/**/*.py",
)
# These files contain the expressions themselves.
EXCLUDED = (
    "scripts/check_prose.py",
    "tests/docs/test_site.py",
    "tests/integration/test_entry_points.py",
)

# Keys and values of saved results, checkpoints and cache files, whose spelling cannot change. Only
# a whole string literal is exempt.
STORED_STRINGS = re.compile(
    r"floor|yardsticks|order of the labelled|neighbours(?:\.png)?|colour(?:fulness)?|labelled"
    r"|as asked for|(?:within \{MAX_DEVIATIONS\})? standard deviations of its centre"
)

# Keys of a study that may be reworded after its results: the others are hashed.
REWORDABLE_STUDY_KEYS = ("title", "known_before", "not_shown")

WORDS = {
    r"told|tells": "reported, detects, significantly different",
    r"so many|so much of": "the number, that many",
    r"anew": "newly initialized, resampled, again",
    r"somebody|everybody|anybody": "name the subject",
    r"one's own|of (?:its|their|his|my) own accord": "your own, by default",
    r"at hand": "available",
    r"by heart": "memorized",
    r"go(?:es)? on|went on|going on": "resumes, continues",
    r"continues? from": "resumes from",
    r"who (?:chooses|reports)": "model selection, reporting",
    r"in (?:the|its|their) places? of|in its place": "instead of, as if",
    r"as far as": "where, up to",
    r"all the same": "anyway",
    r"put(?:s|ting)? up with": "tolerate",
    r"beside": "next to, in addition to",
    r"mend(?:s|ed|ing)?": "fix",
    r"(?:held|holds?) to": "verified against",
    r"by turns|in turn": "alternating, consecutive",
    r"(?:no|not) numbers? any ?more": "NaN or Inf",
    r"(?:can ?not|can't|could not) be told": "inconclusive",
    r"does not hold here": "contradicted",
    r"discriminator (?:that )?has won": "discriminator that dominates",
    r"(?:drawn|trained|learned) anew": "newly initialized, from scratch",
    r"parts of a batch|in parts": "micro-batches",
    r"averaged weights": "EMA weights",
    r"floors?(?! effect)": "real-vs-real reference",
    r"yardsticks?": "baseline",
    r"counterparts?": "ground truth",
    r"doses?": "severity",
    r"asked for": "requested",
    r"images? of latents|from latents to images": "unconditional or class-conditional",
    r"images? to images?": "image-to-image",
    r"knows everybody": "composition root",
    r"(?:the|these|same|other|very) words": "overrides, arguments",
    r"the texts": "the literature, tutorials",
    r"what (?:is|are) held out": "the held-out images",
    r"has no room": "does not fit",
    r"of before": "earlier",
    r"of late|of themselves|of itself": "name what is meant",
    r"comes? of (?:it|them)": "results",
    r"tried here|as (?:it|they) (?:was|were) tried": "tested",
    r"to the last bit": "bit-identical",
    r"holds? (?:no|something) \w+": "contains, is empty",
    r"(?:did|does) not take it": "name what failed",
    r"images? of images?": "image-to-image",
    r"look(?:s|ed)? (?:alike|at alike)": "similar",
}
# American spelling.
SPELLING = {
    r"colou?r?ours?|colour\w*": "color",
    r"neighbour\w*": "neighbor",
    r"\w*normalis\w+": "normalize",
    r"recognis\w+": "recognize",
    r"synchronis\w+": "synchronize",
    r"initialis\w+": "initialize",
    r"optimis(?:e|es|ed|ing|ation)": "optimize",
    r"penalis\w+": "penalize",
    r"centre\w*": "center",
    r"\w*labell(?:ed|ing)": "labeled",
    r"behaviour\w*": "behavior",
    r"favour\w*": "favor",
    r"judgement\w*": "judgment",
    r"licences?": "license",
    r"grey\w*": "gray",
    r"learnt": "learned",
    r"pre-emption": "preemption",
}
# An expression may be broken across lines.
PATTERNS = {
    re.compile(r"\b(?:{})\b".format(words.replace(" ", r"\s+")), re.IGNORECASE): better
    for words, better in {**WORDS, **SPELLING}.items()
}

STRING_DELIMITERS = re.compile(r"^[A-Za-z]*(?:\"{3}|'{3}|[\"'])|(?:\"{3}|'{3}|[\"'])$")
# The literal text of an f-string, a token of its own since Python 3.12.
STRING_TOKENS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
MARKUP = re.compile(r"\{[{%].*?[%}]\}|<[^>]*>")
INLINE_CODE = re.compile(r"(`+).*?\1")
LINK_TARGET = re.compile(r"\]\([^)]*\)|<[^>]+>|https?://\S+")
COMMAND_COMMENT = re.compile(r"\s#\s+(.*)$")


def iterate_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line number and prose of every line of a file that has any."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from iterate_python_prose(text)
    elif path.suffix == ".yaml" and path.parent.name == "studies":
        yield from iterate_study_prose(text)
    elif path.name.endswith(".conclusion.json"):
        yield 1, strip_code(json.loads(text)["text"])
    elif path.suffix == ".ipynb":
        yield from iterate_notebook_prose(text)
    elif path.suffix in (".yaml", ".yml", ".toml") or path.name in ("Makefile", "run"):
        for number, line in enumerate(text.splitlines(), 1):
            yield number, strip_code(line.partition("#")[2])
    elif path.suffix == ".js":
        for number, line in enumerate(text.splitlines(), 1):
            yield number, strip_code(line.partition("//")[2])
    elif path.suffix == ".html":
        for number, line in enumerate(text.splitlines(), 1):
            yield number, strip_code(MARKUP.sub(" ", line))
    else:
        yield from iterate_markdown_prose(text)


def iterate_study_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a study that may be reworded, and comments."""
    key = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"(\w+):", line):
            key = match.group(1)
        if key in REWORDABLE_STUDY_KEYS:
            yield number, strip_code(line)
        elif line.startswith("#"):
            yield number, strip_code(line.removeprefix("#"))


def iterate_notebook_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the prose of the cells of a notebook, with the number of the cell as line number."""
    for number, cell in enumerate(json.loads(text)["cells"], 1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines = iterate_markdown_prose(source)
        else:
            lines = iterate_python_prose(source)
        for _, line in lines:
            yield number, line


def iterate_markdown_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the prose of Markdown: no code, no link targets, but comments next to commands."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            comment = COMMAND_COMMENT.search(line)
            if comment and not line.lstrip().startswith(("-", "*")):
                yield number, LINK_TARGET.sub("]", comment.group(1))
            elif not fenced and re.match(r"\s+(?:[-*]|\d+\.) ", line):
                yield number, strip_code(line)
        else:
            yield number, strip_code(line)


def iterate_python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield comments and strings of Python code, except for ``STORED_STRINGS``."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_string = token.type in STRING_TOKENS
        if is_string and STORED_STRINGS.fullmatch(STRING_DELIMITERS.sub("", token.string)):
            continue
        if is_string or token.type == tokenize.COMMENT:
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, strip_code(line)


def strip_code(line: str) -> str:
    """Return a line without inline code and link targets."""
    return LINK_TARGET.sub("]", INLINE_CODE.sub("", line))


def find_words(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, found expression and its replacement."""
    prose = list(iterate_prose(path))
    text = "\n".join(line for _, line in prose)
    for pattern, better in PATTERNS.items():
        for match in pattern.finditer(text):
            number, _ = prose[text.count("\n", 0, match.start())]
            yield number, " ".join(match.group(0).split()), better


def list_checked_files(repository: Path = REPOSITORY) -> list[Path]:
    """Return the files that ``make check`` reads."""
    found = {path for pattern in CHECKED for path in repository.glob(pattern)}
    return sorted(found - {repository / name for name in EXCLUDED})


def main(arguments: list[str]) -> int:
    """Print every finding. Return 1 if there is one."""
    count_only = "--count" in arguments
    paths = [Path(name) for name in arguments if not name.startswith("--")] or list_checked_files()
    counts: Counter[str] = Counter()
    for path in paths:
        for number, found, better in find_words(path):
            counts[found.lower()] += 1
            if not count_only:
                print(f"{path}:{number}: {found!r}. Write: {better}.")
    if count_only:
        for found, count in counts.most_common():
            print(f"{count:5d}  {found}")
        print(f"{counts.total():5d}  in {len(paths)} files")
    return 1 if counts and not count_only else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
