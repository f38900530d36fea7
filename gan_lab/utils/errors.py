"""UserError, the one error that the command line prints as a line; and texts of errors."""

from __future__ import annotations

import importlib
from types import ModuleType


class UserError(ValueError):
    """Something that the user can fix: a value, a file, a missing package.

    The command line prints its message as one line and exits with code 2. Every other exception is a bug of the lab, of a
    library or of the user's own code, and keeps its traceback. Write the message as ``<what is wrong>: <value>. <what to
    do>``.
    """


def import_extra(module: str, extra: str, asked: str) -> ModuleType:
    """Import a module of an extra of the lab. Raises UserError, for what was ``asked``, if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{asked}: the package {module} is not installed: pip install 'lightning-gan-lab[{extra}]'"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its type if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
