"""Scalars of YAML files, and their conversion where no key gives a type."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from gan_lab.config.plain_yaml import Scalar, resolve


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # fmt: skip
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
