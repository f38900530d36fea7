"""Texts of errors: the first line of one, and that of a package that is not there."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, extra: str, asked: str) -> ModuleType:
    """Import a module of an extra of the lab. Raises ValueError, for what was ``asked``, if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(
            f"{asked}: the package {module} is not installed: pip install 'lightning-gan-lab[{extra}]'"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
