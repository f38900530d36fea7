"""Every shell command in README and docs is one that can be typed: program, options, overrides."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from typer._click.exceptions import BadOptionUsage, ClickException, MissingParameter

from gan_lab.config import loading
from gan_lab.utils.errors import UserError
from tests.docs.test_site import DOCUMENTS
from tests.integration.test_entry_points import ROOT, TARGETS, Checkout, check_python, parse_command

# a block of four spaces, or code in a sentence, which may continue on the next line
COMMANDS = re.compile(
    r"^    (?:\.venv/bin/)?((?:make|gan-lab) .+)$|`(?:\.venv/bin/)?((?:make|gan-lab) [^`]+)`",
    re.MULTILINE,
)
# parts that a reader replaces
PLACEHOLDERS = re.compile(r"\.\.\.|…|<|\bmine\.|\b(?:NAME|RUN|EXP|SNAPSHOT)\b(?!=)")
SUBSTITUTION = re.compile(r"\$\([^)]*\)")
ERRORS = (AssertionError, UserError, ClickException)
# names of test files and test functions
TEST_NAMES = "\n".join(
    "\n".join([path.stem, *re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))])
    for path in ROOT.glob("tests/**/test_*.py")
)


def list_commands(document: Path) -> Iterator[tuple[list[str], bool]]:
    """List each command of a document, and whether it is in a block.

    Commands with a placeholder are left out.
    """
    for block, inline in COMMANDS.findall(document.read_text(encoding="utf-8")):
        text = " ".join((block or inline).split())
        if not PLACEHOLDERS.search(text.partition(" # ")[0]):
            words = shlex.split(SUBSTITUTION.sub("runs/cgan/seed0", text), comments=True)
            yield words, bool(block)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_commands_are_accepted(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets, variables, options, experiments and overrides exist, and -k selects a test."""
    checkout = Checkout(tmp_path)
    commands = {(tuple(words), is_block) for words, is_block in list_commands(document)}
    wrong = {}
    for words, is_block in sorted(commands):
        try:
            # a sentence may leave out what is clear from the text around it
            with nullcontext() if is_block else suppress(MissingParameter, BadOptionUsage):
                check_command(list(words), checkout, monkeypatch)
        except ERRORS as error:
            wrong[shlex.join(words)] = str(error)
    assert wrong == {}


def check_command(words: list[str], checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *rest = words
    if program == "gan-lab":
        check_call(rest)
        return
    targets = [word for word in rest if "=" not in word]
    variables = dict(word.split("=", 1) for word in rest if "=" in word)
    if not variables and targets != ["test"]:
        assert TARGETS.keys() >= set(targets), f"{targets} are not in the Makefile"
        return
    recipes = "".join(TARGETS.get(target, "") for target in targets)
    if "$(LAB)" in recipes and "$(RUN)" in recipes and "RUN" not in variables:
        raise MissingParameter(param_type="RUN")
    for target in targets:
        for name, *arguments in checkout.make(target, variables):
            if name == "gan-lab":
                check_call(arguments)
            elif name == "python":
                check_python(arguments, monkeypatch)
                for option, expression in pairwise(arguments):
                    if option == "-k":
                        check_selection(expression)


def check_call(words: list[str]) -> None:
    if words and not words[0].startswith("-"):
        parse_command(words)


def check_selection(expression: str) -> None:
    """Check that each name in an expression of pytest -k is part of a test's name."""
    for name in set(re.findall(r"\w+", expression)) - {"and", "or", "not"}:
        assert name in TEST_NAMES or name in loading.experiments(), f"-k {name} selects no test"


def test_wrong_commands_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of mistake in a command is an error."""
    page, checkout = tmp_path / "page.md", Checkout(tmp_path)
    for wrong in (
        "make trian EXP=cgan",
        "make train EXP=cgann",
        'make train EXP=cgan ARGS="run.imagse=5"',
        "make sample RUN=runs/x CLASS=7 ARGS=--videoo",
        "gan-lab sampel runs/cgan",
        'make test ARGS="-k no_such_test_name"',
    ):
        page.write_text(f"Text `{wrong}` text.\n\n    {wrong}   # comment\n")
        words = shlex.split(wrong)
        assert list(list_commands(page)) == [(words, False), (words, True)]
        with pytest.raises(ERRORS):
            check_command(words, checkout, monkeypatch)
