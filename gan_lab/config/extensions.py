"""Find extensions by name: a file of one of the lab's packages, or a module of the user's own."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gan_lab.config.schema import DataConfig
from gan_lab.utils.errors import UserError


def find_extension(package: str, kind: str, name: str, known: Sequence[str], entry: str) -> Any:
    """The module ``<name>.py`` in a package of the lab, which has ``entry``; a name with dots is a module of anyone's own.

    That is looked for as Python looks for modules, and in the current folder: ``family=mine.method`` is
    ``mine/method.py``. Raises UserError if there is no such module, or nothing of this name in it.
    """
    if "." not in name and name not in known:
        raise UserError(explain_unknown_name(kind, name, known))
    try:
        module = _module(package, name)
    except ImportError as error:
        if "." not in name:  # a fault of the lab, or of its environment
            raise
        raise UserError(
            f"{kind} {name}: {error}; a name with dots is a Python module, found from the current folder"
        ) from None
    if not hasattr(module, entry):
        raise UserError(f"{kind} {name}: {module.__file__} has no {entry}")
    return module


def _module(package: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError(f"{name!r} is no name of a module")
    if "." not in name:
        return importlib.import_module(f"gan_lab.{package}.{name}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def usual_size(data_set: str) -> int:
    """The ``SIZE`` of a data set's file, in pixels; the common default where it says none, or there is no such set."""
    try:
        module = _module("data", data_set)
    except ImportError:  # loading the data says which sets there are
        return DataConfig.size
    return int(getattr(module, "SIZE", DataConfig.size))


def explain_unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """One line: there is no such thing, the nearest name, and what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"no {kind} {name!r}. {hint}There are: {', '.join(known)}"
