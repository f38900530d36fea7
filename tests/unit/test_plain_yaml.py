"""Scalars of YAML files, and their conversion where no key gives a type."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from gan_lab.config import plain_yaml
from gan_lab.config.plain_yaml import Scalar, read, read_file, resolve
from gan_lab.utils.errors import UserError


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
@pytest.mark.parametrize("plain", [True, False])
def test_scalar_copy_keeps_its_quotation_marks(duplicate: Any, plain: bool) -> None:
    """A copy of a config tree reads a quoted null as text, as the original does."""
    copied = duplicate([Scalar("null", plain)])
    assert resolve(copied) == ([None] if plain else ["null"])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0x10", "0x10"), ("0o17", "0o17"), ("20_000", 20_000), ("inf", float("inf")),
     ("-.INF", float("-inf")), ("0012", 12), ("True", True), ("yes", "yes"), ("NaN", "NaN")],
)  # fmt: skip
def test_resolve_converts_by_the_documented_forms(text: str, value: Any) -> None:
    """Hexadecimal and octal numbers stay text, and a bare inf is a number."""
    assert resolve(Scalar(text, plain=True)) == value


def test_read_refuses_aliases_that_expand_without_end() -> None:
    """Nine aliases of nine aliases of ... would fill the memory. A few aliases are fine."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(ValueError, match="the aliases expand to more than 100,000 values"):
        read("\n".join([*lines, "last: *a11"]))
    assert read("a: &a [x, y]\nb: [*a, *a]") == {"a": ["x", "y"], "b": [["x", "y"], ["x", "y"]]}


@pytest.mark.parametrize(
    ("text", "message"),
    [("a:\n\tb: 1", "line 2: a tab. Indent"), ("a: 1\n---\nb: 1", "Remove the line ---")],
)
def test_read_says_what_to_do(text: str, message: str) -> None:
    """The messages of the parser only name what it found."""
    with pytest.raises(ValueError, match=message):
        read(text)


SHIPPED = sorted(
    path
    for folder in ("configs", "studies", "sweeps")
    for path in (Path(__file__).parents[2] / folder).rglob("*.yaml")
)


@pytest.mark.skipif(plain_yaml.FAST_LOADER is None, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_libyaml_reads_shipped_files_as_users_files_are_read(path: Path) -> None:
    """The same keys, and each scalar with the same text and the same quotation marks."""

    def list_scalars(tree: Any) -> list[tuple[str, bool]]:
        if isinstance(tree, dict):
            return [x for pair in tree.items() for part in pair for x in list_scalars(part)]
        if isinstance(tree, list):
            return [x for item in tree for x in list_scalars(item)]
        return [(str(tree), getattr(tree, "plain", True))]

    assert list_scalars(read_file(path, is_own=True)) == list_scalars(read_file(path))


def test_own_file_with_an_error_is_explained_as_a_users_file(tmp_path: Path) -> None:
    """libyaml has other messages, without what to do."""
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n---\nb: 1")
    with pytest.raises(UserError, match="Remove the line ---"):
        read_file(path, is_own=True)
