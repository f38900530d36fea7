"""Find extensions by name: built-in modules, or modules of the user by their dotted path."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

from gan_lab.config.schema import DataConfig
from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE


def find_extension(package: str, kind: str, name: str, known: Sequence[str], entry: str) -> Any:
    """Import an extension module and check that it defines its entry point.

    Args:
        package: Package of the built-in modules, relative to ``gan_lab``.
        kind: What the extension is, for error messages.
        name: Name of a built-in module, or the dotted path of a user module, which is also searched
            in the current folder: ``family=mine.method`` is ``mine/method.py``.
        known: Names of the built-in modules.
        entry: Attribute that the module must define, such as ``FAMILY``.

    Returns:
        The imported module.

    Raises:
        UserError: The module does not exist, or does not define ``entry``.
    """
    if "." not in name and name not in known:
        raise UserError(explain_unknown_name(kind, name, known))
    try:
        module = _import_module(package, name)
    except ImportError as error:
        # a built-in module that fails to import is a bug of the lab or of its environment
        if "." not in name:
            raise
        raise UserError(
            f"{kind} {name}: {error}. A dotted name is a Python module in the current folder or "
            "on the import path"
        ) from None
    if not hasattr(module, entry):
        raise UserError(f"{kind} {name}: {module.__file__} does not define {entry}")
    return module


def find_class(path: str, kind: str) -> Any:
    """Import a class of the user by its dotted path, such as ``mine.MyCallback``.

    Args:
        path: The dotted path. Its module is also searched in the current folder.
        kind: What it is, for error messages.

    Raises:
        UserError: There is no such module, or it has no such attribute.
    """
    module_name, _, name = path.rpartition(".")
    if not all(part.isidentifier() for part in path.split(".")) or not module_name:
        raise UserError(f"{kind}: {path!r} is not a dotted path. Write module.ClassName")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(
            f"{kind} {path}: {error}. Its module is searched in the current folder and on the "
            "import path"
        ) from None
    if not hasattr(module, name):
        raise UserError(f"{kind} {path}: {module.__file__} does not define {name}")
    return getattr(module, name)


def _import_module(package: str, name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImportError(f"{name!r} is not a valid module name")
    if "." not in name:
        return importlib.import_module(f"gan_lab.{package}.{name}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


def list_data_sets() -> list[str]:
    """List the built-in data sets, without importing them: the files with a function ``decode``."""
    return list(_find_data_sets())


@cache
def _find_data_sets() -> tuple[str, ...]:
    # each config that is loaded asks; the package does not change while it is used
    files = [path for path in (PACKAGE / "data").glob("*.py") if not path.name.startswith(".")]
    found = (path.stem for path in files if "\ndef decode(" in path.read_text(encoding="utf-8"))
    return tuple(sorted(found))


def get_native_size(data_set: str) -> int:
    """Return ``SIZE`` of a data set's module in pixels, or the default of ``data.size``."""
    try:
        module = _import_module("data", data_set)
    except ImportError:
        # an unknown data set is reported when the data is loaded
        return DataConfig.size
    return int(getattr(module, "SIZE", DataConfig.size))


def explain_unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """Return an error message that suggests the closest name and lists the available ones."""
    matches = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {matches[0]!r}? " if matches else ""
    return f"unknown {kind} {name!r}. {hint}Available: {', '.join(known)}"
