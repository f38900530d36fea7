"""UserError, which the command line prints as one line, and helpers for error messages."""

from __future__ import annotations

import importlib
from types import ModuleType


class UserError(ValueError):
    """An error that the user can fix: an invalid value, a file, a missing package.

    The command line prints its message as one line and exits with code 2. Other exceptions are bugs
    of the lab, a library or user code, and keep their traceback. Write messages as ``<what is
    wrong>: <value>. <what to do>``.
    """


def import_extra(module: str, extra: str, asked: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: The module.
        extra: The extra of the lab that installs it.
        asked: The option that needs it, for the error message.

    Raises:
        UserError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"{asked}: the package {module} is not installed: "
            f"pip install 'lightning-gan-lab[{extra}]'"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, or the exception type if it is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
