"""Errors as users see them: UserError, one-line explanations, and what is said of a bug."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[1]
# extras of requirements-extras.lock, which make setup leaves out
MAKE_EXTRAS = ("datasets", "onnx", "tensorboard", "video")
# messages of out-of-memory errors
OUT_OF_MEMORY_MESSAGES = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "bad_alloc",
)


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
        command = "make extras, or " if extra in MAKE_EXTRAS else ""
        raise UserError(
            f"{asked}: the package {module} is not installed: "
            f"{command}pip install '.[{extra}]' in a clone of the lab"
        ) from None


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, or the exception type if it is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the machine or a GPU is out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in OUT_OF_MEMORY_MESSAGES
    )


def escape_line_breaks(text: object) -> str:
    """Escape the line breaks of a text, such as a file name."""
    return "\\n".join(str(text).splitlines())


def explain_error(error: Exception) -> str | None:
    """Return a one-line message for an error that the user can fix, None for bugs.

    Users can fix a ``UserError``, a lack of memory, and an ``OSError`` such as a full disk, unless
    it was raised by user code: then the traceback is needed.
    """
    # an error from a DataLoader worker contains its traceback, and ends with the original message
    original = str(error).partition("\nOriginal Traceback")[2].rpartition("Error: ")[2]
    sentence = " ".join(original.split()) or " ".join(str(error).split())
    if is_out_of_memory(error):
        return (
            f"out of memory ({sentence[:160] or type(error).__name__}). Try run.micro_batches=2 "
            "or more, a smaller data.batch_size, data.size or model.width, or fewer images at a "
            "time; `gan-lab dry-run` reports the memory of an iteration"
        )
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{sentence}. Raise the limit of open files: `ulimit -n 1024`"
    if isinstance(error, UserError) or (isinstance(error, OSError) and not find_user_frame(error)):
        return sentence
    return None


def find_user_frame(error: BaseException) -> traceback.FrameSummary | None:
    """Return the innermost frame of a traceback in user code, if any."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _is_user_file(frame.filename)), None)


def _is_user_file(filename: str) -> bool:
    """Return whether a file is outside the lab, installed packages and the standard library."""
    path = Path(filename)
    # <string>, <frozen importlib>, or a file that this user cannot read
    if not os.path.isfile(path):
        return False
    libraries = {
        Path(sysconfig.get_path(name)).resolve()
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    return not any(
        path.resolve().is_relative_to(folder)
        for folder in (PACKAGE, *libraries, Path(sys.prefix).resolve())
    )


def explain_bug(error: BaseException) -> str:
    """Return the line to print below a traceback: whose code raised, and what to do about it."""
    frame = find_user_frame(error)
    if frame:
        location = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
        message = f"{type(error).__name__}: {escape_line_breaks(error)}"
        return f"error in your code: {location}: {message}"
    return (
        f"This is a bug in the lab, not in your command: {type(error).__name__}. Please report it "
        "with the traceback above, the command and the output of `gan-lab doctor`."
    )
