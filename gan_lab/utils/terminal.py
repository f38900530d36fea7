"""Keep a training alive when its terminal, pipe or log file fails, and explain errors in one line."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import sysconfig
import traceback
from pathlib import Path

from gan_lab.utils.errors import UserError
from gan_lab.utils.files import PACKAGE

NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "bad_alloc",
)


class Lasting(io.TextIOWrapper):
    """A stream that never fails: unknown characters become ``?``, and output is discarded once its reader is gone."""

    def write(self, text: str) -> int:
        """Write the text, or discard it if that is no longer possible."""
        try:
            return super().write(text)
        except OSError:
            self._discard_output()
            return len(text)

    def flush(self) -> None:
        """Flush the stream, or discard its content if that is no longer possible."""
        try:
            super().flush()
        except OSError:
            self._discard_output()

    def _discard_output(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())  # child processes inherit it
        os.close(null)


def make_lasting() -> None:
    """Replace standard output and standard error by streams that cannot end a training."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:
            lines = stream.line_buffering or name == "stderr"
            setattr(
                sys, name, Lasting(stream.buffer, stream.encoding, "replace", line_buffering=lines)
            )


class EchoHandler(logging.Handler):
    """Print log records on the current standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print(self.format(record), flush=True)


def log_to_stdout() -> None:
    """Configure the lab's logger to print plain lines."""
    logger = logging.getLogger("gan_lab")
    logger.setLevel(logging.INFO)
    logger.handlers = [EchoHandler()]


def no_memory(error: BaseException) -> bool:
    """True if this error means that the memory of the machine or of a GPU is used up."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def flat(sentence: object) -> str:
    """Escape the line breaks of a text; a file name may hold some."""
    return "\\n".join(str(sentence).splitlines())


def in_one_line(error: Exception) -> str | None:
    """Explain an error that the user can fix in one line; None for everything else, whose traceback is needed.

    One line is for a ``UserError``, for memory that ran out, and for an ``OSError`` (a full disk, a missing permission)
    unless it came out of the user's own code: of that the file and the line matter most.
    """
    # an error from a loader process holds its traceback, and ends with the original message
    original = str(error).partition("\nOriginal Traceback")[2].rpartition("Error: ")[2]
    sentence = " ".join(original.split()) or " ".join(str(error).split())
    if no_memory(error):
        return (
            f"out of memory ({sentence[:160] or type(error).__name__}). Try run.micro_batches=2 or more, a smaller "
            "data.batch_size, data.size or model.width, or fewer images at a time; `gan-lab dry-run` reports the memory "
            "of an iteration"
        )
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return f"{sentence}: this shell allows too few open files, `ulimit -n 1024` allows more"
    if isinstance(error, UserError) or (isinstance(error, OSError) and not user_code(error)):
        return sentence
    return None


def user_code(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of a traceback in a file of the user's own: outside the lab and all installed packages."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if _is_users(frame.filename)), None)


def _is_users(filename: str) -> bool:
    """True for a Python file that is neither the lab's, nor an installed package's, nor of the standard library."""
    path = Path(filename)
    if not path.is_file():  # <string>, <frozen importlib>
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
    """One line to print below a traceback: whose code raised, and what to do about it."""
    frame = user_code(error)
    if frame:
        return f"error in your code: {frame.filename}, line {frame.lineno}, in {frame.name}: {type(error).__name__}: {flat(error)}"
    return (
        f"This is a bug in the lab, not in your command: {type(error).__name__}. Please report it with the traceback "
        "above, the command and the output of `gan-lab doctor`."
    )
